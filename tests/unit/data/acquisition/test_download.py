"""calico.data.acquisition.download: the right bytes or an error that says why, whatever the server does."""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from calico.core import files
from calico.data.acquisition import transport
from calico.data.acquisition.download import Patience, StoppedError, download
from calico.data.acquisition.partial import Partial
from calico.data.acquisition.receipts import Receipt
from calico.errors import DataError
from tests.unit.data.acquisition.archives import entry, noise, sha256, zip_of
from tests.unit.data.acquisition.hostile_server import HostileServer, hostile_server

ARCHIVE = zip_of(padding=200_000)
OTHER = zip_of(padding=210_000)
SAME_SIZE = ARCHIVE[:50_000] + b"?" + ARCHIVE[50_001:]
HURRIED = Patience(num_retries=2, pause_s=0.001)
NAME = "release.zip"


@pytest.fixture(scope="module")
def running_server() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


@pytest.fixture
def server(running_server: HostileServer) -> HostileServer:
    running_server.files.clear()
    return running_server


def fetch(server: HostileServer, folder: Path, patience: Patience = HURRIED, **values: object) -> Receipt:
    return download(entry(NAME, server.url(NAME), **values), folder / NAME, patience)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_complete(folder: Path, content: bytes = ARCHIVE) -> None:
    assert (folder / NAME).read_bytes() == content
    assert left(folder) == [NAME, f"{NAME}.receipt.json"]


def test_file_arrives_with_its_receipt_and_nothing_else(server: HostileServer, tmp_path: Path) -> None:
    server.serve(NAME, ARCHIVE)

    receipt = fetch(server, tmp_path, bytes=len(ARCHIVE), sha256=sha256(ARCHIVE))

    assert receipt == Receipt(NAME, len(ARCHIVE), sha256(ARCHIVE), server.url(NAME))
    assert json.loads((tmp_path / f"{NAME}.receipt.json").read_text()) == vars(receipt)
    assert_complete(tmp_path)


def test_dropped_connections_are_resumed_where_they_broke(server: HostileServer, tmp_path: Path) -> None:
    """More breaks than retries: what counts is that every attempt brings something."""
    served = server.serve(NAME, ARCHIVE, cut_after=30_000)

    fetch(server, tmp_path)

    assert_complete(tmp_path)
    starts = [request.get("Range") for request in served.requests]
    assert starts == [None, *(f"bytes={start}-" for start in range(30_000, len(ARCHIVE), 30_000))]
    assert len(starts) > 1 + HURRIED.num_retries
    assert {request.get("If-Range") for request in served.requests[1:]} == {f'"{sha256(ARCHIVE)[:16]}"'}


def test_server_that_ignores_ranges_is_read_from_the_start(server: HostileServer, tmp_path: Path) -> None:
    server.serve(NAME, ARCHIVE, cut_after=30_000, times=1, ignores_range=True)

    fetch(server, tmp_path)

    assert_complete(tmp_path)


def test_server_that_never_gets_further_is_given_up(server: HostileServer, tmp_path: Path) -> None:
    served = server.serve(NAME, ARCHIVE, cut_after=30_000, ignores_range=True)

    with pytest.raises(
        DataError,
        match=rf"release\.zip: not downloaded\. http:.*gave up after 3 attempts in a row, at 30000 bytes: "
        rf"the connection ended after 30000 of {len(ARCHIVE)} bytes",
    ):
        fetch(server, tmp_path)
    assert len(served.requests) == 4
    assert NAME not in left(tmp_path)


