"""The rehearsal on a small repository: cron starts two runs, the second does nothing, nothing is left."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("dvc", reason="the extra 'pipeline' is not installed")
pytest.importorskip("prefect", reason="the extra 'orchestrate' is not installed")
pytest.importorskip("mlflow", reason="the extra 'track' is not installed")
pytest.importorskip("psycopg2", reason="the extra 'servers' is not installed")

from PIL import Image

from flows import rehearsal
from tests.integration.small_repository import ROOT, commit, make_repository, processes_in

pytestmark = pytest.mark.integration


def test_rehearsal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = make_repository(tmp_path / "repository", seconds=1.0)
    shutil.copy(ROOT / "prefect.yaml", repository)
    commit(repository)
    folder = tmp_path / "pictures"
    before = set(Path("/tmp").glob("calico-rehearsal-*"))

    first, second = rehearsal.main(folder, {"tiny.rate": 0.25}, repository)

    stages = {"data", "train", "evaluate"}
    assert first == dict.fromkeys(stages, "ran")
    assert second == dict.fromkeys(stages, "up to date")
    assert json.loads((folder / "stages.json").read_text()) == [first, second]
    assert set(Path("/tmp").glob("calico-rehearsal-*")) == before
    assert processes_in(repository) == []
    if any(map(shutil.which, rehearsal.BROWSERS)):
        for name in ("runs", "charts", "compare"):
            with Image.open(folder / f"mlflow-{name}.png") as picture:
                assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50  # more than an empty page
