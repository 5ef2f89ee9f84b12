"""calico.data.acquisition.tar_stream: what tarfile writes is read back, everything else is refused."""

import io
import random
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.data.acquisition.tar_stream import TarError, read_members
from tests.unit.data.acquisition.archives import noise, tar_of

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
SAMPLE = tar_of({"a/one.txt": b"one", "a/two.bin": noise(3000), "empty": b""}, mode="w")


def read(content: bytes) -> dict[str, bytes]:
    return {member.name: b"".join(member.content) for member in read_members(io.BytesIO(content))}


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_every_format_of_tarfile_is_read(format: int) -> None:
    files = {"a/b/c.json": b"{}", "empty": b"", "block": noise(512), "large": noise(2_500_000)}
    files["folder/" * 13 + "x" * 90] = b"a name that takes both fields of ustar"
    if format != tarfile.USTAR_FORMAT:
        files["long/" * 60 + "é"] = b"a name that needs an extended header"

    assert read(tar_of(files, mode="w", format=format)) == files


@given(
    st.dictionaries(
        st.from_regex(r"[a-zé]{1,40}(/[a-z0-9 ._]{1,90}){0,4}", fullmatch=True),
        st.binary(max_size=1200),
        max_size=6,
    )
)
def test_whatever_tarfile_writes_is_read_back(files: dict[str, bytes]) -> None:
    assert read(tar_of(files, mode="w")) == files


def test_content_that_is_not_read_is_skipped() -> None:
    assert [member.name for member in read_members(io.BytesIO(SAMPLE))] == ["a/one.txt", "a/two.bin", "empty"]


def test_folders_are_told_from_files() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    (member,) = read_members(io.BytesIO(stream.getvalue()))

    assert (member.name, member.is_folder, member.size) == ("folder/", True, 0)


@pytest.mark.parametrize("size", [*range(0, 512, 100), 512, 700, 1024, 1500, 4000, 5000])
def test_every_truncation_is_noticed(size: int) -> None:
    """Also between two members, where tarfile takes the end of the file for that of the archive."""
    with pytest.raises(TarError, match="ends too early"):
        read(SAMPLE[:size])


def test_damaged_header_in_the_middle_is_not_the_end() -> None:
    damaged = bytearray(SAMPLE)
    damaged[1024:1030] = b"\xff" * 6

    with tarfile.open(fileobj=io.BytesIO(bytes(damaged))) as archive:
        assert archive.getnames() == ["a/one.txt"]  # tarfile says nothing
    with pytest.raises(TarError, match="damaged header"):
        read(bytes(damaged))


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (b"Z", "of unknown type b'Z'"),
    ],
)
def test_what_is_no_file_is_refused(kind: bytes, what: str) -> None:
    member = tarfile.TarInfo("trick")
    member.type = kind
    member.linkname = "/etc/passwd"

    with pytest.raises(TarError, match=f"member 'trick' is {what}"):
        read(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def test_header_that_claims_a_gigabyte_is_not_read_into_memory() -> None:
    member = tarfile.TarInfo("long")
    member.type = tarfile.XHDTYPE
    member.size = 1 << 30

    with pytest.raises(TarError, match=f"a header of {1 << 30} bytes"):
        read(member.tobuf(tarfile.USTAR_FORMAT))


@pytest.mark.parametrize(
    "record", [b"0 path=x\n", b"99 path=x\n", b"path=x\n", b"9 path:x\n", b"-5 a=b\n", b"9 path=xy"]
)
def test_damaged_extended_header_is_refused(record: bytes) -> None:
    member = tarfile.TarInfo("extended")
    member.type = tarfile.XHDTYPE
    member.size = len(record)

    with pytest.raises(TarError, match="a damaged header"):
        read(member.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + bytes(1024))


def test_more_than_padding_behind_the_end_is_refused() -> None:
    with pytest.raises(TarError, match="more than padding behind its end"):
        read(SAMPLE + b"x")


def test_random_damage_is_a_tar_error_or_changed_content() -> None:
    """A tar has no checksum of its contents; names, sizes and types have one."""
    rng = random.Random(3)
    for _ in range(400):
        damaged = bytearray(SAMPLE)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            assert set(read(bytes(damaged))) == {"a/one.txt", "a/two.bin", "empty"}
        except TarError:
            continue
