"""calico.data.acquisition.manifest: what is shipped is complete and safe, what is wrong is named."""

import json
import re
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest

from calico.config import DownloadName, load_config
from calico.data.acquisition import manifest
from calico.data.acquisition.manifest import known_sources, read_manifest
from calico.data.acquisition.receipts import archive_kind
from calico.data.annotations.ade20k_part_234 import RELEASE
from calico.errors import DataError

ROOT = Path(__file__).parents[4]
SHIPPED = Path(manifest.__file__).with_name("sources.json")


def test_every_name_of_params_is_described() -> None:
    assert set(known_sources()) == set(get_args(DownloadName))


def test_addresses_are_https_and_pinned() -> None:
    """A branch of a hub moves; a commit does not."""
    for source in known_sources().values():
        for url in (url for archive in source.archives for url in archive.urls):
            assert urlsplit(url).scheme == "https"
            assert urlsplit(url).hostname != "huggingface.co" or re.search(r"/resolve/[0-9a-f]{40}/", url), (
                url
            )
            assert "?" not in url


def test_archives_can_be_unpacked_and_do_not_share_a_place() -> None:
    for source in known_sources().values():
        places = [archive.unpack_to for archive in source.archives if not archive.flat]
        assert len(set(places)) == len(places)
        assert len({archive.name for archive in source.archives}) == len(source.archives)
        assert all(archive_kind(archive.name) for archive in source.archives)


def test_places_are_those_of_the_readers() -> None:
    """What the readers open below the folder of a source is what the manifest promises there."""
    sources = known_sources()
    promised = {
        name: {
            "/".join(filter(None, (source.folder, archive.unpack_to, pattern)))
            for archive in source.archives
            for pattern in archive.holds
        }
        for name, source in sources.items()
    }

    for split in ("train", "val", "test"):
        assert f"paco_lvis/annotations/paco_lvis_v1_{split}.json" in promised["paco_lvis"]
        assert f"partimagenet/images/{split}" in promised["partimagenet"]
        assert f"partimagenet/annotations/{split}/{split}.json" in promised["partimagenet"]
        assert f"partimagenet/annotations/{split}_whole" in promised["partimagenet"]
    assert {"paco_lvis/coco/train2017/*.jpg", "paco_lvis/coco/val2017/*.jpg"} < promised["paco_lvis"]
    assert f"ade20k_part_234/{RELEASE}/ade20k_instance_train.json" in promised["ade20k_part_234"]
    assert promised["grand"] | promised["sa_1b"] == {"grand/sa_*.json", "grand/sa_*.jpg"}


def test_paper_profile_gets_every_source_that_it_unifies() -> None:
    config = load_config("paper", ROOT / "params.yaml")

    assert {*config.unify.sources, "grand", "sa_1b"} <= set(config.download.sources)
    assert config.download.accepted_terms == []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("unpack_to", "../elsewhere", r"unpack_to = '\.\./elsewhere': value error, leaves its folder"),
        ("unpack_to", "/etc", "unpack_to = '/etc': value error, leaves its folder"),
        ("holds", ["a/../../b"], r"holds\.0 = 'a/\.\./\.\./b': value error, leaves its folder"),
        ("holds", [], "holds = .*at least 1 item"),
        ("name", "../release.zip", "name = .*leaves its folder"),
        ("name", "a/release.zip", "name = 'a/release.zip': value error, is not the name of a file"),
        ("name", ".hidden.zip", "name = .*is not the name of a file"),
        ("sha256", "ABC", "sha256 = 'ABC': string should match"),
        ("bytes", -1, "bytes = -1: input should be greater than 0"),
        ("bytes", "12", "bytes = '12': input should be a valid integer"),
        ("mirrors", [], "mirrors = .*extra inputs are not permitted"),
    ],
)
def test_wrong_value_is_named_with_its_place(tmp_path: Path, field: str, value: Any, message: str) -> None:
    content = json.loads(SHIPPED.read_text())
    content["paco_lvis"]["archives"][0][field] = value
    path = tmp_path / "sources.json"
    path.write_text(json.dumps(content))

    with pytest.raises(DataError, match=rf"{path}: 1 wrong value\(s\): paco_lvis\.archives\.0\.{message}"):
        read_manifest(path)