@pytest.mark.parametrize("ignores_if_range", [False, True])
@pytest.mark.parametrize("changed", [OTHER, SAME_SIZE], ids=["other size", "same size"])
def test_file_that_changes_between_attempts_starts_again(
    server: HostileServer, tmp_path: Path, ignores_if_range: bool, changed: bytes
) -> None:
    """Never the beginning of one version and the end of another."""
    served = server.serve(
        NAME, ARCHIVE, changed, cut_after=30_000, times=1, ignores_if_range=ignores_if_range
    )

    fetch(server, tmp_path)

    assert_complete(tmp_path, changed)
    assert served.requests[1]["Range"] == "bytes=30000-"


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_validator_only_a_known_sha256_allows_a_resume(
    server: HostileServer, tmp_path: Path, etag: str | None
) -> None:
    served = server.serve(NAME, ARCHIVE, cut_after=30_000, times=1, etag=etag)
    fetch(server, tmp_path)
    assert "Range" not in served.requests[1]

    shutil.rmtree(tmp_path)
    served = server.serve(NAME, ARCHIVE, cut_after=30_000, times=1, etag=etag)
    fetch(server, tmp_path, sha256=sha256(ARCHIVE))
    assert served.requests[1]["Range"] == "bytes=30000-"
    assert_complete(tmp_path)


def test_stated_length_above_the_truth_never_ends_well(server: HostileServer, tmp_path: Path) -> None:
    server.serve(NAME, ARCHIVE, stated_length=len(ARCHIVE) + 100)

    with pytest.raises(
        DataError, match=rf"it refused to go on at {len(ARCHIVE)} of {len(ARCHIVE) + 100} b.*416"
    ):
        fetch(server, tmp_path)
    assert NAME not in left(tmp_path)


def test_stated_length_below_the_truth_is_no_complete_archive(server: HostileServer, tmp_path: Path) -> None:
    server.serve(NAME, ARCHIVE, stated_length=len(ARCHIVE) - 100)

    with pytest.raises(DataError, match=r"not a complete \.zip file \(it begins with b'PK"):
        fetch(server, tmp_path)
    assert left(tmp_path) == []


def test_other_size_than_published_is_refused_before_the_first_byte(
    server: HostileServer, tmp_path: Path
) -> None:
    server.serve(NAME, ARCHIVE)

    with pytest.raises(DataError, match=f"offers {len(ARCHIVE)} bytes, but the published file has 17"):
        fetch(server, tmp_path, bytes=17)
    assert left(tmp_path) == []


def test_endless_answer_is_cut_off_at_the_published_size(server: HostileServer, tmp_path: Path) -> None:
    server.serve(NAME, ARCHIVE, chunked=True)

    with pytest.raises(DataError, match=r"sends more than the 1000 bytes of the published file"):
        fetch(server, tmp_path, bytes=1000)
    assert left(tmp_path) == []


def test_answer_without_a_length_is_taken_if_it_verifies(server: HostileServer, tmp_path: Path) -> None:
    server.serve(NAME, ARCHIVE, chunked=True)

    fetch(server, tmp_path, bytes=len(ARCHIVE), sha256=sha256(ARCHIVE))

    assert_complete(tmp_path)


def test_wrong_bytes_are_removed_and_both_hashes_named(server: HostileServer, tmp_path: Path) -> None:
    server.serve(NAME, SAME_SIZE)

    with pytest.raises(
        DataError,
        match=rf"sha256 is {sha256(SAME_SIZE)}, but the published file has {sha256(ARCHIVE)}.*is removed",
    ):
        fetch(server, tmp_path, sha256=sha256(ARCHIVE))
    assert left(tmp_path) == []


def test_first_sha256_is_trusted_and_a_later_difference_is_an_error(
    server: HostileServer, tmp_path: Path
) -> None:
    server.serve(NAME, ARCHIVE)
    fetch(server, tmp_path)
    (tmp_path / NAME).unlink()
    server.serve(NAME, OTHER)

    with pytest.raises(
        DataError,
        match=rf"sha256 is {sha256(OTHER)}, but it was {sha256(ARCHIVE)} when it was first seen\."
        rf".*delete {tmp_path / NAME}\.receipt\.json",
    ):
        fetch(server, tmp_path)
    assert left(tmp_path) == [f"{NAME}.receipt.json"]

    (tmp_path / f"{NAME}.receipt.json").unlink()
    fetch(server, tmp_path)
    assert_complete(tmp_path, OTHER)


