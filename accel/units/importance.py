"""Token and head importance: accumulators beside the keep list, and the cascade top-k between layers."""

from dataclasses import dataclass

from accel.arch import Arch

ACCUMULATE_CYCLES = 2  # read, add and write back; a line may follow itself every cycle through a bypass
TOKEN_SCORE_BITS = 32
HEAD_SCORE_BITS = 48


@dataclass(frozen=True)
class ImportanceUnit:
    """Sizes of the accumulators: one ``TOKEN_SCORE_BITS`` sum per token, one ``HEAD_SCORE_BITS`` sum per head."""

    max_context: int
    topk_lanes: int

    @classmethod
    def of(cls, arch: Arch) -> "ImportanceUnit":
        return cls(arch.max_context, arch.topk.lanes)

    def writeback_cycles(self, live_tokens: int) -> int:
        """Scores return to token order one word of ``topk_lanes`` tokens per cycle."""
        return -(-live_tokens // self.topk_lanes)
