"""The stage "checkpoints": bring every pretrained part into one folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from calico.checkpoints.layout import REPORT_FILE
from calico.checkpoints.published import install_published
from calico.checkpoints.standins import install_standins
from calico.config import CheckpointsSection
from calico.core.files import write_json, write_manifest

_INSTALLERS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "standins": install_standins,
    "published": install_published,
}


def prepare_checkpoints(section: CheckpointsSection, output_path: Path) -> dict[str, Any]:
    """Verify and install the pretrained parts.

    Args:
        section: where they come from.
        output_path: receives a `<component>.safetensors` each, `tokenizer.json`, `report.json`, a manifest.

    Returns:
        The report: {"kind", "components": {NAME: facts}}.

    Raises:
        CheckpointError: a part is missing or damaged.
    """
    output_path = Path(output_path)
    components = _INSTALLERS[section.kind](Path(section.folder), output_path)
    report = {"kind": section.kind, "components": components}
    write_json(output_path / REPORT_FILE, report)
    write_manifest(output_path, kind=section.kind)
    return report
