"""Models of the Hugging Face hub: from a server on this machine that answers as the hub does, then from the cache."""

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pyg_schnet import load, save
from pyg_schnet.models import Committee

COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: In a process of its own: the address of the hub is read when huggingface_hub is imported.
CODE = """
import os
os.environ |= {{"HF_ENDPOINT": {endpoint!r}, "HF_HOME": {home!r}, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}}
os.environ |= {{"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}} | {more!r}
import torch
from pyg_schnet import SchNet, load
model = {call}
print(sum(float(one.double().sum()) for one in model.state_dict().values()))
"""


class Hub(ThreadingHTTPServer):
    """Repositories by name, each with its files by their names."""

    def __init__(self, repositories: dict[str, dict[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.repositories = repositories
        self.asked: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        path = self.path.split("?")[0].strip("/")
        self.server.asked.append(path)
        owner, name, *rest = path.removeprefix("api/models/").split("/")
        files = self.server.repositories.get(f"{owner}/{name}")
        if files is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, with_body)
        elif rest[1:2] and rest[1] not in {"main", "v1", COMMIT}:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"}, with_body)
        elif path.startswith("api/"):
            listed = [{"rfilename": file} for file in files]
            tree = [{"type": "file", "path": file, "size": len(files[file]), "oid": "0"} for file in files]
            found = tree if rest[:1] == ["tree"] else {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": listed}
            self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"}, with_body)
        else:
            content = files["/".join(rest[2:])]
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self._send(200, content, {"ETag": etag, "X-Repo-Commit": COMMIT}, with_body)

    def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sum_of(model: Any) -> float:
    return sum(float(one.double().sum()) for one in model.state_dict().values())


@pytest.fixture
def hub(make_model: Any, tmp_path: Path) -> Iterator[Hub]:
    """A model and a committee as they are saved, and a repository of something else."""
    pytest.importorskip("huggingface_hub")
    save(make_model(mean=-3.0), tmp_path / "water", card={"summary": "Water"})
    Committee([make_model(mean=float(number)) for number in range(2)]).save(tmp_path / "many")
    made = {name: files_in(tmp_path / name) for name in ("water", "many")}
    made["water"]["training.log"] = b"large"
    server = Hub({"me/water": made["water"], "me/many": made["many"], "me/other": {"pytorch_model.bin": b"pickle"}})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(hub: Hub, forks: Any, tmp_path: Path) -> Any:
    def run(call: str, endpoint: str | None = None, **more: str) -> Any:
        place = {"endpoint": endpoint or hub.endpoint, "home": str(tmp_path / "cache")}
        return forks.run(CODE.format(call=call, more=more, **place))

    return run


def test_a_model_comes_once_and_stays(hub: Hub, fetch: Any, tmp_path: Path) -> None:
    expected = sum_of(load(tmp_path / "water"))
    for call in ("load('hf://me/water')", "SchNet.from_pretrained('hf://me/water@v1')"):
        done = fetch(call)
        assert done.returncode == 0, done.stderr
        assert float(done.stdout) == pytest.approx(expected, rel=1e-12)
    assert any("model.safetensors" in path for path in hub.asked)
    assert not any("training.log" in path and "resolve" in path for path in hub.asked)
    hub.asked.clear()
    done = fetch("load('hf://me/water')", HF_HUB_OFFLINE="1")
    assert float(done.stdout) == pytest.approx(expected, rel=1e-12)
    assert not hub.asked
    done = fetch("load('hf://me/water')", endpoint="http://127.0.0.1:9")  # nobody listens
    assert float(done.stdout) == pytest.approx(expected, rel=1e-12)


def test_a_committee(fetch: Any, tmp_path: Path) -> None:
    done = fetch("load('hf://me/many')")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(sum_of(load(tmp_path / "many")), rel=1e-12)


@pytest.mark.parametrize(
    ("address", "more", "sentence"),
    [
        ("hf://me/none", {}, "FileNotFoundError: the hub has no model me/none; check the name, or log in"),
        ("hf://me/water@v9", {}, "FileNotFoundError: me/water has no revision v9; leave it out for the newest"),
        ("hf://me/other", {}, "FileNotFoundError: hf://me/other has no model.safetensors; expected a model that"),
        ("hf://me/water", {"HF_HUB_OFFLINE": "1"}, "OSError: hf://me/water could not be fetched, and the cache does"),
        ("hf://water", {}, "ValueError: expected hf://owner/name or hf://owner/name@revision, got hf://water"),
    ],
)
def test_what_cannot_be_had(address: str, more: dict[str, str], sentence: str, fetch: Any) -> None:
    done = fetch(f"load({address!r})", **more)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(sentence)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r'need huggingface_hub; install it with pip install "pyg_schnet\[hub\]"'):
        load("hf://me/water")
