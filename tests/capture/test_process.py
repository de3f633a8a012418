"""What the process of a capture says, and how it ends."""

from __future__ import annotations

import msgspec
import pytest

from gemma_trace.capture.process import Message, how_it_ended, said_in


def test_a_message_says_only_what_it_has_to_say() -> None:
    line = msgspec.json.encode(Message(phase="warm-up"))
    assert line == b'{"phase":"warm-up"}'
    assert said_in(line) == Message(phase="warm-up")


@pytest.mark.parametrize("line", [b"", b"Loading weights: 3/4", b"[1]", b"7", b'{"phase": 3}', b"\xff", b"[" * 100_000])
def test_what_a_library_prints_says_nothing(line: bytes) -> None:
    assert said_in(line) == Message()


@pytest.mark.parametrize(("code", "said"), [(-9, "memory ran out"), (-15, "ended by SIGTERM"), (3, "with code 3")])
def test_an_end_without_a_message_is_told_from_the_exit_code(code: int, said: str) -> None:
    assert said in how_it_ended(code)
