"""One request across processes: on one clock, cut into stages that add up to what the client saw."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.analysis.timeline import ttft_ns
from gemma_trace.analysis.work_pieces import host_work, request_of_work, stage_of_work
from gemma_trace.cli import main
from gemma_trace.errors import UnreadableError
from gemma_trace.served.merge import merge
from gemma_trace.served.record import SCHEMA_VERSION, ClientRequest, ServedRecord
from gemma_trace.trace.folders import one_trace
from gemma_trace.trace.trace import Trace, load
from tests.conftest import SHARED
from tests.trace_builder import TraceBuilder

BASE_NS = 1_700_000_000_000_000_000
MS = 1_000_000

LOAD = "vllm/multimodal/media/image.py(104): load_base64"
APPLY = "vllm/multimodal/processing/processor.py(1811): apply"
OUTPUTS = "vllm/v1/engine/output_processor.py(681): process_outputs"
SAMPLE = "vllm/v1/worker/gpu_worker.py(1293): sample_tokens"
TOWER = "nn.Module: SiglipVisionTransformer_0"


def client(number: int, sent_ms: int, tokens_ms: tuple[int, ...], done_ms: int) -> ClientRequest:
    tokens = tuple(ms * MS for ms in tokens_ms)
    return ClientRequest(f"request-{number}", "896x896", BASE_NS + sent_ms * MS, tokens, done_ms * MS)


def merged(folder: Path, requests: list[ClientRequest], *builders: TraceBuilder, behind_ns: int = 0) -> Trace:
    """Write processes and record, and read what they become; each process's clock begins later than that before."""
    names = []
    for number, builder in enumerate(builders):
        builder.header["baseTimeNanoseconds"] = BASE_NS - number * behind_ns
        names.append(builder.write(folder / "processes" / f"{number}.json").relative_to(folder).as_posix())
    record = ServedRecord(
        *(SCHEMA_VERSION, "2026-01-01T00:00:00+00:00", "run", "vllm 0.32.0", "tiny", {}),
        profiled=tuple(requests),
        traces=tuple(names),
    )
    record.write(folder)
    merge(folder, record)
    return load(one_trace(folder))


def stages_ms(trace: Trace, request: int) -> dict[str, float]:
    rows = [row for row in breakdown(trace, request).rows if row.time_ns or row.stage != "unattributed"]
    return {row.stage: row.time_ns / MS for row in rows if row.time_ns}


def frames(builder: TraceBuilder, process: int, *rows: tuple[str, int, int], later_ms: int = 0) -> TraceBuilder:
    for name, start_ms, end_ms in rows:
        kind = "user_annotation" if name.startswith("execute_") else "python_function"
        builder.span(kind, name, (start_ms + later_ms) * MS, (end_ms - start_ms) * MS, pid=process, tid=process)
    return builder


