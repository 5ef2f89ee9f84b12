"""DVC stage `checkpoints`: pretrained parts in, one verified folder of them out."""

import sys
from pathlib import Path

from calico.checkpoints.prepare import prepare_checkpoints
from calico.config import load_config
from calico.stage_end import exit_on_error
from calico.tracking import stage_run


@exit_on_error
def main(profile: str) -> None:
    """Install the pretrained parts of one profile."""
    config = load_config(profile)
    output_path = Path("artifacts") / profile / "checkpoints"
    params = {"checkpoints": config.checkpoints.model_dump(), "model": config.model.model_dump()}
    with stage_run("checkpoints", profile, output_path, params=params):
        prepare_checkpoints(config.checkpoints, config.model, output_path)


if __name__ == "__main__":
    main(*sys.argv[1:])
