"""The tables of a store: each column's type, unit and definition, declared once.

Files, SQL, DataFrames and analysis/README.md follow from what stands here. Columns that other tables have too are those
of `columns.py`. Parquet's own types are named as pyarrow names them, so that nothing has to be imported to know them.
"""

from __future__ import annotations

from typing import Final

from gemma_trace.errors import ConfigError
from gemma_trace.store import columns
from gemma_trace.store.columns import (
    StoreColumn,
    StoreTable,
    bytes_column,
    count_column,
    ns_column,
    share_column,
    small_column,
    text_column,
)

RUN_ID_DIGITS: Final = 32
"""A run's id is so many hexadecimal digits of the SHA-256 of its file, as it is stored."""

RUN_ID: Final = text_column(
    "run_id", "the run: the first 32 hexadecimal digits of the SHA-256 of its file's content, as it is stored"
)

_FILE: Final = text_column("file", "the file's path; NULL without `--keep-names`", optional=True)

RUNS: Final = StoreTable(
    "runs",
    "one trace",
    (
        RUN_ID,
        text_column(
            "name",
            "the first 12 digits of `run_id`; with `--keep-names` the run's name, of a trace that isn't ours its "
            "file's",
        ),
        small_column(
            "rank", "the global rank in its job; NULL where neither the trace nor its file's name tells", optional=True
        ),
        small_column("world_size", "how many ranks the job has; NULL where the trace doesn't tell", optional=True),
        columns.CREATED_NS.or_null("where the trace doesn't tell"),
        text_column(
            "model",
            "what the model is called: a preset, or the last part of a Hub id or of the path that it was loaded from; "
            "NULL in a trace that isn't ours, as in the next four",
            optional=True,
        ),
        *(col.or_null() for col in (columns.WEIGHTS, columns.DTYPE, columns.DEVICE, columns.IMAGE_BACKEND)),
        columns.DEVICE_NAME.or_null("where the trace doesn't tell"),
        small_column("devices", "how many devices ran activities"),
        text_column(
            "driver",
            "the version of the device's driver; NULL where the trace doesn't tell, as in the next four",
            optional=True,
        ),
        text_column("cuda", "the version of CUDA or HIP", optional=True),
        text_column("torch", "the version of torch", optional=True),
        text_column("transformers", "the version of transformers", optional=True),
        text_column("python", "the version of Python", optional=True),
        text_column(
            "framework",
            "what ran the model: `gemma-trace` (a capture of ours), `vllm`, `sglang`, `transformers`; NULL where "
            "nothing in the trace tells",
            optional=True,
        ),
        text_column("framework_version", "its version; NULL where the trace doesn't tell", optional=True),
        text_column(
            "config",
            "the options of a capture of ours as a JSON object with sorted keys, without paths, prompts and names; "
            "NULL in other traces",
            optional=True,
        ),
        text_column("verdict", "`ok`, `warning` or `error`: the worst of its `findings`"),
        count_column("requests", "how many profiled requests it has"),
        count_column("spans", "how many spans it has"),
        count_column("activities", "how many device activities it has"),
        ns_column("wall_ns", "Σ of the wall times of its profiled requests, which is Σ `time_ns` over its `stages`"),
        text_column("timing", "`timed`: `ttft_ns` is without the profiler; `profiled`: it is under it"),
        ns_column("ttft_ns", "the median of its samples of `ttft`, rounded down; NULL if it has none", optional=True),
        count_column("ttft_samples", "how many samples that is of"),
        StoreColumn(
            "inflation",
            "float64",
            "",
            "how many times longer TTFT is under the profiler, as in `gemma-trace summarize`; NULL without a timed "
            "pass",
            True,
        ),
        columns.FILE_BYTES,
        _FILE,
        text_column("indexer", "the version of gemma-trace that indexed it"),
    ),
)

STAGES: Final = StoreTable(
    "stages",
    "a stage of a profiled request; the rows of `gemma-trace stages TRACE --format json`",
    (
        RUN_ID,
        columns.REQUEST,
        columns.STAGE,
        *(columns.HOST_NS, columns.DEVICE_BUSY_NS, columns.DEVICE_SUM_NS),
        *(columns.TIME_NS, columns.DEVICE_NS, columns.EXPOSED_HOST_NS),
        *(columns.ACTIVITIES, columns.LAUNCHES),
        columns.SHARED_NS.or_null(),
    ),
)

KERNELS: Final = StoreTable(
    "kernels",
    "a kernel in a stage, over the whole trace; of a trace without device activities an op by its self time. Each "
    "activity is in one row",
    (
        RUN_ID,
        text_column("stage", "the stage that launched it; `unlinked` where that isn't in the trace"),
        text_column("side", "`device` (activities) or `host` (self time of ops)"),
        text_column("kernel", "its name; `(others)` is all but the 500 with the most time of the trace"),
        columns.FAMILY,
        count_column("count", "how many activities, or calls"),
        *(columns.SUM_NS, columns.MIN_NS, columns.MEDIAN_NS.with_note(", rounded down"), columns.MAX_NS),
    ),
)

