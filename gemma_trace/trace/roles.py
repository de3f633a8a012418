"""What every span stands for: by its category; failing that by its name, or by what its track is called.

Spans of a category that torch.profiler doesn't write are taken for what their name or track says, where that is plain:
`aten::mm` is an op, what runs on a stream of "/device:GPU:0" or of "Ascend Hardware" is a device's work. All others
count as work of the host.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from gemma_trace.stages import PREFIX
from gemma_trace.trace.events import NONE, ROLES, BoolArray, CodeArray, Events, IntArray, Role, TrackNames
from gemma_trace.trace.places import distinct, is_among

RoleArray = npt.NDArray[np.int8]


class RoleSource(IntEnum):
    """What a role rests on."""

    CATEGORY = 0
    """A category of torch.profiler's."""
    NAME = 1
    """The span's name, or a category that other tools write."""
    TRACK = 2
    """What its process and thread are called; or it names a stream, and a launch has its correlation id."""
    NOTHING = 3
    """Nothing: it counts as work of the host."""


@dataclass(frozen=True)
class Roles:
    """What every span stands for.

    Attributes:
        role: int8 [n], a `Role`.
        source: int8 [n], a `RoleSource`.
    """

    role: RoleArray
    source: RoleArray

    def are(self, role: Role) -> BoolArray:
        """bool [n], which spans stand for this."""
        is_role: BoolArray = self.role == role
        return is_role


_BY_CATEGORY: Final = (
    (re.compile(r"nvtx", re.IGNORECASE), Role.ANNOTATION),  # converters of Nsight Systems' files
    (re.compile(r"nvtx-kernel|\w+_user_annotation|\w+_sync", re.IGNORECASE), Role.ASIDE),
    (re.compile(r"\w+_(?:runtime|driver)", re.IGNORECASE), Role.LAUNCH),  # what Kineto calls other vendors' calls
    (re.compile(r"\w+_(?:kernel|memcpy|memset)", re.IGNORECASE), Role.DEVICE),
)

_BY_NAME: Final = (
    (re.compile(r"(?:aten|prims?|c10d|_?c10d_functional|torchvision|quantized|autograd|npu|hpu)::\w.*"), Role.OP),
    (re.compile(rf"ProfilerStep\s*#\s*\d+|{re.escape(PREFIX)}.*"), Role.ANNOTATION),
    (re.compile(r"nn\.Module: .*"), Role.PYTHON),
)

_BY_PROCESS: Final = (
    (
        re.compile(
            r"/device:(?!cpu\b).*"  # JAX and TensorFlow
            r"|(?!cpu\b)\w+ functions"  # EventList.export_chrome_trace
            r"|ascend hardware"  # torch_npu, MindSpore, msprof
            r"|(?:.* )?(?:device|[gntxh]pu|mtia|gcu|mlu|musa) ?#?\d+",  # Kineto's labels, converters of nsys files
            re.IGNORECASE,
        ),
        Role.DEVICE,
    ),
    (re.compile(r"overlap analysis|communication", re.IGNORECASE), Role.ASIDE),  # torch_npu's own sums
    (re.compile(r"/host:cpu|cpu functions|cann", re.IGNORECASE), Role.HOST),
)
_STREAMS: Final = (re.compile(r"\s*stream\b.*", re.IGNORECASE), re.compile(r"xla ops", re.IGNORECASE))
"""The threads of a device's process that do its work, the first kind that there is; the others tell it once more."""

_UNSURE: Final = -1


def roles_of(spans: Events, names: TrackNames) -> Roles:
    """Say what each span stands for."""
    role = np.array([ROLES.get(cat.lower(), _UNSURE) for cat in spans.cats], dtype=np.int8)[spans.cat]
    source = np.full(len(role), RoleSource.CATEGORY, dtype=np.int8)
    ours = np.array([name.startswith(PREFIX) for name in spans.names], dtype=bool)
    if ours.any():  # those of a server's plugin are recorded as ops
        role[ours[spans.name] & (role == Role.OP)] = Role.ANNOTATION
    unsure = np.flatnonzero(role == _UNSURE)
    if not len(unsure):
        return Roles(role, source)
    by_category = _first_matches(_BY_CATEGORY, spans.cats, spans.cat[unsure])
    by_track = _by_track(spans, unsure, names)
    launches = np.flatnonzero(role == Role.LAUNCH).tolist() + unsure[by_category == Role.LAUNCH].tolist()
    launched = is_among(spans.correlation[unsure], spans.correlation[launches][spans.correlation[launches] > 0])
    on_device = (by_track == Role.DEVICE) | (launched & (spans.stream[unsure] != NONE))
    guesses = (  # a device's track says more than a name: kernels are named after ops, too
        (RoleSource.NAME, by_category),
        (RoleSource.TRACK, np.where(on_device, Role.DEVICE, _UNSURE)),
        (RoleSource.NAME, _first_matches(_BY_NAME, spans.names, spans.name[unsure])),
        (RoleSource.TRACK, by_track),
    )
    known = [guess != _UNSURE for _, guess in guesses]
    role[unsure] = np.select(known, [guess for _, guess in guesses], Role.HOST)
    source[unsure] = np.select(known, [np.int8(kind) for kind, _ in guesses], np.int8(RoleSource.NOTHING))
    return Roles(role, source)


def _first_matches(rules: Sequence[tuple[re.Pattern[str], Role]], texts: Sequence[str], codes: CodeArray) -> RoleArray:
    """The role by the first rule that matches each text; `_UNSURE` where none does."""
    role_of_text = np.full(len(texts), _UNSURE, dtype=np.int8)
    for code in distinct(codes).tolist():
        role_of_text[code] = next((role for pattern, role in rules if pattern.fullmatch(texts[code])), _UNSURE)
    return role_of_text[codes]


def _by_track(spans: Events, chosen: IntArray, names: TrackNames) -> RoleArray:
    """The roles of some spans by what their tracks are called; `_UNSURE` where that tells nothing."""
    used = {code: spans.tracks[code] for code in distinct(spans.track[chosen]).tolist()}
    threads: dict[str, list[str]] = {}
    for track in used.values():
        threads.setdefault(track.pid, []).append(names.threads.get((track.pid, track.tid), track.tid))
    working = {
        pid: next(filter(lambda kind: any(map(kind.fullmatch, of)), _STREAMS), None) for pid, of in threads.items()
    }
    role_of_track = np.full(len(spans.tracks), _UNSURE, dtype=np.int8)
    for code, track in used.items():
        called = (track.pid, names.processes.get(track.pid, ""), names.labels.get(track.pid, ""))
        role = next((role for name, role in _BY_PROCESS if any(map(name.fullmatch, called))), None)
        if role is None:
            continue
        streams = working[track.pid]
        thread = names.threads.get((track.pid, track.tid), track.tid)
        aside = role is Role.DEVICE and streams is not None and not streams.fullmatch(thread)
        role_of_track[code] = Role.ASIDE if aside else role
    return role_of_track[spans.track[chosen]]
