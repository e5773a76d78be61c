"""True counts of a pruned model, and measured ones: parameters, bytes, multiply-accumulates, seconds.

    sizes      parameters, nonzero ones, compression, bytes by layout      `sizes`, `pack`, `unpack`
    MACs       what a pass multiplies, and what of it needs no zero weight `macs`, `mac_table`
    seconds    a median with its interval; two models taking turns         `latency`, `compare_latency`
    all that   as one table                                                `report`

The share of right answers is that of `hasten.bench.workloads.metrics.accuracy`: over all samples at once, whatever the
size of the last batch.
"""

from .latency import Comparison, Latency, compare_latency, latency
from .layouts import LAYOUTS, Packed, pack, packed_bytes, unpack
from .macs import Count, Macs, mac_table, macs
from .report import Report, report
from .sizes import Sizes, sizes

__all__ = [
    "LAYOUTS", "Comparison", "Count", "Latency", "Macs", "Packed", "Report", "Sizes", "compare_latency", "latency",
    "mac_table", "macs", "pack", "packed_bytes", "report", "sizes", "unpack",
]  # fmt: skip
