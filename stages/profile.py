"""DVC stage `profile`: finetuned models and some test pairs in, parameters, operations and seconds out."""

import sys
from pathlib import Path

from calico.config import load_config
from calico.profiling.profile import profile as measure
from calico.stage_end import exit_on_error
from calico.tracking import stage_run


@exit_on_error
def main(profile: str) -> None:
    """Measure the models of one profile."""
    config = load_config(profile)
    artifacts_path = Path("artifacts") / profile
    output_path = artifacts_path / "profile"
    params = {name: getattr(config, name).model_dump() for name in ("runtime", "profile")}
    with stage_run("profile", profile, output_path, params=params) as run:
        report = measure(config, artifacts_path=artifacts_path, output_path=output_path)
        run.log_metrics(
            {
                f"{model}/{name}": value
                for model, costs in report["models"].items()
                for name, value in (
                    ("image_tokens", costs["image_tokens"]),
                    ("flops", costs["flops"]["total"]),
                    ("flops_deepspeed", costs["flops"]["deepspeed"]),
                    ("total_parameters", costs["parameters"]["all"]["total"]),
                    ("trainable_parameters", costs["parameters"]["all"]["trainable"]),
                    ("seconds_per_pair", costs["latency"]["mean"]["total"]),
                    ("peak_gb", costs["peak_gb"]),
                    *(
                        (f"{task}/seconds_{phase}", seconds[phase])
                        for task, seconds in costs["latency"].items()
                        for phase in ("encode", "prefill", "per_token", "masks", "total")
                    ),
                )
            }
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
