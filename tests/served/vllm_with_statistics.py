"""vLLM's command, with its statistics of multimodal requests, for which it has a setting but no option.

It runs in vLLM's environment: python vllm_with_statistics.py serve MODEL …
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def main() -> Any:
    """Run vLLM's command."""
    arguments = import_module("vllm.engine.arg_utils").EngineArgs
    original = arguments.create_engine_config

    def create_engine_config(self: Any, *args: Any, **more: Any) -> Any:
        config = original(self, *args, **more)
        config.observability_config.enable_mm_processor_stats = True
        return config

    arguments.create_engine_config = create_engine_config
    return import_module("vllm.entrypoints.cli.main").main()


if __name__ == "__main__":
    sys.exit(main())
