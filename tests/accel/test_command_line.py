"""The command in a report is one that parses back to the same question."""

import shlex

import pytest

from accel.cli import build_parser
from accel.commands._command import command_line

WHERE = ("json", "out", "runs", "timeline", "processes", "waves")


@pytest.mark.parametrize(
    "command",
    [
        "accel run gpt2-small-wikitext2 --arch tiny --set topk.lanes=32 --set fetcher.window=1 --seed 7",
        "accel run smollm2 --arch edge --seed 1 --text 'a b' --text c",
        "accel zoo vir-s16 retnet-1-3b --arch spatten",
        "accel zoo --crossover --arch spatten",
        "accel bench gpt2-small --without head-pruning --arch spatten --seed 3",
        "accel rivals a3 elsa --arch spatten-1-8 --workload seeded-320 --quality",
        "accel topk --lanes 16 32 --keys 64 --rows 10 --seed 1 --synth --arch spatten",
        "accel verify --arch tiny --programs 3 --memory random",
        "accel quality mamba --arch spatten",
    ],
)
def test_a_command_is_written_as_it_was_read(command: str) -> None:
    args = build_parser().parse_args(shlex.split(command)[1:])
    shown = ("arch", "seed") if " --seed " in command else ("arch",)
    assert command_line(args, (*shown, "lanes", "keys", "rows"), WHERE) == command


def test_where_results_go_is_left_out() -> None:
    args = build_parser().parse_args(["zoo", "vir-s16", "--json", "a.json", "-o", "b"])
    assert command_line(args, ("arch",), WHERE) == "accel zoo vir-s16 --arch spatten"
