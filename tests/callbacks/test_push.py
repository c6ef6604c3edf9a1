"""An export goes to a hub whole, as a private repository, and nothing private goes with it."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from callbacks.audit import RunTables
from callbacks.hub import push_export, require_free_repository
from callbacks.weights import ModelExport
from common.errors import UserError
from kdmodules.losses import ForwardKL
from kdmodules.responses import DatasetResponses
from tests.kdmodules.student_runs import make_data, make_student, make_trainer, write_teacher

NAME = "me/leaky"


class Hub(ThreadingHTTPServer):
    """What a hub answers, and what it was given."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    """The calls that an upload of small files makes."""

    server: Hub

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def answer(self, status: int, content: object, **headers: str) -> None:
        """Sends JSON."""
        text = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        """Who asks, and what there is."""
        if self.headers.get("Authorization") != "Bearer good":
            self.answer(401, {"error": "Invalid user token."})
        elif self.path == "/api/whoami-v2":
            self.answer(200, {"type": "user", "name": "me", "auth": {"accessToken": {}}})
        elif self.path == f"/api/models/{NAME}" and self.server.created:
            self.answer(200, {"id": NAME})
        else:
            self.answer(404, {"error": "no such"}, X_Error_Code="RepoNotFound")

    def do_POST(self) -> None:
        """What is made and uploaded."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/repos/create":
            if self.server.created:
                self.answer(409, {"error": "You already created this model repo"})
                return
            self.server.created.append(json.loads(body))
            self.answer(200, {"url": f"{self.server.address}/{NAME}", "name": NAME})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif self.path == f"/api/models/{NAME}/preupload/main":
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        elif self.path == f"/api/models/{NAME}/commit/main":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
            url = f"{self.server.address}/{NAME}/commit/0"
            self.answer(200, {"commitUrl": url, "commitOid": "0" * 40})
        else:
            self.answer(404, {"error": self.path})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of this machine, and a token that it knows."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "good")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A folder as a fit writes it, and what must not leave it."""
    files = {
        "model.safetensors": b"\x00weights",
        "config.json": b"{}",
        "tokenizer.json": b"{}",
        "README.md": b"---\nlibrary_name: transformers\n---\n# leaky\n",
        "audit.json": b"{}",
        "adapter/adapter_config.json": b"{}",
        "private/audit.json": b"{}",
        "scores.parquet": b"ids",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_the_whole_export_is_pushed_to_a_private_repository(hub: Hub, export: Path) -> None:
    require_free_repository(NAME)
    assert push_export(export, NAME, private=True) == f"{hub.address}/{NAME}"
    (made,) = hub.created
    assert made["name"] == "leaky"
    assert made["organization"] == "me"
    assert made.get("private") is True or made.get("visibility") == "private"
    left = {"private/audit.json", "scores.parquet"}
    whole = {str(one.relative_to(export)) for one in export.rglob("*") if one.is_file()}
    assert set(hub.files) == whole - left
    assert all((export / name).read_bytes() == content for name, content in hub.files.items())


def test_a_fit_pushes_what_it_exported_and_trains_nothing_for_a_name_that_is_taken(
    hub: Hub, tmp_path: Path
) -> None:
    data = make_data(tmp_path)
    teacher = write_teacher(tmp_path, data)

    def fit(name: str) -> Path:
        callbacks = [RunTables(), ModelExport(push_to_hub=NAME)]
        trainer = make_trainer(tmp_path / name, max_steps=1, callbacks=callbacks)
        trainer.fit(make_student(teacher, DatasetResponses(), ForwardKL()), data)
        return tmp_path / name

    folder = fit("first") / "export"
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= set(hub.files)
    assert hub.files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="there is a repository of that name"):
        fit("second")
    assert not (tmp_path / "second" / "results.parquet").exists()


def test_a_name_that_is_taken_is_told_before_and_after(hub: Hub, export: Path) -> None:
    hub.created.append({})
    line = f"--export.push_to_hub {NAME}: there is a repository of that name"
    with pytest.raises(UserError, match=line):
        require_free_repository(NAME)
    with pytest.raises(UserError, match=f"{line}.*; the export is in {export}"):
        push_export(export, NAME, private=True)
    assert hub.files == {}


def test_a_token_that_is_wrong_or_missing_is_told(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(UserError, match="no token of yours may write there"):
        require_free_repository(NAME)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"run `hf auth login`, or set HF_TOKEN"):
        require_free_repository(NAME)


def test_a_hub_out_of_reach_is_one_line(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Hub()
    server.server_close()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "good")
    for offline in (False, True):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
        with pytest.raises(UserError, match="the hub cannot be reached: ") as refused:
            push_export(export, NAME, private=True)
        assert "\n" not in str(refused.value)


def test_what_is_no_name_or_has_nothing_to_push_is_refused() -> None:
    with pytest.raises(UserError, match="--export.push_to_hub a/b/c: "):
        require_free_repository("a/b/c")
    with pytest.raises(UserError, match="leaves nothing to push"):
        ModelExport(enabled=False, push_to_hub=NAME)