COLLECTIVES: Final = StoreTable(
    "collectives",
    "collectives of one kind, group size, type and stage on this rank",
    (
        RUN_ID,
        text_column("kind", "e.g. `all_reduce`, as `gemma-trace ranks` names it"),
        columns.GROUP_SIZE.or_null("where the trace doesn't tell"),
        columns.ELEMENT_TYPE.or_null("where the trace doesn't tell"),
        text_column("stage", "the stage that called for them; `unlinked` where that isn't in the trace"),
        text_column(
            "side", "`device`: time of activities; `host`: of the calls that wait, if no device is in the trace"
        ),
        count_column("count", "how many there are"),
        columns.SUM_NS.with_note(" on this rank, waits for other ranks included"),
        *(columns.MIN_NS, columns.MAX_NS),
        ns_column("exposed_ns", "how long one runs and no computation does"),
        bytes_column(
            "size_bytes", "Σ of their sizes, as nccl-tests counts them; NULL if one isn't known", optional=True
        ),
    ),
)

FINDINGS: Final = StoreTable(
    "findings",
    "a finding of `gemma-trace check`, but for secrets",
    (
        RUN_ID,
        text_column("code", "for programs"),
        text_column("severity", "`info`, `warning` or `error`"),
        count_column("count", "of events, or of whatever the message speaks of"),
        text_column("message", "what is wrong, redacted; with `--keep-names` as it is"),
    ),
)

DECODE: Final = StoreTable(
    "decode",
    "a series of tokens after the first",
    (
        RUN_ID,
        small_column("series", "its index, from 0; one a request where the trace tells its requests"),
        text_column("source", "`timed`, `profiled` or `steps`, as in `gemma-trace stages`"),
        columns.BATCH,
        count_column("intervals", "how many intervals between tokens it has"),
        ns_column("sum_ns", "Σ of the intervals"),
        ns_column("tpot_ns", "the mean interval, rounded down"),
        ns_column(
            "slope_ns",
            "by how much a token takes longer than the one before it, rounded; NULL under 5 intervals",
            optional=True,
        ),
        share_column(
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
        columns.ALLOCATOR,
        columns.REQUEST.or_null("over the trace"),
        columns.STAGE.or_null("over the trace"),
        columns.PEAK_BYTES,
        bytes_column("reserved_bytes", "the most it had reserved; NULL for a stage", optional=True),
        columns.RESIDENT_BYTES.or_null("for the host, and for a stage"),
        columns.START_BYTES.or_null("over the trace"),
        columns.ALLOCATED_BYTES.or_null("over the trace"),
        columns.FREED_BYTES.or_null("over the trace"),
        columns.ACTIVATIONS_BYTES.or_null("where it can't be told, and over the trace"),
    ),
)

SAMPLES: Final = StoreTable(
    "samples",
    "a measure of one request",
    (
        RUN_ID,
        columns.TIMING,
        columns.REQUEST.with_note(", in its pass"),
        text_column(
            "measure",
            "`wall`, `ttft`, `tpot`, `unattributed`, `preprocessing_call` (the whole processor call) or a stage, whose "
            "time is that up to the first token in a timed pass, of `decode` that of a step, and the share of the wall "
            "time in a profiled one",
        ),
        ns_column("value_ns", "how long it took; a rest can be below 0 where two clocks differ"),
    ),
)

FAILURES: Final = StoreTable(
    "failures",
    "a file that is no trace, or can't be read",
    (
        text_column("run_id", "as in `runs`; of a file whose content can't be read a hash of its path"),
        _FILE,
        columns.FILE_BYTES.or_null("where it can't be told"),
        text_column("error", "the kind of error, e.g. `TraceFormatError`"),
        text_column("message", "what is wrong, and what to do; without `--keep-names` redacted"),
        text_column("indexer", "the version of gemma-trace that tried"),
    ),
)

TABLES: Final[dict[str, StoreTable]] = {
    table.name: table for table in (RUNS, STAGES, KERNELS, COLLECTIVES, FINDINGS, DECODE, MEMORY, SAMPLES, FAILURES)
}
"""All tables by name. In a store each has one more column, `day` (the folder): the day of `created_ns`, in UTC."""


def table_named(name: str) -> StoreTable:
    """The table of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in TABLES:
        raise ConfigError(f"a store has no table {name!r}; it has {', '.join(TABLES)}")
    return TABLES[name]


RUN_TABLES: Final = tuple(name for name in TABLES if name not in ("runs", "failures"))
"""The tables that belong to a run, and count only if its row in `runs` is there."""

UNKNOWN_DAY: Final = "1970-01-01"
"""The day of what doesn't tell when it was captured, and of all failures."""
