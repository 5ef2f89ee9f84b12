"""DVC stage `evaluate` of the ablations: predictions with and without each module in, metrics.json out."""

import sys
from pathlib import Path

from calico.config import load_config
from calico.evaluation.ablations import evaluate_ablations
from calico.stage_end import exit_on_error
from calico.tracking import stage_run


@exit_on_error
def main(profile: str) -> None:
    """Score every ablation of one profile beside the full model."""
    config = load_config(profile)
    artifacts_path = Path("artifacts") / profile
    output_path = artifacts_path / "ablations"
    params = {"evaluate": config.evaluate.model_dump()}
    with stage_run("ablations/evaluate", profile, output_path, params=params) as run:
        evaluate_ablations(
            config.evaluate,
            ablations=tuple(config.ablations),
            pair_path=artifacts_path / "pair",
            unify_path=artifacts_path / "unify",
            predict_path=artifacts_path / "predict",
            output_path=output_path,
            run=run,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
