from __future__ import annotations

from pathlib import Path

from gemma_trace.analysis.allocations import memory_use
from gemma_trace.report.tables.memory import memory_record, memory_tables
from tests.analysis.test_allocations import EVENTS, MemoryBuilder, request
from tests.report.test_definitions import defined, keys_of


def test_the_tables_by_hand(tmp_path: Path) -> None:
    built = request([(at, size * 1_000_000, address) for at, size, address in EVENTS])
    found = memory_use(built.memory(980, 8, device=-1).load(tmp_path))
    assert found is not None
    allocators, stages = (table.as_text() for table in memory_tables(found, {0: "A GPU"}))
    assert allocators.rows == (
        ("device 0", "1,140", "prefill", "0.000", "0.004", "0.001", "210.0", "10,000,000", "940.0"),
        ("host", "0.000", "unattributed", "0.001", "–", "–", "–", "–", "0.000"),
    )
    assert stages.title == "Memory by stage, device 0, A GPU"
    assert stages.rows[2] == ("prefill", "1,140", "█" * 20, "940.0", "340.0", "+210.0", "810.0", "600.0")
    assert stages.rows[3][5] == "-6.000"
    assert [row[0] for row in stages.rows] == [
        "transfer",
        "vision_tower",
        "prefill",
        "sampling",
        "decode",
        "unattributed",
    ]


def test_what_cannot_be_told_apart_is_said(tmp_path: Path) -> None:
    found = memory_use(request([(310, 200, 1), (320, 200, 1)]).load(tmp_path))
    assert found is not None
    allocators, stages = (table.as_text() for table in memory_tables(found, {}))
    assert (
        "device 0: cache and activations can't be told apart, because 1 event has no counterpart." in allocators.notes
    )
    assert "activations MB" not in [column.header for column in stages.columns]


def test_a_cache_that_is_not_found_is_said(tmp_path: Path) -> None:
    found = memory_use(request([(310, 200, 1), (320, -200, 1)]).load(tmp_path))
    assert found is not None
    assert any(note.startswith("No cache was found") for note in memory_tables(found, {})[0].notes)


def test_the_host_alone_has_its_stages(tmp_path: Path) -> None:
    built = MemoryBuilder()
    built.range("request", 0, 100).memory(10, 8, device=-1)
    found = memory_use(built.load(tmp_path))
    assert found is not None
    allocators, stages = (table.as_text() for table in memory_tables(found, {}))
    assert stages.title == "Memory by stage, host"
    assert not any("JSON" in note for note in allocators.notes)


def test_the_record_names_allocators(tmp_path: Path) -> None:
    found = memory_use(request(EVENTS).load(tmp_path))
    assert found is not None
    record = {kind: table.records() for kind, table in memory_record(found).items()}
    assert record["devices"][0]["allocator"] == "device 0"
    assert record["devices"][0]["caches"] == ({"request": 0, "cache_bytes": 210, "step_bytes": 10.0},)
    assert record["stages"][0]["stage"] == "transfer"
    assert "device" not in record["stages"][0]


def test_every_key_is_defined(tmp_path: Path) -> None:
    found = memory_use(request(EVENTS).load(tmp_path))
    assert found is not None
    assert set(keys_of({kind: table.records() for kind, table in memory_record(found).items()})) <= defined("stages")
