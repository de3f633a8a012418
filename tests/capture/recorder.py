"""A sink of ranges that writes down what it hears."""

from __future__ import annotations


class Recorder:
    """Writes names down, indented by depth; those of one thread at a time."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.depth = 0

    def begin(self, name: str) -> None:
        self.heard.append("  " * self.depth + name.removeprefix("gemma_trace::"))
        self.depth += 1

    def end(self) -> None:
        self.depth -= 1
        assert self.depth >= 0

    @property
    def text_stages(self) -> list[str]:
        """The stages of the text model, in order."""
        stages = [name.strip() for name in self.heard]
        return [stage for stage in stages if stage in ("prefill", "decode", "sampling")]
