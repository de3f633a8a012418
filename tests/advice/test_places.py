"""Where a finding lies: the layer, the op and the line that most of its work is in."""

from __future__ import annotations

from pathlib import Path

from gemma_trace.advice.advise import advise
from gemma_trace.advice.places import Place
from tests.trace_builder import TraceBuilder

MS = 1_000_000


def copies(*layers: str, stacks: bool = True) -> TraceBuilder:
    """A prefill whose layers each make a tensor contiguous for 9 ms, in a line of the model's."""
    built = TraceBuilder().range("request", 0, 100 * MS).range("prefill", 0, 90 * MS)
    for place, layer in enumerate(layers):
        at = 10 * place * MS
        built.range(f"gemma_trace::layer::{layer}", at, 10 * MS)
        if stacks:
            built.frame("models/gemma3/modeling_gemma3.py(42): forward", at, 10 * MS)
            built.frame("torch/_tensor.py(7): contiguous", at, 10 * MS)
        built.op("aten::contiguous", at, 9 * MS).op("aten::clone", at, 8 * MS)
    return built


def place(built: TraceBuilder, folder: Path) -> Place:
    (finding,) = [each for each in advise(built.load(folder)).findings if each.rule == "layout_copies"]
    return finding.place


def test_layers_that_differ_in_their_number_alone_are_of_one_kind(tmp_path: Path) -> None:
    line = "models/gemma3/modeling_gemma3.py(42): forward"
    assert place(copies("text.layers.0", "text.layers.1"), tmp_path) == Place("text.layers.*", "aten::clone", line)
    assert place(copies("text.layers.3"), tmp_path).layer == "text.layers.3"
    assert place(copies("text.layers.3", stacks=False), tmp_path).line == ""
    # Five kinds with a fifth each: it lies in none of them.
    assert place(copies("a", "b", "c", "d", "e"), tmp_path).layer == ""


def test_a_page_says_it_without_folders() -> None:
    assert Place("l.*", "aten::mm", "/home/me/models/a.py(42): forward").short == "l.*, aten::mm, a.py(42): forward"
    assert Place(line="C:\\me\\a.py(1): f").short == "a.py(1): f"
    assert Place(op="aten::mm").short == "aten::mm"
    assert Place().short == ""


def test_an_activity_lies_where_it_was_launched(tmp_path: Path) -> None:
    built = copies("text.layers.0").launch(1, 2 * MS, 9000).kernel("nchwToNhwcKernel", 20 * MS, 30 * MS, correlation=1)
    built.span("cuda_runtime", "cudaDeviceSynchronize", 15 * MS, 40 * MS)
    assert place(built, tmp_path).op == "aten::clone"
    unlinked = TraceBuilder().range("request", 0, 100 * MS).kernel("nchwToNhwcKernel", 20 * MS, 30 * MS)
    unlinked.span("cuda_runtime", "cudaDeviceSynchronize", 15 * MS, 40 * MS)
    assert place(unlinked, tmp_path) == Place()
