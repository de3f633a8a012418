"""The tables of a store: each column's type, unit and definition, declared once.

Files, SQL, DataFrames and analysis/README.md follow from what stands here. Parquet's own types are named as pyarrow
names them, so that nothing has to be imported to know them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION: Final = 1
"""Raised when a column changes its meaning or goes; a new column alone doesn't raise it, and reads as NULL before."""

RUN_ID_DIGITS: Final = 32
"""A run's id is so many hexadecimal digits of the SHA-256 of its file, as it is stored."""

ColumnType = Literal["string", "int64", "int32", "float64", "bool"]


@dataclass(frozen=True)
class StoreColumn:
    """A column.

    Attributes:
        key: its name, which ends in its unit if it has one.
        type: as pyarrow names it.
        unit: "ns", "bytes", "%"; "" where there is none.
        definition: in Markdown.
        is_optional: whether it may be NULL.
    """

    key: str
    type: ColumnType
    unit: str
    definition: str
    is_optional: bool = False


@dataclass(frozen=True)
class StoreTable:
    """A table: a folder of the store.

    Attributes:
        definition: what a row is.
    """

    name: str
    definition: str
    columns: tuple[StoreColumn, ...]

    @property
    def keys(self) -> list[str]:
        """The names of the columns, in order."""
        return [column.key for column in self.columns]

    def arrow_schema(self) -> pa.Schema:
        """The columns as pyarrow has them; the schema's version is in the metadata."""
        import pyarrow as pa

        fields = [pa.field(column.key, pa.type_for_alias(column.type), column.is_optional) for column in self.columns]
        return pa.schema(fields, {"gemma_trace_schema": str(SCHEMA_VERSION), "gemma_trace_table": self.name})


def _text(key: str, definition: str, *, optional: bool = False) -> StoreColumn:
    return StoreColumn(key, "string", "", definition, optional)


def _ns(key: str, definition: str, *, optional: bool = False) -> StoreColumn:
    return StoreColumn(key, "int64", "ns", definition, optional)


def _bytes(key: str, definition: str, *, optional: bool = False) -> StoreColumn:
    return StoreColumn(key, "int64", "bytes", definition, optional)


def _count(key: str, definition: str, *, optional: bool = False) -> StoreColumn:
    return StoreColumn(key, "int64", "", definition, optional)


def _small(key: str, definition: str, *, optional: bool = False) -> StoreColumn:
    return StoreColumn(key, "int32", "", definition, optional)


def _share(key: str, definition: str, *, optional: bool = False) -> StoreColumn:
    return StoreColumn(key, "float64", "%", definition, optional)


RUN_ID: Final = _text(
    "run_id", "the run: the first 32 hexadecimal digits of the SHA-256 of its file's content, as it is stored"
)
_REQUEST: Final = _small("request", "the request's index, from 0")
_STAGE: Final = _text("stage", "the stage's name, as `gemma-trace stages` has it")

