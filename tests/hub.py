"""What does the Hugging Face hub say to its own client? A small one on this machine that speaks its protocol."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants

TOKEN = "hf_of_a_test"


class Hub(ThreadingHTTPServer):
    """Repositories: their commits by hash, and the commit of every branch. Large files arrive through Git LFS."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.large: dict[str, bytes] = {}
        self.cards: list[str] = []
        self.asked: list[str] = []
        self.concealed: set[str] = set()  # what is said to be there only when files are fetched

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def create(self, repository: str) -> None:
        self.commits[repository], self.branches[repository] = {}, {}
        self.commit(repository, {".gitattributes": b"*.safetensors filter=lfs\n"})

    def commit(self, repository: str, files: dict[str, bytes], branch: str = "main") -> str:
        number = f"{repository} {len(self.commits[repository])}"
        commit = hashlib.sha1(number.encode()).hexdigest()
        self.commits[repository][commit] = dict(files)
        self.branches[repository][branch] = commit
        return commit

    def files(self, repository: str, revision: str = "main") -> dict[str, bytes] | None:
        commit = self.branches[repository].get(revision, revision)
        return self.commits[repository].get(commit)

    def commit_of(self, repository: str, revision: str) -> str:
        return self.branches[repository].get(revision, revision)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._answer(status, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _refuse(self, status: int, code: str) -> None:
        self._json({"error": code}, status, {"X-Error-Code": code, "X-Error-Message": code})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append(f"{self.command} {path}")
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            repository, rest = "/".join(parts[2:4]), parts[4:]
        else:
            repository, rest = "/".join(parts[:2]), parts[2:]
        if repository not in self.server.commits:
            return self._refuse(404, "RepoNotFound")
        revision = rest[1] if rest else "main"
        files, commit = self.server.files(repository, revision), self.server.commit_of(repository, revision)
        if files is None:
            return self._refuse(404, "RevisionNotFound")
        if rest[:1] == ["resolve"]:
            return self._file(files, "/".join(rest[2:]), commit)
        if rest[:1] == ["tree"]:
            return self._json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in files.items()
                ]
            )
        return self._json(
            {
                "id": repository,
                "sha": commit,
                "siblings": [{"rfilename": name} for name in files if name not in self.server.concealed],
            }
        )

    do_HEAD = do_GET

    def _file(self, files: dict[str, bytes], name: str, commit: str) -> None:
        if name not in files:
            return self._refuse(404, "EntryNotFound")
        etag = f'"{hashlib.sha256(files[name]).hexdigest()}"'
        return self._answer(200, files[name], {"ETag": etag, "X-Repo-Commit": commit})

    def do_PUT(self) -> None:
        data = self._body()
        self.server.large[hashlib.sha256(data).hexdigest()] = data
        self._answer(200, b"")

    def do_POST(self) -> None:
        path, body = urlsplit(self.path).path, self._body()
        self.server.asked.append(f"POST {path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, "Unauthorized")
        parts = path.strip("/").split("/")
        if path == "/api/repos/create":
            asked = json.loads(body)
            repository = f"{asked['organization']}/{asked['name']}"
            there = repository in self.server.commits
            if not there:
                self.server.create(repository)
            return self._json({"url": f"{self.server.url}/{repository}"}, 409 if there else 200)
        if path == "/api/validate-yaml":
            self.server.cards.append(json.loads(body)["content"])
            return self._json({"errors": [], "warnings": []})
        if path.endswith("/info/lfs/objects/batch"):
            upload = {"upload": {"href": f"{self.server.url}/lfs", "header": {}}}
            objects = [{**each, "actions": upload} for each in json.loads(body)["objects"]]
            return self._json({"transfer": "basic", "objects": objects})
        if parts[4] == "preupload":
            named = [each["path"] for each in json.loads(body)["files"]]
            modes = [("lfs" if name.endswith((".safetensors", ".hdf5")) else "regular", name) for name in named]
            return self._json(
                {"files": [{"path": name, "uploadMode": mode, "shouldIgnore": False} for mode, name in modes]}
            )
        return self._commit("/".join(parts[2:4]), body)

    def _commit(self, repository: str, body: bytes) -> None:
        files = dict(self.server.files(repository) or {})
        for line in body.splitlines():
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        commit = self.server.commit(repository, files)
        self._json(
            {"success": True, "commitOid": commit, "commitUrl": f"{self.server.url}/{repository}/commit/{commit}"}
        )


@contextmanager
def local_hub(cache: Path, patch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of this machine, which the client asks from now on; somebody is logged in."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    patch.setattr(constants, "ENDPOINT", hub.url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    patch.setenv("HF_TOKEN", TOKEN)
    huggingface_hub.close_session()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
        huggingface_hub.close_session()
