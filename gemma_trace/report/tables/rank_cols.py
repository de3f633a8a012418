"""The columns of the tables of a job of many ranks."""

from __future__ import annotations

from typing import Final

from gemma_trace.foreign import NONE
from gemma_trace.ranks.all_to_all import AllToAllLine
from gemma_trace.ranks.collective_lines import CollectiveLine
from gemma_trace.ranks.waits import RankLine
from gemma_trace.report.table import Col
from gemma_trace.report.units import COUNT, GB_PER_S, LABEL, MB, MS, PCT, RATIO, STAGE, TEXT, US, one_decimal
from gemma_trace.store import columns

SEVERAL_HOSTS: Final = "there are several machines"
CORRECTED: Final = "a clock was corrected"
GROUPS: Final = "groups have names"


def _known(value: int) -> int | None:
    return None if value == NONE else value


def _group_size(line: CollectiveLine) -> int | None:
    return _known(line.group_size)


def _size(line: CollectiveLine) -> int | None:
    return _known(line.size_bytes)


def _last_rank(line: CollectiveLine) -> int | None:
    return _known(line.last_rank)


def _most_bytes_rank(line: AllToAllLine) -> int | None:
    return _known(line.most_bytes_rank)


def _least_ns_rank(line: AllToAllLine) -> int | None:
    return _known(line.least_ns_rank)


def _device(line: RankLine) -> int | None:
    return _known(line.device)


def _offset(line: RankLine) -> int | None:
    return line.clock.offset_ns if line.clock.collectives else None


def _spread(line: RankLine) -> int | None:
    return line.clock.spread_ns if line.clock.collectives else None


def _wait_share(line: RankLine) -> float | None:
    return 100 * line.exposed_wait_ns / line.wall_ns if line.wall_ns else None


RANK: Final = Col("rank", "rank", COUNT, definition="the rank's number in the job")

RANK_COLS: Final = (
    RANK,
    Col(
        "host",
        "host",
        COUNT,
        definition="a number for its machine, told apart by device indices",
        when=SEVERAL_HOSTS,
        priority=5,
    ),
    Col(
        "device",
        "device",
        COUNT,
        value=_device,
        definition="the index of its device; empty where it isn't known",
        priority=6,
    ),
    Col("requests", "requests", COUNT, definition="how many requests or steps it has", priority=6),
    Col("wall_ns", "wall", MS, definition="the length of its requests together"),
    Col(
        "compute_ns", "compute", MS, definition="how long its device computed, communication aside (union)", priority=2
    ),
    Col("collectives", "collectives", COUNT, definition="how many collectives it took part in", priority=4),
    Col(
        "collective_ns",
        "in collectives",
        MS,
        definition="Σ duration of the matched ones; `latency_ns + wait_ns`, exactly",
        priority=1,
    ),
    Col("latency_ns", "latency", MS, definition="Σ of the shortest duration of each over the ranks", priority=2),
    Col("wait_ns", "wait", MS, definition="Σ of what its own durations are longer: it waited for another rank"),
    Col("exposed_ns", "exposed", MS, definition="how long collectives ran while nothing computed", priority=1),
    Col("overlapped_ns", "overlapped", MS, definition="the rest of the time in collectives", priority=3),
    Col("exposed_wait_ns", "exposed wait", MS, definition="how long it waited while nothing computed", priority=1),
    Col("wait_share_pct", "", PCT, value=_wait_share, definition="`exposed_wait_ns` over `wall_ns`", priority=2),
    Col(
        "unmatched", "unmatched", COUNT, definition="collectives without a part of another rank beside them", priority=4
    ),
    Col("unmatched_ns", "unmatched", MS, definition="Σ duration of those", priority=5),
    Col(
        "clock_offset_ns",
        "clock",
        US,
        value=_offset,
        definition="how far its clock is ahead of the first rank's, by the ends of collectives",
        priority=3,
    ),
    Col(
        "clock_spread_ns",
        "±",
        US,
        value=_spread,
        definition="how far single collectives scatter around that (MAD · 1.4826)",
        priority=3,
    ),
    Col(
        "clock_drift_ppm",
        "drift ppm",
        TEXT,
        show=one_decimal,
        value="clock.drift_ppm",
        definition="by how many millionths its clock goes faster",
        priority=7,
        when=CORRECTED,
    ),
    Col(
        "clock_is_corrected",
        "",
        TEXT,
        value="clock.is_corrected",
        definition="whether times are corrected by it",
        when="never",
    ),
)
"""A row per rank."""

