"""The stream of an answer (server-sent events), and what a client sees of its request in it, while it does."""

from __future__ import annotations

import http.client
import time
from typing import Any, Final

from gemma_trace.foreign import UnreadableValueError, decoded
from gemma_trace.served.payloads import Payload
from gemma_trace.served.record import ClientRequest
from gemma_trace.served.refusal import said

MAX_EVENT_BYTES: Final = 4 << 20

_NO_JSON: Final = "the server's stream is not JSON; check that the server is OpenAI-compatible"
_WHOLE: Final = "the server sends its answer at once instead of streaming it, so its time to first token is unknown"
_CUT: Final = "the server ended its answer too early; see its log"


class Seen:
    """What a client sees of one request.

    Args:
        patience_s: how long a stream may have nothing but comments in it.
    """

    def __init__(self, payload: Payload, patience_s: float) -> None:
        self._payload, self._patience_s = payload, patience_s
        self._token_ns: list[int] = []
        self._prompt_tokens = self._output_tokens = 0
        self._pending = b""
        self.error = ""
        self.begin()

    def begin(self) -> None:
        """The request is sent now."""
        self._sent_unix_ns, self._sent_ns = time.time_ns(), time.perf_counter_ns()

    def read(self, response: http.client.HTTPResponse) -> None:
        """Read the stream until it says that it is over."""
        told_ns, first = time.perf_counter_ns(), b""
        while line := response.readline(MAX_EVENT_BYTES):
            now_ns = time.perf_counter_ns()
            name, _, data = line.strip().partition(b":")
            first = first or name
            if name == b"data":
                told_ns = now_ns
                if data.strip() == b"[DONE]":
                    self._end()
                    return
                self._take(data.strip(), now_ns)
            elif not name and not data and self._pending:  # an event ends at an empty line
                self._fail(_NO_JSON)
                self._pending = b""
            if now_ns - told_ns > self._patience_s * 1e9:
                self._fail(f"the server sent no token for {self._patience_s:g} s; see its log, or give --timeout")
                return
        self._fail(_WHOLE if first.startswith(b"{") else _NO_JSON if self._pending else _CUT)

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
