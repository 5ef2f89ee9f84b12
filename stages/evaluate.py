"""DVC stage `evaluate`: predictions of all models and the true masks in, metrics.json out."""

import sys
from pathlib import Path

from calico.config import load_config
from calico.evaluation.evaluate import evaluate
from calico.stage_end import exit_on_error
from calico.tracking import stage_run


@exit_on_error
def main(profile: str) -> None:
    """Score every model and floor of one profile."""
    config = load_config(profile)
    artifacts_path = Path("artifacts") / profile
    output_path = artifacts_path / "evaluate"
    params = {"evaluate": config.evaluate.model_dump()}
    with stage_run("evaluate", profile, output_path, params=params) as run:
        evaluate(
            config.evaluate,
            models=tuple(config.model.variants),
            pair_path=artifacts_path / "pair",
            unify_path=artifacts_path / "unify",
            predict_path=artifacts_path / "predict",
            output_path=output_path,
            run=run,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