STAGE_COLS: Final = (
    Col.stored(columns.STAGE, "stage", STAGE),
    Col("ranks", "ranks", COUNT, definition="how many ranks have it", priority=5),
    Col("mean_ns", "mean", MS, definition="its time per request, the mean over the ranks"),
    Col("min_ns", "min", MS, definition="of the rank with the least", priority=2),
    Col("max_ns", "max", MS, definition="of the rank with the most"),
    Col("max_rank", "max rank", COUNT, definition="which rank that is"),
    Col("own_mean_ns", "own mean", MS, definition="the mean without the exposed wait for other ranks", priority=3),
    Col("own_max_ns", "own max", MS, definition="the most without it", priority=3),
    Col(
        "own_max_rank", "own max rank", COUNT, definition="which rank that is: the one that others wait for", priority=3
    ),
    Col(
        "communication_ns",
        "exposed comm.",
        MS,
        definition="exposed communication in it, the mean over the ranks",
        priority=1,
    ),
    Col("wait_ns", "of it wait", MS, definition="the part that is wait for other ranks", priority=2),
    Col("min_rank", "min rank", COUNT, definition="the rank with the least", priority=8, when="never"),
)
"""A row per stage."""

GROUP: Final = Col("group", "group", LABEL, definition="the process group's name", priority=2, when=GROUPS)
DESCRIPTION: Final = Col("description", "of", LABEL, definition="what the group is for", priority=6, when=GROUPS)

COLLECTIVE_COLS: Final = (
    Col("kind", "collective", TEXT, definition="what it does"),
    *(GROUP, DESCRIPTION),
    Col.stored(columns.GROUP_SIZE, "ranks", COUNT, value=_group_size, priority=3),
    Col.stored(columns.ELEMENT_TYPE, "type", priority=4),
    Col("size_bytes", "size", MB, value=_size, definition="of one, as nccl-tests counts it"),
    Col("count", "count", COUNT, definition="how many; the ranks' parts in one are one"),
    Col("latency_ns", "latency", US, definition="the shortest duration over the ranks, the median", priority=1),
    Col("wait_ns", "wait", US, definition="what durations are longer, the mean over all parts"),
    Col("wait_max_ns", "max wait", US, definition="the largest of these", priority=3),
    Col("last_rank", "last rank", COUNT, value=_last_rank, definition="the rank that came last most often", priority=2),
    Col("last_count", "", COUNT, definition="in how many of them", priority=8, when="never"),
    Col("algorithm_gb_per_s", "alg. bw", GB_PER_S, definition="size over latency", priority=3),
    Col("bus_gb_per_s", "bus bw", GB_PER_S, definition="that times the factor of nccl-tests", priority=1),
    Col("exposed_ns", "exposed", US, definition="how long a part is exposed, the mean", priority=4),
    Col("overlapped_ns", "overlapped", US, definition="the rest of its duration, the mean", priority=5),
    Col("unmatched", "unmatched", COUNT, definition="parts that have no part of another rank beside them", priority=5),
    Col("calls", "parts", COUNT, definition="how many parts all ranks have in them", priority=8, when="never"),
    Col("latency_sum_ns", "Σ latency", MS, definition="Σ of the latencies", priority=8, when="never"),
)
"""A row per kind, group, type and size."""

