"""Servers that go on for ever, however slowly: the time that they have is over, and the tokens that came are kept."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from gemma_trace.served.api import KEY_VARIABLE, Server, ServerError
from tests.served.test_api import DONE, PAYLOAD, STREAM, asked, event, head, scripted, whole_request

EVERY_S = 0.02
TIMEOUT_S = 1.0


@contextmanager
def dripping(first: bytes, drop: bytes, most: int = 1 << 30) -> Iterator[Server]:
    """A server that answers with some bytes at once and then with the same ones again and again."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        try:
            with connection:
                whole_request(connection)
                connection.sendall(first)
                for _ in range(most):
                    if ended.wait(EVERY_S):
                        return
                    connection.sendall(drop)
        except OSError:
            pass  # the client has gone

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{listener.getsockname()[1]}", TIMEOUT_S)
    finally:
        ended.set()
        thread.join()
        listener.close()


CHUNKED = head("200 OK", "Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("first", "drop", "tokens", "said"),
    [
        (b"HTTP/1.1 200 O", b"K", 0, "sent no whole answer"),
        (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n", 0, "sent no whole answer"),
        (b"HTTP/1.1 200 OK\r\na: ", b"b", 0, "sent no whole answer"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0, "sent no whole answer"),
        (head("500 Error"), b"x", 0, "sent no whole answer"),
        (STREAM + event(), b"x", 1, "sent no token"),
        (STREAM + event() + b"data: ", b"x", 1, "sent no token"),
        (STREAM + event(), b": keepalive\n\n", 1, "sent no token"),
        (STREAM + event(), event(None), 1, "sent no token"),
        (CHUNKED + b"%x\r\n%s\r\n" % (len(event()), event()), b"0", 1, "sent no token"),
        (CHUNKED + b"ffffffff\r\n" + event(), b" ", 1, "sent no token"),
        (CHUNKED + b"%x\r\n%s\r\n0\r\n" % (len(event()), event()), b"a: b\r\n", 1, "sent no token"),
    ],
    ids=[
        *("status", "headers", "header", "continue", "error", "line", "data", "comments", "events", "chunk-length"),
        *("chunk", "trailers"),
    ],
)
def test_for_ever(first: bytes, drop: bytes, tokens: int, said: str) -> None:
    with dripping(first, drop) as server:
        request = server.chat(PAYLOAD, "tiny", 3, {})
    assert request.error == f"the server {said} for {TIMEOUT_S:g} s; see its log, or give timeout_s="
    assert len(request.token_ns) == tokens


def test_an_answer_that_is_no_stream_for_ever() -> None:
    endless = dripping(head("200 OK", "Content-Length: 1000000"), b"x")
    with endless as server, pytest.raises(ServerError, match=r"sent no whole answer for 1 s"):
        server.ask("GET", "/v1/models")


def test_slow_tokens_are_no_fault() -> None:
    """All together they take longer than the server has for each."""
    with dripping(STREAM, event(), most=60) as server:
        request = server.chat(PAYLOAD, "tiny", 60, {})
    assert (request.error[:30], len(request.token_ns)) == ("the server ended its answer to", 60)
    assert request.done_ns > TIMEOUT_S * 1e9


def test_an_error_ends_the_answer() -> None:
    """Though the server goes on."""
    with dripping(STREAM + event() + b'data: {"error": {"message": "out of memory"}}\n\n', event()) as server:
        request = server.chat(PAYLOAD, "tiny", 3, {})
    assert (request.error, len(request.token_ns)) == ("the server stopped with an error: out of memory", 1)


def test_tokens_for_ever() -> None:
    request = asked(STREAM + event() * 3000 + DONE)
    assert request.error == "the server does not stop: it has sent over 1,012 pieces of text; see its log"
    assert len(request.token_ns) == 1013


def choices(*each: Mapping[str, object]) -> bytes:
    return b"data: " + json.dumps({"choices": each}).encode() + b"\n\n"


ENDS = choices({"index": 0, "delta": {}, "finish_reason": "stop"})


@pytest.mark.parametrize(
    ("stream", "tokens", "error"),
    [
        (event() + ENDS, 1, ""),
        (event() + event(""), 2, "the server ended its answer too early"),
        (choices({"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}) + DONE, 1, ""),
        (event() + choices({"index": 1, "delta": {"content": "b"}}) + DONE, 1, ""),
        (choices(*[{"delta": {"content": "a"}}] * 3) + DONE, 1, ""),
        (event() + event("", usage={"completion_tokens": 1}) + DONE, 1, ""),
        (event() + event("") + DONE, 2, ""),
        (event() + choices({"index": 0, "delta": {"content": ""}, "finish_reason": "length"}) + DONE, 1, ""),
        (event() * 5 + event(None, usage={"completion_tokens": 2}) + DONE, 5, ""),
        (event() * 2 + event(None, usage={"completion_tokens": 9}) + DONE, 2, ""),
        (b"<!DOCTYPE html>\n<html>data: nothing</html>", 0, "the server answers with a web page; check that"),
        (b'{"choices": [{"message": {"content": "a"}}]}\n', 0, "the server sends its answer at once"),
    ],
    ids=[
        *("no-done", "cut", "several-choices", "another-choice", "copies", "empty-end", "empty-piece"),
        *("empty-end-uncounted", "fewer-counted", "more-counted", "page", "whole"),
    ],
)
def test_what_counts(stream: bytes, tokens: int, error: str) -> None:
    request = asked(STREAM + stream)
    assert len(request.token_ns) == tokens
    assert request.error.startswith(error)
    assert bool(request.error) == bool(error)


def test_a_token_that_a_server_repeats_is_kept_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "a-secret-key")
    refused = asked(head("401 Unauthorized") + b'{"error": {"message": "no such key: a-secret-key"}}')
    assert refused.error == "the server answers 401: no such key: ***; set GEMMA_TRACE_API_KEY to its token"
    broken_off = asked(STREAM + b'data: {"error": "a-secret-key"}\n\n')
    assert broken_off.error == "the server stopped with an error: ***"
    with scripted(head("200 OK") + b'{"data": [{"id": "a-secret-key"}]}') as server:
        assert b"secret" not in Server(f"http://127.0.0.1:{server.port}", 5).ask("GET", "/v1/models").body


def test_a_server_that_knows_no_stream_options() -> None:
    """It is asked again without, and so is all that follows."""
    refuses = head("422 Unprocessable", "Connection: close") + b'{"detail": "extra field: stream_options"}'
    with scripted(refuses) as server:
        request = Server(f"http://127.0.0.1:{server.port}", 5).chat(PAYLOAD, "tiny", 3, {})
        assert [b"stream_options" in body for body in server.asked] == [True, False]
    assert request.error.startswith("the server answers 422: extra field")
