"""What is left of matrix products at least, whatever computes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gemma_trace.analysis.roofline.devices import device_peaks
from gemma_trace.analysis.roofline.opcosts import OpCosts, op_costs
from gemma_trace.peaks import Peaks
from gemma_trace.trace.events import BoolArray
from gemma_trace.trace.trace import Trace

FloatArray = npt.NDArray[np.float64]


def products_left(trace: Trace, within: BoolArray, peaks: Sequence[Peaks] = ()) -> FloatArray:
    """float64 [n], what is left of spans if the matrix products that they are of run at the highest rate there is.

    That is the peak rate of the device for their dtype. Of a CPU whose peak nobody gave, it is the rate of the fastest
    other product in the trace: a layer's projections are no smaller than the products of its attention, and no slower.
    Of all other spans, of products of unknown shapes, and where no rate is known, nothing is left.

    Args:
        within: bool [n], the spans of the host that count, with the activities that they launched.
        peaks: the user's own.
    """
    left = np.zeros(len(trace.spans))
    costs = op_costs(trace)
    flops = costs.column("bound_flops")
    known = np.flatnonzero(within[costs.op] & (flops > 0))
    if not len(known):
        return left
    by_op = np.zeros(len(costs.op) + 1)  # the last is for what is of no op
    rate = _rates(trace, costs, ~within[costs.op], peaks)[known]
    by_op[known] = np.minimum(1.0, flops[known] / rate / costs.work_ns[known])
    if costs.on == "host":
        left[trace.host] = by_op[costs.owner[trace.host]]
    else:
        launch = trace.launch
        left[trace.activities] = np.where(launch >= 0, by_op[costs.owner[np.maximum(launch, 0)]], 0.0)
    return left


def _rates(trace: Trace, costs: OpCosts, others: BoolArray, peaks: Sequence[Peaks]) -> FloatArray:
    """float64 [k], the FLOPs a ns that each op's products run at most; infinite where that isn't known.

    Args:
        others: bool [k], the products that show what a CPU does.
    """
    device = device_peaks(trace, peaks, costs.on).peaks
    if device is not None:
        rates = [device.flops_per_ns(cost.dtype) or np.inf for cost in costs.table]
    elif costs.on == "host":
        achieved = costs.column("bound_flops") / costs.work_ns
        dtypes = np.array([cost.dtype for cost in costs.table])
        known = {dtype: others & (dtypes[costs.cost] == dtype) for dtype in set(dtypes.tolist())}
        best = {dtype: achieved[products].max(initial=0.0) or np.inf for dtype, products in known.items()}
        rates = [best[cost.dtype] for cost in costs.table]
    else:
        rates = [np.inf] * len(costs.table)
    by_op: FloatArray = np.array(rates)[costs.cost]
    return by_op
