"""How a run's requests were run, without what was sent: runs of the same settings differ in their requests alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gemma_trace.metadata import RunMetadata

Settings = tuple[tuple[str, str], ...]
"""The options of a capture that say how a request is run, by name."""

_ASIDE: Final = frozenset(
    {
        *("images", "image_sizes", "images_per_request", "requests", "shuffle", "online", "prompt", "system"),
        *("prompt_tokens", "new_tokens", "runs", "warmup", "profile_runs", "seed"),
        *("detail", "stacks", "shapes", "memory"),
    }
)
"""Options that say what is sent, how often, and what the profiler records of it."""

_PLAIN: Final = frozenset({"model", "weights", "dtype", "device", "image_backend"})
"""Options whose values speak for themselves."""


def settings_of(metadata: RunMetadata | None) -> Settings:
    """How a run's requests were run; nothing is known of a trace that isn't ours."""
    if metadata is None:
        return ()
    told = metadata.config | {"weights": metadata.run.weights, "model": metadata.run.model}
    return tuple(sorted((name, str(value)) for name, value in told.items() if name not in _ASIDE))


def told_apart(all_settings: Sequence[Settings]) -> list[str]:
    """A name for each of these: what differs among them, and of a single one what it is."""
    told = [dict(settings) for settings in all_settings]
    names = dict.fromkeys(name for settings in told for name in settings)
    differing = [name for name in names if len({settings.get(name) for settings in told}) > 1]
    shown = differing or [name for name in names if name in _PLAIN]
    return [
        ", ".join(
            settings[name] if name in _PLAIN else f"{name} {settings[name]}" for name in shown if name in settings
        )
        for settings in told
    ]
