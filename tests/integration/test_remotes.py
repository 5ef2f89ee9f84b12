"""What one clone has made, another fetches: over a folder, and over an S3-compatible server."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("dvc", reason="the extra 'pipeline' is not installed")
pytest.importorskip("prefect", reason="the extra 'orchestrate' is not installed")

from flows import services
from flows.services import Service
from tests.integration.small_repository import commit, dvc, git, make_repository

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository after one run, with dvc.lock committed as a team does."""
    folder = make_repository(tmp_path_factory.mktemp("made"), seconds=0.2)
    dvc(folder, "repro")
    commit(folder)
    return folder


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3-compatible server on loopback."""
    for name in ("moto", "dvc_s3"):
        pytest.importorskip(name, reason=f"{name} (extras 'dev' and 'remote') is not installed")
    port = services.free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = Service(
        command, tmp_path_factory.mktemp("s3"), dict(os.environ), f"http://127.0.0.1:{port}/moto-api/"
    )
    with services.running(server):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(params=["folder", "s3"])
def remote(
    request: pytest.FixtureRequest, tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Give `made` a default remote and return its name."""
    name = f"remote-{uuid.uuid4().hex[:6]}"
    if request.param == "folder":
        dvc(made, "remote", "add", "--force", "--default", name, str(tmp_path / "remote"))
    else:
        import boto3

        address = request.getfixturevalue("s3")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket=name)
        dvc(made, "remote", "add", "--force", "--default", name, f"s3://{name}/store")
        dvc(made, "remote", "modify", name, "endpointurl", address)
    commit(made)
    return name


def clone_of(made: Path, folder: Path) -> Path:
    git(folder, "clone", "--quiet", str(made), "clone")
    return folder / "clone"


def test_clone_pulls_and_has_nothing_to_do(made: Path, remote: str, tmp_path: Path) -> None:
    dvc(made, "push")
    clone = clone_of(made, tmp_path)

    dvc(clone, "pull")

    assert "Data and pipelines are up to date." in dvc(clone, "repro")
    weights = "artifacts/tiny/train/weights.json"
    assert (clone / weights).read_bytes() == (made / weights).read_bytes()


def test_clone_without_the_lock_restores_from_the_run_cache(made: Path, remote: str, tmp_path: Path) -> None:
    dvc(made, "push", "--run-cache")
    clone = clone_of(made, tmp_path)
    (clone / "dvc.lock").unlink()

    dvc(clone, "fetch", "--run-cache")
    output = dvc(clone, "repro", "--pull")

    assert output.count("is cached - skipping run") == 3
    assert "Running stage" not in output
    metrics = "artifacts/tiny/evaluate/metrics.json"
    assert (clone / metrics).read_bytes() == (made / metrics).read_bytes()


def test_unreachable_remote_is_an_error(made: Path, tmp_path: Path) -> None:
    clone = clone_of(made, tmp_path)
    dvc(clone, "remote", "add", "--force", "--default", "gone", str(tmp_path / "gone"))

    answer = subprocess.run(
        [sys.executable, "-m", "dvc", "pull"], cwd=clone, capture_output=True, text=True, check=False
    )

    assert answer.returncode != 0
    assert "missing from the remote" in answer.stderr + answer.stdout or "failed to pull" in answer.stderr
