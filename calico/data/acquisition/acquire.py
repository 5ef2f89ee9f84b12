"""Get the published sources: download what may be, use what a person placed, say what is missing."""

import contextlib
import fcntl
import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from calico.config import DownloadName, DownloadSection
from calico.core.files import disk_fault, free_bytes
from calico.data.acquisition.download import Patience, StoppedError, download
from calico.data.acquisition.instructions import describe_missing, report
from calico.data.acquisition.manifest import Archive, Source, known_sources
from calico.data.acquisition.partial import Partial
from calico.data.acquisition.placement import RECEIPTS, Placement, is_placed_by_hand, place, placed_sha256
from calico.data.acquisition.receipts import Receipt, read_receipt, verify, write_receipt
from calico.errors import DataError

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """One archive of one source, and where its file is looked for."""

    name: DownloadName
    source: Source
    archive: Archive
    folder: Path
    output_path: Path

    @property
    def path(self) -> Path:
        return self.folder / self.archive.name

    @property
    def files(self) -> list[Path]:
        """The archive files that are there; several where the name is a pattern."""
        found = self.folder.glob(self.archive.name) if self.archive.is_pattern else [self.path]
        return sorted(path for path in found if path.is_file())

    def placement(self, file_name: str) -> Placement:
        target = self.output_path / self.source.folder / self.archive.unpack_to
        return Placement(self.archive, target, self.output_path / RECEIPTS / self.name, file_name)


def acquire(
    section: DownloadSection,
    output_path: Path,
    *,
    sources: Mapping[DownloadName, Source] | None = None,
    patience: Patience | None = None,
) -> None:
    """Make the folders of the sources complete, or say for all of them at once what is missing.

    Args:
        section: which sources, where the archives are kept, whose terms are accepted.
        output_path: gets one folder per source, and `receipts`.
        sources: the manifest; the published sources by default.
        patience: retries and the time between them; by default as `section` says. Not to be used again.

    Raises:
        DataError: something is missing, differs from what was seen before, or cannot be written.
    """
    known = known_sources() if sources is None else sources
    _check_places(section, known)
    patience = patience or Patience(num_retries=section.num_retries)
    folder = Path(section.folder)
    with _locked(folder):
        jobs = [
            _Job(name, known[name], archive, folder / name, Path(output_path))
            for name in section.sources
            for archive in known[name].archives
        ]
        problems: dict[DownloadName, list[str]] = defaultdict(list)
        to_unpack, to_download = _sort(jobs, section, problems)
        _check_space(to_download, folder)
        for job in to_unpack:
            with _noted(problems, job):
                _unpack(job)
        for job, future in _downloads(to_download, section.num_workers, patience):
            with _noted(problems, job):
                _finish(job, future)
    if problems:
        ordered = {name: sorted(problems[name]) for name in section.sources if name in problems}
        raise DataError(report(ordered, known, output_path=Path(output_path), folder=folder))


def _check_places(section: DownloadSection, known: Mapping[DownloadName, Source]) -> None:
    """Refuse two sources of which the second would replace the first."""
    owners: dict[str, DownloadName] = {}
    for name in section.sources:
        for archive in known[name].archives:
            place_of = f"{known[name].folder}/{archive.unpack_to}"
            if not archive.flat and owners.setdefault(place_of, name) != name:
                raise DataError(
                    f"download.sources in params.yaml names {owners[place_of]} and {name}, but both belong "
                    f"in the folder {known[name].folder}. Choose one."
                )


def _sort(
    jobs: list[_Job], section: DownloadSection, problems: dict[DownloadName, list[str]]
) -> tuple[list[_Job], list[_Job]]:
    """Return the jobs to unpack and to download; what only a person can do goes to `problems`."""
    to_unpack, to_download = [], []
    for job in jobs:
        with _noted(problems, job):
            if job.files:
                to_unpack.append(job)
            elif _is_placed(job):
                _LOGGER.info("%s: %s is in its place.", job.name, job.archive.name)
            elif job.archive.urls and (job.source.terms is None or job.name in section.accepted_terms):
                to_download.append(job)
            elif not job.archive.optional:
                problems[job.name].append(_missing(job))
    if problems and to_download:
        _LOGGER.warning(
            "%s: a person is needed; the steps come after the download of %d other file(s).",
            ", ".join(problems),
            len(to_download),
        )
    return to_unpack, to_download


def _is_placed(job: _Job) -> bool:
    """Tell whether the files are in their place although no archive is there."""
    if not job.archive.is_pattern:
        placement = job.placement(job.archive.name)
        return placed_sha256(placement) is not None or is_placed_by_hand(placement)
    receipts = (job.output_path / RECEIPTS / job.name).glob(f"{job.archive.name}.json")
    placements = [job.placement(path.name.removesuffix(".json")) for path in receipts]
    if placements:
        return all(placed_sha256(placement) for placement in placements)
    return is_placed_by_hand(job.placement(job.archive.name))


def _unpack(job: _Job) -> None:
    for path in job.files:
        placement = job.placement(path.name)
        known = read_receipt(path)
        placed = placed_sha256(placement)
        if placed is not None and known is not None and placed == known.sha256:
            continue
        if placed is None and not placement.archive.flat and is_placed_by_hand(placement):
            continue
        _LOGGER.info("%s: verifying and unpacking %s.", job.name, path)
        Partial(path).discard()
        receipt = verify(job.archive, path, path, earlier=known, url=None)
        write_receipt(receipt, path)
        place(placement, path, receipt.sha256)


def _finish(job: _Job, future: "Future[Receipt]") -> None:
    place(job.placement(job.archive.name), job.path, future.result().sha256)


def _downloads(
    jobs: list[_Job], num_workers: int, patience: Patience
) -> Iterator[tuple[_Job, "Future[Receipt]"]]:
    """Download side by side and yield in the order in which they end; an interruption stops all of them."""
    with ThreadPoolExecutor(num_workers) as pool:
        futures = {pool.submit(download, job.archive, job.path, patience): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future
        finally:
            patience.stop.set()
            for future in futures:
                future.cancel()
            with contextlib.suppress(StoppedError):
                pool.shutdown()


@contextlib.contextmanager
def _noted(problems: dict[DownloadName, list[str]], job: _Job) -> Iterator[None]:
    """Note what is wrong with one archive and go on with the others."""
    try:
        yield
    except DataError as fault:
        problems[job.name].append(str(fault))


def _missing(job: _Job) -> str:
    target = job.placement(job.archive.name).target
    return describe_missing(job.name, job.source, job.archive, archive_path=job.path, unpacked_path=target)


def _check_space(jobs: list[_Job], folder: Path) -> None:
    needed = sum(
        (job.archive.bytes or 0) - Partial(job.path).synced_bytes() for job in jobs if job.archive.bytes
    )
    free = free_bytes(folder)
    if needed > free:
        raise DataError(
            f"{folder}: the downloads need {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free. Make "
            "room, or change download.folder or download.sources in params.yaml."
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second run out; the lock ends with the process, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise disk_fault(error, folder) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise DataError(
            f"{folder}: another run downloads into this folder. Wait for it or stop it."
        ) from error
    finally:
        os.close(descriptor)
