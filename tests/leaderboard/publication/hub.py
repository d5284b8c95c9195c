"""A hub of one repository on this machine: what ``huggingface_hub`` asks of the real one, to look and to commit."""

from __future__ import annotations

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

REPOSITORY = "ada/results"
TOKEN = "hf_" + "t0ken" * 6
LARGE = (".parquet", ".safetensors")


class Hub(ThreadingHTTPServer):
    """The state: commits, files, and everything that was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: list[tuple[str, str]] = []
        self.commits: list[str] = []
        self.made: dict[str, Any] | None = None
        self.files: dict[str, bytes] = {}
        self.large: dict[str, bytes] = {}
        """By SHA-256: what was put."""
        self.meanwhile: str | None = None
        """A commit that somebody else makes before ours."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def posts(self) -> list[str]:
        return [path for method, path in self.asked if method != "GET"]

    def info(self) -> dict[str, Any]:
        return {"id": REPOSITORY, "sha": self.commits[-1], "siblings": [_sibling(*one) for one in self.files.items()]}

    def commit(self, lines: list[dict[str, Any]]) -> bool:
        """Whether it is one on top of the last."""
        head, *rest = lines
        if self.meanwhile:
            self.commits.append(self.meanwhile)
        if head["value"].get("parentCommit") not in (None, self.commits[-1]):
            return False
        for line in rest:
            value = line["value"]
            if line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[value["path"]] = self.large[value["oid"]]
            else:
                del self.files[value["path"]]
        self.commits.append(hashlib.sha1(str(len(self.commits)).encode()).hexdigest())
        return True


def _sibling(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    one: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": blob}
    if path.endswith(LARGE):
        one["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return one


class Answers(BaseHTTPRequestHandler):
    """What is answered."""

    protocol_version = "HTTP/1.1"
    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._asked()
        if self.server.made is None:
            self._say({"error": "Repository not found"}, 404, "RepoNotFound")
        else:
            self._say(self.server.info())

    def do_PUT(self) -> None:
        body = self._asked()
        self.server.large[hashlib.sha256(body).hexdigest()] = body
        self._say({})

    def do_POST(self) -> None:
        body = self._asked()
        path = urlsplit(self.path).path
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._say({"error": "Invalid credentials"}, 403)
        elif path == "/api/validate-yaml":
            self._say({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self.server.made = json.loads(body)
            self.server.commits, self.server.files = ["0" * 40], {".gitattributes": b"*.parquet filter=lfs\n"}
            self._say({"url": f"{self.server.address}/datasets/{REPOSITORY}", "id": REPOSITORY})
        elif path == f"/api/datasets/{REPOSITORY}/preupload/main":
            self._say({"files": [_mode(one["path"]) for one in json.loads(body)["files"]]})
        elif path == f"/datasets/{REPOSITORY}.git/info/lfs/objects/batch":
            self._say({"transfer": "basic", "objects": [self._place(one) for one in json.loads(body)["objects"]]})
        elif path == f"/api/datasets/{REPOSITORY}/commit/main":
            made = self.server.commit([json.loads(line) for line in body.splitlines()])
            last = self.server.commits[-1]
            said = {
                "success": made,
                "commitOid": last,
                "commitUrl": f"{self.server.address}/datasets/{REPOSITORY}/commit/{last}",
            }
            self._say(said if made else {"error": "The parent commit is another one now"}, 200 if made else 412)
        else:
            self._say({"error": f"nothing here answers {path}"}, 501)

    def _asked(self) -> bytes:
        self.server.asked.append((self.command, urlsplit(self.path).path))
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _say(self, content: Any, code: int = 200, error: str | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        self.wfile.write(body)

    def _place(self, one: dict[str, Any]) -> dict[str, Any]:
        upload = {"href": f"{self.server.address}/put/{one['oid']}"}
        return {**one, "actions": {"upload": upload}}


def _mode(path: str) -> dict[str, Any]:
    return {"path": path, "uploadMode": "lfs" if path.endswith(LARGE) else "regular", "shouldIgnore": False}
