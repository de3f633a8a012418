from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gemma_trace.errors import OutputError
from gemma_trace.view import server as server_module
from gemma_trace.view.server import MAX_CONNECTIONS, Site, TabWatch, TraceServer, offline_site
from tests.conftest import HUNG_S


@pytest.fixture
def site(tmp_path: Path) -> Site:
    ui = tmp_path / "ui"
    (ui / "assets").mkdir(parents=True)
    (ui / "index.html").write_text("<body>\n  <script>start()</script></body>")
    (ui / "assets" / "logo.png").write_bytes(b"png")
    trace = tmp_path / "trace.json.gz"
    trace.write_bytes(b"\x1f\x8btrace")
    (tmp_path / "secret.txt").write_text("secret")
    return offline_site(ui, trace)


@pytest.fixture
def server(site: Site) -> Iterator[TraceServer]:
    with TraceServer(site) as running:
        yield running


def ask(server: TraceServer, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    address = urlsplit(server.address)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=HUNG_S)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), content


def test_it_serves_the_ui_and_the_trace_below_its_token(server: TraceServer) -> None:
    below = urlsplit(server.address).path
    status, headers, page = ask(server, f"{below}/")
    assert status == 200
    assert page == b'<body>\n  <script src="alive.js"></script>\n  <script>start()</script></body>'
    assert headers["Content-Type"] == "text/html"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "Access-Control-Allow-Origin" not in headers
    assert ask(server, f"{below}/assets/logo.png")[2] == b"png"
    assert b"EventSource" in ask(server, f"{below}/alive.js")[2]
    status, headers, content = ask(server, f"{below}/trace.json.gz?x=1")
    assert (status, content, headers["Content-Type"]) == (200, b"\x1f\x8btrace", "application/octet-stream")


def test_nothing_else_is_there(server: TraceServer) -> None:
    below = urlsplit(server.address).path
    for path in ("/", "/trace.json.gz", "/wrong/trace.json.gz", f"{below}/missing", f"{below}/../secret.txt"):
        assert ask(server, path)[0] == 404
    assert ask(server, f"{below}/%2e%2e/secret.txt")[0] == 404
    assert ask(server, f"{below}/", Host="evil.example:80")[0] == 404, "a name that was made to point here"
    assert ask(server, f"{below}/", method="POST")[0] == 501


def test_it_is_on_loopback_alone_and_its_token_is_long(server: TraceServer) -> None:
    assert server._server.server_address[0] == "127.0.0.1"
    assert len(server.token) >= 20


def test_a_port_that_is_taken_is_one_line(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OutputError, match=r"can't serve on port \d+ of 127\.0\.0\.1"):
            TraceServer(site, taken.getsockname()[1])


def test_it_is_done_when_the_last_tab_is_closed(server: TraceServer) -> None:
    address = urlsplit(server.address)
    tabs = [http.client.HTTPConnection(str(address.hostname), address.port, timeout=HUNG_S) for _ in range(2)]
    answers = []
    for tab in tabs:
        tab.request("GET", f"{address.path}/alive")
        answers.append(tab.getresponse())
    waiting = threading.Thread(target=server.watch.wait_until_done, args=(0.1,), daemon=True)
    waiting.start()
    answers[0].close()
    tabs[0].close()
    waiting.join(1)
    assert waiting.is_alive(), "one tab is open still"
    answers[1].close()
    tabs[1].close()
    waiting.join(20)
    assert not waiting.is_alive()


def test_a_reload_is_no_end() -> None:
    watch = TabWatch()
    watch.opened()
    watch.closed()
    watch.opened()
    waiting = threading.Thread(target=watch.wait_until_done, args=(0.05,), daemon=True)
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    watch.closed()
    waiting.join(20)
    assert not waiting.is_alive()


def test_nobody_yet_is_no_end_either() -> None:
    watch = TabWatch()
    waiting = threading.Thread(target=watch.wait_until_done, args=(0.01,), daemon=True)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    watch.opened()
    watch.closed()
    waiting.join(20)
    assert not waiting.is_alive()


def test_the_online_ui_may_read_the_trace_and_then_it_is_done(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json.gz"
    trace.write_bytes(b"trace")
    with TraceServer(Site({trace.name: trace}, {}, "https://ui.perfetto.dev")) as server:
        path = urlsplit(server.address).path
        assert ask(server, f"{path}/")[0] == 404, "the UI isn't served"
        _, headers, content = ask(server, f"{path}/{trace.name}")
        assert (content, headers["Access-Control-Allow-Origin"]) == (b"trace", "https://ui.perfetto.dev")
        waiting = threading.Thread(target=server.watch.wait_until_done, args=(0.05,), daemon=True)
        waiting.start()
        waiting.join(20)
        assert not waiting.is_alive()


def raw(server: TraceServer, request: bytes) -> bytes:
    """What the server answers to bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", urlsplit(server.address).port or 0), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET http://[::1/ HTTP/1.0",
        b"GET //[ HTTP/1.0",
        b"GET /%ff%00/\xff HTTP/1.0",
        b"GET / HTTP/9999999999999999999999.1",
        b"\x00\xff\x1b[31m \r GET",
        b"GET",
        b"G\x00T / HTTP/1.0",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.0",
        b"GET / HTTP/1.0\r\n" + b"A: b\r\n" * 200,
        b"GET / HTTP/1.0\r\nHost: \xff[:x",
    ],
)
def test_a_malformed_request_is_refused_and_nothing_is_printed(
    server: TraceServer, request_line: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        answer = raw(server, request_line + b"\r\n\r\n")
    except ConnectionError:  # it was closed before all of it was sent
        answer = b"HTTP/1.0 4"
    assert b" 404 " in answer or b" 4" in answer or b" 50" in answer or b"Error code: " in answer
    assert ask(server, urlsplit(server.address).path + "/")[0] == 200
    assert capfd.readouterr() == ("", "")


def silent(server: TraceServer, count: int) -> list[socket.socket]:
    port = urlsplit(server.address).port or 0
    return [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(count)]


def test_silent_connections_are_bounded_and_keep_nobody_out(server: TraceServer) -> None:
    before = threading.active_count()
    waiting = silent(server, 3 * MAX_CONNECTIONS)
    try:
        assert ask(server, urlsplit(server.address).path + "/")[0] == 200
        assert len(server._server._open) <= MAX_CONNECTIONS
        assert waiting[0].recv(1) == b"", "those that have waited longest went first"
        assert threading.active_count() - before <= 2 * MAX_CONNECTIONS
    finally:
        for connection in waiting:
            connection.close()


def test_a_connection_that_asks_nothing_ends(server: TraceServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_S", 0.0)
    slow, other = silent(server, 2)
    with slow, other:
        slow.sendall(b"GET / HT")
        assert slow.recv(1) == other.recv(1) == b""
    assert not server._server._silent


def test_without_descriptors_nothing_is_printed_and_it_goes_on(
    server: TraceServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = urlsplit(server.address).path
    failures = iter([OSError(24, "Too many open files")] * 3)
    accept, open_file = socket.socket.accept, Path.open

    def failing(listening: socket.socket) -> tuple[socket.socket, object]:
        for failure in failures:
            raise failure
        return accept(listening)

    monkeypatch.setattr(server._server.socket.__class__, "accept", failing)
    assert ask(server, f"{path}/")[0] == 200
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(OSError(24, "Too many open files")))
    assert ask(server, f"{path}/trace.json.gz")[0] == 503
    monkeypatch.setattr(Path, "open", open_file)
    assert ask(server, f"{path}/trace.json.gz")[0] == 200
    assert capfd.readouterr() == ("", "")
