from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.analysis.roofline.device_table import DEVICES
from gemma_trace.analysis.roofline.devices import device_peaks, known_peaks
from gemma_trace.errors import InputError
from gemma_trace.peaks import Peaks
from gemma_trace.peaks_file import peaks_toml, read_peaks
from gemma_trace.trace.trace import Trace
from tests.conftest import SHARED, real_trace
from tests.trace_builder import TraceBuilder


def on_device(tmp_path: Path, *names: str, used: int = 0) -> Trace:
    built = TraceBuilder().launch(1, 0)
    built.span("kernel", "gemm", 10, 10, pid=used, tid=7, correlation=1, stream=7, device=used)
    built.header["deviceProperties"] = [{"id": place, "name": name} for place, name in enumerate(names)]
    return built.load(tmp_path)


def named_at_the_head_of(path: Path) -> list[str]:
    """What a real trace calls its devices, without reading the rest of it, which takes seconds."""
    with gzip.open(path, "rt") as file:
        _, key, rest = file.read(1 << 16).partition('"deviceProperties":')
    devices: list[dict[str, Any]] = json.JSONDecoder().raw_decode(rest.lstrip())[0] if key else []
    return [device["name"] for device in devices]


@pytest.mark.parametrize(
    ("name", "bfloat16", "gb_per_s"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4, 3352),
        ("NVIDIA H100 PCIe", 756, 2039),
        ("NVIDIA A100-SXM4-80GB", 312, 2039),
        ("A100-SXM4-40GB", 312, 1555),
        ("AMD Instinct MI300X", 1307.4, 5325),
        ("AMD Instinct MI300X VF", 1307.4, 5325),
        ("NVIDIA GH200 480GB", 990, 4000),
        ("GH200 120GB", 990, 4000),
        ("NVIDIA A800-SXM4-80GB", 312, 2039),
        ("NVIDIA H20", 148, 4000),
        ("NVIDIA H800 PCIe", 756, 2039),
        ("NVIDIA B300 SXM6 AC", 2250, 8000),
        ("NVIDIA GB200", 2500, 8000),
        ("AMD Instinct MI355X", 2516.6, 8000),
        ("NVIDIA L20", 119.5, 864),
        ("NVIDIA GeForce RTX 5090", 209.5, 1792),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 500, 1597),
        ("HL-225", 432, 2460),
    ],
)
def test_a_device_is_known_by_its_name(name: str, bfloat16: float, gb_per_s: float, tmp_path: Path) -> None:
    found = device_peaks(on_device(tmp_path, name))
    assert found.peaks is not None
    assert found.peaks.flops_per_ns("bfloat16") == bfloat16 * 1e3
    assert found.peaks.bytes_per_ns == gb_per_s
    assert found.note.startswith(name)
    assert found.peaks.source in found.note


@pytest.mark.parametrize("name", ["Tesla V100-DGXS-32GB", "NVIDIA GeForce RTX 2080 Ti"])
def test_a_device_without_bfloat16_has_no_rate_of_it(name: str) -> None:
    found = known_peaks(name)
    assert found is not None
    assert found.flops_per_ns("bfloat16") is None
    assert found.flops_per_ns("float16") == {"V": 125e3, "G": 113.8e3}[name.split(" ")[1][0]]


@pytest.mark.parametrize("name", ["NVIDIA H100", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "AMD Instinct MI300A", "h100"])
def test_an_unknown_device_has_no_peaks_and_says_so(name: str, tmp_path: Path) -> None:
    found = device_peaks(on_device(tmp_path, name))
    assert (found.device, found.peaks) == (name, None)
    assert found.note == f"the peak rates of {name} are unknown, so there is no floor; give them with --peaks FILE"


def test_a_trace_that_names_no_device_has_no_peaks(tmp_path: Path) -> None:
    for trace in (on_device(tmp_path), on_device(tmp_path, "", "")):
        found = device_peaks(trace)
        assert found.peaks is None
        assert "does not name its device" in found.note


def test_the_device_that_worked_counts(tmp_path: Path) -> None:
    assert device_peaks(on_device(tmp_path, "NVIDIA L4", "NVIDIA A10", used=1)).device == "NVIDIA A10"
    assert device_peaks(on_device(tmp_path, "NVIDIA L4", used=3)).device == "NVIDIA L4", "numbered otherwise"
    assert device_peaks(on_device(tmp_path, "NVIDIA L4", "NVIDIA A10", used=3)).device == ""


def test_different_devices_at_work_are_no_one_device(tmp_path: Path) -> None:
    built = TraceBuilder()
    built.header["deviceProperties"] = [{"id": 0, "name": "NVIDIA L4"}, {"id": 1, "name": "NVIDIA A10"}]
    for device in (0, 1):
        built.span("kernel", "gemm", 10, 10, pid=device, tid=7, stream=7, device=device)
    found = device_peaks(built.load(tmp_path))
    assert (found.device, found.peaks) == ("NVIDIA L4, NVIDIA A10", None)


