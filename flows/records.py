"""What a flow run leaves for people: an MLflow run above the stages' own, and tables and links in Prefect."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.exceptions import PrefectException

from flows.graph import python_environment
from flows.stage import StageOutcome

_SECONDS = 120
_METRICS = ("AP50", "mIoU", "Recall", "SS", "S-IoU")


@dataclass(frozen=True)
class RunRecord:
    """The MLflow run of a whole pipeline, kept by `python -m calico.comparison`: flows do not import MLflow.

    Attributes:
        root: folder of the repository.
        profile: "tiny" or "paper".
        run_id: empty where MLflow is not usable.
        url: page of the run, empty where there is no server.
        log: is given what goes wrong; a dead MLflow stops nothing.
    """

    root: Path
    profile: str
    run_id: str
    url: str
    log: Callable[[str], object] = field(repr=False)

    @classmethod
    def open(
        cls, root: Path, profile: str, name: str, flow_run_id: str, log: Callable[[str], object]
    ) -> "RunRecord":
        """Begin the run."""
        answer = _comparison(root, log, "open", profile, name, flow_run_id)
        return cls(root, profile, str(answer.get("run_id", "")), str(answer.get("url", "")), log)

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that make stages record themselves as its children."""
        parent = {"CALICO_PARENT_RUN_ID": self.run_id} if self.run_id else {}
        return {"MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true", **parent}

    def close(self, status: str, outcomes: Sequence[StageOutcome]) -> None:
        """End the run: metrics, and links to the runs of the stages that did not run."""
        if self.run_id:
            idle = [short_name(outcome.stage) for outcome in outcomes if outcome.result != "ran"]
            _comparison(self.root, self.log, "close", self.profile, self.run_id, status, *idle)


def publish(root: Path, profile: str, outcomes: Sequence[StageOutcome], record: RunRecord) -> None:
    """Show tables and links beside the flow run; a server that is away costs them, nothing else."""
    artifacts = root.absolute() / "artifacts" / profile
    try:
        if outcomes:
            create_markdown_artifact(stage_table(artifacts, outcomes), key=f"calico-{profile}-stages")
        if table := metrics_table(artifacts / "evaluate" / "metrics.json"):
            create_markdown_artifact(table, key=f"calico-{profile}-metrics")
        if record.url:
            create_link_artifact(record.url, link_text="MLflow run", key=f"calico-{profile}-mlflow")
        report_path = artifacts / "report" / "report.html"
        if report_path.is_file():
            create_link_artifact(report_path.as_uri(), link_text="Report", key=f"calico-{profile}-report")
    except (PrefectException, OSError, RuntimeError) as error:
        record.log(f"Prefect took no artifacts ({error}).")


def stage_table(artifacts: Path, outcomes: Sequence[StageOutcome]) -> str:
    """Return a Markdown table of what each stage did, how long it took and which MLflow run tells of it."""
    facts = {}
    for path in artifacts.glob("**/stage.json"):
        stated = _read(path)
        facts[str(stated.get("stage"))] = stated
    lines = [
        "| stage | this run | seconds | stage's own seconds | peak GB | MLflow run |",
        "|---|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        stated = facts.get(short_name(outcome.stage), {})
        known = [str(stated.get(name, "")) for name in ("seconds", "peak_gb", "mlflow_run_id")]
        cells = [short_name(outcome.stage), outcome.result, f"{outcome.seconds:g}", *known]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def metrics_table(path: Path) -> str:
    """Return a Markdown table of the models' mean metrics, "" where there are none yet."""
    models = _read(path).get("models")
    if not isinstance(models, dict):
        return ""
    lines = [f"| model | {' | '.join(_METRICS)} |", f"|---{'|---' * len(_METRICS)}|"]
    for model, scores in models.items():
        values = [f"{100 * scores['mean'][name]:.1f}" for name in _METRICS]
        lines.append(f"| {model} | {' | '.join(values)} |")
    return "\n".join(lines)


def short_name(stage: str) -> str:
    """Return a stage's name as its stage.json has it: "paper/dvc.yaml:predict@lisa" is "predict/lisa"."""
    return stage.rpartition(":")[2].replace("@", "/")


def _comparison(root: Path, log: Callable[[str], object], *arguments: str) -> dict[str, Any]:
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "calico.comparison", *arguments],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=_SECONDS,
            env=python_environment(),
        )
        return dict(json.loads(answer.stdout.splitlines()[-1]))
    except subprocess.CalledProcessError as error:
        log(f"MLflow records no run of the whole pipeline: {error.stderr.strip().splitlines()[-1:]}")
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        log(f"MLflow records no run of the whole pipeline: {error}")
    return {}


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
