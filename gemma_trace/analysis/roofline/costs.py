"""What an op has to compute and to move, from the shapes of its inputs: the least that any implementation does.

FLOPs of matrix products count two a multiply-add and nothing else, as `torch.utils.flop_counter` does, so figures
compare; two differences: masked attention counts only what the mask lets through, where the shapes tell (`is_causal`),
and all else (elementwise, norms, reductions) is counted apart. Bytes are compulsory traffic: every input read once,
every output written once, by their sizes in memory; an expanded input counts as it is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gemma_trace.analysis.roofline.tensors import ITEM_BYTES, Inputs, Tensor


@dataclass(frozen=True)
class Cost:
    """The least work of one call of an op.

    Attributes:
        matrix_flops: of matrix products, convolutions and attention.
        bound_flops: those of them that no algorithm saves. Convolutions whose windows overlap may run with fewer, as
            Winograd's or as FFTs, and count none.
        vector_flops: of all else.
        dtype: of the matrices; "" where there are none.
        weight_bytes: what is read of a model's parameters: another layer's come in between before they are read again.
        read_bytes: what is read else; the op before may have left it in the cache.
        written_bytes: what is written.
    """

    matrix_flops: float = 0
    bound_flops: float = 0
    vector_flops: float = 0
    dtype: str = ""
    weight_bytes: float = 0
    read_bytes: float = 0
    written_bytes: float = 0

    @property
    def flops(self) -> float:
        """FLOPs of all kinds."""
        return self.matrix_flops + self.vector_flops

    @property
    def bytes(self) -> float:
        """Bytes that are read and written."""
        return self.weight_bytes + self.read_bytes + self.written_bytes


Formula = Callable[[Inputs], Cost | None]
"""An op's inputs → its cost; None where the shapes don't tell, so that an op inside it may."""


def matrix_cost(
    flops: float,
    dtype: str,
    *,
    weights: tuple[Tensor | None, ...] = (),
    reads: tuple[Tensor | None, ...] = (),
    written: float,
    is_bound: bool = True,
) -> Cost:
    """The cost of an op that multiplies matrices.

    Args:
        written: elements of the output, which has the matrices' dtype.
        is_bound: whether no algorithm does with fewer FLOPs.
    """
    return Cost(
        matrix_flops=flops,
        bound_flops=flops if is_bound else 0,
        dtype=dtype,
        weight_bytes=bytes_of(*weights),
        read_bytes=bytes_of(*reads),
        # FP8 and INT8 products are written in a wider type, of which the inputs don't tell: two bytes at least.
        written_bytes=written * max(ITEM_BYTES[dtype], 2),
    )


def bytes_of(*tensors: Tensor | None) -> float:
    """The size of the tensors that are there."""
    return sum(tensor.bytes for tensor in tensors if tensor is not None)