def test_web_page_instead_of_the_file_is_named(server: HostileServer, tmp_path: Path) -> None:
    server.serve(NAME, b"<html>Please confirm", content_type="text/html; charset=utf-8")
    with pytest.raises(DataError, match="sent a web page instead of the file"):
        fetch(server, tmp_path)

    server.serve(NAME, b"<html>Please confirm")
    with pytest.raises(DataError, match=r"begins with b'<h'.*confirmation page may have been saved"):
        fetch(server, tmp_path)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "asks for a login"), (403, "terms to be accepted"), (404, "no longer there"), (418, "status 418")],
)
def test_final_status_is_not_asked_again(
    server: HostileServer, tmp_path: Path, status: int, hint: str
) -> None:
    served = server.serve(NAME, ARCHIVE, statuses=[(status, {})])

    with pytest.raises(DataError, match=f"HTTP status {status} .*{hint}|{hint}"):
        fetch(server, tmp_path)
    assert len(served.requests) == 1
    assert left(tmp_path) == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_status_is_asked_again(server: HostileServer, tmp_path: Path, status: int) -> None:
    server.serve(NAME, ARCHIVE, statuses=[(status, {}), (status, {})])

    fetch(server, tmp_path)

    assert_complete(tmp_path)


def test_retry_after_is_waited_for(server: HostileServer, tmp_path: Path) -> None:
    server.serve(NAME, ARCHIVE, statuses=[(503, {"Retry-After": "1"})])
    started = time.monotonic()

    fetch(server, tmp_path)

    assert 1.0 <= time.monotonic() - started < 5.0


def test_server_that_wants_an_hour_is_believed(server: HostileServer, tmp_path: Path) -> None:
    served = server.serve(NAME, ARCHIVE, statuses=[(429, {"Retry-After": "3600"})])

    with pytest.raises(DataError, match=r"HTTP status 429 .*it asks to come back in 3600 s"):
        fetch(server, tmp_path)
    assert len(served.requests) == 1


def test_second_mirror_is_used_and_named(server: HostileServer, tmp_path: Path) -> None:
    server.serve("good.zip", ARCHIVE)
    mirrors = entry(NAME, server.url("gone.zip"), server.url("good.zip"), sha256=sha256(ARCHIVE))

    assert download(mirrors, tmp_path / NAME, HURRIED).url == server.url("good.zip")
    assert_complete(tmp_path)


def test_all_failing_mirrors_are_named(server: HostileServer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.zip: HTTP status 404 .*; http.*b\.zip: HTTP status 404"):
        download(entry(NAME, server.url("a.zip"), server.url("b.zip")), tmp_path / NAME, HURRIED)


@pytest.mark.parametrize(
    "url", ["http://example.org/release.zip", "ftp://127.0.0.1/release.zip", "file:///etc/passwd", "http://["]
)
def test_only_https_is_asked(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match="is not an https address"):
        download(entry(NAME, url), tmp_path / NAME, HURRIED)


@pytest.mark.parametrize(
    "location", ["http://example.org/release.zip", "ftp://127.0.0.1/x", "file:///etc/passwd"]
)
def test_redirect_to_another_scheme_is_refused(server: HostileServer, tmp_path: Path, location: str) -> None:
    server.serve(NAME, ARCHIVE, statuses=[(302, {"Location": location})])

    with pytest.raises(DataError, match=r"redirects to '.*', which is not an https address|status 302"):
        fetch(server, tmp_path)
    assert left(tmp_path) == []


def test_redirect_on_the_same_scheme_is_followed_with_its_range(
    server: HostileServer, tmp_path: Path
) -> None:
    served = server.serve("moved.zip", ARCHIVE, cut_after=100_000, times=1)
    server.serve(NAME, b"", statuses=[(302, {"Location": server.url("moved.zip")})] * 2)

    fetch(server, tmp_path)

    assert served.requests[1]["Range"] == "bytes=100000-"
    assert_complete(tmp_path)


def test_compressed_answer_is_refused(server: HostileServer, tmp_path: Path) -> None:
    served = server.serve(NAME, ARCHIVE, headers={"Content-Encoding": "gzip"})

    with pytest.raises(DataError, match="sent the file as 'gzip', which was not asked for"):
        fetch(server, tmp_path)
    assert served.requests[0]["Accept-Encoding"] == "identity"


def test_nobody_there_is_said_at_once(tmp_path: Path) -> None:
    """No network: no pauses, no strays."""
    started = time.monotonic()

    with pytest.raises(
        DataError, match=r"http://127\.0\.0\.1:9/x\.zip: no connection \(Connection refused\)"
    ):
        download(entry(NAME, "http://127.0.0.1:9/x.zip"), tmp_path / NAME, Patience(num_retries=5))
    assert time.monotonic() - started < 2.0
    assert left(tmp_path) == []


def test_full_disk_is_seen_before_the_first_byte(
    server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.serve(NAME, ARCHIVE)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))

    with pytest.raises(DataError, match=rf"{NAME}: {len(ARCHIVE)} bytes are missing, but only 1000 are free"):
        fetch(server, tmp_path)
    assert left(tmp_path) == []


