"""Downloads that survive bad networks: several addresses, resumed after interruption, checked before they count."""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import requests
import urllib3
from filelock import FileLock
from tqdm import tqdm

from pyg_schnet.files.whole import writing

#: Environment variable that names a folder with raw files, searched before anything is downloaded.
MIRROR_VARIABLE = "PYG_SCHNET_DATA"
#: Seconds to wait for a connection, and for the next bytes.
TIMEOUT = (20.0, 60.0)
#: Attempts in a row at one address that bring no new bytes, and attempts at all.
IDLE_ATTEMPTS, ATTEMPTS = 4, 50
#: Seconds before the second attempt; doubled each time.
PAUSE = 1.0
#: Bytes read at once; as many are lost when a connection breaks.
CHUNK = 1 << 16


@dataclass(frozen=True)
class RemoteFile:
    """A raw file and where it can be had.

    Attributes:
        name: Name of the file, in mirrors and in the folder of downloads.
        urls: Addresses, tried in order; none for a bundled file.
        sha256: Checksum of the whole file, ``None`` if it is not known.
        size: Size in bytes, ``None`` if it is not known.
        bundled: Path of a file that comes with the package or belongs to the user; nothing is searched then.
        md5: Another checksum of the whole file, ``None`` if it is not known.
        alternatives: Other paths inside a mirror that do as well, for example of a file unpacked from the archive.
    """

    name: str
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    size: int | None = None
    bundled: Path | None = None
    md5: str | None = None
    alternatives: tuple[str, ...] = ()


class RefusedError(OSError):
    """An address that answers, but not with the file: no further attempt there."""


class OtherFileError(RefusedError):
    """An address that gives something else than the file."""


class TransferError(OSError):
    """A transfer that ended too early: what has arrived is kept, and another attempt goes on from there."""


class NotDownloadedError(OSError):
    """No address gave the file.

    Attributes:
        reasons: What went wrong at each address.
    """

    def __init__(self, message: str, reasons: dict[str, OSError]) -> None:
        super().__init__(message)
        self.reasons = reasons


def download(file: RemoteFile, folder: Path) -> Path:
    """Fetch a file from the first of its addresses that gives it whole.

    Bytes are gathered in ``<name>.part``, which takes the name of the file only when size and checksum are right. An
    interrupted download goes on where it stopped, in this or in a later run. If no checksum is known, the one of the
    first download is kept in ``<name>.sha256`` (in the format of ``sha256sum``) and compared from then on.

    Args:
        file: The file.
        folder: Where it goes; made if needed.

    Returns:
        The path of the file.

    Raises:
        NotDownloadedError: If no address gives the file.
        OSError: If it cannot be written.
    """
    destination, part = folder / file.name, folder / f"{file.name}.part"
    with writing(folder, f"the download goes on from {part.name}"):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock"):  # another process may fetch it at this moment
            if destination.is_file():
                return destination
            reasons: dict[str, OSError] = {}
            for url in file.urls:
                try:
                    _fetch(file, url, part)
                except (RefusedError, TransferError) as error:
                    reasons[url] = error
                    continue
                if file.sha256 is None:
                    _record(destination).write_text(f"{digest(part, 'sha256')}  {file.name}\n")
                part.replace(destination)
                _note(part).unlink(missing_ok=True)
                return destination
    why = "; ".join(f"{url}: {error}" for url, error in reasons.items()) or "no address is known"
    raise NotDownloadedError(
        f"could not download {file.name} ({why}); fetch it by hand and put it into {folder}, or pass `source=<file>`, "
        f"or name a folder that holds it in the environment variable {MIRROR_VARIABLE}",
        reasons,
    )


def check_again(file: RemoteFile, path: Path) -> None:
    """Check that a file downloaded before is still what it was.

    Args:
        file: What it should be.
        path: Where it is.

    Raises:
        ValueError: If its size or checksum is another one.
    """
    known = _record(path).read_text().split()[:1] if file.sha256 is None and _record(path).is_file() else []
    wrong = _what_is_wrong(file, path, known[0] if known else file.sha256)
    if wrong:
        raise ValueError(
            f"{path} {wrong}; delete it to have it downloaded again, or pass it as `source` to use it as it is"
        )


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _note(part: Path) -> Path:
    """Beside an unfinished file: the address it comes from and the server's name for that version of it."""
    return part.with_name(f"{part.name}.from")


