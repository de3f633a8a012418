"""What a server says where it gives no answer, in one line."""

from __future__ import annotations

from typing import Any, Final

from gemma_trace.foreign import UnreadableValueError, decoded, text

_MOST_READ_BYTES: Final = 4 << 20
_SHOWN: Final = 200
_ADVICE: Final = {
    401: "set GEMMA_TRACE_API_KEY to its token",
    403: "set GEMMA_TRACE_API_KEY to its token",
    429: "lower --concurrency or --rate",
}
"""What to do where a status says it; else the server's log does."""


def refusal(status: int, body: bytes) -> str:
    """What an answer with an error says.

    Args:
        status: HTTP's.
    """
    if 300 <= status < 400:
        return f"the server answers {status}: it redirects, which is not followed; give --server the new address"
    try:
        told = said(decoded(body[:_MOST_READ_BYTES], dict[str, Any]))
    except UnreadableValueError:
        told = "" if body.lstrip()[:1] == b"<" else body[:1000].decode("utf-8", "replace")  # a page for browsers
    told = one_line(told)
    advice = _ADVICE.get(status, "see its log")
    return f"the server answers {status}{': ' if told else ''}{told}; {advice}"


def said(answer: dict[str, Any]) -> str:
    """The message of an error."""
    error = answer.get("error") or answer.get("detail") or answer.get("message") or ""
    message = error.get("message", "") if isinstance(error, dict) else error
    return one_line(text(message))


def one_line(told: str) -> str:
    """The beginning of a text, in one line."""
    return " ".join(told.split())[:_SHOWN]
