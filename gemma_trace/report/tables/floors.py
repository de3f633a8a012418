"""The least time of a stage's work: the columns of its floors, and what is said under them."""

from __future__ import annotations

from typing import Any, Final

from gemma_trace.analysis.roofline.floor_sums import Floors
from gemma_trace.report.table import Col, Table
from gemma_trace.report.units import GB_PER_S, GFLOP, MB, MS, NUMBER, PCT, TFLOP_PER_S
from gemma_trace.store import columns

HAS_FLOOR: Final = "a stage has a floor"

FLOPS: Final = Col("flops", "", GFLOP, definition="Σ FLOPs of the ops; formulas below")
MATRIX_FLOPS: Final = Col(
    "matrix_flops", definition="those of matrix products, convolutions and attention among them; formulas below"
)
BYTES: Final = Col("bytes", "", MB, definition="Σ inputs read once + outputs written once")
FLOOR: Final = Col(
    "floor_ns",
    "floor",
    MS,
    definition=(
        "Σ over the ops of the larger of both, less one cacheful a range, but no less than `compute_ns`; where the "
        "stage's activities overlap, the larger of `compute_ns` and `memory_ns`. Of several devices it is each one's "
        "own, summed up as `device_busy_ns` is"
    ),
    priority=3,
    when=HAS_FLOOR,
)
DISTANCE: Final = Col(
    "distance",
    "× floor",
    NUMBER,
    definition='`measured_ns` / `floor_ns`; "× floor" in tables',
    priority=3,
    when=HAS_FLOOR,
)
BOUND: Final = Col("bound", "bound", definition="`compute` or `memory`: which of the two is more", priority=3)
COVERED: Final = Col(
    "covered_pct",
    "covered",
    PCT,
    definition=(
        "100 · work of ops with a formula / work of the stage, both on the device, or on the host; the rest counts "
        "nothing"
    ),
)
TFLOPS: Final = Col(
    "tflop_per_s", "", TFLOP_PER_S, definition="`flops` / the time that is covered, in 10¹² FLOP a second"
)
BANDWIDTH: Final = Col("gb_per_s", "", GB_PER_S, definition="`bytes` / the time that is covered, in 10⁹ bytes a second")

FLOOR_FILE: Final = (
    Col.stored(columns.REQUEST),
    Col.stored(columns.STAGE),
    Col("on", definition="`device` or `host`: where the work is"),
    FLOPS,
    MATRIX_FLOPS,
    BYTES,
    FLOOR,
    Col(
        "floor_source",
        definition=(
            "`shapes`; or `config`, where shapes tell under half of the device's work (graph replays, compiled stages, "
            "captures without shapes): products, parameters, and keys and values in the cache, as the Gemma 3 model of "
            "the metadata needs them (`gemma_trace/analysis/roofline/gemma3_floor.py`)"
        ),
    ),
    Col(
        "compute_ns",
        definition=(
            "Σ `matrix_flops` / the rate for the matrices' dtype, without convolutions whose windows overlap, which "
            "Winograd's algorithm or an FFT can speed up"
        ),
    ),
    Col(
        "memory_ns",
        definition=(
            "Σ of the bytes that no cache holds / the memory's rate: parameters, and of what an op else reads, and of "
            "what it else writes, all beyond one cacheful; less one cacheful a range of the stage on each device"
        ),
    ),
    BOUND,
    Col("measured_ns", definition="`device_busy_ns` of the stage; on a CPU its `time_ns`"),
    DISTANCE,
    COVERED,
)
"""A row per stage of each request."""

_FLOOR_NOTE: Final = (
    "floor: the least time in which the device can run the stage's ops; × floor: the busy time divided by the floor."
)
_HOST_FLOOR_NOTE: Final = (
    "floor: the least time in which the CPU can run the stage's ops; × floor: the stage's time divided by the floor."
)
_CONFIG_NOTE: Final = "The trace has no shapes for {stages}, so the floor comes from the model's config."


def floor_notes(floors: Floors) -> tuple[str, ...]:
    """What the columns mean and what they were held against; on a device without known rates why there are none."""
    if not floors.are_known:
        is_unknown = floors.device.peaks is None and floors.floors and floors.on_device
        return (floors.device.note,) if is_unknown else ()
    by_config = [floor.stage for floor in floors.sums if floor.by_config]
    return (
        _FLOOR_NOTE if floors.on_device else _HOST_FLOOR_NOTE,
        *((_CONFIG_NOTE.format(stages=", ".join(by_config)),) if by_config else ()),
        f"Peak rates: {floors.device.note}",
    )


def floor_totals(floors: Floors) -> dict[str, Any]:
    """For files: a row per stage of each request, and the device."""
    return {
        "floors": Table("Floors", FLOOR_FILE, floors.floors),
        "device": floors.device.device,
        "peaks": floors.device.note,
    }