RUNS: Final = StoreTable(
    "runs",
    "one trace",
    (
        RUN_ID,
        _text(
            "name",
            "the first 12 digits of `run_id`; with `--keep-names` the run's name, of a trace that isn't ours its "
            "file's",
        ),
        _small(
            "rank", "the global rank in its job; NULL where neither the trace nor its file's name tells", optional=True
        ),
        _small("world_size", "how many ranks the job has; NULL where the trace doesn't tell", optional=True),
        _ns(
            "created_ns",
            "when it was captured, in ns since 1970 (UTC); NULL where the trace doesn't tell",
            optional=True,
        ),
        _text(
            "model",
            "what the model is called: a preset, or the last part of a Hub id or of the path that it was loaded from; "
            "NULL in a trace that isn't ours, as in the next four",
            optional=True,
        ),
        _text("weights", "`random` or `pretrained`", optional=True),
        _text("dtype", "of weights and activations, e.g. `bfloat16`", optional=True),
        _text("device", "`cpu` or `cuda`", optional=True),
        _text("image_backend", "`torchvision` or `pil`", optional=True),
        _text("device_name", "the device's marketing name; NULL where the trace doesn't tell", optional=True),
        _small("devices", "how many devices ran activities"),
        _text(
            "driver",
            "the version of the device's driver; NULL where the trace doesn't tell, as in the next four",
            optional=True,
        ),
        _text("cuda", "the version of CUDA or HIP", optional=True),
        _text("torch", "the version of torch", optional=True),
        _text("transformers", "the version of transformers", optional=True),
        _text("python", "the version of Python", optional=True),
        _text(
            "framework",
            "what ran the model: `gemma-trace` (a capture of ours), `vllm`, `sglang`, `transformers`; NULL where "
            "nothing in the trace tells",
            optional=True,
        ),
        _text("framework_version", "its version; NULL where the trace doesn't tell", optional=True),
        _text(
            "config",
            "the options of a capture of ours as a JSON object with sorted keys, without paths, prompts and names; "
            "NULL in other traces",
            optional=True,
        ),
        _text("verdict", "`ok`, `warning` or `error`: the worst of its `findings`"),
        _count("requests", "how many profiled requests it has"),
        _count("spans", "how many spans it has"),
        _count("activities", "how many device activities it has"),
        _ns("wall_ns", "Σ of the wall times of its profiled requests, which is Σ `time_ns` over its `stages`"),
        _text("timing", "`timed`: `ttft_ns` is without the profiler; `profiled`: it is under it"),
        _ns("ttft_ns", "the median of its samples of `ttft`, rounded down; NULL where it has none", optional=True),
        _count("ttft_samples", "how many samples that is of"),
        StoreColumn(
            "inflation",
            "float64",
            "",
            "how many times longer TTFT is under the profiler, as in `gemma-trace summarize`; NULL without a timed "
            "pass",
            True,
        ),
        _bytes("file_bytes", "the size of the trace's file"),
        _text("file", "the file's path; NULL without `--keep-names`", optional=True),
        _text("indexer", "the version of gemma-trace that indexed it"),
    ),
)

STAGES: Final = StoreTable(
    "stages",
    "a stage of a profiled request; the rows of `gemma-trace stages TRACE --format json`",
    (
        RUN_ID,
        _REQUEST,
        _STAGE,
        _ns("host_ns", "length of the stage's ranges on the host, less that of the stages nested in them"),
        _ns("device_busy_ns", "length of the union, on each device, of the activities that it launched, summed up"),
        _ns("device_sum_ns", "Σ duration of those activities"),
        _ns("time_ns", "share of the request's wall time; Σ over a request's stages is its wall time, exactly"),
        _ns("device_ns", "the part of `time_ns` in which the device works for the stage"),
        _ns("exposed_host_ns", "the part in which all devices are idle"),
        _count("activities", "device activities that the stage launched"),
        _count("launches", "the calls that launched them"),
        _ns(
            "shared_ns",
            "the part of `time_ns` in which a server's engine worked for other requests in the same step, too",
            optional=True,
        ),
    ),
)

KERNELS: Final = StoreTable(
    "kernels",
    "a kernel in a stage, over the whole trace; of a trace without device activities an op by its self time. Each "
    "activity is in one row",
    (
        RUN_ID,
        _text("stage", "the stage that launched it; `unlinked` where that isn't in the trace"),
        _text("side", "`device` (activities) or `host` (self time of ops)"),
        _text("kernel", "its name; `(others)` is all but the 500 with the most time of the trace"),
        _text("family", "what kind of work most of its time is"),
        _count("count", "how many activities, or calls"),
        _ns("sum_ns", "Σ of their lengths"),
        _ns("min_ns", "the shortest"),
        _ns("median_ns", "their median, rounded down"),
        _ns("max_ns", "the longest"),
    ),
)

COLLECTIVES: Final = StoreTable(
    "collectives",
    "collectives of one kind, group size, type and stage on this rank",
    (
        RUN_ID,
        _text("kind", "e.g. `all_reduce`, as `gemma-trace ranks` names it"),
        _count("group_size", "how many ranks the group has; NULL where the trace doesn't tell", optional=True),
        _text("dtype", "of the elements; NULL where the trace doesn't tell", optional=True),
        _text("stage", "the stage that called for them; `unlinked` where that isn't in the trace"),
        _text("side", "`device`: time of activities; `host`: of the calls that wait, in a trace without a device"),
        _count("count", "how many there are"),
        _ns("sum_ns", "Σ of their durations on this rank, waits for other ranks included"),
        _ns("min_ns", "the shortest"),
        _ns("max_ns", "the longest"),
        _ns("exposed_ns", "how long one runs and no computation does"),
        _bytes("size_bytes", "Σ of their sizes, as nccl-tests counts them; NULL where one isn't known", optional=True),
    ),
)

