"""The stage "checkpoints": bring every pretrained part into one folder."""

from pathlib import Path
from typing import Any

from calico.checkpoints.layout import REPORT_FILE
from calico.checkpoints.published import install_published
from calico.checkpoints.standins import install_standins
from calico.config import CheckpointsSection, ModelSection
from calico.core.files import write_json, write_manifest


def prepare_checkpoints(
    section: CheckpointsSection, model: ModelSection, output_path: Path
) -> dict[str, Any]:
    """Verify and install the pretrained parts.

    Args:
        section: where they come from.
        model: dimensions, which published checkpoints must have.
        output_path: receives a `<component>.safetensors` each, `tokenizer.json`, `report.json`, a manifest;
            what only one variant reads lies in a folder of its name.

    Returns:
        The report: {"kind", "components": {NAME: facts}}.

    Raises:
        CheckpointError: a part is missing or damaged.
    """
    folder, output_path = Path(section.folder), Path(output_path)
    if section.kind == "published":
        components = install_published(folder, output_path, model)
    else:
        components = install_standins(folder, output_path)
    report = {"kind": section.kind, "components": components}
    write_json(output_path / REPORT_FILE, report)
    write_manifest(output_path, kind=section.kind)
    return report
