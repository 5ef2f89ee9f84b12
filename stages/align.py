"""DVC stage `align`: pretrained parts and grounded captions in, Q-Former and f_image out."""

import sys
from pathlib import Path

from calico.config import load_config
from calico.stage_end import exit_on_error
from calico.tracking import stage_run
from calico.training.align import align


@exit_on_error
def main(profile: str) -> None:
    """Align the Q-Former and f_image of one profile with its language model."""
    config = load_config(profile)
    artifacts_path = Path("artifacts") / profile
    output_path = artifacts_path / "align"
    params = {name: getattr(config, name).model_dump() for name in ("runtime", "model", "align")}
    with stage_run("align", profile, output_path, params=params) as run:
        align(config, artifacts_path=artifacts_path, output_path=output_path, run=run)


if __name__ == "__main__":
    main(*sys.argv[1:])