FINDINGS: Final = StoreTable(
    "findings",
    "a finding of `gemma-trace check`, but for secrets",
    (
        RUN_ID,
        _text("code", "for programs"),
        _text("severity", "`info`, `warning` or `error`"),
        _count("count", "of events, or of whatever the message speaks of"),
        _text("message", "what is wrong, redacted; with `--keep-names` as it is"),
    ),
)

DECODE: Final = StoreTable(
    "decode",
    "a series of tokens after the first",
    (
        RUN_ID,
        _small("series", "its index, from 0; one a request where the trace tells its requests"),
        _text("source", "`timed`, `profiled` or `steps`, as in `gemma-trace stages`"),
        _count("batch", "sequences a request, each of which gets one token a step"),
        _count("intervals", "how many intervals between tokens it has"),
        _ns("sum_ns", "Σ of the intervals"),
        _ns("tpot_ns", "the mean interval, rounded down"),
        _ns(
            "slope_ns",
            "by how much a token takes longer than the one before it, rounded; NULL under 5 intervals",
            optional=True,
        ),
        _share(
            "jitter_pct",
            "1.4826 · MAD around that line, in % of the mean interval; NULL under 5 intervals",
            optional=True,
        ),
    ),
)

MEMORY: Final = StoreTable(
    "memory",
    "an allocator over the whole trace (`request` and `stage` are NULL), or while a stage of a request runs",
    (
        RUN_ID,
        _text("allocator", "`host`, `device 0` and so on"),
        _small("request", "the request's index, from 0; NULL over the trace", optional=True),
        _text("stage", "the stage's name; NULL over the trace", optional=True),
        _bytes("peak_bytes", "the most it had given out"),
        _bytes("reserved_bytes", "the most it had reserved; NULL for a stage", optional=True),
        _bytes("resident_bytes", "given out before its first event; NULL for the host, and for a stage", optional=True),
        _bytes("start_bytes", "given out when the stage first begins; NULL over the trace", optional=True),
        _bytes("allocated_bytes", "Σ over the events that allocate; NULL over the trace", optional=True),
        _bytes("freed_bytes", "Σ over the events that free; NULL over the trace", optional=True),
        _bytes(
            "activations_bytes",
            "as in `gemma-trace stages`; NULL where it can't be told, and over the trace",
            optional=True,
        ),
    ),
)

SAMPLES: Final = StoreTable(
    "samples",
    "a measure of one request",
    (
        RUN_ID,
        _text("timing", "`timed`: without the profiler; `profiled`: under it"),
        _small("request", "the request's index in its pass, from 0"),
        _text(
            "measure",
            "`wall`, `ttft`, `tpot`, `unattributed`, `preprocessing_call` (the whole processor call) or a stage, whose "
            "time is that up to the first token in a timed pass, of `decode` that of a step, and the share of the wall "
            "time in a profiled one",
        ),
        _ns("value_ns", "how long it took; a rest can be below 0 where two clocks differ"),
    ),
)

FAILURES: Final = StoreTable(
    "failures",
    "a file that is no trace, or can't be read",
    (
        _text("run_id", "as in `runs`; of a file whose content can't be read a hash of its path"),
        _text("file", "the file's path; NULL without `--keep-names`", optional=True),
        _bytes("file_bytes", "the size of the file; NULL where it can't be told", optional=True),
        _text("error", "the kind of error, e.g. `TraceFormatError`"),
        _text("message", "what is wrong, and what to do; without `--keep-names` redacted"),
        _text("indexer", "the version of gemma-trace that tried"),
    ),
)

TABLES: Final[dict[str, StoreTable]] = {
    table.name: table for table in (RUNS, STAGES, KERNELS, COLLECTIVES, FINDINGS, DECODE, MEMORY, SAMPLES, FAILURES)
}
"""All tables by name. In a store each has one more column, `day` (the folder): the day of `created_ns`, in UTC."""

RUN_TABLES: Final = tuple(name for name in TABLES if name not in ("runs", "failures"))
"""The tables that belong to a run, and count only if its row in `runs` is there."""

UNKNOWN_DAY: Final = "1970-01-01"
"""The day of what doesn't tell when it was captured, and of all failures."""
