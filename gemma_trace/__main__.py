"""`python -m gemma_trace`."""

import sys

from gemma_trace.cli import main

sys.exit(main())
