"""What a person has to do for sources that this program cannot get alone."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from calico.config import DownloadName
from calico.data.acquisition.manifest import Archive, Source


def describe_missing(
    name: DownloadName, source: Source, archive: Archive, *, archive_path: Path, unpacked_path: Path
) -> str:
    """Return the steps that get an archive which may not be downloaded without a person.

    Args:
        name: name of the source.
        source: its entry in the manifest.
        archive: what is missing.
        archive_path: where its file is looked for.
        unpacked_path: folder where the unpacked files are looked for.
    """
    size = f" ({archive.bytes / 1e9:.1f} GB)" if archive.bytes else ""
    terms_page = (source.terms.where or source.page) if source.terms else None
    accept = f"accept the terms at {terms_page}, " if terms_page else ""
    origin = "there" if terms_page == source.page else f"from {source.page}"
    what = "one or more" if archive.is_pattern else "it"
    by_hand = f"put {what} at {archive_path}"
    if not archive.flat:
        by_hand += f", or the unpacked files at {unpacked_path}"
    if not archive.urls:
        return f"{archive.name}{size}: {accept}get {what} {origin}, {by_hand}"
    return (
        f"{archive.name}{size}: {accept}add {name} to download.accepted_terms in params.yaml and run again; "
        f"or get {archive.urls[0]} yourself and {by_hand}"
    )


def report(
    problems: Mapping[DownloadName, Sequence[str]],
    sources: Mapping[DownloadName, Source],
    *,
    output_path: Path,
    folder: Path,
) -> str:
    """Return everything that is wrong, source by source.

    Args:
        problems: what is wrong with each source.
        sources: the manifest.
        output_path: folder of the sources.
        folder: folder of the archives.
    """
    lines = [f"{output_path}: {len(problems)} source(s) are not complete; the steps for each:"]
    for name, faults in problems.items():
        lines.append(f"  {_introduce(name, sources[name])}")
        lines += [f"    - {fault.rstrip('.')}." for fault in faults]
    return "\n".join([*lines, *(f"  {line}" for line in _advice(folder))])


def _introduce(name: DownloadName, source: Source) -> str:
    licence = source.licence or "none stated by the publisher"
    terms = f"; terms to accept first: {source.terms.what}" if source.terms else ""
    return f"{name}: {source.title}; licence: {licence}{terms}"


def _advice(folder: Path) -> Iterator[str]:
    yield (
        "Where there was no connection: check the network and run again; downloads go on where they stopped. "
        f"Or put the files into {folder}/<source>/ yourself; they are verified and used."
    )
    yield "A source that you do without: take it out of download.sources in params.yaml."
