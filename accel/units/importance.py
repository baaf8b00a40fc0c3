"""State that survives a job, as numbers: token and head importance, and the cascade top-k that selects by it."""

from dataclasses import dataclass

from accel.arch import Arch
from accel.units.engine import TOKEN_BITS
from accel.units.topk import TopKUnit

ACCUMULATE_CYCLES = 2  # read, add and write back; a line may follow itself every cycle through a bypass
TOKEN_SCORE_BITS = 32
HEAD_SCORE_BITS = 48
#: Of a prune, from its taking to the last word into the top-k, beyond one cycle per word of scores and those of the
#: sum: registers (1), the first three words of the list (3), score read (1), zero eliminator (2), packing (1), and one
#: for a candidate word that completes two packed ones. The last word waits for the end of the sweep in all cases.
SWEEP_CYCLES = 8
APPEND_CYCLES = 2  # from the last word out of the top-k to the end: the newest token may need a word of its own


@dataclass(frozen=True)
class ImportanceUnit:
    """Sums of ``TOKEN_SCORE_BITS`` per token, in one replica per lane of a weight line, and of ``HEAD_SCORE_BITS`` per
    head; and the durations of what is done with them.

    Attributes
    ----------
    max_context, max_heads : tokens and heads that have a score.
    score_lanes : probabilities per weight line, hence replicas; a power of two.
    topk_lanes : scores per word, P.
    topk_engine : which implementation selects, as for local values.
    """

    max_context: int
    max_heads: int
    score_lanes: int
    topk_lanes: int
    topk_engine: str = "quickselect"

    @classmethod
    def of(cls, arch: Arch) -> "ImportanceUnit":
        return cls(arch.max_context, arch.max_heads, arch.softmax.lanes, arch.topk.lanes, arch.topk.unit)

    def words(self, scores: int) -> int:
        """Words of ``topk_lanes`` scores; a sweep reads one per cycle."""
        return -(-scores // self.topk_lanes)

    @property
    def token_words(self) -> int:
        return self.words(self.max_context)

    @property
    def head_words(self) -> int:
        return self.words(self.max_heads)

    def topk(self, lfsr_seed: int = 1) -> TopKUnit:
        """The cascade's engine. Payload: the token or head number, as a word holds only the candidates."""
        max_n = max(self.max_context, self.max_heads, 2 * self.topk_lanes)
        return TopKUnit(self.topk_lanes, HEAD_SCORE_BITS, max_n, lfsr_seed, TOKEN_BITS, self.topk_engine)

    # ---- durations: from the cycle an operation is taken to its ``done`` ------------------------------------------
    @property
    def sum_cycles(self) -> int:
        """Adding up the replicas: a register behind each level of the tree; one replica needs none."""
        return self.score_lanes.bit_length() - 1

    @property
    def restart_cycles(self) -> int:
        """RESTART writes all words, of tokens and heads at once."""
        return max(self.token_words, self.head_words) + 1

    def halve_cycles(self, live: int) -> int:
        """HALVE reads the words of ``live`` tokens (at least one) and writes each when it has been added up."""
        return max(1, self.words(live)) + self.sum_cycles + 2

    def _prune_cycles(self, words: int, select_cycles: int, emit_cycles: int) -> int:
        topk = self.topk()
        fixed = SWEEP_CYCLES + topk.take_cycles + topk.handoff_cycles + topk.filter_cycles + APPEND_CYCLES
        return words + self.sum_cycles + fixed + select_cycles + emit_cycles

    def prune_tokens_cycles(self, live: int, select_cycles: int, emit_cycles: int) -> int:
        """PRUNE_TOKENS with ``live`` tokens, however many of them are candidates.

        select_cycles : of the top-k for n = candidates and k = keep - 1, as its implementation says
            (``sim.topk_schedule.Rows``); 0 if k = 0 or k >= n.
        emit_cycles : sum of the ``gaps`` of its output words (``sim.topk_schedule.emit_gaps``), positions counted
            among the candidates; 0 if nothing is kept.
        """
        return self._prune_cycles(max(1, self.words(live)), select_cycles, emit_cycles)

    def prune_heads_cycles(self, select_cycles: int, emit_cycles: int) -> int:
        """PRUNE_HEADS, arguments as for tokens with k = keep; all heads are swept."""
        return self._prune_cycles(self.head_words, select_cycles, emit_cycles)
