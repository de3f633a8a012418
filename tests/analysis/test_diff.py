from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gemma_trace.analysis.changes import Change, TraceDiff
from gemma_trace.analysis.diff import diff, diff_sides
from gemma_trace.analysis.gate import Gate, Limit, Outcome, parse_gate
from gemma_trace.analysis.noise import NoiseFloor
from gemma_trace.analysis.sides import side_of
from gemma_trace.errors import ConfigError, InputError
from gemma_trace.metadata import RequestSample, RunMetadata, StageSample
from gemma_trace.trace.trace import Trace
from tests.conftest import SAMPLES, real_trace
from tests.trace_builder import TraceBuilder

PIL, TORCHVISION = (SAMPLES / f"sample-tiny-cpu-{backend}" for backend in ("pil", "torchvision"))


def sample(folder: Path) -> Trace:
    return real_trace(next(folder.glob("*.json.gz")))


def slowed(folder: Path, tmp_path: Path, factor: float, requests: int = 6) -> Trace:
    """A sample's metadata with every time of its timed pass multiplied, on a trace of a few spans."""
    metadata = sample(folder).metadata
    assert metadata is not None

    def scaled(ns: int) -> int:
        return round(ns * factor)

    def stages(found: dict[str, StageSample]) -> dict[str, StageSample]:
        return {name: _scaled(s, factor) for name, s in found.items()}

    timed = tuple(
        RequestSample(
            wall_ns=scaled(r.wall_ns),
            ttft_ns=scaled(r.ttft_ns),
            token_ns=tuple(scaled(t) for t in r.token_ns),
            image=r.image,
            ttft_stages=stages(r.ttft_stages),
            stages=stages(r.stages),
        )
        for r in metadata.timed_requests[:requests]
    )
    fields = {name: getattr(metadata, name) for name in RunMetadata.__dataclass_fields__} | {"timed_requests": timed}
    built = TraceBuilder().range("request", 0, 100_000).range("prefill", 1000, 50_000).op("aten::mm", 2000, 30_000)
    return built.metadata(RunMetadata(**fields)).load(tmp_path / f"{factor}")


def _scaled(stage: StageSample, factor: float) -> StageSample:
    return StageSample(round(stage.host_ns * factor), stage.device_ns, stage.count)


def device_trace(tmp_path: Path, name: str, kernels: list[tuple[str, str, int]], requests: int = 1) -> Trace:
    """Requests of 10 µs, each of which launches these kernels (op, kernel, length) from its prefill."""
    built = TraceBuilder()
    for request in range(requests):
        start = request * 20_000
        built.range("request", start, 10_000).range("prefill", start + 100, 5000)
        for place, (op, kernel, length) in enumerate(kernels):
            at, correlation = start + 200 + 100 * place, 100 * request + place + 1
            built.op(op, at, 50, dims=[[8, 8], [8, 8]]).launch(correlation, at + 10)
            built.kernel(kernel, start + 1000 + 800 * place, length + request, correlation=correlation)
    return built.load(tmp_path / name)


def at(found: TraceDiff, level: str, stage: str, name: str = "") -> Change:
    rows = found.stages if level == "stage" else found.inside
    return next(row for row in rows if (row.level, row.stage, row.name) == (level, stage, name))


@pytest.mark.parametrize("folder", [PIL, TORCHVISION])
def test_a_trace_against_itself_has_no_change(folder: Path) -> None:
    found = diff(sample(folder), sample(folder))
    assert found.changed == ()
    assert found.stages
    assert found.inside
    assert all(change.difference_ms == 0 for change in (*found.stages, *found.inside))
    assert found.settings == ()


def test_the_other_image_backend_is_found_in_image_processing() -> None:
    found = diff(sample(TORCHVISION), sample(PIL))
    assert found.settings == ("image_backend: torchvision → pil",)
    stages = sorted(found.stages, key=lambda change: -abs(change.difference_ms))
    inner = [change.stage for change in stages if change.stage not in ("ttft", "preprocessing")]
    assert inner[0] == "image_processing"
    image = at(found, "stage", "image_processing")
    assert image.status == "slower"
    assert image.interval_ms is not None
    assert image.interval_ms[0] > 0
    assert found.inside[0].stage == "image_processing", "the largest change inside of a stage"
    gone = at(found, "family", "image_processing", "image operations")
    assert (gone.status, gone.after, gone.after_count) == ("vanished", None, 0.0)


