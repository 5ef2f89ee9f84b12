"""Run `acquire` again and again in child processes, each killed a step later; a program of its own.

python -m tests.unit.data.acquisition.killed_runs FOLDER PLAN

Prints one JSON object: how many runs were killed, and the folders that differ from an undisturbed run's.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from calico.config import DownloadSection
from calico.data.acquisition import download
from calico.data.acquisition.acquire import acquire
from calico.data.acquisition.download import Patience
from calico.data.acquisition.manifest import Source
from calico.data.acquisition.partial import Partial
from calico.errors import DataError

_STEPS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}


def kill_at(step: int, root: Path) -> None:
    """Die, without any clean-up, before the `step`-th change below `root` or block of a download."""
    lock, count = threading.Lock(), 0

    def advance() -> None:
        nonlocal count
        with lock:
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _STEPS and str(arguments[0]).startswith(str(root)):
            is_read = event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
            if not is_read:
                advance()

    write: Callable[..., None] = Partial.write

    def counted_write(self: Partial, *arguments: Any) -> None:
        advance()
        write(self, *arguments)

    Partial.write = counted_write  # type: ignore[method-assign]
    sys.addaudithook(hook)


def run(root: Path, plan: dict[str, Any], step: int | None) -> bool:
    """Acquire in a child process; return whether it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if step is not None:
                kill_at(step, root)
            section = DownloadSection.model_validate({**plan["section"], "folder": str(root / "downloads")})
            sources: Any = {name: Source.model_validate(value) for name, value in plan["sources"].items()}
            patience = Patience(num_retries=1, pause_s=0.001, checkpoint_bytes=8192)
            acquire(section, root / "sources", sources=sources, patience=patience)
            code = 0
        except DataError as fault:
            sys.stderr.write(f"{fault}\n")
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status != 0


def tree(root: Path) -> dict[str, str]:
    """Describe every file and folder below `root`."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in root.rglob("*")
    }


def prepare(folder: Path, step: int) -> Path:
    """Make a new folder for every run: to remove one costs more than the run."""
    root = folder / f"run_{step}"
    shutil.copytree(folder / "by_hand", root / "downloads")
    return root


def main(folder: str, plan_path: str) -> None:
    plan = json.loads(Path(plan_path).read_text())
    download._BLOCK_BYTES = 8192
    # A kill loses nothing that was written; only a power failure does, and that is not what happens here.
    os.sync = os.fsync = lambda *_: None  # type: ignore[assignment]
    undisturbed = prepare(Path(folder), 0)
    assert not run(undisturbed, plan, None)
    expected = tree(undisturbed)
    wrong, step = [], 1
    while run(root := prepare(Path(folder), step), plan, step):
        if step % 4 == 0:  # killed twice in a row
            run(root, plan, 1 + step // 2)
        run(root, plan, None)
        if (found := tree(root)) != expected:
            wrong.append({"step": step, "paths": sorted(set(found.items()) ^ set(expected.items()))})
        step += 1
    sys.stdout.write(json.dumps({"kills": step - 1, "wrong": wrong, "num_paths": len(expected)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
