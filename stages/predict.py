"""DVC stage `predict@<model>`: a finetuned model and the test pairs in, answers with masks out."""

import sys
from pathlib import Path

from calico.config import load_config, variant_name
from calico.predictors.predict import predict
from calico.stage_end import exit_on_error
from calico.tracking import stage_run


@exit_on_error
def main(profile: str, model: str) -> None:
    """Predict the test pairs with one model of one profile."""
    config, variant = load_config(profile), variant_name(model)
    artifacts_path = Path("artifacts") / profile
    output_path = artifacts_path / "predict" / variant
    params = {name: getattr(config, name).model_dump() for name in ("runtime", "predict")}
    with stage_run(f"predict/{variant}", profile, output_path, params=params, tags={"model": variant}) as run:
        predict(config, variant, artifacts_path=artifacts_path, output_path=output_path, run=run)


if __name__ == "__main__":
    main(*sys.argv[1:])