def test_new_and_vanished_kernels_and_the_ones_that_changed(tmp_path: Path) -> None:
    before = device_trace(tmp_path, "a", [("aten::mm", "gemm_a", 400), ("aten::gelu", "gelu", 100)])
    after = device_trace(tmp_path, "b", [("aten::mm", "gemm_b", 100), ("aten::gelu", "gelu", 180)])
    found = diff(before, after)
    assert found.timing == "profiled"
    statuses = {row.name: (row.status, row.difference_ms) for row in found.inside if row.level == "kernel"}
    assert statuses == {
        "gemm_a": ("vanished", -0.0004),
        "gemm_b": ("new", 0.0001),
        "gelu": ("slower", pytest.approx(0.00008)),
    }
    op = at(found, "op", "prefill", "aten::mm 8×8, 8×8")
    assert op.status == "faster"
    assert op.relative_pct == pytest.approx(-75)
    assert at(found, "family", "prefill", "gemm").difference_ms == pytest.approx(-0.0003)


def test_five_requests_a_side_have_an_interval_and_four_have_none(tmp_path: Path) -> None:
    kernels, slower = [("aten::mm", "gemm", 400)], [("aten::mm", "gemm", 700)]
    for requests, expected in ((4, None), (5, (0.000296, 0.000304))):
        sides = [
            device_trace(tmp_path, f"{requests}{len(name)}", k, requests)
            for name, k in (("a", kernels), ("bb", slower))
        ]
        row = at(diff(*sides), "kernel", "prefill", "gemm")
        assert row.status == "slower"
        assert row.difference_ms == pytest.approx(0.0003)
        assert (row.interval_ms is None) == (expected is None)
        if row.interval_ms and expected:
            assert expected[0] <= row.interval_ms[0] <= 0.0003 <= row.interval_ms[1] <= expected[1]


def test_ops_that_differ_in_no_tensor_are_one_row(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 10_000).range("prefill", 100, 5000)
    built.op("aten::add", 200, 100, dims=[[8], [8]]).op("aten::add", 400, 300, dims=[[8], [8], []])
    row = at(diff(built.load(tmp_path), built.load(tmp_path)), "op", "prefill", "aten::add 8, 8")
    assert row.before is not None
    assert (row.before.median, row.before_count) == (0.0004, 2)


def test_one_process_a_side_is_held_against_the_noise_floor(tmp_path: Path) -> None:
    before = slowed(TORCHVISION, tmp_path, 1.0)
    tenth, half = (diff(before, slowed(TORCHVISION, tmp_path, factor)) for factor in (1.1, 1.5))
    assert at(tenth, "stage", "vision_tower").status == "same", "two identical runs may differ by as much"
    assert at(half, "stage", "vision_tower").status == "slower"
    quiet = NoiseFloor({"ttft": 2.0}, 3.0, "a folder")
    sides = [side_of(before)], [side_of(slowed(TORCHVISION, tmp_path, 1.1))]
    assert at(diff_sides(*sides, noise=quiet), "stage", "vision_tower").status == "slower"


def test_a_gate_has_three_answers(tmp_path: Path) -> None:
    before = [side_of(slowed(TORCHVISION, tmp_path, 1.0))]

    def answer(factor: float, limit: str, floor_pct: float) -> Outcome:
        after = [side_of(slowed(TORCHVISION, tmp_path, factor))]
        found = diff_sides(before, after, noise=NoiseFloor({}, floor_pct, "a folder"))
        return parse_gate(limit).judge(found).answer

    assert answer(1.01, "ttft:5%", 3) == "ok"
    assert answer(1.1, "ttft:5%", 3) == "exceeded"
    assert answer(1.01, "ttft:5%", 25) == "inconclusive", "5% couldn't have been seen"
    assert answer(1.1, "ttft:5%", 25) == "inconclusive"
    assert answer(0.7, "ttft:5%", 25) == "ok", "that it got slower is ruled out"
    assert answer(1.5, "ttft:5%", 25) == "exceeded"
    assert answer(1.1, "ttft:+200ms", 25) == "ok", "213 ms rose by 21, and 53 could be seen"
    assert answer(1.5, "ttft:+20ms", 25) == "exceeded"


