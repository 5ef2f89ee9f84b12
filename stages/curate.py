"""DVC stage `curate`: tables in, the category pairs that may be compared out."""

import sys
from pathlib import Path

from calico.config import load_config
from calico.data.pairs.curate import curate
from calico.stage_end import exit_on_error
from calico.tracking import stage_run


@exit_on_error
def main(profile: str) -> None:
    """Decide about the category pairs of one profile."""
    section = load_config(profile).curate
    artifacts_path = Path("artifacts") / profile
    output_path = artifacts_path / "curate"
    with stage_run("curate", profile, output_path, params={"curate": section.model_dump()}):
        curate(section, artifacts_path / "unify", output_path)


if __name__ == "__main__":
    main(*sys.argv[1:])
