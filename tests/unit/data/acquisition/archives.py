"""Archives and manifest entries for the tests."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

from calico.data.acquisition.manifest import Archive

CONTENT = {"release/labels.json": b'{"images": []}', "release/images/one.jpg": b"one", "release/notes": b""}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zip_of(files: Mapping[str, bytes] = CONTENT, *, padding: int = 0) -> bytes:
    """Return a zip; `padding` bytes that do not compress make it larger."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        if padding:
            archive.writestr(zipfile.ZipInfo("padding"), noise(padding))
    return stream.getvalue()


def tar_of(
    files: Mapping[str, bytes] = CONTENT, *, mode: str = "w:gz", format: int = tarfile.PAX_FORMAT
) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, format=format) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def noise(size: int) -> bytes:
    """Return bytes that do not compress, the same every time."""
    blocks = (hashlib.sha256(number.to_bytes(8, "big")).digest() for number in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def entry(name: str = "release.zip", *urls: str, **values: Any) -> Archive:
    defaults: dict[str, Any] = {
        "bytes": None,
        "sha256": None,
        "unpack_to": "",
        "holds": ["labels.json", "images"],
        "evidence": "this test",
    }
    return Archive.model_validate({"name": name, "urls": list(urls), **defaults, **values})
