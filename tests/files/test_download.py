"""Downloads over bad networks, from a web server on this machine that misbehaves on request."""

import errno
import hashlib
import http.server
import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyg_schnet.files import download as module
from pyg_schnet.files.download import check_again, download
from pyg_schnet.files.source import RemoteFile, provide, writing

CONTENT = random.Random(0).randbytes(400_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MONDAY = "Mon, 01 Jan 2024 00:00:00 GMT"
#: What servers call the version of a file whose first transfer is cut.
VERSIONS = {
    "once": {"ETag": '"one"', "Last-Modified": MONDAY},
    "weak": {"ETag": 'W/"one"', "Last-Modified": MONDAY},
    "unnamed": {"ETag": ""},
}


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends CONTENT; the path says what goes wrong."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind = self.path.strip("/").split("/")[0]
        wanted = self.headers.get("Range")
        self.server.requests.append((kind, wanted))
        self.server.versions.append(self.headers.get("If-Range"))
        self.server.encodings.append(self.headers.get("Accept-Encoding"))
        self.server.again.set()
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and kind != "norange" else 0
        if not self.misbehaves(kind, begin, len(self.server.requests)):
            if begin >= len(CONTENT):
                self.answer(416, b"", {"Content-Range": f"bytes */{len(CONTENT)}"})
            else:
                self.answer(206 if begin else 200, CONTENT[begin:], self.span(begin))

    def misbehaves(self, kind: str, begin: int, number: int) -> bool:
        """Whether this request, counted from 1, got another answer than the file."""
        everything = (200, CONTENT)
        answers = {
            "html": (200, b"\n<!DOCTYPE html><html>a robot?</html>"),
            "empty": (200, b""),
            "other": (200, CONTENT[::-1]),
            "wrongrange": (206, CONTENT, {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}),
            "moved": (302, b"", {"Location": self.path.replace("moved", "ok")}),
            # at most 150,000 bytes, then the line is cut
            "drop": (206 if begin else 200, CONTENT[begin:], self.span(begin), 150_000),
            "trickle": (206 if begin else 200, CONTENT[begin:], self.span(begin), 60_000),
            "dead": (206 if begin else 200, CONTENT[begin:], self.span(begin), 100),
        }
        answers |= {status: (int(status), b"") for status in ("404", "500", "202")}
        if number == 1:
            answers |= {kind: (*everything, headers, 150_000) for kind, headers in VERSIONS.items()}
            answers["changed"] = (200, CONTENT[::-1], {"ETag": '"old"'}, 150_000)
            answers["stalls"] = (*everything, {}, 150_000, True)
            answers["breaks"] = (*everything, {}, 150_000)
        else:
            answers["changed"] = everything  # meanwhile it is another file, so all of it comes
            answers["breaks"] = (404, b"")
        if number < 3:
            answers["busy"] = (503, b"")
        if kind == "slow":
            time.sleep(0.2)
        if kind in answers:
            self.answer(*answers[kind])
        return kind in answers

    def span(self, begin: int) -> dict[str, str]:
        return {"Content-Range": f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"} if begin else {}

    def answer(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        cut: int | None = None,
        stalls: bool = False,
    ) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body)), "ETag": '"1"'} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body[:cut])
        self.wfile.flush()
        if stalls:  # until somebody loses patience
            self.server.again.clear()
            self.server.waited = not self.server.again.wait(5.0) or self.server.waited
        if cut is not None and cut < len(body):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.requests, httpd.versions, httpd.encodings = [], [], []
        httpd.again, httpd.waited = threading.Event(), False
        httpd.address = f"http://127.0.0.1:{httpd.server_port}"
        threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield httpd
        httpd.shutdown()


def remote(server, *kinds, **facts):
    return RemoteFile("data.npz", tuple(f"{server.address}/{kind}/data.npz" for kind in kinds), **facts)


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".download.lock")


def test_whole_file_with_checksum(tmp_path, server):
    path = download(remote(server, "ok", sha256=SHA256, size=len(CONTENT)), tmp_path / "raw")
    assert path.read_bytes() == CONTENT
    assert visible(tmp_path / "raw") == ["data.npz"]


def test_lines_that_break_are_resumed(tmp_path, server):
    assert download(remote(server, "drop", sha256=SHA256), tmp_path).read_bytes() == CONTENT
    begins = [int(wanted[6:-1]) for _, wanted in server.requests if wanted]
    assert begins == sorted(begins)
    assert begins[0] > 0


