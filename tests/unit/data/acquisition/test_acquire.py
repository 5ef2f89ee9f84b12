"""calico.data.acquisition.acquire: complete sources, or all that is missing at once."""

import errno
import fcntl
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from calico.config import DownloadName, DownloadSection
from calico.data.acquisition import unpack
from calico.data.acquisition.acquire import acquire
from calico.data.acquisition.download import Patience
from calico.data.acquisition.manifest import Archive, Source
from calico.errors import DataError
from tests.unit.data.acquisition.archives import CONTENT, entry, noise, sha256, tar_of, zip_of
from tests.unit.data.acquisition.hostile_server import HostileServer, hostile_server

TERMS = {"what": "the terms of the photographers", "where": "https://example.org/terms"}
PLACED = {name.removeprefix("release/"): content for name, content in CONTENT.items()}


@pytest.fixture(scope="module")
def running_server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


@pytest.fixture
def server(running_server: HostileServer) -> HostileServer:
    running_server.files.clear()
    return running_server


def source(*archives: Archive, folder: str = "parts", **values: Any) -> Source:
    defaults = {"title": "Parts", "licence": "MIT", "terms": None, "page": "https://example.org"}
    return Source.model_validate({**defaults, **values, "folder": folder, "archives": list(archives)})


def run(folder: Path, sources: dict[DownloadName, Source], accepted: tuple[DownloadName, ...] = ()) -> Path:
    section = DownloadSection(
        sources=list(sources),
        accepted_terms=list(accepted),
        folder=str(folder / "downloads"),
        num_workers=2,
        num_retries=1,
    )
    acquire(section, folder / "sources", sources=sources, patience=Patience(num_retries=1, pause_s=0.001))
    return folder / "sources"


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def by_hand(folder: Path, name: DownloadName, file_name: str, content: bytes) -> Path:
    path = folder / "downloads" / name / file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_archive_is_downloaded_and_placed(server: HostileServer, tmp_path: Path) -> None:
    """The folder that holds what it must, wherever it is in the archive, becomes the place."""
    served = server.serve("release.zip", zip_of())
    sources = {"paco_lvis": source(entry("release.zip", server.url("release.zip"), unpack_to="a/b"))}

    output = run(tmp_path, sources)

    assert content_of(output / "parts" / "a" / "b") == PLACED
    assert json.loads((output / "receipts/paco_lvis/release.zip.json").read_text()) == {
        "archive": "release.zip",
        "num_files": 3,
        "sha256": sha256(zip_of()),
    }
    assert {path.name for path in output.iterdir()} == {"parts", "receipts"}
    run(tmp_path, sources)
    assert len(served.requests) == 1


def test_archive_may_go_once_it_is_unpacked(server: HostileServer, tmp_path: Path) -> None:
    served = server.serve("release.zip", zip_of())
    sources = {"paco_lvis": source(entry("release.zip", server.url("release.zip")))}
    run(tmp_path, sources)
    shutil.rmtree(tmp_path / "downloads")

    run(tmp_path, sources)

    assert len(served.requests) == 1


def test_what_was_removed_is_unpacked_again(server: HostileServer, tmp_path: Path) -> None:
    served = server.serve("release.zip", zip_of())
    sources = {"paco_lvis": source(entry("release.zip", server.url("release.zip")))}
    output = run(tmp_path, sources)
    (output / "parts" / "labels.json").unlink()

    run(tmp_path, sources)

    assert content_of(output / "parts") == PLACED
    assert len(served.requests) == 1


def test_flat_archives_share_a_folder(server: HostileServer, tmp_path: Path) -> None:
    flat: dict[str, Any] = {"flat": True, "holds": ["sa_*.json"]}
    for number in (1, 2):
        server.serve(f"part_{number}.tar.gz", tar_of({f"x/sa_{number}.json": b"{}", "x/README": b""}))
    sources = {
        "grand": source(
            *(
                entry(f"part_{number}.tar.gz", server.url(f"part_{number}.tar.gz"), **flat)
                for number in (1, 2)
            )
        )
    }

    output = run(tmp_path, sources)

    assert content_of(output / "parts") == {"sa_1.json": b"{}", "sa_2.json": b"{}"}


