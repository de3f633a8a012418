"""What each stage took on each rank in each request, with and without the wait for other ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gemma_trace.analysis.timeline import UNLINKED
from gemma_trace.ranks.calls import Calls
from gemma_trace.ranks.summary import RankSummary
from gemma_trace.ranks.waits import Waits, rows_of_rank
from gemma_trace.stages import UNATTRIBUTED_CODE, Stage
from gemma_trace.trace.events import BoolArray, IntArray
from gemma_trace.trace.places import distinct

Array3 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Grid:
    """Ranks by requests by stages. All arrays are int64 [ranks, requests, stages]; 0 where there is nothing.

    On each rank the four parts of a stage's time add up to it: `time = compute + launch + network + wait`.

    Attributes:
        requests: the labels of the requests; those of the same label are the same one on all ranks.
        stages: their names, in the order of a request.
        is_there: bool, which cells a rank has.
        time_ns: the share of the request's wall time that the stage answers for.
        compute_ns: the device computes; without a device, the host works.
        launch_ns: the device is idle, waiting for the host.
        network_ns: a collective runs, nothing computes, and all ranks have come.
        wait_ns: a collective runs, nothing computes, and another rank hasn't come.
        wall_ns: int64 [ranks, requests].
    """

    requests: tuple[str, ...]
    stages: tuple[str, ...]
    is_there: BoolArray
    time_ns: Array3
    compute_ns: Array3
    launch_ns: Array3
    network_ns: Array3
    wait_ns: Array3
    wall_ns: IntArray

    @property
    def own_ns(self) -> Array3:
        """A stage's time without the wait for other ranks: what this rank itself is responsible for."""
        return self.time_ns - self.wait_ns

    @property
    def communication_ns(self) -> Array3:
        """The exposed communication."""
        return self.network_ns + self.wait_ns

    def of_request(self, label: str) -> Grid:
        """The grid of one request alone."""
        place = self.requests.index(label)
        kept = slice(place, place + 1)
        columns = ("is_there", "time_ns", "compute_ns", "launch_ns", "network_ns", "wait_ns", "wall_ns")
        return replace(self, requests=(label,), **{name: getattr(self, name)[:, kept] for name in columns})


def grid_of(calls: Calls, waits: Waits, ranks: Sequence[RankSummary]) -> Grid:
    """The grid of a job."""
    labels = labels_of(ranks)
    stages = _stages_in_order(ranks)
    shape = (len(ranks), len(labels), len(stages))
    time, device, host, communication, wait = (np.zeros(shape, dtype=np.int64) for _ in range(5))
    there = np.zeros(shape, dtype=bool)
    wall = np.zeros(shape[:2], dtype=np.int64)
    on_device = np.zeros(len(ranks), dtype=bool)
    for number, rank in enumerate(ranks):
        request = np.array([labels.index(label) for label in rank.request_labels])
        stage = np.array([_place(stages, name) for name in (*rank.stage_names, UNLINKED)])
        cells = rank.cells
        at = request[cells.request] * len(stages) + stage[cells.stage]
        for target, values in ((time, cells.time_ns), (device, cells.device_ns), (host, cells.exposed_host_ns)):
            np.add.at(target[number].reshape(-1), at, values)
        there[number].reshape(-1)[at] = True
        np.add.at(wall[number], request, rank.request_end_ns - rank.request_start_ns)
        on_device[number] = rank.collectives.on_device
        for place, (row, exposed_ns, waited_ns) in enumerate(_exposed(calls, waits, rank, number)):
            np.add.at(communication[number, request[place]], stage[row], exposed_ns)
            np.add.at(wait[number, request[place]], stage[row], waited_ns)
    computing = np.where(on_device[:, None, None], device, host) - communication
    launch = np.where(on_device[:, None, None], host, 0)
    return Grid(tuple(labels), tuple(stages), there, time, computing, launch, communication - wait, wait, wall)


def labels_of(ranks: Sequence[RankSummary]) -> list[str]:
    """The labels of a job's requests: those of the same label are the same one on all ranks."""
    return list(dict.fromkeys(label for rank in ranks for label in rank.request_labels))


def _place(stages: Sequence[str], name: str) -> int:
    return stages.index(name) if name in stages else 0  # a name that no cell has


def _stages_in_order(ranks: Sequence[RankSummary]) -> list[str]:
    """The stages that some rank has, in the order of a request; `unattributed` and `unlinked` last."""
    names = [(*rank.stage_names, UNLINKED) for rank in ranks]
    used = {names[number][code] for number, rank in enumerate(ranks) for code in distinct(rank.cells.stage).tolist()}
    last = (Stage.UNATTRIBUTED.value, UNLINKED)
    every = dict.fromkeys(name for known in names for name in known if name not in last)
    return [name for name in (*every, *last) if name in used]


def _exposed(calls: Calls, waits: Waits, rank: RankSummary, number: int) -> list[tuple[IntArray, IntArray, IntArray]]:
    """By request, of each exposed part of a collective in it: its stage code, its length, and how much of it is wait.

    A collective that was launched in another request, or in none, is unattributed here, as in the partition.
    """
    collectives = rank.collectives
    wait_end = (collectives.start_ns + waits.wait_ns[rows_of_rank(calls, number)])[collectives.part]
    answer = []
    for begin, end in zip(rank.request_start_ns.tolist(), rank.request_end_ns.tolist(), strict=True):
        low, high = np.maximum(collectives.part_start_ns, begin), np.minimum(collectives.part_end_ns, end)
        inside = np.flatnonzero(high > low)
        part = collectives.part[inside]
        launched = (begin <= collectives.launch_ns[part]) & (collectives.launch_ns[part] < end)
        unlinked = collectives.stage[part] == len(rank.stage_names)
        row = np.where(launched | unlinked, collectives.stage[part], UNATTRIBUTED_CODE)
        waited = np.maximum(np.minimum(high[inside], wait_end[inside]) - low[inside], 0)
        answer.append((row, high[inside] - low[inside], waited))
    return answer