def _fetch(file: RemoteFile, url: str, part: Path) -> None:
    """All bytes from one address, in as many attempts as it takes."""
    idle = 0
    for attempt in range(ATTEMPTS):
        before = _size(part)
        try:
            if file.size is None or before < file.size:
                _transfer(file, url, part)
        except TransferError:
            idle = 0 if _size(part) > before else idle + 1
            if idle == IDLE_ATTEMPTS or attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSE * 2 ** min(idle, 5))
            continue
        wrong = _what_is_wrong(file, part, file.sha256)
        if not wrong:
            return
        part.unlink()
        if before == 0:  # not pieced together, so another attempt would bring the same
            raise OtherFileError(f"the file {wrong}")
    raise RefusedError("no attempt brought the whole file")


def _transfer(file: RemoteFile, url: str, part: Path) -> None:
    """One request: append to what is there, or start anew where the server does not go on from there."""
    have = _resumable(file, url, part)
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        version = _note(part).read_text().split("\n")[1] if _note(part).is_file() else ""
        if version:
            headers["If-Range"] = version
    with _translated(), requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            if response.headers.get("Content-Range") == f"bytes */{have}":  # all bytes are there already
                return
            part.unlink()
            raise TransferError("the server does not go on from where the download stopped")
        if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise TransferError(f"the server answers {response.status_code} {response.reason}")
        if response.status_code not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            raise RefusedError(f"the server answers {response.status_code} {response.reason} instead of the file")
        if response.status_code == HTTPStatus.OK:
            have = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise RefusedError(f"asked for bytes from {have}, the server sends {response.headers.get('Content-Range')}")
        _receive(file, url, response, part, have)


def _receive(file: RemoteFile, url: str, response: requests.Response, part: Path, have: int) -> None:
    """Write what comes, after a look at the first bytes."""
    length = response.headers.get("Content-Length")
    total = have + int(length) if length is not None and length.isdigit() else file.size
    if file.size is not None and total != file.size:
        raise OtherFileError(f"expected {file.size} bytes, the server offers {total}")
    chunks = iter(lambda: response.raw.read(CHUNK, decode_content=False), b"")
    first = next(chunks, b"")
    if have == 0:
        if not first:
            raise OtherFileError("the server sends nothing")
        if first.lstrip()[:1] == b"<":  # none of the formats read here begins so
            raise OtherFileError("the server sends a web page instead of the file")
        _note(part).write_text(f"{url}\n{_version(response)}\n")
    bar = tqdm(desc=file.name, total=total, initial=have, unit="B", unit_scale=True, leave=False)
    with bar, part.open("ab" if have else "wb") as out:
        while first:
            out.write(first)
            bar.update(len(first))
            first = next(chunks, b"")
    if total is not None and _size(part) < total:
        raise TransferError(f"the connection ended after {_size(part)} of {total} bytes")


def _resumable(file: RemoteFile, url: str, part: Path) -> int:
    """How many bytes of an earlier attempt can be kept; without a checksum only those of the same address."""
    have = _size(part)
    note = _note(part).read_text().split("\n") if _note(part).is_file() else [""]
    same = note[0] == url or file.sha256 is not None or file.md5 is not None
    if have and same and (file.size is None or have < file.size):
        if note[0] != url:
            _note(part).write_text(f"{url}\n\n")
        return have
    return 0


def _version(response: requests.Response) -> str:
    """What the server calls this version of the file; weak tags do not promise equal bytes."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of the network as transfers that may be tried again; errors of the disk stay what they are."""
    try:
        yield
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema) as e:
        raise RefusedError(f"no valid address ({e})") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        reason = str(error).split("\n")[0]
        raise TransferError(f"{type(error).__name__} ({reason[:200]})") from None


def _what_is_wrong(file: RemoteFile, path: Path, sha256: str | None) -> str:
    """What a file fails to be, empty if it is what it should be."""
    if file.size is not None and _size(path) != file.size:
        return f"has {_size(path)} bytes, expected {file.size}"
    for kind, expected in (("sha256", sha256), ("md5", file.md5 if sha256 is None else None)):
        if expected is not None:
            actual = digest(path, kind)
            if actual != expected:
                return f"has the {kind} {actual}, expected {expected}"
    return ""


def _size(path: Path) -> int:
    return os.stat(path).st_size if path.is_file() else 0


def digest(path: Path, kind: str) -> str:
    """Checksum of a file.

    Args:
        path: The file.
        kind: Kind of the checksum, ``"sha256"`` or ``"md5"``.

    Returns:
        Hexadecimal digits.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
