"""Where the program begins: Ctrl-C ends it without a traceback while its command line is imported, too."""

from __future__ import annotations

import signal


def entry() -> int:
    """What the program `gemma-trace` runs.

    Returns:
        As `cli.main`.
    """
    handler = signal.getsignal(signal.SIGINT)
    is_pythons = handler is signal.default_int_handler  # where Ctrl-C is ignored it stays so
    if is_pythons:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from gemma_trace import cli

    if is_pythons:
        signal.signal(signal.SIGINT, handler)
    return cli.entry()
