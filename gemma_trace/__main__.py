"""`python -m gemma_trace`."""

import sys

from gemma_trace.start import entry

sys.exit(entry())