def test_flat_archives_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    flat: dict[str, Any] = {"flat": True, "holds": ["sa_*.json"]}
    sources = {"grand": source(entry("part_1.tar", **flat), entry("part_2.tar", **flat))}
    by_hand(tmp_path, "grand", "part_1.tar", tar_of({"sa_1.json": b"{}"}, mode="w"))
    by_hand(tmp_path, "grand", "part_2.tar", tar_of({"sa_1.json": b"[]"}, mode="w"))

    with pytest.raises(DataError, match=r"sa_1\.json: another archive has put something else there"):
        run(tmp_path, sources)
    assert content_of(tmp_path / "sources" / "parts") == {"sa_1.json": b"{}"}


def test_inner_archives_are_unpacked_where_they_lie(tmp_path: Path) -> None:
    outer = zip_of(
        {"top/train.zip": zip_of({"train.json": b"{}", "train/n01/1.JPEG": b"1"}), "top/note": b""}
    )
    sources = {"partimagenet_ood": source(entry(inner="*.zip", holds=["train.json", "train"]))}
    by_hand(tmp_path, "partimagenet_ood", "release.zip", outer)

    output = run(tmp_path, sources)

    assert content_of(output / "parts") == {"train.json": b"{}", "train/n01/1.JPEG": b"1", "note": b""}


def test_inner_archive_is_not_trusted_either(tmp_path: Path) -> None:
    outer = zip_of({"train.zip": zip_of({"../evil": b"evil"})})
    sources = {"partimagenet_ood": source(entry(inner="*.zip", holds=["train.json"]))}
    by_hand(tmp_path, "partimagenet_ood", "release.zip", outer)

    with pytest.raises(DataError, match=r"member '\.\./evil' leaves its folder"):
        run(tmp_path, sources)
    assert not list(tmp_path.rglob("evil"))
    assert not (tmp_path / "sources" / "parts").exists()


def test_source_with_terms_waits_for_a_person(server: HostileServer, tmp_path: Path) -> None:
    url = server.url("release.zip")
    served = server.serve("release.zip", zip_of())
    sources = {"partimagenet": source(entry("release.zip", url, bytes=len(zip_of())), terms=TERMS)}

    with pytest.raises(DataError) as caught:
        run(tmp_path, sources)
    assert str(caught.value).splitlines()[1:3] == [
        "  partimagenet: Parts; licence: MIT; terms to accept first: the terms of the photographers",
        "    - release.zip (0.0 GB): accept the terms at https://example.org/terms, add partimagenet to "
        f"download.accepted_terms in params.yaml and run again; or get {url} yourself and put it at "
        f"{tmp_path}/downloads/partimagenet/release.zip, or the unpacked files at {tmp_path}/sources/parts.",
    ]
    assert served.requests == []
    assert not (tmp_path / "sources").exists()

    assert content_of(run(tmp_path, sources, accepted=("partimagenet",)) / "parts") == PLACED


def test_file_placed_by_hand_is_verified_and_used(tmp_path: Path) -> None:
    """No address, or terms that nobody accepted here: a person who has the file may use it."""
    sources = {"ade20k_part_234": source(entry("release.tar.gz", sha256=sha256(tar_of())), terms=TERMS)}
    by_hand(tmp_path, "ade20k_part_234", "release.tar.gz", tar_of())

    output = run(tmp_path, sources)

    assert content_of(output / "parts") == PLACED
    receipt = json.loads((tmp_path / "downloads/ade20k_part_234/release.tar.gz.receipt.json").read_text())
    assert receipt == {
        "name": "release.tar.gz",
        "bytes": len(tar_of()),
        "sha256": sha256(tar_of()),
        "url": None,
    }


@pytest.mark.parametrize(
    ("content", "values", "message"),
    [
        (zip_of(padding=9), {"sha256": sha256(zip_of())}, "sha256 is .*, but the published file has"),
        (zip_of(), {"bytes": 17}, r"\d+ bytes, but the published file has 17"),
        (zip_of()[:-5], {}, r"not a complete \.zip file"),
        (b"<html>login</html>", {}, r"not a complete \.zip file \(it begins with b'<h'\)"),
        (
            zip_of({"other/file": b""}),
            {},
            r"no folder in it holds labels\.json, images; it begins with 'other'",
        ),
        (zip_of({"labels.json": b"", "images/": b""}), {}, r"no folder in it holds labels\.json, images"),
        (zip_of(), {"num_files": 2, "holds": ["*.jpg"]}, r"no folder in it holds \*\.jpg, 2 files in all"),
    ],
)
def test_wrong_file_placed_by_hand_is_named_and_left(
    tmp_path: Path, content: bytes, values: dict[str, Any], message: str
) -> None:
    path = by_hand(tmp_path, "ade20k_part_234", "release.zip", content)

    with pytest.raises(DataError, match=rf"{path}: {message}"):
        run(tmp_path, {"ade20k_part_234": source(entry(**values))})
    assert path.read_bytes() == content
    assert content_of(tmp_path / "sources") == {}


