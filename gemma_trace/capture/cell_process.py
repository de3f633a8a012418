"""One cell of a sweep, in a process of its own: options in as JSON, progress out as a JSON object a line.

python -m gemma_trace.capture.cell_process < options.json
"""

from __future__ import annotations

import sys

import msgspec

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.imports import imports_timed
from gemma_trace.capture.one_line_errors import as_capture_error
from gemma_trace.capture.process import Message
from gemma_trace.errors import GemmaTraceError
from gemma_trace.signals import cleared_up_on_signals
from gemma_trace.wording import speaking_of_options


class _Lines:
    """Progress as lines."""

    def phase(self, name: str, steps: int) -> None:
        """A phase begins."""
        if steps:
            say(Message(phase=name))

    def step(self) -> None:
        """Does nothing: one line per phase is enough."""


def say(message: Message) -> None:
    """Print a line for whoever started the process."""
    print(msgspec.json.encode(message).decode(), flush=True)


def main() -> int:
    """Run the capture that stdin describes.

    Returns:
        0 done, 1 it failed; why, the last line says.
    """
    with cleared_up_on_signals(), speaking_of_options():
        return _captured()


def _captured() -> int:
    given = sys.stdin.buffer.read()
    try:
        from gemma_trace.capture import require_capture_extra

        require_capture_extra()
        with imports_timed():
            from gemma_trace.capture.session import profile_run

        config = msgspec.json.decode(given, type=CaptureConfig, dec_hook=lambda kind, text: kind(text))
        result = profile_run(config, progress=_Lines())
    except GemmaTraceError as error:
        say(Message(error=str(error)))
        return 1
    except Exception as error:
        say(Message(error=str(as_capture_error(error))))
        return 1
    say(Message(trace=result.path.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
