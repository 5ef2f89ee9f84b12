"""Download one file: resumed where it stopped, verified, and there only when it is complete."""

import http.client
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from calico.core.files import disk_fault, free_bytes
from calico.data.acquisition.manifest import Archive
from calico.data.acquisition.partial import Partial, Version
from calico.data.acquisition.receipts import Receipt, read_receipt, verify, write_receipt
from calico.data.acquisition.transport import (
    RefusedError,
    TransientError,
    UnreachableError,
    open_url,
    read_block,
)
from calico.errors import DataError

_BLOCK_BYTES = 1 << 18
_MAX_PAUSE_S = 60.0
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)", re.ASCII)


class StoppedError(Exception):
    """Another thread asked this download to stop."""


@dataclass(frozen=True)
class Patience:
    """How a download is retried and how often it is made sure that its bytes are on the disk."""

    num_retries: int = 5
    pause_s: float = 0.5
    checkpoint_bytes: int = 1 << 26
    stop: threading.Event = field(default_factory=threading.Event)


def download(archive: Archive, archive_path: Path, patience: Patience) -> Receipt:
    """Get a file from the first of its mirrors that has it.

    Args:
        archive: what to get; its name is that of `archive_path`.
        archive_path: appears with the complete, verified file, never earlier.
        patience: retries, and an event that stops the download.

    Raises:
        DataError: every mirror failed (names each with its reason), the disk is full, or the receipt of an
            earlier download is damaged.
        StoppedError: `patience.stop` was set.
    """
    earlier = read_receipt(archive_path)
    faults = []
    for url in archive.urls:
        try:
            return _from_mirror(archive, archive_path, url, earlier, patience)
        except (RefusedError, UnreachableError) as fault:
            faults.append(f"{url}: {fault}")
        except OSError as error:
            raise disk_fault(error, archive_path) from error
    raise DataError(f"{archive_path}: not downloaded. {'; '.join(faults)}.")


def _from_mirror(
    archive: Archive, archive_path: Path, url: str, earlier: Receipt | None, patience: Patience
) -> Receipt:
    partial = Partial(archive_path)
    most, failures, has_answered = 0, 0, False
    while True:
        try:
            _receive(archive, partial, url, patience)
            return _accept(archive, partial, url, earlier)
        except (TransientError, UnreachableError) as fault:
            # Where there never was a connection there is probably no network; one that broke may come back.
            has_answered = has_answered or isinstance(fault, TransientError)
            if not has_answered:
                raise
            reached = partial.synced_bytes()
            # Only bytes that no earlier attempt had count: a server may break off at the same place for ever.
            failures = 0 if reached > most else failures + 1
            most = max(most, reached)
            if failures > patience.num_retries:
                raise RefusedError(
                    f"gave up after {failures} attempts in a row, at {most} bytes: {fault}"
                ) from fault
            asked_s = fault.wait_s if isinstance(fault, TransientError) else 0.0
            if patience.stop.wait(max(asked_s, min(patience.pause_s * 2**failures, _MAX_PAUSE_S))):
                raise StoppedError from fault


def _accept(archive: Archive, partial: Partial, url: str, earlier: Receipt | None) -> Receipt:
    try:
        receipt = verify(archive, partial.path, partial.archive_path, earlier=earlier, url=url)
    except DataError as fault:
        partial.discard()
        raise RefusedError(f"{fault} What was downloaded is removed") from fault
    # Before the file has its name, so that it is never taken for one that a person placed.
    write_receipt(receipt, partial.archive_path)
    partial.finish()
    return receipt


def _receive(archive: Archive, partial: Partial, url: str, patience: Patience) -> None:
    """Fetch what is missing; returns with all bytes in the partial file."""
    known = _resumable(archive, partial.version(), url)
    if known and known.synced == known.total:
        return
    headers = {"Range": f"bytes={known.synced}-"} if known else {}
    if known and known.validator:
        headers["If-Range"] = known.validator
    try:
        response = open_url(url, headers)
    except RefusedError as fault:
        # 416, say: the file has become shorter. Without a range the server may still have it.
        if not known:
            raise
        partial.discard()
        place = f"{known.synced} of {known.total} bytes"
        raise TransientError(f"it refused to go on at {place} ({fault})") from fault
    with response:
        version = _version(response, known, partial, url)
        _check_offer(archive, response, version, partial)
        try:
            _store(archive, response, partial, version, patience)
        except RefusedError:
            partial.discard()
            raise


def _resumable(archive: Archive, version: Version | None, url: str) -> Version | None:
    """Return the version to go on with; without a validator or a sha256, two versions could be mixed."""
    if version is None or version.url != url or not version.synced:
        return None
    return version if version.validator or archive.sha256 else None


def _version(
    response: http.client.HTTPResponse, known: Version | None, partial: Partial, url: str
) -> Version:
    """Tell which version the server sends, and from where on."""
    validator = _validator(response)
    if response.status != 206:
        length = response.headers.get("Content-Length", "")
        total = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
        return Version(url=url, validator=validator, total=total)
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    is_next = known is not None and match is not None and int(match[1]) == known.synced
    if (
        not is_next
        or match is None
        or known is None
        or (validator, int(match[3]))
        != (
            known.validator,
            known.total,
        )
    ):
        partial.discard()
        raise TransientError("the file has changed since the download began; it starts again")
    return known


def _validator(response: http.client.HTTPResponse) -> str | None:
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return str(etag)
    return response.headers.get("Last-Modified")


def _check_offer(
    archive: Archive, response: http.client.HTTPResponse, version: Version, partial: Partial
) -> None:
    """Refuse what cannot be the file before its first byte is stored."""
    if archive.bytes is not None and version.total not in (None, archive.bytes):
        raise RefusedError(f"offers {version.total} bytes, but the published file has {archive.bytes}")
    if response.headers.get_content_type() == "text/html":
        raise RefusedError("sent a web page instead of the file; it may ask for a login or a confirmation")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise RefusedError(
            f"sent the file as {response.headers['Content-Encoding']!r}, which was not asked for"
        )
    missing = (version.total or archive.bytes or 0) - version.synced
    free = free_bytes(partial.path)
    if missing > free:
        raise DataError(
            f"{partial.archive_path}: {missing} bytes are missing, but only {free} are free. Make room, "
            "or change download.folder in params.yaml."
        )


def _store(
    archive: Archive,
    response: http.client.HTTPResponse,
    partial: Partial,
    version: Version,
    patience: Patience,
) -> None:
    total = version.total if version.total is not None else archive.bytes
    with partial.open(version.synced) as stream, _bar(archive.name, total, version.synced) as bar:
        partial.checkpoint(stream, version)
        last = stream.tell()
        try:
            while block := read_block(response, _BLOCK_BYTES):
                partial.write(stream, block)
                bar.update(len(block))
                _check_length(stream.tell(), archive.bytes)
                if stream.tell() - last >= patience.checkpoint_bytes:
                    partial.checkpoint(stream, version)
                    last = stream.tell()
                if patience.stop.is_set():
                    raise StoppedError
        finally:
            partial.checkpoint(stream, version)
        if total is not None and stream.tell() < total:
            raise TransientError(f"the connection ended after {stream.tell()} of {total} bytes")


def _check_length(received: int, expected: int | None) -> None:
    if expected is not None and received > expected:
        raise RefusedError(f"sends more than the {expected} bytes of the published file")


def _bar(name: str, total: int | None, initial: int) -> "tqdm[None]":
    """Show progress where someone looks; None lets tqdm find out."""
    return tqdm(total=total, initial=initial, desc=name, unit="B", unit_scale=True, disable=None, leave=False)
