"""`gemma-trace advise` and `trace.advise`: ranking, noise, abstention and text."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gemma_trace
from gemma_trace import cli
from gemma_trace.advice.advise import advise
from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN, RECORDING, compare_command
from gemma_trace.advice.findings import Ceiling, Confidence, Finding, ranked
from gemma_trace.capture.compare.arms import plan_arms
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.options import option_names
from gemma_trace.whatif.engine import Engine
from tests.advice.made import METADATA
from tests.trace_builder import TraceBuilder

MS = 1_000_000


def loading(*pairs: tuple[int, int]) -> TraceBuilder:
    """Requests of so many ms, which load images for so many."""
    built, now = TraceBuilder(), 0
    for wall, load in pairs:
        built.range("request", now, wall * MS).range("image_load", now, load * MS)
        now += (wall + 10) * MS
    return built


def test_a_ceiling_is_a_mean_with_an_interval(tmp_path: Path) -> None:
    (finding,) = advise(loading((100, 10), (100, 20), (100, 30)).load(tmp_path)).findings
    assert finding.ceiling.values_ns == (10 * MS, 20 * MS, 30 * MS)
    assert (finding.ceiling.mean_ns, finding.ceiling.pct) == (20 * MS, 20)
    # t = 4.3027 for 2 degrees of freedom, s = 10: 20 ± 4.3027 · 10 / √3 = -4.84 … 44.84.
    low, high = finding.ceiling.interval_ns
    assert low == 0
    assert high == pytest.approx(44.84 * MS, rel=1e-3)
    assert Ceiling((3, 5), (10, 10)).interval_ns == (3, 5)
    assert Ceiling((90, 100, 10), (100, 100, 100)).interval_ns == (0, 100)
    assert finding.ceiling.ttft_ns is None
    assert Ceiling((3,), (9,), (2,), (8,)).ttft_pct == 25


def test_what_is_under_the_noise_is_not_advised(tmp_path: Path) -> None:
    # 1% of 100 ms is 1 ms.
    advice = advise(loading((100, 1)).load(tmp_path))
    assert [finding.ceiling.mean_ns for finding in advice.findings] == [MS]
    advice = advise(TraceBuilder().range("request", 0, 100 * MS).range("image_load", 0, MS - 1).load(tmp_path))
    assert (advice.findings, advice.under_noise, advice.noise_ns) == ((), 1, MS)
    # Requests of 100 and 300 ms: the standard error of their mean is 141.4 / √2 = 100 ms.
    advice = advise(loading((100, 50), (300, 50)).load(tmp_path))
    assert (advice.findings, advice.under_noise) == ((), 1)
    assert advice.noise_ns == pytest.approx(100 * MS)
    assert len(advise(loading((100, 50), (300, 50)).load(tmp_path), request=0).findings) == 1


def test_what_comes_after_the_first_token_gains_it_nothing(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100 * MS).range("prefill", 0, 20 * MS).range("sampling", 20 * MS, 5 * MS)
    built.range("decode", 25 * MS, 70 * MS).op("aten::cat", 30 * MS, 40 * MS)
    (finding,) = advise(built.load(tmp_path)).findings
    assert (finding.rule, finding.ceiling.mean_ns, finding.ceiling.ttft_ns) == ("kv_cache", 40 * MS, 0)


def test_seven_are_shown_the_highest_first() -> None:
    def finding(rule: str, gain: int) -> Finding:
        return Finding(rule, "", "", "", Ceiling((gain,), (100,)), Confidence.LOW, "", "")

    found = ranked([finding("b", 5), finding("c", 9), finding("a", 5)])
    assert [each.rule for each in found] == ["c", "a", "b"]


def test_nothing_is_advised_where_the_device_s_work_is_missing(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100 * MS).range("image_load", 0, 50 * MS)
    for place in range(40):
        built.launch(place + 1, (50 + place) * MS, 9000)
    advice = advise(built.load(tmp_path))
    assert advice.findings == ()
    (abstention,) = advice.abstentions
    assert abstention.rule == "all"
    assert "launch" in abstention.missing


@pytest.mark.parametrize(
    ("option", "after", "before"),
    [
        ("image_backend", "torchvision", "pil"),
        ("image_device", "cuda", "cpu"),
        ("threads", "8", "2"),
        ("cache", "static", "dynamic"),
        ("compile", "stages", "off"),
        ("batch", "8", "2"),
        ("attn", "sdpa", "eager"),
        ("dtype", "bfloat16", "float32"),
    ],
)
def test_the_command_that_checks_it_runs_both_sides(tmp_path: Path, option: str, after: str, before: str) -> None:
    """Its arms differ in what is advised alone, and are else what was captured."""
    captured = CaptureConfig(
        device="cpu", attn="eager", new_tokens=7, images_per_request=2, sample=True, batch=2, requests=None
    )
    if option != "image_device":
        captured = replace(captured, image_backend="pil")
    metadata = replace(METADATA, config=captured.record())
    trace = TraceBuilder().range("request", 0, 100).metadata(metadata).load(tmp_path)
    case = Case(trace, trace.requests, Engine(trace, trace.requests))
    program, command, *settings = shlex.split(case.check(option, after, before))
    assert (program, command, settings[::2]) == ("gemma-trace", "compare", ["--set"] * (len(settings) // 2))
    own, advised = [arm.config for arm in plan_arms(CaptureConfig(), settings[1::2])]
    assert own == replace(captured, **{option: getattr(own, option)})
    assert str(getattr(own, option)) == before
    assert advised == replace(own, **{option: getattr(advised, option)})
    assert str(getattr(advised, option)) == after


CAPTURED: dict[str, dict[str, Any]] = {
    "model": {"model": "4b"},
    "weights": {"weights": "random"},
    "device": {"device": "cuda:1"},
    "dtype": {"dtype": "bfloat16"},
    "image_backend": {"image_backend": "pil"},
    "stage_modules": {"stage_modules": ("vision=a.b", "decoder=c, d")},
    "images": {"images": (Path("cat.jpg"), Path("[dog], 2.png"))},
    "image_sizes": {"image_sizes": ("640x480", "64x48")},
    "images_per_request": {"images_per_request": 3},
    "requests": {"requests": Path("chat.jsonl")},
    "shuffle": {"requests": Path("chat.jsonl"), "shuffle": 0},
    "online": {"requests": Path("chat.jsonl"), "online": True},
    "batch": {"batch": 4},
    "prompt": {"prompt": 'Hello, [you]; what\'s "this" $HOME?'},
    "system": {"system": "[1, 2]"},
    "prompt_tokens": {"prompt_tokens": 900},
    "image_device": {"image_device": "cpu"},
    "prefill_chunk": {"prefill_chunk": 64},
    "compile": {"compile": "decode"},
    "cache": {"cache": "static"},
    "sample": {"sample": True},
    "quantize": {"quantize": "nf4"},
    "adapter": {"adapter": "ours"},
    "assistant": {"assistant": "tiny"},
    "prompt_lookup": {"prompt_lookup": 5},
    "threads": {"threads": 3},
    "cpu_affinity": {"cpu_affinity": "0-3,8"},
    "numa_node": {"numa_node": 0},
    "cudnn_benchmark": {"cudnn_benchmark": True},
    "new_tokens": {"new_tokens": 9},
    "sync_stages": {"sync_stages": True},
    "seed": {"seed": 7},
}
"""Of every option a value that isn't what it is by itself, with what that requires."""