def test_changed_archive_is_an_error_until_its_receipt_is_deleted(tmp_path: Path) -> None:
    sources = {"ade20k_part_234": source(entry())}
    path = by_hand(tmp_path, "ade20k_part_234", "release.zip", zip_of())
    output = run(tmp_path, sources)
    other = zip_of({"labels.json": b"[]", "images/two.jpg": b"two"})
    path.write_bytes(other)
    shutil.rmtree(output)

    with pytest.raises(DataError, match=f"sha256 is {sha256(other)}, but it was {sha256(zip_of())}"):
        run(tmp_path, sources)

    path.with_name("release.zip.receipt.json").unlink()
    assert content_of(run(tmp_path, sources) / "parts") == {"labels.json": b"[]", "images/two.jpg": b"two"}


def test_unpacked_files_placed_by_hand_are_used(tmp_path: Path) -> None:
    folder = tmp_path / "sources" / "parts"
    for name, content in PLACED.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    run(tmp_path, {"ade20k_part_234": source(entry(), terms=TERMS)})

    assert content_of(folder) == PLACED


def test_incomplete_files_of_a_person_are_named_and_left(tmp_path: Path) -> None:
    folder = tmp_path / "sources" / "parts"
    folder.mkdir(parents=True)
    (folder / "labels.json").write_text("mine")
    by_hand(tmp_path, "ade20k_part_234", "release.zip", zip_of())

    with pytest.raises(
        DataError, match=rf"{folder}: lacks images, so it is not what comes out of release\.zip"
    ):
        run(tmp_path, {"ade20k_part_234": source(entry())})
    assert (folder / "labels.json").read_text() == "mine"


def test_count_of_files_is_checked_where_it_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "sources" / "parts"
    folder.mkdir(parents=True)
    (folder / "one.jpg").write_bytes(b"")

    with pytest.raises(DataError, match=r"parts: lacks 118287 files \(it has 1\)"):
        run(tmp_path, {"paco_lvis": source(entry(holds=["*.jpg"], num_files=118287))})


def test_any_number_of_archives_by_hand(tmp_path: Path) -> None:
    archive = entry("sa_*.tar", flat=True, holds=["sa_*.jpg"])
    sources = {"sa_1b": source(archive, terms=TERMS, page="https://example.org/terms")}
    with pytest.raises(
        DataError,
        match=r"sa_\*\.tar: accept the terms at https://example\.org/terms, get one or more there, put",
    ):
        run(tmp_path, sources)

    for number in (3, 7):
        name = f"sa_{number:06}"
        made = tar_of({f"{name}.jpg": b"jpg", f"{name}.json": b"masks of another kind"}, mode="w")
        by_hand(tmp_path, "sa_1b", f"{name}.tar", made)
    output = run(tmp_path, sources)

    assert set(content_of(output / "parts")) == {"sa_000003.jpg", "sa_000007.jpg"}
    assert {path.name for path in (output / "receipts/sa_1b").iterdir()} == {
        "sa_000003.tar.json",
        "sa_000007.tar.json",
    }
    shutil.rmtree(tmp_path / "downloads")
    run(tmp_path, sources)


def test_optional_archive_is_not_missed(tmp_path: Path) -> None:
    run(tmp_path, {"grand": source(entry("part_4_*.tar.gz", flat=True, optional=True))})


