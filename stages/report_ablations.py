"""DVC stage `report` of the ablations: the report of the profile with Table 2 and figure 8 in it."""

import sys
from pathlib import Path

from calico.config import load_config
from calico.reporting.report import build_report
from calico.stage_end import exit_on_error
from calico.tracking import stage_run


@exit_on_error
def main(profile: str) -> None:
    """Write the report of one profile with its ablations."""
    config = load_config(profile)
    artifacts_path = Path("artifacts") / profile
    output_path = artifacts_path / "ablations" / "report"
    with stage_run("ablations/report", profile, output_path, params=config.report.model_dump()) as run:
        exports = build_report(
            config.report,
            artifacts_path=artifacts_path,
            output_path=output_path,
            profile=profile,
            settings=config.model_dump(),
            ablations_path=artifacts_path / "ablations",
        )
        exports.record(run)


if __name__ == "__main__":
    main(*sys.argv[1:])
