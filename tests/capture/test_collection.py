from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from gemma_trace.capture import session
from gemma_trace.capture.collection import frozen_objects


@pytest.fixture(autouse=True)
def _nothing_is_frozen() -> Iterator[None]:
    """What the tests froze themselves is not; see `tests/conftest.py::pytest_collection`."""
    was_frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    yield
    gc.unfreeze()
    if was_frozen:
        gc.freeze()


def seen_by_a_full_collection() -> int:
    """How many objects Python's collector goes through."""
    return len(gc.get_objects())


def test_a_full_collection_goes_through_new_objects_alone() -> None:
    before = seen_by_a_full_collection()
    with frozen_objects():
        assert gc.isenabled()
        made: list[Any] = [[] for _ in range(1000)]
        assert 1000 <= seen_by_a_full_collection() < before / 2
        made.append(made)
        del made  # a cycle, which the collector alone frees
        assert gc.collect() >= 1
    assert gc.get_freeze_count() == 0
    assert seen_by_a_full_collection() >= before / 2


def test_what_a_program_froze_itself_stays_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    with frozen_objects():
        assert gc.get_freeze_count() == frozen
    assert gc.get_freeze_count() == frozen > 0


def test_an_exception_unfreezes() -> None:
    with pytest.raises(KeyError), frozen_objects():
        raise KeyError
    assert gc.get_freeze_count() == 0


def test_both_passes_of_a_capture_run_with_frozen_objects(
    quick: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[bool] = []
    send = session._Session._send

    def sent(self: Any, *arguments: Any) -> Any:
        frozen.append(gc.get_freeze_count() > 0)
        return send(self, *arguments)

    monkeypatch.setattr(session._Session, "_send", sent)
    options: dict[str, Any] = {"warmup": 1, "runs": 1, "profile_runs": 1, "detail": "stage", "image_sizes": "8x6"}
    session.profile(model=quick.model, processor=quick.processor, output=tmp_path, **options)
    assert frozen == [False, True, True, True], "warm-up, timed, thrown away, profiled"
    assert gc.get_freeze_count() == 0
