"""Make a Prefect server ready: pools, the GPU limit, the automation for dead runs, deployments.

python -m flows.setup [--gpus N]

May be run again at any time: what is there is brought up to date, nothing is made twice.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect.automations import Automation, AutomationCore
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from flows.graph import python_environment
from flows.stage import GPU_LIMIT

_ROOT = Path(__file__).parents[1]
_KUBERNETES_TEMPLATE_PATH = Path(__file__).with_name("kubernetes_job.json")
_ZOMBIE_AUTOMATION = "calico: crash zombies"
# Three heartbeats of 30 s; prefect.yaml sets their frequency.
_SILENCE = timedelta(seconds=90)


def main(gpus: int) -> None:
    """Create or update everything that a deployment needs.

    Args:
        gpus: how many GPU stages may run at once, over all workers of this server.
    """
    with get_client(sync_client=True) as client:
        for name, (kind, template) in _pools().items():
            _put_pool(client, name, kind, template)
        client.upsert_global_concurrency_limit_by_name(GPU_LIMIT, gpus)
    _put_automation(_zombie_automation())
    deploy()


def deploy(names: tuple[str, ...] = (), environment: Mapping[str, str] | None = None) -> None:
    """Create or update the deployments of prefect.yaml.

    Args:
        names: deployments; none means all.
        environment: variables that prefect.yaml names, added to this process's own.

    Raises:
        RuntimeError: Prefect refused them; holds its words.
    """
    chosen = [word for name in names for word in ("--name", name)] or ["--all"]
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", *chosen]
    defaults = {"CALICO_ROOT": str(_ROOT), "MLFLOW_TRACKING_URI": "", "CALICO_IMAGE": "calico:latest"}
    stated = {key: os.environ.get(key, value) for key, value in defaults.items()}
    answer = subprocess.run(
        command,
        cwd=_ROOT,
        env=python_environment({**stated, **(environment or {})}),
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise RuntimeError(f"'prefect deploy' failed:\n{answer.stdout[-2000:]}\n{answer.stderr[-2000:]}")


def _pools() -> dict[str, tuple[str, dict[str, Any]]]:
    process = ProcessWorker.get_default_base_job_template()
    kubernetes = json.loads(_KUBERNETES_TEMPLATE_PATH.read_text(encoding="utf-8"))
    return {
        "calico-process": ("process", process),
        "calico-slurm": ("process", process),
        "calico-kubernetes": ("kubernetes", kubernetes),
    }


def _put_pool(client: SyncPrefectClient, name: str, kind: str, template: dict[str, Any]) -> None:
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
    else:
        client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))


def _zombie_automation() -> AutomationCore:
    """Mark a flow run as crashed that has sent heartbeats and then neither another nor its end."""
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    return AutomationCore(
        name=_ZOMBIE_AUTOMATION,
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *ends},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=_SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                state=StateType.CRASHED,
                message="No heartbeat for 90 s: its machine is gone.",
                force=False,
            )
        ],
    )


def _put_automation(wanted: AutomationCore) -> None:
    try:
        found: Any = Automation.read(name=wanted.name)  # its type is that of a coroutine
    except (ValueError, ObjectNotFound):
        Automation(**wanted.model_dump()).create()
        return
    found.trigger, found.actions = wanted.trigger, wanted.actions
    found.update()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gpus", type=int, default=1, help="GPU stages that may run at once (default: 1)")
    main(parser.parse_args().gpus)
