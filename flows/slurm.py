"""A command as a Slurm job that its caller waits for, sees and may end.

python flows/slurm.py NAME GPUS NODES MINUTES COMMAND [ARGUMENT ...]

Submits the command, prints what it prints, and ends with its exit code. A job that Slurm puts back into the
queue (a lost node, preemption, `scontrol requeue`) is waited for again; a training goes on from its
checkpoint. Slurm holds it back until the credential of its first start has expired: two minutes, where
slurm.conf has no `AuthInfo=cred_expire`. SIGTERM to this process cancels the job. The workspace must lie on
a disk that the node sees; since DVC's locks do not cross nodes, a flow has one job at a time.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.resources import Resources

# How long before its time limit a job is told (SIGTERM), to write a checkpoint.
_WARNING_SECONDS = 120
_POLL_SECONDS = 1.0
_UNTIL_MINUTES = 14 * 24 * 60
_ENDED = [
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "PREEMPTED"),
]


class SlurmError(RuntimeError):
    """Slurm refused a request or does not answer."""


def slurm_command(command: Sequence[str], stage: str, resources: "Resources") -> list[str]:
    """Return the command that runs `command` as a Slurm job."""
    name = "calico-" + re.sub(r"[^\w.-]+", "-", stage)
    minutes = str(int(resources.minutes or _UNTIL_MINUTES))
    needs = [str(resources.gpus), str(resources.nodes), minutes]
    return [sys.executable, str(Path(__file__).absolute()), name, *needs, *command]


def main(name: str, gpus: str, nodes: str, minutes: str, *command: str) -> int:
    """Submit, follow and wait; return the job's exit code."""
    output_path = Path(".dvc", "tmp", f"{name}.{os.getpid()}.out").absolute()
    options = [f"--job-name={name}", f"--nodes={nodes}", f"--time={minutes}", f"--output={output_path}"]
    if int(gpus):
        options.append(f"--gpus-per-node={gpus}")
    if partition := os.environ.get("CALICO_SLURM_PARTITION"):
        options.append(f"--partition={partition}")
    script = f"#!/bin/sh\nexec srun --ntasks=1 {shlex.join(command)}\n"
    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    options += ["--requeue", "--open-mode=append", f"--signal=TERM@{_WARNING_SECONDS}"]
    job = _slurm("sbatch", "--parsable", *options, script=script).split(";")[0].strip()
    sys.stdout.write(f"Slurm job {job} ({name}) is in the queue.\n")
    try:
        return _follow(job, output_path, stopped)
    finally:
        output_path.unlink(missing_ok=True)


def _follow(job: str, output_path: Path, stopped: Sequence[int]) -> int:
    last_state, num_shown = "", 0
    while True:
        if stopped:
            _cancel(job)
            return 128 + stopped[0]
        facts = _facts(job)
        state = facts["JobState"]
        num_shown = _show_new_lines(output_path, num_shown)
        if state != last_state:
            sys.stdout.write(f"Slurm job {job}: {_words(facts)}\n")
            sys.stdout.flush()
            last_state = state
        if state in _ENDED:
            _show_new_lines(output_path, num_shown)
            code, _, number = facts["ExitCode"].partition(":")
            if state == "COMPLETED":
                return 0
            sys.stdout.write(f"Slurm job {job} ended as {state} with exit code {code}.\n")
            return int(code) or (128 + int(number) if int(number or 0) else 1)
        time.sleep(_POLL_SECONDS)


def _words(facts: Mapping[str, str]) -> str:
    """Say a job's state, why or where, and how often it was put back into the queue."""
    state, restarts = facts["JobState"], facts.get("Restarts", "0")
    place = f" ({facts.get('Reason', '')})" if state == "PENDING" else f" on {facts.get('NodeList', '')}"
    return state + place + (f", restart {restarts}" if restarts != "0" else "")


def _cancel(job: str) -> None:
    _slurm("scancel", job)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and _facts(job)["JobState"] not in _ENDED:
        time.sleep(0.2)


def _facts(job: str) -> dict[str, str]:
    """Ask for a job; a controller that restarts is asked again for a while."""
    for _ in range(30):
        with contextlib.suppress(SlurmError):
            text = _slurm("scontrol", "show", "job", "--oneliner", job)
            return dict(re.findall(r"(\w+)=(\S*)", text))
        time.sleep(2)
    raise SlurmError(f"Slurm does not answer for job {job}; look for it with `squeue`.")


def _show_new_lines(path: Path, start: int) -> int:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as stream:
        stream.seek(start)
        if text := stream.read():
            sys.stdout.write(text.decode(errors="replace"))
            sys.stdout.flush()
        return start + len(text)
    return start


def _slurm(*command: str, script: str | None = None) -> str:
    try:
        answer = subprocess.run(command, input=script, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise SlurmError(f"'{command[0]}' is not installed; run with executor 'local'.") from error
    except subprocess.CalledProcessError as error:
        raise SlurmError(f"'{shlex.join(command)}': {error.stderr.strip()}") from error
    return answer.stdout


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except SlurmError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
