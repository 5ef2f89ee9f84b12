"""Where a report comes from: the commit and the versions of what computed it."""

import platform
import subprocess
from importlib import metadata

_PACKAGES = (
    "calico",
    "torch",
    "torchvision",
    "transformers",
    "peft",
    "deepspeed",
    "segment-anything",
    "sentence-transformers",
    "numpy",
    "pycocotools",
    "pillow",
)


def describe_origin() -> dict[str, str]:
    """Return the git commit, the Python version and the versions of installed packages, by name."""
    return {"commit": _commit(), "python": platform.python_version(), **_versions()}


def _commit() -> str:
    """Return the checked-out commit, marked where tracked files differ from it."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return "unknown (not a git checkout)"
    return f"{commit} with local changes" if _git("status", "--porcelain", "--untracked-files=no") else commit


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _versions() -> dict[str, str]:
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed
