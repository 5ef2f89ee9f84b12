"""kill -9 at any moment of a download or an unpacking: the next run ends with the undisturbed run's bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.unit.data.acquisition.archives import entry, noise, sha256, tar_of, zip_of
from tests.unit.data.acquisition.hostile_server import hostile_server
from tests.unit.data.acquisition.test_acquire import by_hand, source

ROOT = Path(__file__).parents[4]


def test_killed_at_any_step_the_next_run_gives_the_same_bytes(tmp_path: Path) -> None:
    large = zip_of(padding=25_000)
    inner = zip_of({"train.zip": zip_of({"train.json": b"{}", "train/1.JPEG": b"1"})})
    with hostile_server() as server:
        served = server.serve("large.zip", large)
        server.serve("part_1.tar.gz", tar_of({f"x/sa_{number}.json": b"{}" for number in range(2)}))
        server.serve("inner.zip", inner)
        sources = {
            "paco_lvis": source(entry("large.zip", server.url("large.zip"), unpack_to="deep/place")),
            "partimagenet_ood": source(
                entry(
                    "inner.zip",
                    server.url("inner.zip"),
                    inner="*.zip",
                    holds=["train.json"],
                    sha256=sha256(inner),
                ),
                folder="ood",
            ),
            "grand": source(
                entry("part_1.tar.gz", server.url("part_1.tar.gz"), flat=True, holds=["sa_*.json"]),
                folder="grand",
            ),
            "sa_1b": source(entry("sa_*.tar", flat=True, holds=["sa_*.jpg"]), folder="grand"),
        }
        by_hand(
            tmp_path, "sa_1b", "sa_000001.tar", tar_of({"sa_1.jpg": noise(900), "sa_2.jpg": b"2"}, mode="w")
        )
        (tmp_path / "downloads").rename(tmp_path / "by_hand")
        plan = {
            "section": {"sources": list(sources), "accepted_terms": [], "num_workers": 2, "num_retries": 1},
            "sources": {name: value.model_dump(mode="json") for name, value in sources.items()},
        }
        (tmp_path / "plan.json").write_text(json.dumps(plan))

        result = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.unit.data.acquisition.killed_runs",
                str(tmp_path),
                str(tmp_path / "plan.json"),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["wrong"] == []
    assert found["kills"] > 100
    assert found["num_paths"] > 20
    assert any(request.get("Range") for request in served.requests), "no killed download was resumed"
