"""The stream of an answer (server-sent events), and what a client sees of its request in it, while it does."""

from __future__ import annotations

import http.client
import time
from typing import Any, Final

from gemma_trace.foreign import UnreadableValueError, decoded
from gemma_trace.served.patience import Patience
from gemma_trace.served.payloads import Payload
from gemma_trace.served.record import ClientRequest
from gemma_trace.served.refusal import said

MAX_EVENT_BYTES: Final = 4 << 20

_MOST_PIECES: Final = 1000
"""A server that sends so many pieces more than a few for each token doesn't stop."""

_NO_JSON: Final = "the server's stream is not JSON; check that the server is OpenAI-compatible"
_WHOLE: Final = "the server sends its answer at once instead of streaming it, so its time to first token is unknown"
_PAGE: Final = "the server answers with a web page; check that --server is the address of an OpenAI-compatible server"
_CUT: Final = "the server ended its answer too early; see its log"


class Seen:
    """What a client sees of one request.

    Args:
        patience: how long the server has for each piece of text.
        max_tokens: how many tokens it was asked for.

    Attributes:
        request_id: what the request is called.
        error: why it has no answer, or a part of one; "" for nothing.
    """

    def __init__(self, payload: Payload, patience: Patience, max_tokens: int) -> None:
        self._payload, self._patience = payload, patience
        self._most_pieces = _MOST_PIECES + 4 * max_tokens
        self._is_finished = self._last_is_empty = self._last_finishes = False
        self._token_ns: list[int] = []
        self._prompt_tokens = self._output_tokens = 0
        self._pending = b""
        self.request_id, self.error = payload.id, ""
        self._broken_off = False
        self.begin()

    def begin(self) -> None:
        """The request is sent now."""
        self._sent_unix_ns, self._sent_ns = time.time_ns(), time.perf_counter_ns()

    def read(self, response: http.client.HTTPResponse) -> None:
        """Read the stream until it says that it is over.

        Raises:
            LateError: no piece of text comes in time.
        """
        first = b""
        self._patience.renew("token")
        while line := response.readline(MAX_EVENT_BYTES):
            now_ns = time.perf_counter_ns()
            name, _, data = line.strip().partition(b":")
            first = first or line.strip()
            if name == b"data":
                if data.strip() == b"[DONE]":
                    self._end()
                    return
                self._take(data.strip(), now_ns)
                if self._broken_off:
                    return
            elif not name and not data and self._pending:  # an event ends at an empty line
                self._fail(_NO_JSON)
                self._pending = b""
            self._patience.check()
        if self._is_finished:
            self._end()
        else:
            self._fail(_unlike_a_stream(first) or (_NO_JSON if self._pending else _CUT))

    def _end(self) -> None:
        if not self._token_ns:
            self._fail("the server's answer has no text in it, so it has no first token")

    def _fail(self, error: str) -> None:
        """The first error is the one that says why."""
        self.error = self.error or error

    def _take(self, data: bytes, now_ns: int) -> None:
        """Take a line of data: an event, or a part of one that has several."""
        data = self._pending + b"\n" + data if self._pending else data
        try:
            chunk = decoded(data, dict[str, Any])
        except UnreadableValueError:
            if len(data) >= MAX_EVENT_BYTES:
                self._fail(_NO_JSON)
                data = b""
            self._pending = data
            return
        self._pending = b""
        if chunk.get("error") or chunk.get("object") == "error":
            self._fail(f"the server stopped with an error: {said(chunk)}")
            self._broken_off = True
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self._prompt_tokens = _count(usage.get("prompt_tokens"))
            self._output_tokens = _count(usage.get("completion_tokens"))
        choices = chunk.get("choices")
        ours = [each for each in choices if _is_ours(each)] if isinstance(choices, list) else []
        self._is_finished |= any(choice.get("finish_reason") for choice in ours)
        deltas = [choice["delta"] for choice in ours if isinstance(choice.get("delta"), dict)]
        if any(map(_is_token, deltas)):
            self._token_ns.append(now_ns - self._sent_ns)
            self._last_is_empty = not any(map(_texts, deltas))
            self._last_finishes = any(choice.get("finish_reason") for choice in ours)
            self._patience.renew("token")
        if len(self._token_ns) > self._most_pieces:
            self._fail(f"the server does not stop: it has sent over {self._most_pieces:,} pieces of text; see its log")
            self._broken_off = True

    def _has_empty_end(self) -> bool:
        """Whether the last piece only says that the answer is over, and came of no token."""
        counted = 0 < self._output_tokens < len(self._token_ns)
        return self._last_is_empty and (counted or (self._last_finishes and not self._output_tokens))

    def request(self) -> ClientRequest:
        """What was seen; the answer is over now."""
        done_ns = time.perf_counter_ns() - self._sent_ns
        return ClientRequest(
            self._payload.id,
            self._payload.label,
            self._sent_unix_ns,
            tuple(self._token_ns[:-1] if self._has_empty_end() else self._token_ns),
            done_ns,
            self._prompt_tokens,
            self._output_tokens,
            self.error,
        )


def _is_token(delta: dict[str, Any]) -> bool:
    """Whether a piece of an answer has come of a token. Its text may be empty, unless it only says who speaks."""
    return _texts(delta) or bool(_said(delta) and not delta.get("role"))


def _texts(delta: dict[str, Any]) -> bool:
    """Whether there is text in a piece of an answer."""
    return any(_said(delta))


def _said(delta: dict[str, Any]) -> list[str]:
    return [delta[key] for key in ("content", "reasoning_content", "reasoning") if isinstance(delta.get(key), str)]


def _is_ours(choice: Any) -> bool:
    """Whether a choice is of the one answer that was asked for."""
    return isinstance(choice, dict) and choice.get("index") in (None, 0)


def _unlike_a_stream(first: bytes) -> str:
    """What an answer is, by its first line, if it is none in pieces; "" where it may be one."""
    if first.startswith(b"<"):
        return _PAGE
    return _WHOLE if first.startswith(b"{") else ""


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 2**31 else 0
