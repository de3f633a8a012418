"""A server that speaks OpenAI's API: questions and chat requests as streams. Only the standard library."""

from __future__ import annotations

import http.client
import os
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from gemma_trace._version import __version__
from gemma_trace.errors import CaptureError, ConfigError
from gemma_trace.foreign import UnreadableValueError, decoded, text
from gemma_trace.served.payloads import Payload
from gemma_trace.served.record import ClientRequest

MAX_ANSWER_BYTES: Final = 64 << 20
MAX_LINE_BYTES: Final = 4 << 20
KEY_VARIABLE: Final = "GEMMA_TRACE_API_KEY"
"""The environment variable whose value is sent as the bearer token, if it is set."""

_SHOWN: Final = 200


class ServerError(CaptureError):
    """What a server answers is no answer; the message is one line.

    Attributes:
        status: HTTP's; 0 where there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """An answer that is no stream."""

    status: int
    body: bytes


class Server:
    """A server's address, and what can be asked of it.

    Args:
        url: http or https; what stands behind the port is kept, but for `/v1`.
        timeout_s: how long it may say nothing.

    Raises:
        ConfigError: the URL is none of a server's.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        try:
            parts = urlsplit(url if "//" in url else f"http://{url}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urlsplit("")
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.username is not None:
            raise ConfigError("--server is no address of a server; give e.g. --server http://127.0.0.1:8000")
        self._secure, self._host, self._port = parts.scheme == "https", host, port
        self._path = parts.path.rstrip("/").removesuffix("/v1")
        self.timeout_s = timeout_s

    def ask(self, method: str, path: str, body: Any = None, timeout_s: float | None = None) -> Answer:
        """Ask something that isn't a stream.

        Args:
            timeout_s: how long it may say nothing; None is as always.

        Raises:
            ServerError: there is no answer.
        """
        with self._asked(method, path, body, {}, timeout_s) as response:
            return Answer(response.status, response.read(MAX_ANSWER_BYTES))

    def chat(self, payload: Payload, model: str, max_tokens: int, extra: dict[str, Any]) -> ClientRequest:
        """Send a chat request, and note when each piece of its answer comes. An error is a part of the result."""
        body = {
            "model": model,
            "messages": payload.messages,
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **extra,
        }
        seen = _Seen(payload)
        try:
            with self._asked(
                "POST", "/v1/chat/completions", body, {"X-Request-Id": payload.id}, None, seen
            ) as response:
                if response.status != 200:
                    seen.error = refusal(response.status, response.read(MAX_LINE_BYTES))
                else:
                    seen.read(response)
        except ServerError as error:
            seen.error = str(error)
        return seen.request()

    @contextmanager
    def _asked(
        self,
        method: str,
        path: str,
        body: Any,
        headers: dict[str, str],
        timeout_s: float | None,
        seen: _Seen | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        timeout_s = timeout_s or self.timeout_s
        if self._secure:
            context = ssl.create_default_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout_s, context=context
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        sent_headers = {"User-Agent": f"gemma-trace/{__version__}", **headers}
        if key := os.environ.get(KEY_VARIABLE):
            sent_headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else msgspec.json.encode(body)
        if data is not None:
            sent_headers["Content-Type"] = "application/json"
        try:
            connection.connect()
            if seen is not None:
                seen.begin()
            connection.request(method, self._path + path, data, sent_headers)
            yield connection.getresponse()
        except TimeoutError:
            raise ServerError(f"the server said nothing for {timeout_s:g} s; see its log, or give --timeout") from None
        except ConnectionRefusedError:
            raise ServerError("no server listens at --server; start it, and check the port") from None
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"the connection to the server broke ({_why(error)}); see its log") from None
        finally:
            connection.close()


def _why(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "it ended in the middle of an answer"
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())[:_SHOWN]


class _Seen:
    """What a client sees of one request, while it does."""

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self._token_ns: list[int] = []
        self._prompt_tokens = self._output_tokens = 0
        self.error = ""
        self.begin()

    def begin(self) -> None:
        """The request is sent now."""
        self._sent_unix_ns, self._sent_ns = time.time_ns(), time.perf_counter_ns()

    def read(self, response: http.client.HTTPResponse) -> None:
        """Read the stream to its end."""
        ended = False
        while not ended and (line := response.readline(MAX_LINE_BYTES)):
            now_ns = time.perf_counter_ns()
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            ended = data == b"[DONE]"
            if not ended:
                self._take(data, now_ns)
        if not ended and not self.error:
            self.error = "the server ended its answer before it was whole; see its log"

    def _take(self, data: bytes, now_ns: int) -> None:
        try:
            chunk = decoded(data, dict[str, Any])
        except UnreadableValueError:
            self.error = "the server's stream is no JSON; is it an OpenAI-compatible server?"
            return
        if chunk.get("error"):
            self.error = f"the server broke off: {said(chunk)}"
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self._prompt_tokens = _count(usage.get("prompt_tokens"))
            self._output_tokens = _count(usage.get("completion_tokens"))
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            delta = choice.get("delta") if isinstance(choice, dict) else None
            if isinstance(delta, dict) and _is_token(delta):
                self._token_ns.append(now_ns - self._sent_ns)

    def request(self) -> ClientRequest:
        """What was seen; the answer is over now."""
        done_ns = time.perf_counter_ns() - self._sent_ns
        return ClientRequest(
            self._payload.id,
            self._payload.label,
            self._sent_unix_ns,
            tuple(self._token_ns[: self._output_tokens or None]),  # a last piece may have nothing in it
            done_ns,
            self._prompt_tokens,
            self._output_tokens,
            self.error,
        )


def _is_token(delta: dict[str, Any]) -> bool:
    """Whether a piece of an answer has come of a token. Its text may be empty, unless it only says who speaks."""
    texts = [delta[key] for key in ("content", "reasoning_content", "reasoning") if isinstance(delta.get(key), str)]
    return any(texts) or bool(texts and not delta.get("role"))


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 2**31 else 0


def refusal(status: int, body: bytes) -> str:
    """What a server says where it answers with an error, in one line."""
    try:
        told = said(decoded(body[:MAX_LINE_BYTES], dict[str, Any]))
    except UnreadableValueError:
        told = body[:1000].decode("utf-8", "replace")
    told = " ".join(told.split())[:_SHOWN]
    return f"the server answers {status}{': ' if told else ''}{told}; see its log"


def said(answer: dict[str, Any]) -> str:
    """The message of an error."""
    error = answer.get("error") or answer.get("detail") or answer.get("message") or ""
    message = error.get("message", "") if isinstance(error, dict) else error
    return " ".join(text(message).split())[:_SHOWN]
