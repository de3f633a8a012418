"""A trace that takes more memory than is free is refused before it does."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from gemma_trace.errors import ConfigError, InputError
from gemma_trace.trace import budget
from gemma_trace.trace.reader import read_trace
from gemma_trace.trace.trace import load
from tests.trace.test_reader import event, text_of


def written(folder: Path, count: int, name: str = "op") -> Path:
    path = folder / "trace.json"
    path.write_text(text_of(*(event(name=name.format(index), ts=index) for index in range(count))))
    return path


def test_a_trace_that_takes_more_than_it_may_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, 40_000)
    monkeypatch.setenv(budget.VARIABLE, "0.01")
    with pytest.raises(InputError) as caught:
        read_trace(path)
    message = str(caught.value)
    assert message.startswith(f"{path} needs over 0.0 GB of memory (")
    assert message.endswith("or set GEMMA_TRACE_MEMORY_GB to the GB that it may use")
    assert "\n" not in message
    monkeypatch.setenv(budget.VARIABLE, "1")
    assert len(read_trace(path).events) == 40_000


def test_long_names_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, 8_000, "{}" + "x" * 2_000)
    monkeypatch.setenv(budget.VARIABLE, "0.012")  # 8,000 spans alone take 5.8 MB
    with pytest.raises(InputError, match="of memory"):
        read_trace(path)


def test_the_budget_is_what_is_free_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(budget.VARIABLE, raising=False)
    monkeypatch.setattr(budget, "available_bytes", lambda: 1_000)
    monkeypatch.setattr(budget, "group_limits_bytes", lambda: [500])
    assert budget.memory_budget_bytes() == 450
    monkeypatch.setenv(budget.VARIABLE, "2.5")
    assert budget.memory_budget_bytes() == 2_500_000_000


@pytest.mark.parametrize("given", ["lots", "-1", "1e9", "nan", "1GB"])
def test_a_budget_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(budget.VARIABLE, given)
    with pytest.raises(ConfigError, match="is a number of GB such as 8"):
        budget.memory_budget_bytes()


def test_a_span_takes_no_more_than_is_counted_for_it(tmp_path: Path) -> None:
    path = written(tmp_path, 30_000)
    tracemalloc.start()
    trace = load(path)
    trace.nesting, trace.segments, trace.asking_range  # noqa: B018
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    chunk_bytes = 30 * 2**20  # of a chunk's text and its decoded events, whatever the length of the file
    assert peak < 30_000 * budget.SPAN_BYTES + chunk_bytes
