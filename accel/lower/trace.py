"""A per-row trace to a program: one attend job per row, the cascade's prunes between them."""

import numpy as np

from accel.arch import Arch
from accel.errors import UserError
from accel.lower.layout import Layout
from accel.lower.pairs import fuse_pairs
from accel.program import Flag, Lsb, Opcode, Program, Side, ValueFetch, jobs_of
from workloads.row_trace import RowTrace


def lower_trace(trace: RowTrace, arch: Arch) -> Program:
    """The program of a decode trace.

    A token top-k flagged on the last row of an iteration works for the next one, so it follows the new token's
    arrival. V of a row that keeps every key is fetched without waiting for its probabilities.

    Raises:
        UserError: a row is longer than the machine's tile, tokens return that had been pruned, or widths change
            between rows of one trace.
    """
    widths = np.unique(np.stack([trace.key_msb_bits, trace.key_lsb_bits, trace.value_bits, trace.head_dim]), axis=1)
    if widths.shape[1] != 1:
        raise UserError(f"trace {trace.name}: widths or head dimension change between rows; run its parts one by one")
    msb_bits, lsb_bits, value_bits, head_dim = (int(w) for w in widths[:, 0])
    live = int(trace.live_tokens.max())
    if live > arch.max_context:
        raise UserError(
            f"trace {trace.name}: {live} live tokens; machine {arch.name} has max_context = {arch.max_context}"
        )
    if int(trace.keys.max()) > arch.tile_keys(head_dim):
        raise UserError(
            f"trace {trace.name}: rows of {int(trace.keys.max())} keys; machine {arch.name} works on at most "
            f"{arch.tile_keys(head_dim)} at once"
        )
    layers, heads = int(trace.layer.max()) + 1, int(trace.head.max()) + 1
    layout = Layout(arch, layers, heads, head_dim, live, 1, msb_bits, lsb_bits, value_bits)
    items: list[dict[str, int]] = []
    iteration = -1
    rows = trace.rows
    sources = {
        name: [[layout.address(name, layer, head) for head in range(heads)] for layer in range(layers)]
        for name in ("q", "k_msb", "k_lsb", "v", "output")
        if name != "k_lsb" or lsb_bits
    }
    columns = {name: column.tolist() for name, column in trace.columns()}
    listed = pending = 0  # length of the keep list (0: all live tokens), and k of a top-k that is due
    for r in range(rows):
        layer, head, keys, kept = columns["layer"][r], columns["head"][r], columns["keys"][r], columns["values"][r]
        live = columns["live_tokens"][r]
        if columns["iteration"][r] != iteration:
            flags = Flag.RESTART if iteration < 0 else Flag.NONE
            iteration = columns["iteration"][r]
            items.append({"opcode": Opcode.TOKENS, "flags": flags, "keys": live})
            listed = 0
        due = pending or (keys if keys < (listed or live) else 0)
        if due:
            flags = Flag.NONE if listed else Flag.RESTART
            items.append({"opcode": Opcode.PRUNE_TOKENS, "flags": flags, "keep_values": due})
            listed, pending = due, 0
        if keys != (listed or live):
            raise UserError(
                f"trace {trace.name}: iteration {iteration}, layer {layer}, head {head}: {keys} keys, but the top-k "
                f"before left {listed or live}; a pruned token cannot return within one generated token"
            )
        flags = Flag.FIRST_TILE | Flag.LAST_TILE | (Flag.KEEP_LIST if listed else Flag.NONE)
        flags |= Flag.ACCUMULATE if columns["accumulate_importance"][r] else Flag.NONE
        flags |= Flag.HALVE if columns["rescale_importance"][r] else Flag.NONE
        items.append(
            {
                "opcode": Opcode.ATTEND,
                "flags": flags,
                "lsb": Lsb.ALWAYS if columns["lsb_pass"][r] else Lsb.NEVER,
                "value_fetch": ValueFetch.RESIDENT if kept == keys else ValueFetch.SELECTED,
                "msb_bits": msb_bits,
                "lsb_bits": lsb_bits,
                "value_bits": value_bits,
                "layer": layer,
                "head": head,
                "group": 1,
                "head_dim": head_dim,
                "queries": 1,
                "keys": keys,
                "keep_values": kept,
                "q_address": sources["q"][layer][head],
                "k_msb_address": sources["k_msb"][layer][head],
                "k_lsb_address": sources["k_lsb"][layer][head] if lsb_bits else 0,
                "v_address": sources["v"][layer][head],
                "output_address": sources["output"][layer][head],
                "q_stride": layout.query_stride,
                "output_stride": layout.output_stride,
                "iteration": iteration,
                "side": Side.FIRST + head % 2 if layout.fuse == 2 else Side.ALONE,
            }
        )
        if columns["token_topk"][r] >= 0:
            pending = columns["token_topk"][r]
    jobs = jobs_of(items)
    fuse_pairs(jobs, layout)
    program = Program(jobs)
    program.check(arch)
    return program
