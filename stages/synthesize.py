"""DVC stage `acquire` of the tiny profile: draw the synthetic data sets."""

import sys
from pathlib import Path

from calico.config import load_config
from calico.data.synthetic.generate import synthesize
from calico.stage_end import exit_on_error
from calico.tracking import stage_run


@exit_on_error
def main(profile: str) -> None:
    """Draw the data sets of one profile."""
    section = load_config(profile).synthesize
    output_path = Path("artifacts") / profile / "sources"
    with stage_run("acquire", profile, output_path, params={"synthesize": section.model_dump()}):
        synthesize(section, output_path, seed=section.seed)


if __name__ == "__main__":
    main(*sys.argv[1:])
