"""What servers and clusters are told, as far as it can be checked without one."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("prefect", reason="the extra 'orchestrate' is not installed")

from prefect.utilities.schema_tools.validation import validate

ROOT = Path(__file__).parents[2]
TEMPLATE = json.loads((ROOT / "flows/kubernetes_job.json").read_text())
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())


def test_kubernetes_template_uses_its_variables_and_no_other() -> None:
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(TEMPLATE["job_configuration"])))

    assert used == set(TEMPLATE["variables"]["properties"])


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: str(deployment["name"]))
def test_deployment_names_a_flow_and_variables_that_exist(deployment: dict[str, Any]) -> None:
    path, _, function = deployment["entrypoint"].partition(":")
    assert re.search(rf"^def {function}\(", (ROOT / path).read_text(), re.MULTILINE)
    assert deployment["concurrency_limit"]["collision_strategy"] == "CANCEL_NEW"
    if deployment["work_pool"]["name"] == "calico-kubernetes":
        closed = {**TEMPLATE["variables"], "additionalProperties": False}
        # Raises where a variable is unknown or of another type.
        validate(deployment["work_pool"]["job_variables"], closed, raise_on_error=True)


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_compose_service_needs_and_mounts_what_the_file_has(name: str) -> None:
    service = COMPOSE["services"][name]

    assert set(service.get("depends_on", [])) <= set(COMPOSE["services"])
    sources = {re.sub(r"\$\{.*?}", "/", volume).partition(":")[0] for volume in service.get("volumes", [])}
    assert {source for source in sources if "/" not in source} <= set(COMPOSE["volumes"])
    assert {entry["source"] for entry in service.get("configs", [])} <= set(COMPOSE["configs"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    command = " ".join(service.get("command", []))
    for module in re.findall(r"python (?:-m )?-m ([\w.]+)", command):
        assert importlib.util.find_spec(module) is not None
