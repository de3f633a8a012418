"""Findings about what a file holds that nobody else should see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from gemma_trace.health.findings import Finding, Severity
from gemma_trace.trace.secrets import scan_secrets


def secret_findings(path: Path, on_bytes: Callable[[int], None] | None = None) -> Iterator[Finding]:
    """Tokens, keys and passwords in a trace file's text; none is shown.

    Args:
        on_bytes: hears how many bytes of the file were read, each time some are.
    """
    found = scan_secrets(path, on_bytes)
    if found:
        kinds = ", ".join(f"{kind} ({count:,} times)" for kind, count in sorted(found.items()))
        yield Finding(
            "secrets",
            Severity.WARNING,
            found.total(),
            f"this file contains what looks like a secret: {kinds}",
            "blank it before you share it: gemma-trace export --redact writes a copy without it; and have it revoked",
        )
