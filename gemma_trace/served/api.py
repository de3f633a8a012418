"""A server that speaks OpenAI's API: questions and chat requests as streams. Only the standard library."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gemma_trace._version import __version__
from gemma_trace.errors import CaptureError, ConfigError
from gemma_trace.served.address import address_of
from gemma_trace.served.patience import LateError, Patience
from gemma_trace.served.payloads import Payload
from gemma_trace.served.record import ClientRequest
from gemma_trace.served.refusal import one_line, refusal
from gemma_trace.served.stream import MAX_EVENT_BYTES, Seen

MAX_ANSWER_BYTES: Final = 64 << 20
KEY_VARIABLE: Final = "GEMMA_TRACE_API_KEY"
"""The environment variable whose value is sent as the bearer token, if it is set."""

_UNKNOWN_MEMBER: Final = (400, 422)
"""The statuses of servers that refuse a member which they don't know."""


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
    """A server's address, and what can be asked of it: without a proxy, and without following it elsewhere.

    Args:
        url: http or https; what stands behind the port is kept, but for `/v1`.
        timeout_s: how long it has for an answer, or in a stream for each piece of text.

    Raises:
        ConfigError: the URL is none of a server's, or the token can't be sent.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._address = address_of(url)
        self._key = _key()
        self._headers = {"User-Agent": f"gemma-trace/{__version__}"}
        if self._key:
            self._headers["Authorization"] = f"Bearer {self._key}"
        self._asks_for_usage = True
        self.timeout_s = timeout_s

    def ask(self, method: str, path: str, body: Any = None, timeout_s: float | None = None) -> Answer:
        """Ask something that isn't a stream.

        Args:
            timeout_s: how long it has; None is as always.

        Raises:
            ServerError: there is no answer.
        """
        patience = Patience(timeout_s or self.timeout_s)
        with self._asked(method, path, body, {}, patience) as response:
            return Answer(response.status, self._without_key(response.read(MAX_ANSWER_BYTES)))

    def chat(self, payload: Payload, model: str, max_tokens: int, extra: dict[str, Any]) -> ClientRequest:
        """Send a chat request, and note when each piece of its answer comes. An error is a part of the result."""
        body = {
            "model": model,
            "messages": payload.messages,
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            **extra,
        }
        if self._asks_for_usage:
            body["stream_options"] = {"include_usage": True}
        patience = Patience(self.timeout_s)
        seen = Seen(payload, patience, max_tokens)
        try:
            refuses_usage = self._stream(body, patience, seen)
        except ServerError as error:
            seen.error, refuses_usage = str(error), False
        if refuses_usage:
            self._asks_for_usage = False
            return self.chat(payload, model, max_tokens, extra)
        seen.error = self._without_key(seen.error.encode("utf-8", "replace")).decode("utf-8", "replace")
        return seen.request()

    def _stream(self, body: dict[str, Any], patience: Patience, seen: Seen) -> bool:
        """Send a chat request and read its answer; True if the server doesn't know that usage can be asked for."""
        headers = {"X-Request-Id": seen.request_id, "Accept": "text/event-stream"}
        with self._asked("POST", "/v1/chat/completions", body, headers, patience, seen) as response:
            if response.status == 200:
                seen.read(response)
                return False
            told = self._without_key(response.read(MAX_EVENT_BYTES))
            seen.error = refusal(response.status, told)
            return "stream_options" in body and response.status in _UNKNOWN_MEMBER and b"stream_options" in told

    def _without_key(self, told: bytes) -> bytes:
        """What a server says, without our token in it: what it says may be shown, and written."""
        return told.replace(self._key.encode(), b"***") if self._key else told

    @contextmanager
    def _asked(
        self,
        method: str,
        path: str,
        body: Any,
        headers: dict[str, str],
        patience: Patience,
        seen: Seen | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection(patience.timeout_s)
        patience.on(connection)
        sent_headers = self._headers | headers
        data = None if body is None else msgspec.json.encode(body)
        if data is not None:
            sent_headers["Content-Type"] = "application/json"
        try:
            connection.connect()
            if seen is not None:
                seen.begin()
            patience.renew("whole answer")
            connection.request(method, self._address.path + path, data, sent_headers)
            response = connection.getresponse()
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise ServerError("the server compresses its answers although it was not asked to; turn that off")
            yield response
        except LateError as error:
            raise ServerError(str(error)) from None
        except (OSError, http.client.HTTPException, ValueError) as error:  # the last of a chunk of negative length
            raise ServerError(_broken(error, connection.timeout)) from None
        finally:
            connection.close()

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        host, port = self._address.host, self._address.port
        if self._address.secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
        return http.client.HTTPConnection(host, port, timeout=timeout_s)


def _key() -> str:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{KEY_VARIABLE} has characters that no token can have; set it again")
    return key


def _broken(error: Exception, timeout_s: float | None) -> str:
    """Why there is no answer, in one line."""
    if isinstance(error, TimeoutError):
        return f"the server sent nothing for {timeout_s:g} s; see its log, or give --timeout"
    if isinstance(error, ConnectionRefusedError):
        return "no server listens at --server; start it, and check the port"
    if isinstance(error, socket.gaierror):
        return f"the host of --server was not found ({_why(error)}); check its name"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the server's certificate isn't trusted ({error.verify_message}); name the file of its authority in "
            f"SSL_CERT_FILE"
        )
    if isinstance(error, ssl.SSLError):
        return f"the server at --server does not use TLS ({_why(error)}); try http:// instead of https://"
    return f"the connection to the server broke ({_why(error)}); see its log"


def _why(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "it ended in the middle of an answer"
    return one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)
