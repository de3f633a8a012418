"""What a device can do at most: the rate of its memory, its cache, and its rates of matrix products by dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ANY_DEVICE: Final = "*"
"""The name of peaks, of the user's own, that hold for whatever device the trace is of."""


@dataclass(frozen=True)
class Peaks:
    """What a device can do at most.

    Attributes:
        names: as `deviceProperties` and `torch.cuda.get_device_name` give them.
        memory_gb_per_s: of its memory, 10⁹ bytes a second.
        cache_mb: its last-level cache, 10⁶ bytes: what one op may leave there for the next.
        tflops: pairs of a dtype and the dense rate of matrix products in it, 10¹² FLOP a second; `tf32` is that of
            float32 matrices multiplied in TF32 (AMD: XF32), `float32` the rate without it.
        source: where the figures stand.
        note: what has to be said of them.
    """

    names: tuple[str, ...]
    memory_gb_per_s: float
    cache_mb: float
    tflops: tuple[tuple[str, float], ...]
    source: str
    note: str = ""

    @property
    def bytes_per_ns(self) -> float:
        """The memory's rate in bytes a nanosecond, which is the same number as GB/s."""
        return self.memory_gb_per_s

    @property
    def cache_bytes(self) -> float:
        """The cache's size."""
        return self.cache_mb * 1e6

    def flops_per_ns(self, dtype: str, *, without_tf32: bool = False) -> float | None:
        """The rate of matrix products in a dtype, FLOP a nanosecond; None where there is no figure.

        Args:
            without_tf32: float32 is known to be multiplied as such. Else it takes the faster of the two rates, since
                a trace doesn't say whether TF32 was allowed, and a bound has to hold either way.
        """
        rates = dict(self.tflops)
        rate = rates.get(dtype)
        if dtype == "float32" and not without_tf32 and "tf32" in rates:
            rate = max(rate or 0.0, rates["tf32"])
        return None if rate is None else rate * 1e3