def test_a_gate_of_five_percent_stops_ten_and_names_what_is_large(tmp_path: Path) -> None:
    sides = [[side_of(slowed(TORCHVISION, tmp_path, factor))] for factor in (1.0, 1.1)]
    held = parse_gate("5%").judge(diff_sides(*sides, noise=NoiseFloor({}, 2.0, "a folder")))
    names = {row.change.stage for row in held.exceeded}
    assert {"ttft", "vision_tower"} <= names
    assert "chat_template" not in names, "a stage below 1% of TTFT has no limit unless it is named"
    assert all(row.change.relative_pct == pytest.approx(10, abs=0.2) for row in held.exceeded)


def test_under_five_requests_and_other_settings_are_never_ok(tmp_path: Path) -> None:
    quiet = NoiseFloor({}, 1.0, "a folder")
    few = [[side_of(slowed(TORCHVISION, tmp_path, 1.0, 3))] for _ in "ab"]
    verdict = parse_gate("5%").judge(diff_sides(*few, noise=quiet))
    assert verdict.answer == "inconclusive"
    assert verdict.reasons[0] == "the side before has 3 requests, and 5 are required"
    found = diff_sides(*([side_of(slowed(TORCHVISION, tmp_path, 1.0))] for _ in "ab"), noise=quiet)
    assert parse_gate("ttft:5%").judge(found).answer == "ok"
    other = replace(found, settings=("torch: 2.12.0 → 2.13.0", "image_backend: torchvision → pil"))
    verdict = parse_gate("ttft:5%").judge(other)
    assert verdict.answer == "inconclusive"
    assert verdict.reasons == ("the sides differ in torch: 2.12.0 → 2.13.0 (--varies torch allows that)",)
    assert parse_gate("ttft:5%", ["torch"]).judge(other).answer == "ok"


def test_a_gate_on_a_stage_holds_for_that_stage(tmp_path: Path) -> None:
    found = diff(slowed(TORCHVISION, tmp_path, 1.0, 3), slowed(TORCHVISION, tmp_path, 1.8, 3))
    exceeded = parse_gate("chat_template:5%").judge(found).exceeded
    assert [row.change.stage for row in exceeded] == ["chat_template"]
    assert parse_gate("ttft:90%,prefill:81%").judge(found).exceeded == ()
    with pytest.raises(InputError, match="'text_tower' is not on both sides"):
        parse_gate("text_tower:5%").judge(found)


def test_several_processes_tell_what_one_cant(tmp_path: Path) -> None:
    """Three processes of 100, 102 and 98%, once more 10% slower: paired, the difference is 10% to a hair."""
    factors = (1.0, 1.02, 0.98)
    before = [side_of(slowed(TORCHVISION, tmp_path, factor)) for factor in factors]
    after = [side_of(slowed(TORCHVISION, tmp_path, 1.1 * factor)) for factor in factors]
    paired, loose = diff_sides(before, after, paired=True), diff_sides(before, after)
    tower = at(paired, "stage", "vision_tower")
    assert tower.processes == (3, 3)
    assert tower.before is not None
    assert tower.before.n == 3, "a value per process"
    assert tower.relative_pct == pytest.approx(10, abs=0.01)
    assert tower.status == "slower"
    assert tower.interval_ms is not None
    other = at(loose, "stage", "vision_tower").interval_ms
    assert other is not None
    assert other[1] - other[0] > 2 * (tower.interval_ms[1] - tower.interval_ms[0]), "unpaired, rounds are noise"
    same = diff_sides(before, before, paired=True)
    assert same.changed == ()
    assert parse_gate("5%").judge(paired).answer == "exceeded"
    assert parse_gate("ttft:5%").judge(same).answer == "ok"


def test_sides_that_dont_fit_are_refused(tmp_path: Path) -> None:
    side = side_of(slowed(TORCHVISION, tmp_path, 1.0))
    with pytest.raises(ConfigError, match="requires a trace on both sides"):
        diff_sides([side], [])
    with pytest.raises(ConfigError, match="as many traces on both sides, not 2 and 1"):
        diff_sides([side, side], [side], paired=True)


def test_what_is_no_limit_is_refused() -> None:
    assert parse_gate("5%, prefill : 2.5%") == Gate(Limit(5.0, "%"), {"prefill": Limit(2.5, "%")})
    assert parse_gate("ttft:+10ms,decode:500us").limits == {"ttft": Limit(10.0, "ms"), "decode": Limit(0.5, "ms")}
    for text in ("5", "", "ttft", "-5%", "ttft:five%"):
        with pytest.raises(ConfigError, match="write it like 5%"):
            parse_gate(text)
    with pytest.raises(ConfigError, match="varies='weather' is not a setting"):
        parse_gate("5%", ["weather"])