@pytest.mark.parametrize("option", sorted(set(option_names().values()) - RECORDING - {"attn"}))
def test_the_command_repeats_every_option_of_the_capture(option: str) -> None:
    captured = CaptureConfig(**CAPTURED[option])
    command = compare_command(captured.record(), "attn", "sdpa", before="eager")
    settings = shlex.split(command[command.index("gemma-trace compare") :])[3::2]
    assert [arm.config for arm in plan_arms(CaptureConfig(), settings)] == [
        replace(captured, attn=attn) for attn in ("eager", "sdpa")
    ]


def test_the_command_says_which_paths_a_trace_has_cut() -> None:
    config = CaptureConfig(attn="eager", model="someone/vlm", images=(Path("pets/my cat.jpg"),), adapter="a/b/tuned")
    assert compare_command(config.record(), "attn", "sdpa") == (
        "with the whole path or Hub id of vlm, tuned, 'my cat.jpg': gemma-trace compare --set attn=eager,sdpa "
        "--set model=vlm --set 'image=my cat.jpg' --set adapter=tuned"
    )


@pytest.mark.parametrize(
    ("config", "option", "after"),
    [
        ({"weights": "given", "model": "Gemma3ForConditionalGeneration"}, "attn", "sdpa"),  # it was in hand
        ({"prompt_lookup": 4}, "batch", "4"),  # of which assisted decoding takes one prompt
        ({"assistant": "tiny"}, "cache", "static"),
        ({"image_backend": "pil"}, "image_device", "cuda"),
        ({"prompt": " "}, "attn", "sdpa"),
        ({"batch": "many"}, "attn", "sdpa"),
        ({"cpu_affinity": "all"}, "attn", "sdpa"),
    ],
)
def test_what_no_comparison_can_run_has_no_command(config: dict[str, Any], option: str, after: str) -> None:
    assert compare_command(config, option, after, before="dynamic" if option == "cache" else "eager") == ""


def test_what_is_so_already_has_no_command(tmp_path: Path) -> None:
    trace = TraceBuilder().range("request", 0, 100).metadata(METADATA).load(tmp_path)
    assert Case(trace, trace.requests, Engine(trace, trace.requests)).check("dtype", "float32") == AGAIN


def test_the_command_says_it_to_people_and_in_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(loading((100, 40)).write(tmp_path / "a\x1b[31m.json"))
    assert cli.main(["advise", path, "--no-cache"]) == 0
    text = capsys.readouterr().out
    assert "What to change: 1 finding" in text
    assert "Read and decode images before the request needs them" in text
    assert "\x1b" not in text
    assert cli.main(["advise", path, "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (row,) = answer["rows"]
    assert (row["rule"], row["ceiling_ns"], row["ceilings_ns"], row["confidence"]) == (
        "image_load",
        40.0 * MS,
        [40 * MS],
        "medium",
    )
    assert answer["totals"]["noise_ns"] == MS
    assert cli.main(["advise", path, "--request", "1"]) == 1
    assert "request 1 not found" in capsys.readouterr().err
    quiet = str(TraceBuilder().range("request", 0, 100).write(tmp_path / "quiet.json"))
    assert cli.main(["advise", quiet]) == 0
    assert "No rule found a change that is worth making." in capsys.readouterr().out


def test_python_has_the_same_rows(tmp_path: Path) -> None:
    advice = gemma_trace.load(loading((100, 40)).write(tmp_path / "t.json")).advise()
    (row,) = advice.records()
    assert (row["rule"], row["ceiling_ns"]) == ("image_load", 40.0 * MS)
    assert "1 finding over 1 request" in repr(advice)


def test_the_page_says_it_on_its_first_screen(tmp_path: Path) -> None:
    path = gemma_trace.load(loading((100, 40)).write(tmp_path / "t.json")).report(tmp_path / "page.html")
    page = path.read_text()
    advice = page.index("What to change, and what it would bring at most")
    assert advice < page.index("Where the time goes")
    assert "image_load: at most 40.00 ms per request" in page
