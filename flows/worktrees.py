"""A git worktree per variant: each writes into a workspace of its own, all share one DVC cache."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from flows.graph import DVC, python_environment

_FOLDER = Path("scratch", "worktrees")


class WorktreeError(RuntimeError):
    """git or DVC refused a worktree."""


@contextlib.contextmanager
def worktree(root: Path, name: str, changes: Mapping[str, Any], cache: Path) -> Iterator[Path]:
    """Check out the committed state beside the workspace; remove it when the block ends.

    Args:
        root: folder of the repository.
        name: of the worktree's folder; what is left there from a killed run is removed first.
        changes: values for the worktree's params.yaml, by dotted name.
        cache: DVC's cache folder.

    Raises:
        WorktreeError: git or DVC refused it, or params.yaml has no such value.
    """
    path = root.absolute() / _FOLDER / name
    _remove(root, path)
    _call(root, "git", "worktree", "add", "--detach", "--quiet", str(path), "HEAD")
    try:
        _call(path, *DVC, "config", "--local", "cache.dir", str(cache.absolute()))
        if changes:
            change_params(path / "params.yaml", changes)
        yield path
    finally:
        _remove(root, path)


def shared_cache(root: Path) -> Path:
    """Return the cache folder of a workspace."""
    return Path(_call(root, *DVC, "cache", "dir").strip())


def require_committed(root: Path) -> None:
    """Refuse a workspace whose tracked files, dvc.lock aside, differ from its last commit.

    Raises:
        WorktreeError: they differ; a worktree would not have the changes.
    """
    changed = _call(root, "git", "status", "--porcelain", "--untracked-files=no").split("\n")
    if names := [line[3:] for line in changed if line and not line.endswith("dvc.lock")]:
        raise WorktreeError(
            f"{root.absolute()}: {', '.join(names[:5])}: not committed, so the variants would not have the "
            "change. Commit or stash first."
        )


def change_params(path: Path, changes: Mapping[str, Any]) -> None:
    """Set values of a params.yaml by dotted name.

    Raises:
        WorktreeError: a value to be set is not there.
    """
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        section = params
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section:
            raise WorktreeError(f"{path}: no value '{dotted}' to change.")
        section[last] = value
    temporary = path.with_suffix(".partial")
    temporary.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    os.replace(temporary, path)


def _remove(root: Path, path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    _call(root, "git", "worktree", "prune")


def _call(folder: Path, *command: str) -> str:
    answer = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=python_environment()
    )
    if answer.returncode != 0:
        raise WorktreeError(f"'{' '.join(command)}' in {folder}: {answer.stderr.strip()}")
    return answer.stdout