def test_lines_that_break_often_are_resumed_as_long_as_something_comes(tmp_path, server):
    """More often than an address that brings nothing is asked; sizes that are known are those of the whole file."""
    file = remote(server, "trickle", sha256=SHA256, size=len(CONTENT))
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert len(server.requests) > module.IDLE_ATTEMPTS + 1
    assert set(server.encodings) == {"identity"}  # bytes are counted and kept as they come


def test_pauses_grow(tmp_path, server, monkeypatch):
    pauses = []
    monkeypatch.setattr(module, "PAUSE", 1.0)
    monkeypatch.setattr("time.sleep", pauses.append)
    with pytest.raises(OSError, match="the server answers 500"):
        download(remote(server, "500"), tmp_path)
    assert len(pauses) == module.IDLE_ATTEMPTS - 1
    assert all(after == 2 * before > 0 for before, after in itertools.pairwise(pauses))


def test_versions_of_another_address_are_not_asked_for(tmp_path, server):
    """The next mirror goes on where the first one broke, if a checksum will tell whether it has the same file."""
    assert download(remote(server, "breaks", "ok", sha256=SHA256), tmp_path).read_bytes() == CONTENT
    assert [kind for kind, _ in server.requests] == ["breaks", "breaks", "ok"]
    assert server.versions == [None, '"1"', None]
    assert int(server.requests[-1][1][6:-1]) > 0


def test_a_later_run_goes_on(tmp_path, server):
    file = remote(server, "ok", md5=hashlib.md5(CONTENT).hexdigest())
    (tmp_path / "data.npz.part").write_bytes(CONTENT[:123_456])
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert server.requests == [("ok", "bytes=123456-")]


@pytest.mark.parametrize(("kind", "version"), [("once", '"one"'), ("weak", MONDAY), ("unnamed", None)])
def test_resuming_asks_for_the_version_that_began(tmp_path, server, kind, version):
    """Weak tags do not promise the same bytes, so the date does."""
    assert download(remote(server, kind), tmp_path).read_bytes() == CONTENT
    (wanted,) = [wanted for _, wanted in server.requests if wanted]
    assert 0 < int(wanted[6:-1]) <= 150_000
    assert server.versions == [None, version]


def test_a_file_that_changes_meanwhile_is_fetched_as_it_is_then(tmp_path, server):
    assert download(remote(server, "changed"), tmp_path).read_bytes() == CONTENT
    assert server.versions == [None, '"old"']


def test_servers_that_are_busy_stall_or_send_on(tmp_path, server, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", (5.0, 0.2))
    assert download(remote(server, "busy"), tmp_path / "a").read_bytes() == CONTENT
    assert len(server.requests) == 3
    server.requests.clear()
    assert download(remote(server, "stalls"), tmp_path / "b").read_bytes() == CONTENT
    assert int(server.requests[1][1][6:-1]) > 150_000 - module.CHUNK  # what had come is not asked for again
    assert not server.waited  # the second request came while the first one still stalled
    server.requests.clear()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "data.npz.part").write_bytes(CONTENT[:1000])
    assert download(remote(server, "moved", sha256=SHA256), tmp_path / "c").read_bytes() == CONTENT
    assert server.requests == [("moved", "bytes=1000-"), ("ok", "bytes=1000-")]


def test_two_at_once_fetch_it_once(tmp_path, server):
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: download(remote(server, "slow"), tmp_path), range(2)))
    assert [path.read_bytes() == CONTENT for path in paths] == [True, True]
    assert len(server.requests) == 1


def test_bytes_of_an_unknown_origin_are_not_kept(tmp_path, server):
    (tmp_path / "data.npz.part").write_bytes(b"x" * 1000)
    assert download(remote(server, "ok"), tmp_path).read_bytes() == CONTENT
    assert server.requests == [("ok", None)]


