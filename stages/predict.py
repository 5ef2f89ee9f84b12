"""DVC stage `predict@<model>`: a finetuned model and the test pairs in, answers with masks out."""

import sys
from pathlib import Path

from calico.predictors.predict import predict
from calico.stage_end import exit_on_error
from calico.tracking import stage_run
from calico.variants import load_variant


@exit_on_error
def main(profile: str, model: str) -> None:
    """Predict the test pairs with one model of one profile."""
    config = load_variant(profile, model)
    artifacts_path = Path("artifacts") / profile
    output_path = artifacts_path / "predict" / model
    params = {name: getattr(config, name).model_dump() for name in ("runtime", "predict")}
    with stage_run(f"predict/{model}", profile, output_path, params=params, tags={"model": model}) as run:
        predict(
            config,
            model,
            artifacts_path=artifacts_path,
            output_path=output_path,
            run=run,
            # The floor of shuffled images is CALICO's; nothing reads another model's answers to them.
            with_shuffled=model == "calico",
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