def test_everything_that_is_missing_is_said_at_once(server: HostileServer, tmp_path: Path) -> None:
    """What can be had is had all the same, and nothing else is left behind."""
    server.serve("good.zip", zip_of())
    sources: dict[DownloadName, Source] = {
        "paco_lvis": source(entry("good.zip", server.url("good.zip")), folder="good"),
        "partimagenet": source(entry("release.zip", server.url("x")), terms=TERMS, folder="a"),
        "ade20k_part_234": source(entry(), terms={**TERMS, "where": None}, folder="b"),
        "grand": source(entry("gone.zip", server.url("gone.zip")), folder="c"),
        "sa_1b": source(entry("offline.zip", "http://127.0.0.1:9/offline.zip"), folder="d"),
    }

    with pytest.raises(DataError) as caught:
        run(tmp_path, sources)
    lines = str(caught.value).splitlines()

    assert lines[0] == f"{tmp_path}/sources: 4 source(s) are not complete; the steps for each:"
    assert [line.split(":")[0].strip() for line in lines if line.startswith("  ")][0::2][:4] == list(sources)[
        1:
    ]
    assert "accept the terms at https://example.org, get it there, put it at" in lines[4]
    assert "gone.zip: HTTP status 404 (Not Found): the file is no longer there." in lines[6]
    assert "http://127.0.0.1:9/offline.zip: no connection (Connection refused)." in lines[8]
    assert lines[-1].startswith("  A source that you do without: take it out of download.sources")
    assert content_of(tmp_path / "sources" / "good") == PLACED
    assert {path.name for path in (tmp_path / "downloads").rglob("*") if path.is_file()} == {
        "good.zip",
        "good.zip.receipt.json",
    }


def test_too_small_a_disk_is_seen_before_any_request(server: HostileServer, tmp_path: Path) -> None:
    served = server.serve("release.zip", zip_of())
    sources = {"paco_lvis": source(entry("release.zip", server.url("release.zip"), bytes=10**18))}

    with pytest.raises(
        DataError, match=r"downloads: the downloads need 1000000000\.0 GB, but .* GB are free"
    ):
        run(tmp_path, sources)
    assert served.requests == []


def test_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    descriptor = os.open(tmp_path / "downloads", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(DataError, match="downloads: another run downloads into this folder"):
            run(tmp_path, {"paco_lvis": source(entry())})
    finally:
        os.close(descriptor)


def test_two_sources_for_one_folder_are_refused(tmp_path: Path) -> None:
    sources: dict[DownloadName, Source] = {
        "partimagenet": source(entry()),
        "partimagenet_ood": source(entry()),
    }

    with pytest.raises(
        DataError, match="names partimagenet and partimagenet_ood, but both belong in the folder p"
    ):
        run(tmp_path, sources)


@pytest.mark.parametrize("content", ["{", "[]", '{"name": 3}'])
def test_damaged_receipt_is_named(tmp_path: Path, content: str) -> None:
    path = by_hand(tmp_path, "paco_lvis", "release.zip", zip_of())
    receipt = path.with_name("release.zip.receipt.json")
    receipt.write_text(content)

    with pytest.raises(DataError, match=rf"{receipt}: not a"):
        run(tmp_path, {"paco_lvis": source(entry())})


def test_unsafe_archive_leaves_nothing(tmp_path: Path) -> None:
    by_hand(tmp_path, "paco_lvis", "release.tar.gz", tar_of({**CONTENT, "../evil": noise(50)}))

    with pytest.raises(
        DataError, match=r"release\.tar\.gz: cannot be unpacked: member '\.\./evil' leaves its"
    ):
        run(tmp_path, {"paco_lvis": source(entry("release.tar.gz"))})
    assert content_of(tmp_path / "sources") == {}
    assert list((tmp_path / "sources").iterdir()) == []


def test_disk_that_fills_up_while_unpacking_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand(tmp_path, "paco_lvis", "release.zip", zip_of())

    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(unpack, "_write", write)
        with pytest.raises(DataError, match="calico-partial: the disk is full"):
            run(tmp_path, {"paco_lvis": source(entry())})
    assert list((tmp_path / "sources").iterdir()) == []
    assert content_of(run(tmp_path, {"paco_lvis": source(entry())}) / "parts") == PLACED


def test_old_tar_formats_are_read(tmp_path: Path) -> None:
    by_hand(tmp_path, "paco_lvis", "release.tar.gz", tar_of(format=tarfile.USTAR_FORMAT))

    assert content_of(run(tmp_path, {"paco_lvis": source(entry("release.tar.gz"))}) / "parts") == PLACED
