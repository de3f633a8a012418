"""How a model is run beside the usual: quantised, adapted, assisted, compiled, on chosen processors. Free of torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gemma_trace.errors import ConfigError

if TYPE_CHECKING:
    from gemma_trace.capture.config import CaptureConfig

_NODES: Final = Path("/sys/devices/system/node")
_MOST_CPU: Final = 1 << 16
"""No number of a CPU is larger."""
_CPUS: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


class Quantization(StrEnum):
    """What bitsandbytes makes of the weights of linear layers."""

    INT8 = "int8"
    NF4 = "nf4"
    FP4 = "fp4"


@dataclass(frozen=True)
class Contradiction:
    """Two options that can't be given together.

    Attributes:
        holds: whether both are given.
        message: which, and which to leave out.
    """

    holds: bool
    message: str


def check_modes(config: CaptureConfig) -> None:
    """Refuse what can't be run together.

    Raises:
        ConfigError: naming the options.
    """
    assisted = config.assistant is not None or config.prompt_lookup is not None
    for each in (
        Contradiction(
            config.assistant is not None and config.prompt_lookup is not None,
            "--assistant and --prompt-lookup both say what drafts tokens; give one of them",
        ),
        Contradiction(
            assisted and config.batch > 1, "assisted decoding requires a single prompt per request; leave out --batch"
        ),
        Contradiction(
            assisted and config.cache == "static",
            "assisted decoding removes rejected tokens from the cache, which a static cache does not allow; leave "
            "out --cache static",
        ),
        Contradiction(
            assisted and config.compile == "decode",
            "--compile decode requires a static cache, which assisted decoding does not allow; leave out --compile "
            "decode",
        ),
        Contradiction(
            assisted and config.prefill_chunk is not None,
            "assisted decoding can't split the prefill; leave out --prefill-chunk",
        ),
        Contradiction(
            config.compile == "decode" and config.cache == "dynamic",
            "--compile decode requires the static cache; leave out --cache dynamic",
        ),
        Contradiction(
            config.cpu_affinity is not None and config.numa_node is not None,
            "--cpu-affinity and --numa-node both say which CPUs to run on; give one of them",
        ),
    ):
        if each.holds:
            raise ConfigError(each.message)
    if config.cpu_affinity is not None:
        cpus_of(config.cpu_affinity)


def cpus_of(text: str, option: str = "--cpu-affinity") -> frozenset[int]:
    """The CPUs that a list in Linux's form names.

    Raises:
        ConfigError: it is none.

    >>> sorted(cpus_of("0-2,8"))
    [0, 1, 2, 8]
    """
    cpus: set[int] = set()
    for part in text.split(","):
        match = _CPUS.fullmatch(part.strip())
        first = int(match[1]) if match else _MOST_CPU
        last = int(match[2] or match[1]) if match else 0
        if not first <= last < _MOST_CPU:
            raise ConfigError(f"{option} {text[:100]!r} is not a list of CPUs; give numbers and ranges, such as 0-3,8")
        cpus.update(range(first, last + 1))
    return frozenset(cpus)


def chosen_cpus(config: CaptureConfig) -> frozenset[int] | None:
    """The CPUs that the capture is to run on; None where no option says.

    Raises:
        ConfigError: the process may not run on one of them, or there is no such node.
    """
    if config.cpu_affinity is None and config.numa_node is None:
        return None
    if not hasattr(os, "sched_setaffinity"):
        raise ConfigError("--cpu-affinity and --numa-node require Linux; leave them out")
    allowed = os.sched_getaffinity(0)
    if config.cpu_affinity is not None:
        wanted = cpus_of(config.cpu_affinity)
        if strange := sorted(wanted - allowed):
            raise ConfigError(
                f"--cpu-affinity names CPU {strange[0]}, on which this process may not run; it has {_listed(allowed)}"
            )
        return wanted
    wanted = _cpus_of_node(config.numa_node or 0) & allowed
    if not wanted:
        raise ConfigError(
            f"--numa-node {config.numa_node} has no CPU on which this process may run; it has {_listed(allowed)}"
        )
    return wanted


def _cpus_of_node(node: int) -> frozenset[int]:
    try:
        text = (_NODES / f"node{node}" / "cpulist").read_text().strip()
    except OSError:
        nodes = sorted(int(path.name[4:]) for path in _NODES.glob("node[0-9]*"))
        there = f"the nodes are {', '.join(map(str, nodes))}" if nodes else "the system reports none"
        raise ConfigError(f"no NUMA node {node}: {there}; check --numa-node") from None
    return cpus_of(text, "the system's list") if text else frozenset()


def _listed(cpus: set[int]) -> str:
    """CPUs in Linux's form, such as 0-3,8."""
    ordered, parts = sorted(cpus), list[str]()
    for place, cpu in enumerate(ordered):
        if place and cpu == ordered[place - 1] + 1:
            first = parts[-1].split("-")[0]
            parts[-1] = f"{first}-{cpu}"
        else:
            parts.append(str(cpu))
    return ",".join(parts)
