"""A Hugging Face Hub of one model on loopback, as far as a download goes: listing, files, ranges, refusals."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "maker/tiny-gemma"


@dataclass
class Hub:
    """What the server serves and what it was asked.

    Attributes:
        token: without it the model is gated.
        breaks: names of files whose first download ends at three quarters.
        ranges: of each file the `Range` headers it was asked with.
    """

    folder: Path
    token: str
    breaks: set[str] = field(default_factory=set)
    ranges: dict[str, list[str]] = field(default_factory=dict)
    endpoint: str = ""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Run the server for as long as the block runs."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0].strip("/")
        if REPO not in path:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
        elif self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"}, body=body)
        elif path.startswith(f"api/models/{REPO}/tree/"):
            self._send(200, json.dumps([self._entry(file) for file in self._files()]).encode(), {}, body=body)
        elif path.startswith(f"api/models/{REPO}"):
            siblings = [{"rfilename": file.name} for file in self._files()]
            info = {"id": REPO, "modelId": REPO, "sha": COMMIT, "siblings": siblings, "private": False}
            self._send(200, json.dumps(info).encode(), {}, body=body)
        else:
            self._send_file(self.hub.folder / path.rsplit("/", 1)[1], body=body)

    def _files(self) -> list[Path]:
        return sorted(self.hub.folder.iterdir())

    def _entry(self, file: Path) -> dict[str, Any]:
        return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _etag(file)}

    def _send_file(self, file: Path, *, body: bool) -> None:
        if not file.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body=body)
            return
        data = file.read_bytes()
        wanted = self.headers.get("Range")
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_etag(file)}"', "Accept-Ranges": "bytes"}
        status, start = 200, 0
        if body and wanted:
            self.hub.ranges.setdefault(file.name, []).append(wanted)
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            status, headers["Content-Range"] = 206, f"bytes {start}-{len(data) - 1}/{len(data)}"
        breaks = body and file.name in self.hub.breaks
        self.hub.breaks -= {file.name} if breaks else set()
        self._send(status, data[start:], headers, body=body, cut=3 * len(data) // 4 if breaks else None)

    def _send(self, status: int, data: bytes, headers: dict[str, str], *, body: bool, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data if cut is None else data[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
