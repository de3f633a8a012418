"""Serves one trace and the UI on loopback, under a path that nobody can guess, until the last tab is closed.

All paths begin with `/<token>/`. Any other path, host name or method is refused, so that neither another user of the
machine nor a page in another tab can read the trace. An open page keeps a stream of events open, so the server knows
when the last tab is closed.
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
"""How long the server waits for a tab before it stops. A reload closes a tab and opens another one."""

MAX_CONNECTIONS: Final = 64
"""The most connections at a time. A browser opens six to a server."""
REQUEST_S: Final = 10.0
"""How long a connection may take to send its request."""
SEND_S: Final = 60.0
"""How long a client may take to receive a piece of a response."""

ALIVE: Final = "alive"
ALIVE_SCRIPT: Final = "alive.js"
_SCRIPT: Final = b'window.gemmaTraceTab = new EventSource("alive");\n'
_POLICY: Final = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""The UI may run any code, but it may connect to this server only."""


@dataclass(frozen=True)
class Site:
    """The content of the server.

    Attributes:
        files: files by path below the token.
        pages: contents by path below the token.
        allowed_origin: another site that may read them, or "".
    """

    files: Mapping[str, Path]
    pages: Mapping[str, bytes]
    allowed_origin: str = ""


def offline_site(ui: Path, trace: Path) -> Site:
    """A folder with the UI, and a trace beside it. The page keeps the stream open that tells the server of the tab."""
    files = {path.relative_to(ui).as_posix(): path for path in ui.rglob("*") if path.is_file()}
    page = files.pop("index.html").read_bytes()
    marked = page.replace(b"<script", b'<script src="%b"></script>\n  <script' % ALIVE_SCRIPT.encode(), 1)
    return Site({**files, trace.name: trace}, {"": marked, "index.html": marked, ALIVE_SCRIPT: _SCRIPT})


class TabWatch:
    """Knows whether a tab is still open."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = 0
        self._alone_since: float | None = None

    def opened(self) -> None:
        """A tab is open, or a trace is being downloaded."""
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
        """Return when a tab was open and none has been open for this long."""
        with self._changed:
            while True:
                since = self._alone_since
                left = None if since is None else since + grace_s - time.monotonic()
                if left is not None and left <= 0:
                    return
                self._changed.wait(0.5 if left is None else left)  # a time-out lets Ctrl-C through on every system


class _Server(ThreadingHTTPServer):
    """Limits the connections. Those without a request are closed first, and after a while in any case."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._lock = threading.Lock()
        self._silent: dict[socket.socket, float] = {}
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether a new connection is served. If there are too many, the one that has been silent longest is closed."""
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
        """A connection has sent its request."""
        with self._lock:
            self._silent.pop(request, None)

    def shutdown_request(self, request: Any) -> None:
        """A connection is done."""
        with self._lock:
            self._silent.pop(request, None)
            self._open.discard(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called regularly: close connections that have been silent for too long."""
        with self._lock:
            too_old = time.monotonic() - REQUEST_S
            for request in [request for request, since in self._silent.items() if since < too_old]:
                self._end(request)

    def get_request(self) -> Any:
        """The next connection. If no file descriptor is left, silent connections are closed."""
        try:
            return super().get_request()
        except OSError:
            with self._lock:
                if self._silent:
                    self._end(next(iter(self._silent)))
            time.sleep(0.1)  # it stays in the queue meanwhile
            raise

    def _end(self, request: socket.socket) -> None:
        """Close a connection without a request. Its thread sees the end and closes its own side."""
        self._silent.pop(request, None)
        self._open.discard(request)
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        """Print nothing: an error of one connection concerns nobody else."""


class TraceServer:
    """Serves a site while the block runs.

    Args:
        port: 0 chooses a free one.

    Raises:
        OutputError: the port is taken.
    """

    def __init__(self, site: Site, port: int = 0) -> None:
        self.watch = TabWatch()
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
        """The address of the site, without a trailing slash."""
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
    watch: TabWatch
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
        """The path below the token; None for a request that is refused."""
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in (LOOPBACK, "localhost"):  # a host name that resolves to this machine (DNS rebinding)
            return None
        try:
            asked = unquote(urlsplit(self.path).path)
        except ValueError:  # not an address
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
        foreign = bool(self.site.allowed_origin)  # the online UI has no stream that tells that its tab is open
        if foreign:
            self.watch.opened()
        try:
            try:
                content = file.open("rb")
            except OSError:  # the file is gone, or no descriptor is left
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
                return
            with content:
                self._head(file.name, os.fstat(content.fileno()).st_size)
                shutil.copyfileobj(content, self.wfile)
        finally:
            if foreign:
                self.watch.closed()

    def _stay(self) -> None:
        """Keep a stream of events open until the tab is closed."""
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
        """Wait a second. Returns whether the connection is still open."""
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
            self.close_connection = True  # the tab was closed meanwhile, or doesn't receive its response

    def log_message(self, *_: object) -> None:
        """Log no requests."""
