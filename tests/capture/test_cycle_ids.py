from __future__ import annotations

import json
from typing import Any

from gemma_trace.capture.cycle_ids import CycleIds, Renumbering


def renumbered(*cycles: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    renumbering, found = Renumbering(), []
    for events in cycles:
        ids = CycleIds()
        for event in events:  # batches of one
            ids.take(json.dumps([event]).encode())
        renumbering.begin_cycle(ids)
        found.append(json.loads(renumbering(json.dumps(events).encode())))
    return found


def args(**given: Any) -> dict[str, Any]:
    return {"ph": "X", "args": {name.replace("_", " "): value for name, value in given.items()}}


def test_ids_that_begin_anew_go_on_where_the_last_cycle_ended() -> None:
    cycle = [args(Ev_Idx=0, Python_id=1, Python_parent_id=None), args(Ev_Idx=1, Python_id=2, Python_parent_id=1)]
    assert renumbered(cycle, cycle, cycle) == [
        cycle,
        [args(Ev_Idx=2, Python_id=3, Python_parent_id=None), args(Ev_Idx=3, Python_id=4, Python_parent_id=3)],
        [args(Ev_Idx=4, Python_id=5, Python_parent_id=None), args(Ev_Idx=5, Python_id=6, Python_parent_id=5)],
    ]


def test_ids_that_go_on_by_themselves_stay() -> None:
    first, second = [args(External_id=3), args(External_id=7)], [args(External_id=8)]
    assert renumbered(first, second) == [first, second]


def test_launches_activities_and_arrows_move_together_and_no_id_stays_none() -> None:
    def launched(number: int) -> list[dict[str, Any]]:
        waited = args(wait_on_cuda_event_record_corr_id=number)["args"] | {"correlation": number}
        return [
            args(correlation=number),
            args(correlation=0),
            {"ph": "s", "id": number},
            {"ph": "f", "id": number, "args": {key.replace(" ", "_"): value for key, value in waited.items()}},
            {"ph": "X", "args": {"wait_on_cuda_event_record_corr_id": -1, "stream": number}},
        ]

    first, second = launched(40), launched(5)  # CUPTI was started anew
    moved = launched(45)
    moved[-1]["args"]["stream"] = 5
    assert renumbered(first, second) == [first, moved]
    later = launched(41)
    assert renumbered(first, later) == [first, later], "CUPTI went on counting"


def test_what_only_looks_like_an_id_stays() -> None:
    hostile = args(name='"Python id": 1, "Ev Idx": 0, "correlation": 9', Device_Id=1, graph_id=1)
    first = [args(Python_id=1, correlation=9), hostile]
    (kept, moved) = renumbered(first, first)
    assert kept == first
    assert moved == [args(Python_id=2, correlation=18), hostile]