def test_no_corpus_trace_is_held_against_another_device(corpus: Path) -> None:
    named = {path.name.split(".")[0]: device_peaks(real_trace(path)) for path in corpus.glob("*.json.gz")}
    known = {name: found.device for name, found in named.items() if found.peaks}
    assert known == {
        **dict.fromkeys(
            ["a100_alexnet_cuda_sync", "a100_event_sync_multi_stream", "a100_train_legacy_flows"],
            "NVIDIA A100-PG509-200",
        ),
        "a100_triton_culaunchkernel": "NVIDIA A100-PG509-200",
        **dict.fromkeys(["h100_bert_small", "h100_owlv2_vlm_proxy", "h100_qwen15_0"], "NVIDIA H100 80GB HBM3"),
        "mi300x_sglang_prefill_decode": "AMD Instinct MI300X",
        "v100_epoch_timestamps": "Tesla V100-SXM2-32GB",
    }


def test_every_device_that_the_second_corpus_names_is_known() -> None:
    folder = SHARED / "corpus_2"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: the second set of real traces isn't here")
    named = {name for path in folder.rglob("*.json.gz") for name in named_at_the_head_of(path)}
    assert len(named) >= 5
    assert [name for name in sorted(named) if known_peaks(name) is None] == []


def test_the_table_is_sound() -> None:
    names = [name for peaks in DEVICES for name in peaks.names]
    assert len(names) == len(set(names))
    for peaks in DEVICES:
        rates = dict(peaks.tflops)
        assert peaks.source
        single = rates.get("float32", 0.0)
        assert max(rates.get("float16", 0.0), rates.get("bfloat16", 0.0)) >= single, peaks.names
        assert rates.get("tf32", single) >= single, peaks.names
        assert rates.get("float8", rates.get("bfloat16", 0.0)) >= rates.get("bfloat16", 0.0), peaks.names
        assert 100 < peaks.memory_gb_per_s < 10_000
        assert 1 < peaks.cache_mb < 300


def test_float32_takes_the_faster_rate_unless_it_is_known_not_to() -> None:
    h100, mi210 = known_peaks("NVIDIA H100 PCIe"), known_peaks("AMD Instinct MI210")
    assert h100 is not None
    assert mi210 is not None
    assert h100.flops_per_ns("float32") == 378e3
    assert h100.flops_per_ns("float32", without_tf32=True) == 51.2e3
    assert mi210.flops_per_ns("float32") == 45.3e3
    assert h100.flops_per_ns("int64") is None


def test_the_users_own_peaks_come_first(tmp_path: Path) -> None:
    own = [Peaks(("NVIDIA L4",), 250, 48, (("float16", 100.0),), "measured")]
    assert known_peaks("NVIDIA L4", own) is own[0]
    assert known_peaks("NVIDIA A10", own) is not None
    anything = [Peaks(("*",), 10, 1, (("float32", 1.0),), "guess")]
    assert known_peaks("a toaster", anything) is anything[0]
    known = known_peaks("NVIDIA L4", anything)
    assert known is not None
    assert known.source != "guess", "* is for what nothing else names"
    found = device_peaks(on_device(tmp_path, ""), anything)
    assert found.peaks is anything[0]


def test_a_file_of_peaks_is_read_as_it_was_written(tmp_path: Path) -> None:
    peaks = Peaks(('CPU "X" \\ 64',), 98.5, 32, (("float32", 1.25), ("bfloat16", 2.5)), "doctor --measure")
    path = tmp_path / "peaks.toml"
    path.write_text(peaks_toml(peaks) + peaks_toml(Peaks(("*",), 10, 0, (("float32", 1),), "guess")))
    assert read_peaks(path)[0] == peaks
    assert read_peaks(path)[1].names == ("*",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name = ", "as TOML"),
        ("", r"no \[\[device\]\]"),
        ("device = 3", r"no \[\[device\]\]"),
        ("device = [3]", "device 1 is not a table"),
        ('[[device]]\nmemory_gb_per_s = 3\n[device.tflops]\nfloat32 = 1', "no name"),
        ('[[device]]\nname = "x"\nmemory_gb_per_s = 3', "no rates"),
        ('[[device]]\nname = "x"\nmemory_gb_per_s = "3"\n[device.tflops]\nfloat32 = 1', "memory_gb_per_s is '3'"),
        ('[[device]]\nname = "x"\nmemory_gb_per_s = 3\n[device.tflops]\nfloat32 = -1', "float32 is -1"),
        ('[[device]]\nname = "x"\nmemory_gb_per_s = 3\n[device.tflops]\nfp32 = 1', "a rate of 'fp32'"),
        ('[[device]]\nname = "x"\nmemory = 3\n[device.tflops]\nfloat32 = 1', "a line 'memory'"),
    ],
)  # fmt: skip
def test_a_file_that_isnt_one_is_refused_in_one_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "peaks.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_peaks(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no file at"):
        read_peaks(tmp_path / "none.toml")
