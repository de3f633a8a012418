"""`python -m gemma_trace`."""

import sys

from gemma_trace.cli import entry

sys.exit(entry())
