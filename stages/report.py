"""DVC stage `report`: everything that a profile's stages have written in, one page and one Markdown out."""

import sys
from pathlib import Path

from calico.config import load_config
from calico.reporting.report import build_report
from calico.stage_end import exit_on_error
from calico.tracking import stage_run


@exit_on_error
def main(profile: str) -> None:
    """Write the report of one profile."""
    config = load_config(profile)
    artifacts = Path("artifacts") / profile
    output_path = artifacts / "report"
    with stage_run("report", profile, output_path, params=config.report.model_dump()) as run:
        exports = build_report(
            config.report,
            artifacts_path=artifacts,
            output_path=output_path,
            profile=profile,
            settings=config.model_dump(),
        )
        exports.record(run)


if __name__ == "__main__":
    main(*sys.argv[1:])
