"""Slurm on one machine: munged, slurmctld and slurmd with a configuration of their own, for a block."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from flows.services import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
CONFIGURATION = """
ClusterName=calico
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until its first start's credential has expired: 120 s where nothing is said.
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SchedulerParameters=sched_interval=1
KillWait=5
MessageTimeout=30
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Say why Slurm cannot be run here, "" where it can."""
    absent = [name for name in PROGRAMS if _find(name) is None]
    if absent:
        return f"{', '.join(absent)}: not installed (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "slurmd must be started by root"


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[Path]:
    """Start Slurm and yield the value of SLURM_CONF."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key_path, configuration_path = folder / "munge.key", folder / "slurm.conf"
    key_path.write_bytes(secrets.token_bytes(128))
    key_path.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    configuration_path.write_text(
        CONFIGURATION.format(
            host=host,
            folder=folder,
            controller_port=free_port(),
            node_port=free_port(),
            cpus=os.cpu_count(),
        )
    )
    environment = {**os.environ, "SLURM_CONF": str(configuration_path)}
    munge = [
        *(_find("munged"), "--foreground", "--force", f"--key-file={key_path}"),
        *(f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid"),
        *(f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed", "--num-threads=1"),
    ]
    commands = [munge, [_find("slurmctld"), "-D"], [_find("slurmd"), "-D", "-N", host]]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            with (folder / "log.txt").open("ab") as log:
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            time.sleep(0.5)
        _wait_until_idle(environment, folder)
        yield configuration_path
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer = subprocess.run(
            ["sinfo", "--noheader", "-o", "%T"], env=environment, capture_output=True, text=True, check=False
        )
        if answer.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in folder.glob("*.log"))
    raise RuntimeError(f"Slurm has no idle node: {answer.stdout} {answer.stderr}\n{logs}")


def _find(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
