"""DVC stage `pair`: tables and category pairs in, samples of three tasks and splits out."""

import sys
from pathlib import Path

from calico.config import load_config
from calico.data.pairs.pairing import pair
from calico.stage_end import exit_on_error
from calico.tracking import stage_run


@exit_on_error
def main(profile: str) -> None:
    """Pair the images of one profile."""
    section = load_config(profile).pair
    artifacts_path = Path("artifacts") / profile
    output_path = artifacts_path / "pair"
    with stage_run("pair", profile, output_path, params={"pair": section.model_dump()}):
        pair(section, artifacts_path / "unify", artifacts_path / "curate", output_path)


if __name__ == "__main__":
    main(*sys.argv[1:])
