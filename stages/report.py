"""DVC stage `report`: everything that a profile's stages have written in, one page and one Markdown out.

With a second argument `ablations`, the same with Table 2 and figure 8 in it, beside the ablations' metrics.
"""

import sys
from pathlib import Path

from calico.config import load_config
from calico.reporting.report import build_report
from calico.stage_end import exit_on_error
from calico.tracking import stage_run


@exit_on_error
def main(profile: str, ablations: str = "") -> None:
    """Write the report of one profile; `ablations` names their folder, "" leaves them out."""
    config = load_config(profile)
    artifacts_path = Path("artifacts") / profile
    folder = Path(ablations, "report")
    with stage_run(
        folder.as_posix(), profile, artifacts_path / folder, params=config.report.model_dump()
    ) as run:
        exports = build_report(
            config.report,
            artifacts_path=artifacts_path,
            output_path=artifacts_path / folder,
            profile=profile,
            settings=config.model_dump(),
            ablations_path=artifacts_path / ablations if ablations else None,
        )
        exports.record(run)


if __name__ == "__main__":
    main(*sys.argv[1:])
