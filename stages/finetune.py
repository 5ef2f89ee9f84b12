"""DVC stage `finetune@<model>`: pretrained parts and training pairs in, trained tensors out."""

import sys
from pathlib import Path

from calico.stage_end import exit_on_error
from calico.tracking import stage_run
from calico.training.finetune import finetune
from calico.variants import load_variant


@exit_on_error
def main(profile: str, model: str) -> None:
    """Finetune one model of one profile."""
    config = load_variant(profile, model)
    artifacts_path = Path("artifacts") / profile
    output_path = artifacts_path / "finetune" / model
    params = {name: getattr(config, name).model_dump() for name in ("runtime", "model", "finetune")}
    with stage_run(f"finetune/{model}", profile, output_path, params=params, tags={"model": model}) as run:
        finetune(config, model, artifacts_path=artifacts_path, output_path=output_path, run=run)


if __name__ == "__main__":
    main(*sys.argv[1:])