def test_damaged_beginning_is_fetched_anew(tmp_path, server):
    (tmp_path / "data.npz.part").write_bytes(b"x" * 1000)
    assert download(remote(server, "ok", sha256=SHA256), tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == ["bytes=1000-", None]


def test_server_without_ranges(tmp_path, server):
    (tmp_path / "data.npz.part").write_bytes(CONTENT[:1000])
    assert download(remote(server, "norange", sha256=SHA256), tmp_path).read_bytes() == CONTENT


def test_part_that_is_whole_already(tmp_path, server):
    (tmp_path / "data.npz.part").write_bytes(CONTENT)
    assert download(remote(server, "ok", sha256=SHA256), tmp_path).read_bytes() == CONTENT
    assert server.requests == [("ok", f"bytes={len(CONTENT)}-")]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("404", "the server answers 404 Not Found"),
        ("202", "the server answers 202 Accepted"),
        ("500", "the server answers 500 Internal Server Error"),
        ("html", "the server sends a web page"),
        ("empty", "the server sends nothing"),
        ("other", f"the file has the sha256 {hashlib.sha256(CONTENT[::-1]).hexdigest()}, expected {SHA256}"),
        ("wrongrange", "asked for bytes from 0"),
        ("dead", "the connection ended|IncompleteRead|ProtocolError"),
    ],
)
def test_what_is_refused_and_the_next_mirror(tmp_path, server, kind, reason):
    if kind == "wrongrange":
        (tmp_path / "data.npz.part").write_bytes(CONTENT[:10])
        reason = "asked for bytes from 10, the server sends bytes 0-"
    if kind == "dead":
        module_attempts = module.IDLE_ATTEMPTS
        assert module_attempts == 4
        server.requests.clear()
    with pytest.raises(OSError, match=rf"could not download data.npz .*({reason}).*source=<file>.*PYG_SCHNET_DATA"):
        download(remote(server, kind, sha256=SHA256), tmp_path)
    assert "data.npz" not in visible(tmp_path)
    assert download(remote(server, kind, "ok", sha256=SHA256), tmp_path).read_bytes() == CONTENT


def test_size_offered_is_wrong(tmp_path, server):
    with pytest.raises(OSError, match=f"expected 5 bytes, the server offers {len(CONTENT)}"):
        download(remote(server, "ok", size=5), tmp_path)
    assert visible(tmp_path) == []


def test_nobody_listens_and_no_address(tmp_path, server):
    with pytest.raises(OSError, match="ConnectionError"):
        download(RemoteFile("a", ("http://127.0.0.1:9/a",)), tmp_path)
    with pytest.raises(OSError, match="no valid address"):
        download(RemoteFile("a", ("nonsense",)), tmp_path)
    with pytest.raises(OSError, match="no address is known"):
        download(RemoteFile("a"), tmp_path)


def test_unknown_checksum_is_kept_and_compared(tmp_path, server, monkeypatch):
    monkeypatch.delenv("PYG_SCHNET_DATA", raising=False)
    file = remote(server, "ok")
    path = provide(file, tmp_path, None, "")
    assert (tmp_path / "data.npz.sha256").read_text() == f"{SHA256}  data.npz\n"
    assert provide(file, tmp_path, None, "") == path
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match="has the sha256 .*, expected .*; delete it to have it downloaded again"):
        provide(file, tmp_path, None, "")
    with pytest.raises(ValueError, match="has 399999 bytes, expected 400000"):
        check_again(RemoteFile("data.npz", size=400_000), path)
    path.write_bytes(CONTENT + b"x")
    with pytest.raises(ValueError, match="has 400001 bytes, expected 400000"):
        check_again(RemoteFile("data.npz", size=400_000), path)
    path.unlink()
    assert provide(file, tmp_path, None, "").read_bytes() == CONTENT


def test_md5_is_compared(tmp_path, server, monkeypatch):
    """Where no other checksum is known, now and later."""
    monkeypatch.delenv("PYG_SCHNET_DATA", raising=False)
    right, wrong = (hashlib.md5(content).hexdigest() for content in (CONTENT, b"other"))
    with pytest.raises(OSError, match=f"the file has the md5 {right}, expected {wrong}"):
        download(remote(server, "ok", md5=wrong), tmp_path)
    path = provide(remote(server, "ok", md5=right), tmp_path, None, "")
    (tmp_path / "data.npz.sha256").unlink(missing_ok=True)
    assert provide(remote(server, "ok", md5=right), tmp_path, None, "") == path
    with pytest.raises(ValueError, match=f"has the md5 {right}, expected {wrong}; delete it"):
        provide(remote(server, "ok", md5=wrong), tmp_path, None, "")


def test_full_disk_leaves_a_part(tmp_path, server, monkeypatch):
    class Full:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "tqdm", Full)
    with pytest.raises(OSError, match="no space left in .*goes on from data.npz.part"):
        download(remote(server, "ok", sha256=SHA256), tmp_path)
    assert "data.npz" not in visible(tmp_path)
    monkeypatch.undo()
    assert download(remote(server, "ok", sha256=SHA256), tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] is not None  # it went on


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EROFS, "cannot be written to; make it writable or choose another `root`"),
        (errno.EACCES, "cannot be written to"),
        (errno.ENOTDIR, "cannot be a folder because a file is in its way"),
        (errno.EDQUOT, "no space left"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_errors_of_the_disk(tmp_path, number, message):
    with pytest.raises(OSError, match=message) as caught, writing(tmp_path):
        raise OSError(number, "Input/output error")
    assert caught.value.errno == number