ALL_TO_ALL_COLS: Final = (
    *(GROUP.at(0, when=""), DESCRIPTION),
    Col("ranks", "ranks", COUNT, definition="how many ranks take part"),
    Col("count", "count", COUNT, definition="how many all-to-alls a rank has at most"),
    Col("mean_bytes", "mean", MB, definition="what a rank sends in all of them, the mean over the ranks", priority=2),
    Col("most_bytes", "most", MB, definition="what the rank sends that sends most", priority=2),
    Col("most_bytes_rank", "by rank", COUNT, value=_most_bytes_rank, definition="which one that is"),
    Col("bytes_imbalance", "bytes most/mean", RATIO, definition="`most_bytes / mean_bytes`"),
    Col("mean_ns", "mean", MS, definition="how long a rank is in all of them, the mean over the ranks", priority=3),
    Col("most_ns", "most", MS, definition="how long the rank is that is in them longest", priority=3),
    Col("time_imbalance", "time most/mean", RATIO, definition="`most_ns / mean_ns`"),
    Col(
        "least_ns_rank",
        "waited for",
        COUNT,
        value=_least_ns_rank,
        definition="the rank that is in them for the shortest time",
    ),
    Col(
        "split_imbalance",
        "splits most/least",
        RATIO,
        definition="what one receiver gets at most over at least",
        priority=4,
    ),
)
"""A row per group with all-to-alls."""

STRAGGLER_COLS: Final = (
    RANK,
    Col("stage", "stage", STAGE, value="late.stage", definition="the stage in which it is late"),
    Col(
        "pattern",
        "pattern",
        TEXT,
        value="late.pattern",
        definition="`repeated`: in the typical request; `random`: in single ones",
    ),
    Col(
        "requests",
        "requests",
        COUNT,
        value="late.requests",
        definition="in how many requests it stands out",
        priority=2,
    ),
    Col(
        "of_requests",
        "of",
        COUNT,
        value="late.of_requests",
        definition="how many requests have the stage on this rank",
        priority=2,
    ),
    Col("first_request", "first", LABEL, value="late.first_request", definition="the first of them", priority=4),
    Col(
        "excess_ns",
        "excess",
        MS,
        value="late.excess_ns",
        definition=("its own time, without wait, less the median of the other ranks' in the same request; the median"),
    ),
    Col(
        "cause",
        "cause",
        TEXT,
        value="late.cause",
        definition="`compute late`, `launch late` or `network slow`: the part that most of the excess is in",
    ),
    Col(
        "compute_ns",
        "compute",
        MS,
        value="late.compute_ns",
        definition="the part in which its device computes",
        priority=3,
    ),
    Col(
        "launch_ns",
        "launch",
        MS,
        value="late.launch_ns",
        definition="the part in which its device waits for the host",
        priority=3,
    ),
    Col(
        "network_ns",
        "network",
        MS,
        value="late.network_ns",
        definition="the part in which a collective runs and all ranks have come",
        priority=3,
    ),
    Col("wall_ns", "request", MS, value="late.wall_ns", definition="the median length of these requests", priority=1),
    Col(
        "ceiling_ns",
        "if as the median",
        MS,
        value="late.ceiling_ns",
        definition=(
            "what a request would take at least if this rank were as fast as the median in this stage; bounded "
            "by the next slowest rank"
        ),
    ),
    Col(
        "threshold_ns",
        "threshold",
        MS,
        value="late.threshold_ns",
        definition="what an excess has to exceed to be named",
        priority=6,
    ),
)
"""A row per straggler."""

REQUEST_COLS: Final = (
    Col("request", "request", LABEL, definition="the request's or the step's label"),
    Col.stored(columns.STAGE, "stage", STAGE),
    Col("ranks", "ranks", COUNT, definition="how many ranks have the stage in this request"),
    Col("median_ns", "median", MS, definition="the median of the ranks' times"),
    Col("own_min_ns", "own min", MS, definition="the least of the ranks' own times, which are without wait"),
    Col("own_median_ns", "own median", MS, definition="the median of the ranks' own times"),
    Col("own_max_ns", "own max", MS, definition="the most of the ranks' own times"),
    Col("spread_ns", "spread", MS, definition="`own_max_ns - own_min_ns`"),
    Col("slowest_rank", "slowest", COUNT, definition="the rank with `own_max_ns`"),
    Col("excess_ns", "excess", MS, definition="its own time less the median of the other ranks'"),
    Col("cause", "cause", TEXT, definition="`compute late`, `launch late`, `network slow`: where it exceeds them most"),
    Col("wall_ns", "wall", MS, definition="the length of the request, on the rank where it is longest"),
    Col("ceiling_ns", "if as the median", MS, definition="what it would take at least if that rank were no slower"),
)
"""A row per request and stage."""
