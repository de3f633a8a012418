"""What follows from a trace's columns alone: roles, threads, links, and what is open around what."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Final

import numpy as np

from gemma_trace.stages import LAYER_PREFIX, MODULE_PREFIX
from gemma_trace.trace.events import BoolArray, CodeArray, Events, Flows, IntArray, Role, TrackNames
from gemma_trace.trace.links import link_launches
from gemma_trace.trace.open_spans import innermost_of
from gemma_trace.trace.places import Places
from gemma_trace.trace.requests import is_step_name, process_of_tracks
from gemma_trace.trace.roles import Roles, roles_of
from gemma_trace.trace.tree import Nesting, Segments, innermost_segments, nest

_LAYER: Final = re.compile(rf"{re.escape(LAYER_PREFIX)}|nn\.Module: \w*(?:Layer|Block)_\d+$")
_MODULE_PREFIXES: Final = (LAYER_PREFIX, MODULE_PREFIX, "nn.Module: ")


class Derived:
    """Columns, and what is derived from them on first use and kept. Nothing here knows of stages or requests.

    Attributes:
        spans: the columns.
        flows: the arrows between them.
        names: what its processes and threads are called.
    """

    spans: Events
    flows: Flows
    names: TrackNames

    @cached_property
    def roles(self) -> Roles:
        """What every span stands for."""
        return roles_of(self.spans, self.names)

    @cached_property
    def is_activity(self) -> BoolArray:
        """bool [n], which spans are device activities: kernels, copies, fills."""
        return self.roles.are(Role.DEVICE)

    @cached_property
    def activities(self) -> IntArray:
        """int64 [m], the indices of the device activities, by start."""
        return np.flatnonzero(self.is_activity)

    @cached_property
    def on_device(self) -> Places:
        """By the index of a device the places in `activities` of those that it ran."""
        return Places(self.spans.device[self.activities])

    @cached_property
    def host(self) -> IntArray:
        """int64 [k], the indices of the spans on the host's threads, by start.

        That is all but device activities, annotations mirrored onto the device, and the profiler's own marks.
        """
        return np.flatnonzero(~self.is_activity & ~self.roles.are(Role.ASIDE))

    @cached_property
    def nesting(self) -> Nesting:
        """The host's spans as trees; its columns run along `host`.

        Annotations keep their extent, steps keep it before all but those: what crosses them is clipped.
        """
        spans, host = self.spans, self.host
        step = np.array([is_step_name(name) for name in spans.names], dtype=bool)[spans.name[host]]
        rank = np.where(self.is_annotation[host], np.where(step, np.int8(1), np.int8(2)), np.int8(0))
        return nest(spans.ts_ns, spans.ends_ns(host), spans.track, rank, host)

    @cached_property
    def segments(self) -> Segments:
        """The host's time, each stretch with its innermost span; `owner` indexes the spans, not `host`."""
        return innermost_segments(self.spans.ts_ns, self.spans.track, self.nesting, self.host)

    @cached_property
    def launch(self) -> IntArray:
        """int64 [m], the index of the call that launched each activity; `NONE` where it is unlinked."""
        return link_launches(self.spans, self.flows, self.activities, self.host)

    @cached_property
    def launch_order(self) -> IntArray:
        """int64, the places in `activities` of those whose launch is known, by when it was called."""
        linked = np.flatnonzero(self.launch >= 0)
        ordered: IntArray = linked[np.argsort(self.spans.ts_ns[self.launch[linked]], kind="stable")]
        return ordered

    @cached_property
    def is_op(self) -> BoolArray:
        """bool [n], which spans are PyTorch ops."""
        return self.roles.are(Role.OP)

    @cached_property
    def is_call(self) -> BoolArray:
        """bool [n], which spans are calls into a device's runtime or driver."""
        return self.roles.are(Role.LAUNCH)

    @cached_property
    def is_annotation(self) -> BoolArray:
        """bool [n], which spans are `record_function` ranges on the host."""
        return self.roles.are(Role.ANNOTATION)

    @cached_property
    def on_host(self) -> BoolArray:
        """bool [n], which spans are on the host's threads."""
        on_host = np.zeros(len(self.spans), dtype=bool)
        on_host[self.host] = True
        return on_host

    def innermost(self, wanted: BoolArray) -> CodeArray:
        """For each span of the host, the innermost wanted span open where it starts, or itself if it is wanted.

        Of several open on its thread that is the one that started last, whatever crosses it.

        Args:
            wanted: bool [n], e.g. `is_op`.

        Returns:
            int32 [n], indices of spans; `NONE` where there is none, and for all that isn't on the host.
        """
        spans = self.spans
        return innermost_of(self.host, spans.ts_ns, spans.dur_ns, spans.track, wanted, self.is_call)

    @cached_property
    def innermost_op(self) -> CodeArray:
        """int32 [n], for each span of the host the innermost op around it; see `innermost`."""
        return self.innermost(self.is_op)

    @cached_property
    def innermost_module(self) -> CodeArray:
        """int32 [n], for each span of the host the innermost `nn.Module` frame or module range around it."""
        is_module = np.array([name.startswith(_MODULE_PREFIXES) for name in self.spans.names], dtype=bool)
        return self.innermost(is_module[self.spans.name])

    @cached_property
    def innermost_layer(self) -> CodeArray:
        """int32 [n], for each span of the host the innermost layer around it: our range, or a frame that is named so.

        A layer's frame is an `nn.Module` whose class ends in Layer or Block, e.g. `Owlv2EncoderLayer_3`.
        """
        is_layer = np.array([bool(_LAYER.match(name)) for name in self.spans.names], dtype=bool)
        return self.innermost(is_layer[self.spans.name])

    @cached_property
    def process(self) -> IntArray:
        """int64 [tracks], a number for the process of each track, the same for the same process."""
        return process_of_tracks(self)
