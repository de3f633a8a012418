from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.api import Trace, load
from gemma_trace.sql.schema import TRACE_TABLES
from gemma_trace.sql.trace_tables import trace_table
from gemma_trace.store.columns import StoreTable
from tests.store.traces import built
from tests.trace_builder import TraceBuilder


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    return load(built(tmp_path / "run.json.gz"))


@pytest.mark.parametrize("table", TRACE_TABLES.values(), ids=TRACE_TABLES)
def test_a_tables_columns_are_those_that_are_declared(table: StoreTable, trace: Trace) -> None:
    import pyarrow as pa

    found = trace_table(trace, table.name)
    assert found.column_names == table.keys
    for column in table.columns:
        kind = found.schema.field(column.key).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        assert kind == pa.type_for_alias(column.type), column.key
        assert column.is_optional or found[column.key].null_count == 0, column.key
        assert column.definition
        if column.unit == "ns":
            assert (column.type, column.key[-3:]) == ("int64", "_ns")


def test_times_and_codes_are_not_copied(trace: Trace) -> None:
    spans = trace_table(trace, "spans")
    for key, column in (("ts_ns", trace.spans.ts_ns), ("dur_ns", trace.spans.dur_ns)):
        assert spans[key].chunk(0).buffers()[1].address == column.ctypes.data
    assert spans["name"].chunk(0).indices.buffers()[1].address == trace.spans.name.ctypes.data


def test_activities_are_joined_with_their_launches_and_ops(trace: Trace) -> None:
    found = trace.sql(
        "SELECT a.name, a.dur_ns, a.stage, a.family, a.request, a.ts_ns - l.ts_ns AS latency_ns, o.name AS op "
        "FROM activities a JOIN launches l ON l.span = a.launch_span JOIN ops o ON o.span = a.op_span ORDER BY a.ts_ns"
    )
    assert found.values.tolist() == [
        ["conv", 100, "vision_tower", "convolution", 0, 15, "aten::conv"],
        ["gemm", 60, "prefill", "gemm", 0, 15, "aten::gemm"],
        ["gemm", 70, "prefill", "gemm", 0, 15, "aten::gemm"],
        ["softmax", 30, "prefill", "softmax", 0, 15, "aten::softmax"],
        ["gemm", 20, "decode", "gemm", 0, 15, "aten::gemm"],
    ]


def test_an_ops_self_time_is_what_nothing_inside_it_takes(tmp_path: Path) -> None:
    builder = TraceBuilder().range("request", 0, 1_000).range("prefill", 10, 900)
    builder.op("aten::linear", 100, 500).op("aten::mm", 150, 300).launch(1, 200, 50).kernel("k", 260, 9, correlation=1)
    trace = load(builder.write(tmp_path / "x.json.gz"))
    found = trace.sql("SELECT name, dur_ns, self_ns, stage, module FROM ops ORDER BY ts_ns")
    assert found[["name", "dur_ns", "self_ns", "stage"]].values.tolist() == [
        ["aten::linear", 500, 200, "prefill"],
        ["aten::mm", 300, 250, "prefill"],
    ]
    assert found.module.isna().all()


def test_what_is_absent_is_null_and_integers_stay_integers(trace: Trace) -> None:
    found = trace.sql("SELECT correlation, stream FROM spans WHERE role = 'annotation'")
    assert len(found) > 0
    assert found.isna().all(axis=None)
    assert str(trace.sql("SELECT sum(dur_ns) AS sum_ns FROM spans").sum_ns.dtype) == "Int64"


def test_a_request_has_its_window_and_its_first_token(trace: Trace) -> None:
    found = trace.sql("SELECT label, start_ns, end_ns, wall_ns, ttft_ns FROM requests")
    assert found.values.tolist() == [["request 0", 0, 1_000, 1_000, 750]]


def test_the_trace_says_what_it_is(trace: Trace) -> None:
    found = dict(trace.sql("FROM metadata").values.tolist())
    assert trace.metadata
    assert found["run.model"] == trace.metadata.run.model
    assert found["environment.torch"] == trace.metadata.environment.torch


def test_halves_of_pairs_in_names_are_shown(tmp_path: Path) -> None:
    path = TraceBuilder().op("aten::HALF", 0, 10).write(tmp_path / "x.json")
    path.write_bytes(path.read_bytes().replace(b"HALF", rb"\ud800"))
    (name,) = load(path).sql("SELECT name FROM ops").name.tolist()
    assert name.startswith("aten::")
    name.encode()


@pytest.mark.parametrize("name", ["h100_bert_small", "h100_qwen15_0.5b_unlinked", "mi300x_vllm_decode_graph"])
def test_sums_over_activities_are_the_kernels_to_the_ns(name: str, corpus: Path) -> None:
    trace = load(corpus / f"{name}.json.gz")
    ours = {row.name: (row.count, row.sum_ns, row.max_ns) for row in trace.kernels().rows}
    found = trace.sql("SELECT name, count(*) AS n, sum(dur_ns) AS s, max(dur_ns) AS m FROM activities GROUP BY name")
    assert {name: tuple(values) for name, *values in found.values.tolist()} == ours
    families = {row.name: row.sum_ns for row in trace.kernels(by="family").rows}
    assert dict(trace.sql("SELECT family, sum(dur_ns) FROM activities GROUP BY 1").values.tolist()) == families
    stages = trace.sql("SELECT stage, sum(time_ns) AS t FROM stages GROUP BY stage")
    assert stages.t.sum() == sum(request.wall_ns for request in trace.requests)
    by_kernel = trace.sql("SELECT sum(sum_ns) AS s, sum(count) AS n FROM kernels")
    assert by_kernel.values.tolist() == [[int(trace.spans.dur_ns[trace.activities].sum()), len(trace.activities)]]
