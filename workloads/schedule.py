"""A token schedule (ranges of kept tokens, widths and flags in YAML) unrolled into the rows that it stands for."""

import hashlib
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from accel.errors import UserError
from workloads.catalog import find, read_yaml
from workloads.refusal import one_line
from workloads.row_trace import BoolRows, RowTrace, TraceSource, issue_cycles
from workloads.schedule_model import LayerEnd, Rows, TokenSchedule


def load_schedule(path_or_name: str | os.PathLike[str]) -> RowTrace:
    """Rows of a schedule: a YAML file, or the name of a workload of kind `token_schedule` in the catalog.

    Raises UserError, one line, for an unknown name or key, a value out of range, ranges that leave the model, rows that
    do not add up to the file's own `totals`.
    """
    path = Path(path_or_name)
    if not (path.is_file() or path.suffix in (".yaml", ".yml") or path.is_dir()):
        path = find(str(path_or_name)).path
    data = read_yaml(path)
    if data.get("kind", "token_schedule") != "token_schedule":
        raise UserError(f"{path}: kind is {data['kind']!r}; a schedule of rows is of kind token_schedule")
    try:
        schedule = TokenSchedule.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: {one_line(error, TokenSchedule)}") from None
    try:
        source = TraceSource(str(path), hashlib.sha256(path.read_bytes()).hexdigest())
        trace = unroll(schedule, source)
        _check_totals(schedule, trace)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return trace


def unroll(schedule: TokenSchedule, source: TraceSource) -> RowTrace:
    """One row per (generated token, layer, head) that runs. Raises UserError for a rule that selects no row."""
    model, context, widths = schedule.model, schedule.context, schedule.widths
    grid = _Grid.of(schedule)
    kept_of = np.zeros(model.layers, dtype=np.int64)
    for kept_rule in schedule.keys.kept:
        kept_of[list(kept_rule.layers)] = kept_rule.tokens

    live = context.prompt_tokens + 1 + grid.iteration  # the token being generated attends to itself
    is_dense = np.isin(grid.iteration, schedule.keys.dense_iterations)
    kept = np.where(is_dense, context.full_tokens, kept_of[grid.layer])
    keys = np.minimum(kept, live)
    share = Fraction(str(schedule.values.kept_share))  # 0.2 is meant as 1/5, not as the nearest double
    values = np.minimum(kept * share.numerator // share.denominator, keys)
    if values.min() < 1:
        raise UserError(f"values.kept_share: {schedule.values.kept_share} of {kept.min()} kept tokens leaves none")

    topk = np.full(len(live), -1)
    grid.marked("token_topk", schedule.token_topk)  # refuses two selections after one row
    for topk_rule in schedule.token_topk:
        topk[grid.rows("token_topk", topk_rule)] = topk_rule.keep
    if (topk > live).any():
        raise UserError(f"token_topk: keep {topk.max()} is more than the live tokens")

    def same(bits: float) -> np.ndarray:
        return np.full(len(live), bits)

    return RowTrace(
        name=schedule.name,
        iteration=grid.iteration,
        layer=grid.layer,
        head=grid.head,
        head_dim=same(model.head_dim),
        live_tokens=live,
        keys=keys,
        key_msb_bits=same(widths.key_msb_bits),
        key_lsb_bits=same(widths.key_lsb_bits),
        query_bits=same(widths.query_bits),
        lsb_threshold=same(-1.0 if widths.lsb_threshold is None else widths.lsb_threshold),
        lsb_pass=grid.marked("lsb_passes", schedule.lsb_passes),
        values=values,
        value_bits=same(widths.value_bits),
        accumulate_importance=~grid.marked("importance.not_accumulated", schedule.importance.not_accumulated),
        rescale_importance=grid.marked("importance.rescaled", schedule.importance.rescaled),
        token_topk=topk,
        source=source,
        config=schedule.config,
        notes=schedule.notes,
    )


class _Grid(NamedTuple):
    """Where every row stands, in execution order, and the selection of rows by rules."""

    iteration: np.ndarray
    layer: np.ndarray
    head: np.ndarray
    last_head: BoolRows

    @classmethod
    def of(cls, schedule: TokenSchedule) -> "_Grid":
        layers, tokens = schedule.model.layers, schedule.context.generated_tokens
        heads = np.zeros(layers, dtype=np.int64)
        for rule in schedule.model.heads:
            heads[list(rule.layers)] = rule.heads
        layer = np.tile(np.repeat(np.arange(layers), heads), tokens)
        head = np.tile(np.concatenate([np.arange(count) for count in heads]), tokens)
        return cls(np.repeat(np.arange(tokens), heads.sum()), layer, head, head == heads[layer] - 1)

    def rows(self, what: str, rule: Rows | LayerEnd) -> BoolRows:
        """The rows that a rule selects. Raises UserError for a number in the rule that no row has."""
        axes = [("iterations", self.iteration, rule.iterations)]
        if isinstance(rule, LayerEnd):
            chosen = self.last_head.copy()
            axes.append(("after_layer", self.layer, (rule.after_layer,)))
        else:
            chosen = np.ones(len(self.layer), dtype=np.bool_)
            axes += [("layers", self.layer, rule.layers), ("heads", self.head, rule.heads)]
        for axis, column, numbers in axes:
            if numbers is not None:
                there = np.unique(column[chosen])
                stray = np.setdiff1d(numbers, there)
                if len(stray):
                    raise UserError(f"{what}: {axis} {stray[0]} is not there, {there[0]} to {there[-1]} are")
                chosen &= np.isin(column, numbers)
        return chosen

    def marked(self, what: str, rules: Iterable[Rows | LayerEnd]) -> BoolRows:
        """The rows that any of the rules selects; two rules for one row are an error."""
        marked = np.zeros(len(self.layer), dtype=np.bool_)
        for rule in rules:
            chosen = self.rows(what, rule)
            if (marked & chosen).any():
                raise UserError(f"{what}: two rules name the same row (iteration, layer, head)")
            marked |= chosen
        return marked


def _check_totals(schedule: TokenSchedule, trace: RowTrace) -> None:
    lines = issue_cycles(trace, keys_per_line=8)
    found = {
        "rows": trace.rows,
        "lsb_passes": int(trace.lsb_pass.sum()),
        "token_topk_runs": int((trace.token_topk != -1).sum()),
        "not_accumulated": int((~trace.accumulate_importance).sum()),
        "key_lines": lines["qk_msb"],
        "lsb_key_lines": lines["qk_lsb"],
        "value_lines": lines["pv"],
    }
    for what, count in found.items():
        wanted = getattr(schedule.totals, what)
        if wanted not in (None, count):
            raise UserError(f"totals.{what}: the rows add up to {count}, the file says {wanted}")
