"""The GPUs and the energy counters of a model's devices, over the timed pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from gemma_trace.machine.energy import EnergyWatch, gpu_meter, host_meter
from gemma_trace.machine.gpu_types import Gpu, GpuAddress
from gemma_trace.machine.gpu_warnings import gpu_warnings
from gemma_trace.machine.gpus import opened_gpus
from gemma_trace.metadata import Energy, GpuRecord, GpuState


@contextmanager
def watched_devices(devices: Iterable[torch.device], *others: torch.device) -> Iterator[DeviceWatch]:
    """Watch these devices, which are a model's, while the block runs.

    On a CPU alone there are no GPUs to watch, and the energy is that of the host's processors.

    Args:
        others: devices that work beside the model's; they are watched, and their energy isn't counted.
    """
    accelerators = [device for device in dict.fromkeys(devices) if device.type != "cpu"]
    watched = dict.fromkeys((*accelerators, *others))
    with opened_gpus([address_of(device) for device in watched if device.type == "cuda"]) as opened:
        why_not = opened.why_not or "energy can't be read for this kind of device"
        counted = [gpu for gpu in opened.gpus if gpu.device in map(str, accelerators)]
        meter = gpu_meter(counted, len(accelerators), why_not) if accelerators else host_meter()
        yield DeviceWatch(opened.gpus, EnergyWatch(meter))


def address_of(device: torch.device) -> GpuAddress:
    """How the maker's library finds a device of torch's, which may number it otherwise."""
    properties = torch.cuda.get_device_properties(device)
    maker = "amd" if torch.version.hip else "nvidia"
    domain, bus, slot = (
        getattr(properties, name, None) for name in ("pci_domain_id", "pci_bus_id", "pci_device_id")
    )  # since torch 2.9
    place = "" if domain is None or bus is None or slot is None else f"{domain:04x}:{bus:02x}:{slot:02x}.0"
    return GpuAddress(str(device), maker, str(getattr(properties, "uuid", "")), place)


class DeviceWatch:
    """What the devices of one timed pass said.

    Attributes:
        records: one for each GPU, once the pass is over.
        energy: that the pass took; None where there is no counter, and `no_energy` says why.
    """

    def __init__(self, gpus: Sequence[Gpu], energy: EnergyWatch) -> None:
        self._gpus = gpus
        self._watch = energy
        self.records: tuple[GpuRecord, ...] = ()
        self.energy: Energy | None = None

    @property
    def no_energy(self) -> str:
        """Why there is no energy."""
        return self._watch.why_not

    @property
    def warnings(self) -> tuple[str, ...]:
        """What has to be said of the GPUs."""
        return tuple(gpu_warnings(self.records))

    def start(self) -> None:
        """The pass begins."""
        self._before = [gpu.state() for gpu in self._gpus]
        self._glances: list[list[GpuState]] = [[] for _ in self._gpus]
        self._watch.start()

    def between(self) -> None:
        """A request is over, and the device waits for the next."""
        self._watch.between()
        for gpu, glances in zip(self._gpus, self._glances, strict=True):
            glances.append(gpu.glance())

    def finish(self, requests: int, tokens: int) -> None:
        """The pass is over.

        Args:
            requests, tokens: what it was of.
        """
        self._watch.stop()
        after = [gpu.state() for gpu in self._gpus]
        self.energy = self._watch.energy(requests, tokens)
        seen = zip(self._gpus, self._before, self._glances, after, strict=True)
        self.records = tuple(_record(gpu.device, first, glances, last) for gpu, first, glances, last in seen)


def _record(device: str, before: GpuState, glances: Sequence[GpuState], after: GpuState) -> GpuRecord:
    seen = [before, *glances, after]
    clocks = [state.sm_mhz for state in seen if state.sm_mhz is not None]
    told = [state.throttled for state in seen if state.throttled is not None]
    record = GpuRecord(device, before, after, min(clocks, default=None), max(clocks, default=None))
    return replace(record, throttled=tuple(dict.fromkeys(reason for each in told for reason in each)) if told else None)