class TestOneAtATime:
    FRONT = ((LOAD, 5, 15), (APPLY, 18, 40), (OUTPUTS, 112, 113), (OUTPUTS, 152, 153))
    WORKER = (
        *(("execute_context_1(300)_generation_0(0)", 50, 100), (TOWER, 52, 80), (SAMPLE, 100, 110)),
        *(("execute_context_0(0)_generation_1(1)", 114, 140), (SAMPLE, 141, 150)),
        ("execute_context_0(0)_generation_0(0)", 155, 156),
    )

    def trace(self, folder: Path) -> Trace:
        front, worker = TraceBuilder(), TraceBuilder()
        frames(front, 11, *self.FRONT)
        frames(worker, 22, *self.WORKER, later_ms=7)
        return merged(folder, [client(0, 0, (120, 155), 158)], front, worker, behind_ns=7 * MS)

    def test_every_stage_has_its_time(self, tmp_path: Path) -> None:
        trace = self.trace(tmp_path)
        assert stages_ms(trace, 0) == {
            "http": 8,  # 0 to 5, 15 to 18
            "image_load": 10,
            "preprocessing": 22,
            "queue": 10,
            "vision_tower": 28,
            "prefill": 22,
            "sampling": 19,
            "detokenization": 2,
            "return": 16,  # 110 to 120 and 150 to 158, without those
            "decode": 21,  # from 120 on: its first 6 ms are of the time until the first token
        }

    def test_the_parts_are_the_clients_ttft(self, tmp_path: Path) -> None:
        trace = self.trace(tmp_path)
        (request,) = trace.requests
        assert (request.wall_ns, ttft_ns(trace, 0)) == (158 * MS, 120 * MS)
        assert sum(stages_ms(trace, 0).values()) == 158

    def test_work_of_the_worker_has_its_stages(self, tmp_path: Path) -> None:
        trace = self.trace(tmp_path)
        (row,) = breakdown(trace).of_stage("vision_tower").rows
        assert row.host_ns == 28 * MS, "the thread of the request repeats what the worker's did"
        assert kernel_table(trace, "vision_tower").totals.host_self_ns == 28 * MS
        assert kernel_table(trace, "decode").totals.host_self_ns == 26 * MS, "as long as the worker took"

    def test_verdicts_are_of_who_works(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.trace(tmp_path)
        assert main(["stages", str(tmp_path)]) == 0
        shown = capsys.readouterr().out
        assert "waits: for the scheduler" in shown
        assert "it is the client's, with image_load" in shown

    def test_every_command_takes_the_folder(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.trace(tmp_path)
        folder = str(tmp_path)
        assert main(["stages", folder]) == 0
        assert "vision_tower" in capsys.readouterr().out
        assert main(["summarize", folder, "--format", "csv"]) == 0
        assert "120.0" in capsys.readouterr().out
        assert main(["diff", folder, folder]) == 0
        assert main(["report", folder, "-o", str(tmp_path / "page.html")]) == 0
        assert "<li>" in (page := (tmp_path / "page.html").read_text())
        assert "image processor" not in page.partition("</ul>")[0], "a server doesn't tell which it has"
        assert main(["index", folder, "--to", str(tmp_path / "store"), "--quiet"]) == 0
        capsys.readouterr()
        assert main(["sql", "SELECT framework, framework_version FROM runs", str(tmp_path / "store")]) == 0
        assert re.search(r"vllm +0\.32\.0", capsys.readouterr().out)
        assert main(["export", folder, "-o", str(tmp_path / "view.json")]) == 0
        shown = (tmp_path / "view.json").read_text()
        assert all(name in shown for name in ("requests of the client", "sample_tokens", "load_base64"))


def test_a_front_end_that_tells_nothing(tmp_path: Path) -> None:
    worker = frames(TraceBuilder(), 22, ("execute_context_1(300)_generation_0(0)", 50, 100))
    trace = merged(tmp_path, [client(0, 0, (120,), 121)], worker)
    assert stages_ms(trace, 0) == {"front_end": 50, "prefill": 50, "return": 21}
    assert trace.metadata is not None
    notes = " ".join(trace.metadata.warnings)
    assert "the front end's trace has no stages" in notes
    assert "the image encoder can't be told from the prefill" in notes


def test_clocks_that_disagree_are_said(tmp_path: Path) -> None:
    front = frames(TraceBuilder(), 11, (LOAD, 5, 15))
    worker = frames(TraceBuilder(), 22, ("execute_context_1(300)_generation_0(0)", 50, 100))
    trace = merged(tmp_path, [client(0, 12, (120,), 121)], front, worker)
    assert trace.metadata is not None
    assert any("at least 7.0 ms apart" in warning for warning in trace.metadata.warnings)
    assert sum(stages_ms(trace, 0).values()) == 121


class TestAtOnce:
    """Two requests: the engine reads the one's prompt, then the other's while it generates for the first."""

    def trace(self, folder: Path) -> Trace:
        worker = TraceBuilder()
        frames(
            worker,
            22,
            *(("execute_context_1(300)_generation_0(0)", 10, 40), (TOWER, 12, 30)),
            *(("execute_context_1(300)_generation_1(1)", 50, 90), (TOWER, 52, 72)),
            ("execute_context_0(0)_generation_2(2)", 95, 105),
        )
        return merged(folder, [client(0, 0, (42, 92, 107), 110), client(1, 5, (88, 103), 106)], worker)

    def test_each_has_its_own_steps(self, tmp_path: Path) -> None:
        trace = self.trace(tmp_path)
        first, second = stages_ms(trace, 0), stages_ms(trace, 1)
        assert (first["vision_tower"], first["prefill"], first["decode"]) == (18, 12, 50)
        assert (second["vision_tower"], second["prefill"], second["decode"]) == (20, 20, 10)
        assert second["front_end"] == 45, "it waits while the engine works for the other"
        assert (sum(first.values()), sum(second.values())) == (110, 106)
        assert [ttft_ns(trace, 0), ttft_ns(trace, 1)] == [42 * MS, 88 * MS]

    def test_work_is_of_the_request_that_is_in_its_stage(self, tmp_path: Path) -> None:
        """Not of the one that was sent last, though it waits all along."""
        trace = self.trace(tmp_path)
        work = host_work(trace)
        tower = stage_of_work(trace, work) == trace.stage_names.index("vision_tower")
        request = request_of_work(trace, work, trace.requests)
        assert [int(work.length_ns[tower & (request == number)].sum()) for number in (0, 1)] == [18 * MS, 20 * MS]

    def test_shared_steps_are_said(self, tmp_path: Path) -> None:
        trace = self.trace(tmp_path)
        assert trace.metadata is not None
        assert "2 of 3 steps are shared" in " ".join(trace.metadata.warnings)


def test_a_device_that_works_for_others(tmp_path: Path) -> None:
    """A kernel is a request's where the request was in the stage that launched it."""
    worker = TraceBuilder()
    frames(
        worker,
        22,
        ("execute_context_1(300)_generation_0(0)", 10, 20),
        ("execute_context_1(300)_generation_0(0)", 30, 40),
    )
    for number, at in ((1, 12), (2, 32)):
        worker.launch(number, at * MS, MS, tid=22, pid=22)
        worker.kernel("k", (at + 2) * MS, 4 * MS, correlation=number)
    trace = merged(tmp_path, [client(0, 0, (22,), 23), client(1, 1, (41,), 42)], worker)
    rows = {row.request: row for row in breakdown(trace).of_stage("prefill").rows}
    assert [(row.activities, row.device_ns, row.time_ns) for row in rows.values()] == [(1, 4 * MS, 10 * MS)] * 2


def test_a_folder_that_is_not_merged(tmp_path: Path) -> None:
    ServedRecord(SCHEMA_VERSION, "", "run", "", "", {}).write(tmp_path)
    with pytest.raises(UnreadableError, match=r"serve-capture --merge"):
        one_trace(tmp_path)


def test_half_a_trace_is_left_out_or_read_as_far_as_it_goes(tmp_path: Path) -> None:
    worker = frames(TraceBuilder(), 22, ("execute_context_1(300)_generation_0(0)", 50, 100))
    (tmp_path / "processes").mkdir()
    (tmp_path / "processes" / "nothing.json").write_bytes(b"{")
    worker.header["baseTimeNanoseconds"] = BASE_NS
    worker.write(tmp_path / "processes" / "0.json")
    record = ServedRecord(
        *(SCHEMA_VERSION, "", "run", "", "", {}),
        profiled=(client(0, 0, (120,), 121),),
        traces=("processes/nothing.json", "processes/0.json"),
    )
    _, notes = merge(tmp_path, record)
    assert any("nothing.json" in note for note in notes)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared, real traces that are not shipped")
def test_a_real_server(tmp_path: Path) -> None:
    """Of two requests of vLLM 0.32: the times by hand from the spans, the TTFT from the client."""
    source = SHARED / "corpus_2" / "vllm032_sequential"
    (tmp_path / "processes").mkdir()
    for name in ("front_end.json.gz", "worker.json.gz"):
        shutil.copyfile(source / name, tmp_path / "processes" / name)
    base_ns = 1790857026 * 10**9

    def seen(number: int, had_ms: tuple[float, ...], ttft_ms: float, over_ms: float) -> ClientRequest:
        first_ns = round((4724680000 + had_ms[0]) * MS)
        sent_ns = first_ns - round(ttft_ms * MS)
        tokens = tuple(round((4724680000 + ms) * MS) - sent_ns for ms in had_ms)
        done_ns = round((4724680000 + over_ms) * MS) - sent_ns
        return ClientRequest(f"request-{number}", "896x896", base_ns + sent_ns, tokens, done_ns)

    record = ServedRecord(
        *(SCHEMA_VERSION, "", "run", "vllm 0.32.0", "tiny", {}),
        profiled=(
            seen(0, (8498.8, 8529.2, 8564.3, 8601.6), 1024.7, 8602.2),
            seen(1, (9469.0, 9486.3, 9508.8, 9531.4), 866.7, 9531.6),
        ),
        traces=("processes/front_end.json.gz", "processes/worker.json.gz"),
    )
    record.write(tmp_path)
    merge(tmp_path, record)
    trace = load(one_trace(tmp_path))
    assert [round(ttft_ns(trace, request) or 0, -5) / MS for request in (0, 1)] == [1024.7, 866.7]
    first, second = stages_ms(trace, 0), stages_ms(trace, 1)
    assert [round(each["image_load"], 1) for each in (first, second)] == [11.4, 10.8]
    assert round(first["image_processing"] + second["image_processing"], 1) == 47.2
    assert round(first["vision_tower"] + second["vision_tower"], 0) == 1534
    assert round(first["projector"] + second["projector"], 1) == 5.4
    assert sum(first.values()) == pytest.approx(trace.requests[0].wall_ns / MS, abs=1e-9)
    between = [each["queue"] for each in (first, second)]
    assert between[0] > 40 > between[1] > 28


class TestPlugin:
    """With our plugin, times of the front end and the requests of each step lie beside an empty trace of it."""

    def folder(self, tmp_path: Path) -> Path:
        front = TraceBuilder()
        front.header["baseTimeNanoseconds"] = BASE_NS
        front.span("Trace", "PyTorch Profiler (0)", 0, 200 * MS, pid="Spans", tid="PyTorch Profiler")
        front.write(tmp_path / "processes" / "front.json")
        worker = TraceBuilder()
        for at in (50, 120):
            worker.range("prefill", at * MS, 50 * MS, tid=22, pid=22)
            worker.range("vision_tower", (at + 5) * MS, 20 * MS, tid=22, pid=22)
            name = "execute_context_1(300)_generation_0(0)"
            worker.span("user_annotation", name, (at + 1) * MS, 48 * MS, pid=22, tid=22)
        worker.header["baseTimeNanoseconds"] = BASE_NS
        worker.write(tmp_path / "processes" / "worker.json")

        def stamp(stage: str, start_ms: int, end_ms: int, *ids: str) -> bytes:
            times = (BASE_NS + start_ms * MS, BASE_NS + end_ms * MS)
            return b'{"stage":"%s","start_ns":%d,"end_ns":%d,"request_ids":[%s]}\n' % (
                *(stage.encode(), *times),
                ",".join(f'"chatcmpl-{name}-a1"' for name in ids).encode(),
            )

        lines = [stamp("image_load", 2, 9), stamp("preprocessing", 10, 40), stamp("image_processing", 12, 30)]
        steps = [stamp("step", 50, 100, "request-1"), stamp("step", 120, 170, "request-0")]
        (tmp_path / "processes" / "gemma_trace_stamps.1.jsonl").write_bytes(b"".join(lines))
        (tmp_path / "processes" / "gemma_trace_stamps.2.jsonl").write_bytes(b"".join(steps) + b'{"stage"')
        return tmp_path

    def read(self, folder: Path, *requests: ClientRequest) -> Trace:
        record = ServedRecord(
            *(SCHEMA_VERSION, "", "run", "vllm 0.32.0", "tiny", {}),
            profiled=requests,
            traces=("processes/front.json", "processes/worker.json"),
        )
        record.write(folder)
        merge(folder, record)
        return load(one_trace(folder))

    def test_the_front_end_is_told(self, tmp_path: Path) -> None:
        trace = self.read(self.folder(tmp_path), client(1, 0, (110,), 111))
        assert stages_ms(trace, 0) == {
            "http": 3,
            "image_load": 7,
            "preprocessing": 12,
            "image_processing": 18,
            "queue": 11,
            "vision_tower": 20,
            "prefill": 29,
            "return": 11,
        }
        assert trace.metadata is not None
        assert trace.metadata.warnings == ()

    def test_a_server_without_a_client(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = self.folder(tmp_path) / "processes"
        (folder / "front.json").rename(folder / "x.async_llm.1.json")
        assert main(["stages", str(folder)]) == 1
        assert f"serve-capture --merge {folder}" in capsys.readouterr().err
        assert main(["serve-capture", "--merge", str(folder)]) == 0
        assert "there is no served.json of a client" in capsys.readouterr().err
        trace = load(one_trace(folder))
        codes = trace.stage_range[trace.stage_ranges].tolist()
        assert sorted(trace.stage_names[code] for code in codes) == ["prefill"] * 2 + ["vision_tower"] * 2
        assert stages_ms(trace, 0) == {"prefill": 60, "vision_tower": 40, "unattributed": 20}
        assert breakdown(trace).ttfts_ns == (None,)

    def test_requests_at_once_are_told_by_the_engines_ids(self, tmp_path: Path) -> None:
        """The one that is sent first is served last, which the order of tokens wouldn't tell."""
        trace = self.read(self.folder(tmp_path), client(0, 0, (175,), 176), client(1, 1, (174,), 175))
        assert "by the engine's own ids" in " ".join(trace.metadata.warnings if trace.metadata else ())
        first, second = stages_ms(trace, 0), stages_ms(trace, 1)
        assert (first["prefill"], second["prefill"]) == (29, 29)
        assert (first["return"], second["return"]) == (6, 76)