def test_disk_that_fills_up_is_named(
    server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/full takes no byte; what the file system would say comes when the bytes are flushed."""
    server.serve(NAME, ARCHIVE)
    monkeypatch.setattr(Partial, "open", lambda *_: os.fdopen(os.open("/dev/full", os.O_RDWR), "r+b"))
    monkeypatch.setattr(os, "fsync", lambda _: None)  # a device cannot be synced

    with pytest.raises(DataError, match=rf"{NAME}: the disk is full \(\d+\.\d MB free\)"):
        fetch(server, tmp_path)
    assert NAME not in left(tmp_path)


def test_folder_that_cannot_be_written_is_named(server: HostileServer, tmp_path: Path) -> None:
    server.serve(NAME, ARCHIVE)
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match=rf"file/{NAME}: cannot be written \(File exists\)"):
        fetch(server, tmp_path / "file")


def test_server_that_falls_silent_is_asked_again(
    server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_TIMEOUT_S", 0.2)
    served = server.serve(NAME, ARCHIVE, slow_s=100.0)

    with pytest.raises(DataError, match=r"gave up after 3 attempts .*: the connection broke \(timed out\)"):
        fetch(server, tmp_path, Patience(num_retries=2, pause_s=0.001, checkpoint_bytes=1))
    assert len(served.requests) >= 3


@pytest.mark.parametrize("damage", ["state", "bytes", "short"])
def test_damaged_partial_download_starts_again(server: HostileServer, tmp_path: Path, damage: str) -> None:
    server.serve(NAME, ARCHIVE, cut_after=30_000, ignores_range=True)
    with pytest.raises(DataError, match="gave up"):
        fetch(server, tmp_path)
    if damage == "state":
        (tmp_path / f".{NAME}.partial.json").write_text("{")
    elif damage == "bytes":
        (tmp_path / f".{NAME}.partial").unlink()
    else:
        (tmp_path / f".{NAME}.partial").write_bytes(noise(10))
    served = server.serve(NAME, ARCHIVE)

    fetch(server, tmp_path)

    assert "Range" not in served.requests[0]
    assert_complete(tmp_path)


def test_bytes_behind_the_last_checkpoint_are_not_trusted(server: HostileServer, tmp_path: Path) -> None:
    """After a power failure a file may be as long as before, with zeros at its end."""
    server.serve(NAME, ARCHIVE, cut_after=30_000, ignores_range=True)
    with pytest.raises(DataError, match="gave up"):
        fetch(server, tmp_path)
    with (tmp_path / f".{NAME}.partial").open("ab") as stream:
        stream.write(bytes(5000))
    served = server.serve(NAME, ARCHIVE)

    fetch(server, tmp_path)

    assert served.requests[0]["Range"] == "bytes=30000-"
    assert_complete(tmp_path)


def test_stop_ends_a_slow_download_and_keeps_its_bytes(server: HostileServer, tmp_path: Path) -> None:
    served = server.serve(NAME, zip_of(padding=2_000_000), slow_s=5.0)
    patience = Patience(stop=threading.Event())
    threading.Timer(0.5, patience.stop.set).start()

    with pytest.raises(StoppedError):
        fetch(server, tmp_path, patience)
    assert left(tmp_path) == [f".{NAME}.partial", f".{NAME}.partial.json"]
    served.slow_s = 0.0
    fetch(server, tmp_path)
    assert int(served.requests[1]["Range"].removeprefix("bytes=").rstrip("-")) > 0
    assert_complete(tmp_path, served.content[0])
