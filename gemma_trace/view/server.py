"""A server for one trace and the UI that shows it: on loopback, under a path that nobody can guess, while a tab looks.

Everything lies under `/<token>/`; any other path, host name or method is refused, so neither another user of the
machine nor a page in another tab gets at the trace. A page that is open holds a stream of events open, so the server
knows when the last tab is closed.
"""

from __future__ import annotations

import contextlib
import mimetypes
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

from gemma_trace.errors import OutputError

LOOPBACK: Final = "127.0.0.1"
GRACE_S: Final = 3.0
"""How long no tab may be open before the server stops: a reload closes one and opens another."""

MAX_CONNECTIONS: Final = 64
"""How many are open at once. A browser opens six to a server."""
REQUEST_S: Final = 10.0
"""How long a connection may take to say what it wants."""
SEND_S: Final = 60.0
"""How long a piece of an answer may wait to be taken."""

ALIVE: Final = "alive"
ALIVE_SCRIPT: Final = "alive.js"
_SCRIPT: Final = b'window.gemmaTraceTab = new EventSource("alive");\n'
_POLICY: Final = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""The UI may do as it likes, but reach nothing but this server."""


@dataclass(frozen=True)
class Site:
    """What is served.

    Attributes:
        files: by path below the token, the file.
        pages: likewise, what is served as it stands.
        allowed_origin: another site that may read it, or "".
    """

    files: Mapping[str, Path]
    pages: Mapping[str, bytes]
    allowed_origin: str = ""


def offline_site(ui: Path, trace: Path) -> Site:
    """The UI in a folder, and a trace beside it; its page holds the stream by which the server knows of the tab."""
    files = {path.relative_to(ui).as_posix(): path for path in ui.rglob("*") if path.is_file()}
    page = files.pop("index.html").read_bytes()
    marked = page.replace(b"<script", b'<script src="%b"></script>\n  <script' % ALIVE_SCRIPT.encode(), 1)
    return Site({**files, trace.name: trace}, {"": marked, "index.html": marked, ALIVE_SCRIPT: _SCRIPT})


class Watch:
    """Knows whether anybody is still looking."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = 0
        self._alone_since: float | None = None

    def opened(self) -> None:
        """A tab is there, or a trace is being fetched."""
        with self._changed:
            self._open += 1
            self._alone_since = None
            self._changed.notify_all()

    def closed(self) -> None:
        """It is gone, or done."""
        with self._changed:
            self._open -= 1
            self._alone_since = None if self._open else time.monotonic()
            self._changed.notify_all()

    def wait_until_done(self, grace_s: float = GRACE_S) -> None:
        """Return once there was somebody and there has been nobody for so long."""
        with self._changed:
            while True:
                since = self._alone_since
                left = None if since is None else since + grace_s - time.monotonic()
                if left is not None and left <= 0:
                    return
                self._changed.wait(0.5 if left is None else left)  # a time-out lets Ctrl-C through on every system


class _Server(ThreadingHTTPServer):
    """At most so many connections; those that have said nothing yet go first, and after a while in any case."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._lock = threading.Lock()
        self._silent: dict[socket.socket, float] = {}
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether a new connection is served. Where there are too many, the one that has been silent longest ends."""
        if client_address[0] != LOOPBACK:
            return False
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                if not self._silent:
                    return False
                self._end(next(iter(self._silent)))
            self._open.add(request)
            self._silent[request] = time.monotonic()
        return True

    def heard(self, request: socket.socket) -> None:
        """A connection has said what it wants."""
        with self._lock:
            self._silent.pop(request, None)

    def shutdown_request(self, request: Any) -> None:
        """A connection is done."""
        with self._lock:
            self._silent.pop(request, None)
            self._open.discard(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Every now and then: end what has been silent for too long."""
        with self._lock:
            too_old = time.monotonic() - REQUEST_S
            for request in [request for request, since in self._silent.items() if since < too_old]:
                self._end(request)

    def get_request(self) -> Any:
        """The next connection; where there is no descriptor left for it, others have to go."""
        try:
            return super().get_request()
        except OSError:
            with self._lock:
                if self._silent:
                    self._end(next(iter(self._silent)))
            time.sleep(0.1)  # it stays in the queue meanwhile
            raise

    def _end(self, request: socket.socket) -> None:
        """Close a connection on which nothing was asked; its thread sees the end, and closes its own side."""
        self._silent.pop(request, None)
        self._open.discard(request)
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        """What is wrong with one connection is nobody's business but that connection's."""


class TraceServer:
    """Serves a site while the block runs.

    Args:
        port: 0 is any that is free.

    Raises:
        OutputError: the port is taken.
    """

    def __init__(self, site: Site, port: int = 0) -> None:
        self.watch = Watch()
        self.token = secrets.token_urlsafe(16)
        handler = type("Handler", (_Handler,), {"site": site, "token": self.token, "watch": self.watch})
        try:
            self._server = _Server((LOOPBACK, port), handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(f"can't serve on port {port} of {LOOPBACK}: {reason}; stop what uses it") from error
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    @property
    def address(self) -> str:
        """Where the site is, without a slash at its end."""
        return f"http://{LOOPBACK}:{self._server.server_port}/{self.token}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    site: Site
    token: str
    watch: Watch
    server_version = "gemma-trace"
    sys_version = ""

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        self.server.heard(self.connection)
        self.connection.settimeout(SEND_S)
        return True

    def do_GET(self) -> None:
        path = self._path()
        if path is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        elif path == ALIVE:
            self._stay()
        elif path in self.site.pages:
            self._head(path or "index.html", len(self.site.pages[path]))
            self.wfile.write(self.site.pages[path])
        elif path in self.site.files:
            self._send(self.site.files[path])
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _path(self) -> str | None:
        """The path below the token; None for a request that isn't meant for us."""
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in (LOOPBACK, "localhost"):  # a name that was made to point here (DNS rebinding)
            return None
        try:
            asked = unquote(urlsplit(self.path).path)
        except ValueError:  # no address at all
            return None
        token, _, path = asked.removeprefix("/").partition("/")
        return path if secrets.compare_digest(token.encode(), self.token.encode()) else None

    def _head(self, name: str, length: int) -> None:
        kind = mimetypes.guess_type(name)[0] if not name.endswith(".gz") else None
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Security-Policy", _POLICY)
        if self.site.allowed_origin:
            self.send_header("Access-Control-Allow-Origin", self.site.allowed_origin)
        self.end_headers()

    def _send(self, file: Path) -> None:
        foreign = bool(self.site.allowed_origin)  # there no page of ours tells that a tab is open
        if foreign:
            self.watch.opened()
        try:
            try:
                content = file.open("rb")
            except OSError:  # it is gone, or there is no descriptor left
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
                return
            with content:
                self._head(file.name, os.fstat(content.fileno()).st_size)
                shutil.copyfileobj(content, self.wfile)
        finally:
            if foreign:
                self.watch.closed()

    def _stay(self) -> None:
        """Hold a stream of events open until the tab is closed."""
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.watch.opened()
        try:
            while self._is_there():
                self.wfile.write(b": \n\n")
        finally:
            self.watch.closed()

    def _is_there(self) -> bool:
        """Wait a second; whether the tab hasn't closed its connection by then."""
        self.connection.settimeout(1.0)
        try:
            return bool(self.connection.recv(1024))
        except TimeoutError:
            return True
        finally:
            self.connection.settimeout(SEND_S)

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True  # the tab was closed while it was served, or doesn't take its answer

    def log_message(self, *_: object) -> None:
        """Requests are nobody's business."""
