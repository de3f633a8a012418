"""Findings about what a file holds that nobody else should see."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from gemma_trace.health.findings import Finding, Health, Severity
from gemma_trace.trace.secret_scan import SecretScanner, scan_secrets
from gemma_trace.trace.secrets import find_secrets

MASK: Final = "<secret>"
_REMEMBERED: Final = 10_000
_SHORTEST_PART: Final = 6


def without_secrets(health: Health, path: Path, on_bytes: Callable[[int], None] | None = None) -> tuple[Health, Mask]:
    """A trace's findings with one about the secrets in its file, and with none of them in any message.

    Args:
        on_bytes: hears how many bytes of the file were read, each time some are.

    Returns:
        The findings, and what takes secrets out of other texts about the trace.
    """
    secrets = scan_secrets(path, on_bytes, keep=_REMEMBERED)
    mask = Mask(secrets.values)
    masked = [replace(each, message=mask(each.message), advice=mask(each.advice)) for each in health.findings]
    return Health(tuple(masked)).plus(secret_findings(secrets)), mask


def secret_findings(scanner: SecretScanner) -> Iterator[Finding]:
    """Tokens, keys and passwords in a trace file's text, by kind; none is shown."""
    if scanner.passed_over:
        yield Finding(
            "secrets_not_searched",
            Severity.WARNING,
            scanner.passed_over,
            f"{scanner.looked_at + scanner.passed_over:,} places of this file may begin a token, a key or a password; "
            f"the last {scanner.passed_over:,} of them were not looked at",
            "no trace has so many: find out what wrote them before you share the file",
        )
    if not scanner.counts:
        return
    kinds = sorted(scanner.counts.items(), key=lambda item: (-item[1], item[0]))
    told = [_article(kind) + (f" ({count:,} times)" if count > 1 else "") for kind, count in kinds]
    listed = ", ".join(told[:-1]) + " and " + told[-1] if len(told) > 1 else told[0]
    yield Finding(
        "secrets",
        Severity.WARNING,
        scanner.counts.total(),
        f"this file contains what looks like {listed}",
        "do not share the file as it is: gemma-trace export --redact writes a copy without it; and revoke it",
    )


class Mask:
    """Takes secrets out of what is printed, also where a message cut them short.

    Args:
        values: those that were found in the file.
    """

    def __init__(self, values: Collection[str]) -> None:
        self._values = sorted(values, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text with a mark for every secret, and for what is left of one."""
        for secret in reversed(find_secrets(text)):
            text = text[: secret.start] + MASK + text[secret.end :]
        for value in self._values:
            text = text.replace(value, MASK) if len(value) >= _SHORTEST_PART else text
            while (place := text.find(value[:_SHORTEST_PART])) >= 0 and len(value) >= _SHORTEST_PART:
                end = place + _SHORTEST_PART
                while end < len(text) and end - place < len(value) and text[end] == value[end - place]:
                    end += 1
                text = text[:place] + MASK + text[end:]
        return text


def _article(kind: str) -> str:
    if kind == "credentials":
        return kind
    return f"{'an' if kind[0] in 'AEIOaeio' or kind.startswith('NVIDIA') else 'a'} {kind}"
