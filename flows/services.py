"""Prefect, MLflow and PostgreSQL on this machine's loopback address, started and ended with a block.

What compose.yaml runs in containers, without them: the rehearsal and the tests use it.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.graph import python_environment

_HOST = "127.0.0.1"
_START_SECONDS = 180.0


class ServiceError(RuntimeError):
    """A service did not start."""


@dataclass
class Service:
    """A service in a process group of its own.

    Attributes:
        command: program and arguments.
        folder: working directory; its log is there too.
        environment: all its variables.
        health_url: answers once the service is ready; "" where nothing asks.
    """

    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    health_url: str = ""
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            ServiceError: it ended or did not answer in time; holds the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while self.health_url and not _answers(self.health_url):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.end()
                tail = (self.folder / "log.txt").read_text(errors="replace")[-2000:]
                raise ServiceError(f"'{' '.join(self.command)}' does not answer:\n{tail}")
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill the whole group (-9), as when its machine dies."""
        self._signal(signal.SIGKILL)

    def end(self) -> None:
        """End it: SIGTERM, after 15 s SIGKILL."""
        self._signal(signal.SIGTERM)
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            if number == signal.SIGKILL:
                self.process.wait()


@contextlib.contextmanager
def running(service: Service) -> Iterator[Service]:
    """Start a service and end it with the block."""
    service.start()
    try:
        yield service
    finally:
        service.end()


def prefect_server(folder: Path, database_url: str = "") -> Service:
    """Describe a Prefect server; its address is `api_url`.

    Args:
        folder: its home.
        database_url: "" for an SQLite file in that folder.
    """
    port = free_port()
    environment = {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": f"http://{_HOST}:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        **({"PREFECT_API_DATABASE_CONNECTION_URL": database_url} if database_url else {}),
    }
    return Service(
        _python("prefect", "server", "start", "--host", _HOST, "--port", str(port)),
        folder,
        python_environment(environment),
        f"http://{_HOST}:{port}/api/health",
    )


def api_url(server: Service) -> str:
    """Return the value of PREFECT_API_URL for a Prefect server."""
    return server.health_url.removesuffix("/health")


def prefect_worker(folder: Path, server: Service, pool: str, changes: Mapping[str, str]) -> Service:
    """Describe a worker for flows of one pool; it looks for work every two seconds."""
    environment = {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": api_url(server),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        **changes,
    }
    return Service(
        _python("prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", "calico"),
        folder,
        python_environment(environment),
    )


def mlflow_server(folder: Path, database_url: str = "") -> Service:
    """Describe an MLflow server with its artifact store below `folder`.

    Args:
        folder: where it keeps what it is given.
        database_url: "" for an SQLite file in that folder.
    """
    port = free_port()
    store = database_url or f"sqlite:///{folder.absolute()}/mlflow.db"
    options = ["--host", _HOST, "--port", str(port), "--workers", "1", "--backend-store-uri", store]
    return Service(
        _python(
            "mlflow", "server", *options, "--artifacts-destination", str(folder.absolute() / "artifacts")
        ),
        folder,
        # Its job runner, which nothing here uses, is five processes more.
        python_environment(
            {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        ),
        f"http://{_HOST}:{port}/health",
    )


def tracking_uri(server: Service) -> str:
    """Return the value of MLFLOW_TRACKING_URI for an MLflow server."""
    return server.health_url.removesuffix("/health")


@contextlib.contextmanager
def postgres(folder: Path, databases: Sequence[str]) -> Iterator[str]:
    """Run a PostgreSQL server of its own and yield "USER@HOST:PORT"; `folder` is where its files are.

    Raises:
        ServiceError: PostgreSQL is not installed, or did not start.
    """
    binaries = postgres_binaries()
    if binaries is None:
        raise ServiceError("PostgreSQL is not installed (no initdb on PATH nor below /usr/lib/postgresql).")
    folder.mkdir(parents=True, exist_ok=True)
    prefix: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    database_path, port = folder / "database", free_port()
    _call([*prefix, str(binaries / "initdb"), "-D", str(database_path), "-U", "calico", "-A", "trust"])
    options = f"-h {_HOST} -p {port} -k {folder} -c fsync=off"
    control = [*prefix, str(binaries / "pg_ctl"), "-D", str(database_path)]
    _call([*control, "-w", "-l", str(folder / "log.txt"), "-o", options, "start"])
    try:
        for name in databases:
            _call([str(binaries / "createdb"), "-h", _HOST, "-p", str(port), "-U", "calico", name])
        yield f"calico@{_HOST}:{port}"
    finally:
        _call([*control, "-m", "immediate", "stop"])


def postgres_binaries() -> Path | None:
    """Find PostgreSQL's programs, None where there are none."""
    found = shutil.which("initdb")
    beside = [Path(found).resolve().parent] if found else []
    places = [*beside, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    needed = ("initdb", "pg_ctl", "createdb")
    return next((place for place in places if all((place / name).exists() for name in needed)), None)


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.create_server((_HOST, 0)) as server:
        return int(server.getsockname()[1])


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _call(command: Sequence[str]) -> None:
    answer = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise ServiceError(f"'{' '.join(command)}' failed:\n{answer.stdout[-2000:]}")
