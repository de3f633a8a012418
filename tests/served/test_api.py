"""What servers may answer, byte by byte: one line says what is wrong, and the tokens that came are kept."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gemma_trace.errors import ConfigError
from gemma_trace.served.address import address_of
from gemma_trace.served.api import KEY_VARIABLE, Server, ServerError
from gemma_trace.served.payloads import Payload
from gemma_trace.served.record import ClientRequest

PAYLOAD = Payload("request-0", "text", [{"role": "user", "content": "Say a"}])


def whole_request(connection: socket.socket) -> bytes:
    """What a client asks: its headers and its body, which may come one after the other."""
    found = connection.recv(1 << 16)
    length = int((re.search(rb"Content-Length: (\d+)", found) or (b"", b"0"))[1])
    while len(found.partition(b"\r\n\r\n")[2]) < length and (more := connection.recv(1 << 16)):
        found += more
    return found


class Scripted:
    """Answers each connection with the same bytes, whatever is asked, and keeps what was asked."""

    def __init__(self, answer: bytes, family: int = socket.AF_INET, context: ssl.SSLContext | None = None) -> None:
        self._answer, self._context = answer, context
        self._socket = socket.create_server(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family)
        self.port = self._socket.getsockname()[1]
        self.asked: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
                with self._context.wrap_socket(connection, server_side=True) if self._context else connection as one:
                    self.asked.append(whole_request(one))
                    one.sendall(self._answer)
                    one.shutdown(socket.SHUT_WR)
                    while one.recv(1 << 16):  # a reset would take what wasn't read yet
                        pass
            except OSError:
                if self._socket.fileno() < 0:
                    return

    def close(self) -> None:
        self._socket.close()


@contextmanager
def scripted(answer: bytes, family: int = socket.AF_INET) -> Iterator[Scripted]:
    server = Scripted(answer, family)
    try:
        yield server
    finally:
        server.close()


def asked(answer: bytes, timeout_s: float = 5) -> ClientRequest:
    with scripted(answer) as server:
        return Server(f"http://127.0.0.1:{server.port}", timeout_s).chat(PAYLOAD, "tiny", 3, {})


def head(status: str = "200 OK", *more: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *more, "")).encode()


def event(text: str | None = "a", **more: object) -> bytes:
    choices = [{"delta": {"content": text}}] if text is not None else []
    return b"data: " + json.dumps({"choices": choices, **more}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
STREAM = head("200 OK", "Content-Type: text/event-stream", "Connection: close")


@pytest.mark.parametrize(
    ("stream", "tokens"),
    [
        (event() + event() + DONE, 2),
        (b": keepalive\n\n" + event() + b": keepalive\n\nevent: x\nid: 7\nretry: 10\n" + event() + DONE, 2),
        ((event() + event() + DONE).replace(b"\n", b"\r\n"), 2),
        (event().replace(b"data: ", b"data:") + b"data:[DONE]\n", 1),
        (event() + event(None, usage={"prompt_tokens": 9, "completion_tokens": 1}) + DONE, 1),
        (event(None) + b'data: {"choices": [null, 3, {}]}\n\ndata: {"choices": null}\n\n' + event() + DONE, 1),
        (b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}\n\n' + event() + DONE, 1),
        (b'data: {"choices": [{"delta": {"reasoning_content": "hm"}}]}\n\n' + event() + DONE, 2),
        (b'data: {"choices":\ndata:  [{"delta": {"content": "a"}}]}\n\n' + DONE, 1),
        (event("a" * 3_000_000) + DONE, 1),
    ],
    ids=["plain", "comments", "crlf", "tight", "usage", "empty", "role", "reasoning", "two-lines", "huge"],
)
def test_streams(stream: bytes, tokens: int) -> None:
    request = asked(STREAM + stream)
    assert (request.error, len(request.token_ns)) == ("", tokens)


def chunked(data: bytes) -> bytes:
    return head("200 OK", "Transfer-Encoding: chunked") + b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("answer", "tokens", "said"),
    [
        (STREAM + event() + event(), 2, "the server ended its answer too early; see its log"),
        (STREAM + event() + event()[:20], 1, "the server's stream is not JSON"),
        (chunked(event()), 1, "the server ended its answer too early; see its log"),
        (chunked(event()) + b"zz\r\n", 1, "the server ended its answer too early; see its log"),
        (chunked(event()) + b"-5\r\n", 1, "the connection to the server broke (read length must be"),
        (STREAM + b"data: what\n\n" + event() + DONE, 1, "the server's stream is not JSON"),
        (STREAM + b"data: " + b"x" * 9_000_000, 0, "the server's stream is not JSON"),
        (STREAM + DONE, 0, "the server's answer has no text in it, so it has no first token"),
        (STREAM + b'{"choices": [{"message": {"content": "a"}}]}', 0, "the server sends its answer at once"),
        (
            STREAM + b'data: {"object": "error", "message": "out of\\nmemory"}\n\n' + DONE,
            0,
            "stopped with an error: out of memory",
        ),
        (STREAM + b"data: " + b"[" * 100_000 + b"\n\n", 0, "the server's stream is not JSON"),
        (b"", 0, "the connection to the server broke (Remote end closed connection without response); see its log"),
        (b"\x00\xff\x16garbage\r\n\r\n", 0, "the connection to the server broke ("),
        (head("200 OK", *["a: b"] * 200), 0, "the connection to the server broke (got more than 100 headers)"),
        (head("307 Temporary Redirect", "Location: http://192.0.2.1/"), 0, "it redirects, which is not followed"),
        (head("429 Too Many Requests", "Retry-After: 7") + b'{"detail": "slowly"}', 0, "429: slowly; lower --concurr"),
        (head("200 OK", "Content-Encoding: gzip") + gzip.compress(event()), 0, "the server compresses its answers"),
        (head("503 Unavailable") + b"<html>" + b"x" * 900, 0, "the server answers 503; see its log"),
        (head("500 Error") + b"\xff\x00" * 900, 0, "the server answers 500: "),
    ],
    ids=[
        *("stops", "cut", "chunks", "chunk-garbage", "chunk-negative", "no-json", "endless-line", "nothing", "whole"),
        *("error", "nested", "closes", "garbage", "headers", "redirects", "too-many", "gzip", "page", "bytes"),
    ],
)
def test_what_goes_wrong_is_one_line_and_the_tokens_are_kept(answer: bytes, tokens: int, said: str) -> None:
    request = asked(answer)
    assert said in request.error
    assert "\n" not in request.error
    assert len(request.error) < 320
    assert len(request.token_ns) == tokens


def test_comments_for_ever_are_silence() -> None:
    request = asked(STREAM + event() + b": keepalive\n\n" * 400_000, timeout_s=0.001)
    assert len(request.token_ns) <= 1
    assert "for 0.001 s; see its log, or give timeout_s=" in request.error


def test_ipv6_and_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What proxies are set in the environment hears nothing of it."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with scripted(b"") as proxy, scripted(STREAM + event() + DONE, socket.AF_INET6) as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        request = Server(f"http://[::1]:{server.port}/v1/", 5).chat(PAYLOAD, "tiny", 3, {})
        assert (request.error, len(request.token_ns), proxy.asked) == ("", 1, [])
        assert server.asked[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
        assert b"Host: [::1]:%d\r\n" % server.port in server.asked[0]


def test_a_certificate_that_nobody_signed(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=127.0.0.1",
        "-days",
        "1",
    ]
    try:
        subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl here to make a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Scripted(STREAM + DONE, context=context)
    with pytest.raises(
        ServerError, match=r"certificate isn't trusted \(self-signed certificate\); name the file of its authority"
    ):
        Server(f"https://127.0.0.1:{server.port}", 5).ask("GET", "/v1/models")
    server.close()
    with scripted(STREAM) as plain, pytest.raises(ServerError, match="the server at server= does not use TLS"):
        Server(f"https://127.0.0.1:{plain.port}", 5).ask("GET", "/v1/models")


@pytest.mark.parametrize("key", ["a\nb", "ü", "a\x7f"])
def test_a_token_that_no_header_takes(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, key)
    with pytest.raises(ConfigError, match=KEY_VARIABLE):
        Server("http://127.0.0.1:9", 5)


def test_a_token_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "abc\n")
    with scripted(head("200 OK")) as server:
        Server(f"127.0.0.1:{server.port}", 5).ask("GET", "/v1/models")
        assert b"Authorization: Bearer abc\r\n" in server.asked[0]


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://[::1]", "::1", 80, ""),
        ("https://[::1]/v1", "::1", 443, ""),
        ("http://[fe80::1%25eth0]:8000", "fe80::1%eth0", 8000, ""),
        (" localhost:8000/v1/ ", "localhost", 8000, ""),
        ("HTTP://Host/a/v1", "host", 80, "/a"),
    ],
)
def test_addresses(url: str, host: str, port: int, path: str) -> None:
    found = address_of(url)
    assert (found.host, found.port, found.path) == (host, port, path)
    connection = http.client.HTTPConnection(found.host, found.port)
    assert (connection.host, connection.port) == (host, port), "as the library takes it"


NO_ADDRESSES = [
    "",
    "http://",
    "http://h:0",
    "http://h:x",
    "http://h/ü",
    "http://h/a b",
    "http://h#x",
    "http://h?x",
    "ftp://h",
]
NO_ADDRESSES += [
    "http://a..b",
    "http://" + "a" * 70,
    "http://h/\na",
    "http://\x00",
    "http://%0a",
    "http://u:p@h",
    "http://[::1",
]


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_no_addresses(url: str) -> None:
    with pytest.raises(ConfigError, match="is not the address of a server"):
        address_of(url)
