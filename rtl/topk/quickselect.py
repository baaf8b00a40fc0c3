"""Quick-select top-k engine."""

from rtl.topk.banked import BankedTopK
from rtl.topk.selector import Selector

__all__ = ["TopK"]


class TopK(BankedTopK):
    """Partitions the row by random pivots: :class:`rtl.topk.selector.Selector`. Simulator: ``sim.topk.quickselect``."""

    selector = Selector
