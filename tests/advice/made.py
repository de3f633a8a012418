"""What traces that are built for rules say of their capture."""

from __future__ import annotations

from typing import Final

from gemma_trace.metadata import Environment, RunIdentity, RunMetadata, Workload

METADATA: Final = RunMetadata(
    schema_version=1,
    created_utc="",
    run=RunIdentity("run", "tiny", "random", "bfloat16", "cpu", "torchvision"),
    workload=Workload((), (), 1),
    environment=Environment("0", "3", "2", None, "5", "", "A CPU", 2, 1, 2, "A CPU", cpu_bfloat16=True),
    config={"model": "tiny", "device": "cpu", "dtype": "float32", "image_backend": "torchvision", "new_tokens": 1},
)
