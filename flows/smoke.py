"""The nightly test of everything: the committed tiny pipeline, from nothing, away from the workspace."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow

from flows.pipeline import pipeline
from flows.worktrees import worktree


@flow(name="calico-smoke", persist_result=False)
def smoke(root: Path = Path(), changes: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Run the tiny pipeline in a worktree with an empty cache, so that every stage runs.

    Args:
        root: folder of the repository.
        changes: values of params.yaml by dotted name, to make it smaller.

    Returns:
        CALICO's mean metrics, in [0, 1].
    """
    with (
        tempfile.TemporaryDirectory(prefix="calico-smoke-") as cache,
        worktree(root, "smoke", changes or {}, Path(cache)) as folder,
    ):
        pipeline(profile="tiny", root=folder)
        metrics = json.loads((folder / "artifacts/tiny/evaluate/metrics.json").read_text(encoding="utf-8"))
        return dict(metrics["models"]["calico"]["mean"])
