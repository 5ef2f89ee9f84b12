"""MLflow runs of whole pipelines, and the registry of models: what people compare and choose from.

python -m calico.comparison open PROFILE NAME FLOW_RUN_ID
python -m calico.comparison close PROFILE RUN_ID STATUS [STAGE ...]
python -m calico.comparison register PROFILE [MODEL]
python -m calico.comparison pages PROFILE

The first two are a flow's; the third registers a finished model, the last names pages to look at. Each prints
one line of JSON. Where a stage is recorded is `calico.tracking`; nothing here is needed to run the pipeline.
"""

import json
import sys
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from calico.core.files import read_json, sha256_of
from calico.errors import CalicoError, DataError
from calico.tracking import log_params, open_client, origin_tags, tracking_faults, tracking_uri

CHAMPION = "champion"
PAPER_REPRODUCTION = "paper-repro"
_METRIC = "mIoU"
_ARTIFACTS = Path("artifacts")
_PARAMS_PATH = Path("params.yaml")
_STATUSES = ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True)
class Score:
    """A model's mean mIoU over the tasks and what it was measured on.

    Attributes:
        value: in [0, 1].
        low: lower end of its 95 % confidence interval.
        high: upper end.
        test_sha256: of the table of test pairs.
    """

    value: float
    low: float
    high: float
    test_sha256: str


def beats(challenger: Score, champion: Score | None) -> tuple[bool, str]:
    """Say whether a model takes the champion's place, and why.

    It does where the champion's value lies below the challenger's whole confidence interval: an improvement
    that resampled test pairs could have made by chance moves nothing.

    Returns:
        The decision and one sentence.
    """
    if champion is None:
        return True, "There was no champion."
    if challenger.test_sha256 != champion.test_sha256:
        return False, "The champion was scored on other test pairs; the two cannot be compared."
    found = (
        f"{_METRIC} is {challenger.value:.4f} [{challenger.low:.4f}, {challenger.high:.4f}], "
        f"the champion's {champion.value:.4f}"
    )
    if challenger.low > champion.value:
        return True, f"{found}: better by more than chance."
    return False, f"{found}: not better by more than chance."


def open_run(profile: str, name: str, flow_run_id: str) -> dict[str, str]:
    """Begin the run of a whole pipeline, above its stages' runs, with all values of its profile.

    Returns:
        `run_id`, and `url` of its page where MLflow is a server.

    Raises:
        DataError: params.yaml cannot be read or has no such profile.
    """
    client, experiment_id = open_client(f"calico-{profile}")
    tags = {**origin_tags(), "stage": "pipeline", "profile": profile}
    if flow_run_id:
        tags["prefect.flow_run_id"] = flow_run_id
    lock_path = Path("dvc.lock") if profile == "tiny" else Path(profile, "dvc.lock")
    if lock_path.is_file():
        tags["dvc.lock_sha256"] = sha256_of(lock_path)
    values = _values(profile)
    run_id = client.create_run(experiment_id, run_name=name, tags=tags).info.run_id
    log_params(client, run_id, values)
    uri = tracking_uri()
    url = f"{uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}" if uri.startswith("http") else ""
    return {"run_id": run_id, "url": url}


def close_run(profile: str, run_id: str, status: str, idle_stages: Sequence[str]) -> dict[str, int]:
    """End a pipeline's run: its metrics, and a child for each stage that did not run.

    Such a child says by its tag `calico.restored_from` which run made the artefacts.

    Args:
        profile: "tiny" or "paper".
        run_id: what `open_run` gave.
        status: "FINISHED", "FAILED" or "KILLED".
        idle_stages: names as in stage.json of stages that were up to date or restored.

    Returns:
        Number of `linked` stages.
    """
    if status not in _STATUSES:
        raise DataError(f"status is '{status}'; choose one of {', '.join(_STATUSES)}.")
    client, experiment_id = open_client(f"calico-{profile}")
    made_by = {
        str(facts.get("stage")): str(facts.get("mlflow_run_id", ""))
        for facts in map(read_json, sorted((_ARTIFACTS / profile).glob("**/stage.json")))
    }
    for stage in idle_stages:
        source = made_by.get(stage, "")
        tags = {
            "mlflow.parentRunId": run_id,
            "stage": stage,
            "profile": profile,
            "calico.restored_from": source,
        }
        child = client.create_run(experiment_id, run_name=f"{stage} (not run)", tags=tags)
        client.set_terminated(child.info.run_id, "FINISHED")
    metrics_path = _ARTIFACTS / profile / "evaluate" / "metrics.json"
    if status == "FINISHED" and metrics_path.is_file():
        client.log_batch(run_id, metrics=_metrics(read_json(metrics_path)["models"]))
    client.set_terminated(run_id, status)
    return {"linked": len(idle_stages)}


def pipeline_pages(profile: str) -> dict[str, str]:
    """Return the addresses of MLflow's pages of pipelines: `runs`, `charts` and, of the last two, `compare`.

    Raises:
        DataError: MLflow is no server, or has fewer than two pipelines.
    """
    client, experiment_id = open_client(f"calico-{profile}")
    uri = tracking_uri()
    found = client.search_runs([experiment_id], "tags.stage = 'pipeline'", max_results=2)
    if not uri.startswith("http") or len(found) < 2:
        raise DataError(f"{uri}: {len(found)} pipeline(s) of '{profile}'; comparing needs a server with two.")
    runs = json.dumps([run.info.run_id for run in found], separators=(",", ":"))
    query = urllib.parse.urlencode({"runs": runs, "experiments": json.dumps([experiment_id])})
    base = uri.rstrip("/")
    runs_page = f"{base}/#/experiments/{experiment_id}/runs"
    # Bars of every metric side by side; MLflow's documentation does not name these parameters.
    charts = urllib.parse.urlencode(
        {"compareRunsMode": "CHART", "searchFilter": 'tags.stage = "pipeline"'}, quote_via=urllib.parse.quote
    )
    return {
        "runs": runs_page,
        "charts": f"{runs_page}?{charts}",
        "compare": f"{base}/#/compare-runs?{query}",
    }


def register(profile: str, model: str = "calico") -> dict[str, Any]:
    """Register the trained tensors of a finished pipeline and move the aliases that they earn.

    Of the paper profile the newest version is `paper-repro`. `champion` moves by the rule of `beats`.

    Returns:
        `name`, `version`, `champion` (whether it is) and `why`.

    Raises:
        DataError: the model was not trained or not evaluated.
    """
    from mlflow.exceptions import MlflowException

    folder = _ARTIFACTS / profile
    score = read_score(folder, model)
    weights_path = folder / "finetune" / model / "trained.safetensors"
    if not weights_path.is_file():
        raise DataError(f"{weights_path}: no such file. Run the stage that writes it.")
    client, experiment_id = open_client(f"calico-{profile}")
    name = f"calico-{profile}"
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    digest = sha256_of(weights_path)
    tags = {**origin_tags(), "stage": "register", "profile": profile, "model": model, "sha256": digest}
    run = client.create_run(experiment_id, run_name=f"register/{model}", tags=tags)
    client.log_artifact(run.info.run_id, str(weights_path), "model")
    facts = {"value": score.value, "low": score.low, "high": score.high, "test_sha256": score.test_sha256}
    version = client.create_model_version(
        name,
        f"{run.info.artifact_uri}/model",
        run.info.run_id,
        tags={"model": model, "sha256": digest, **{key: str(value) for key, value in facts.items()}},
    ).version
    client.set_terminated(run.info.run_id, "FINISHED")
    if profile == "paper":
        client.set_registered_model_alias(name, PAPER_REPRODUCTION, version)
    is_champion, why = beats(score, _champion(client, name))
    if is_champion:
        client.set_registered_model_alias(name, CHAMPION, version)
    return {"name": name, "version": int(version), "champion": is_champion, "why": why}


def read_score(folder: Path, model: str) -> Score:
    """Read a model's score from a profile's artefacts.

    Args:
        folder: artefacts of a profile.
        model: name of a trained model.

    Raises:
        DataError: metrics.json has no such model.
    """
    path = folder / "evaluate" / "metrics.json"
    metrics = read_json(path)
    if model not in metrics["models"]:
        raise DataError(f"{path}: no model '{model}'; it has {', '.join(metrics['models'])}.")
    low, high = metrics["intervals"][model]["mean"][_METRIC]
    value = metrics["models"][model]["mean"][_METRIC]
    return Score(value, low, high, sha256_of(folder / "pair" / "test.parquet"))


def _values(profile: str) -> dict[str, Any]:
    """Read what params.yaml says, as it stands: a stage that reads a wrong value says so itself."""
    try:
        return dict(yaml.safe_load(_PARAMS_PATH.read_text(encoding="utf-8"))[profile])
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise DataError(f"{_PARAMS_PATH.absolute()}: no values of profile '{profile}' ({error}).") from error


def _champion(client: Any, name: str) -> Score | None:
    from mlflow.exceptions import MlflowException

    try:
        tags = client.get_model_version_by_alias(name, CHAMPION).tags
    except MlflowException:
        return None
    return Score(float(tags["value"]), float(tags["low"]), float(tags["high"]), tags["test_sha256"])


def _metrics(models: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[Any]:
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    return [
        Metric(f"{model}/{task}/{name}", float(value), now_ms, 0)
        for model, tasks in models.items()
        for task, values in tasks.items()
        for name, value in values.items()
    ]


def main(*arguments: str) -> int:
    """Run one of the three commands; faults become one line on stderr and exit code 2."""
    commands: dict[str, Callable[..., Mapping[str, Any]]] = {
        "open": open_run,
        "close": lambda profile, run_id, status, *stages: close_run(profile, run_id, status, stages),
        "register": register,
        "pages": pipeline_pages,
    }
    action = commands.get(arguments[0] if arguments else "")
    if action is None:
        sys.stderr.write(f"usage: python -m calico.comparison {'|'.join(commands)} ARGUMENT ...\n")
        return 2
    try:
        answer = action(*arguments[1:])
    except CalicoError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except tracking_faults() as error:
        sys.stderr.write(f"error: MLflow at {tracking_uri()} is not usable ({error}).\n")
        return 2
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
