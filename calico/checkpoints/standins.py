"""Stand-ins for the published checkpoints: small weights of the stock classes, committed with a manifest."""

from pathlib import Path
from typing import Any

from calico.checkpoints.layout import PRETRAINED_COMPONENTS, TOKENIZER_FILE
from calico.checkpoints.loader import check_digest
from calico.core.files import read_json, write_bytes
from calico.errors import CheckpointError

_TOKENIZER = "tokenizer"


def install_standins(folder: Path, output_path: Path) -> dict[str, Any]:
    """Verify the stand-ins against their manifest and copy them.

    Args:
        folder: holds `manifest.json` with {"components": {NAME: {"file", "sha256", "bytes", ...}}}, one entry
            for each pretrained component and one "tokenizer".
        output_path: folder of the run's checkpoints.

    Returns:
        What the manifest says of each component.

    Raises:
        CheckpointError: the manifest or a file is missing or damaged.
    """
    folder, output_path = Path(folder), Path(output_path)
    manifest_path = folder / "manifest.json"
    if not manifest_path.is_file():
        raise CheckpointError(f"{manifest_path}: no such file. Build the stand-ins with `make standins`.")
    components: dict[str, Any] = read_json(manifest_path).get("components", {})
    missing = [name for name in (*PRETRAINED_COMPONENTS, _TOKENIZER) if name not in components]
    if missing:
        raise CheckpointError(
            f"{manifest_path}: lists no {', '.join(missing)}. Build the stand-ins again with `make standins`."
        )
    for name in (*PRETRAINED_COMPONENTS, _TOKENIZER):
        entry = components[name]
        target = TOKENIZER_FILE if name == _TOKENIZER else f"{name}.safetensors"
        check_digest(folder / entry["file"], entry["sha256"])
        write_bytes(output_path / target, (folder / entry["file"]).read_bytes())
    return components
