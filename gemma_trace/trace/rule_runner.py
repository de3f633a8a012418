"""Holds regular expressions against names, within bounds. Runs as a script of its own, and imports nothing of ours.

Reads `{"patterns": [[text, anywhere]], "names": [text], "limit_s": seconds}` and answers each pattern with a line: the
places of the names that match. A pattern that takes more processor time than its limit ends the process.
"""

from __future__ import annotations

import json
import re
import signal
import sys


def main() -> None:
    """Answer what stands on the standard input."""
    if hasattr(signal, "setitimer"):
        # Whether a signal is ignored or blocked is inherited from whoever started this process.
        signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGVTALRM])
    plan = json.load(sys.stdin)
    for pattern, anywhere in plan["patterns"]:
        # The processor time of this process, not the clock: a busy machine must not cut off a good rule.
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_VIRTUAL, plan["limit_s"])
        compiled = re.compile(pattern, re.DOTALL)
        matches = compiled.search if anywhere else compiled.fullmatch
        matching = [place for place, name in enumerate(plan["names"]) if matches(name)]
        print(json.dumps(matching), flush=True)


if __name__ == "__main__":
    main()
