"""The zoo holds the 37 systems with the counts of the reference notes; a file that cannot be right is refused."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from accel.errors import UserError
from workloads import catalog
from workloads.kernels import Aggregate, DecayAttention, Gemm, StateUpdate
from workloads.systems import System, find_run, load_system, load_zoo, run_names
from workloads.systems.arithmetic import evaluate
from workloads.systems.page import zoo_page

FIGURES = yaml.safe_load((Path(__file__).parent / "reference_figures.yaml").read_text())
REFERENCE = Path("/work/shared/reference/workloads.yaml")
PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"

TINY: dict[str, Any] = {
    "kind": "system",
    "name": "tiny",
    "title": "A tiny system",
    "about": "made up for this test",
    "paper": "none",
    "family": "retention",
    "computes": ["o = q S"],
    "sources": {"O": "made up"},
    "kernels": [
        {"kernel": "gemm", "label": "in", "role": "projection", "count": "layers", "M": "tokens", "K": "d",
         "N": "3 * d"},
        {
            "kernel": "state_update", "label": "mix", "role": "mixer", "count": "layers", "heads": 2, "states": 2,
            "key_dim": "d // 2", "value_dim": "d // 2", "tokens": "tokens", "decay": "constant",
            "gammas": "1/4 to 1/16",
        },
    ],
    "configurations": [
        {
            "name": "tiny-4", "unit": "4 tokens", "sources": ["O"], "confidence": "stand-in", "on_chip": ["state"],
            "parameters": {"layers": 3, "tokens": 4, "d": "2 * tokens"}, "confidence_of": {"d": "low"},
        },
    ],
    "techniques": {
        "token_pruning": {"mode": "modified", "name": "window", "bound": "small", "how": "by age"},
        "head_pruning": {"mode": "as_is", "how": "as usual"},
        "progressive_quantisation": {"mode": "none", "how": "nothing moves"},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def zoo() -> list[System]:
    return load_zoo()


def written(tmp_path: Path, change: Callable[[dict[str, Any]], Any] = lambda data: None) -> Path:
    """TINY as a file, after `change` has edited a copy of it in place."""
    data = copy.deepcopy(TINY)
    change(data)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def test_all_37_are_there_once(zoo: list[System]) -> None:
    assert [system.seed for system in zoo if system.seed] == list(range(1, 38))
    assert {"vit", "llama-3-8b", "qwen-3-8b", "deepseek-mla", "mamba", "retnet"} <= {system.name for system in zoo}
    assert [entry.name for entry in catalog.workloads("system")] == sorted(system.name for system in zoo)


def test_every_configuration_has_figures_or_none_are_known(zoo: list[System]) -> None:
    """A row that is added without figures of another count has to be named here."""
    names = {one.name for system in zoo for one in system.configurations}
    assert set(FIGURES["figures"]) <= names
    assert names - set(FIGURES["figures"]) == {
        "universal-transformer-tiny", "universal-transformer-teeny", "mamba-130m-prompt", "retnet-1-3b-chunk",
        "retnet-1-3b-parallel", "retnet-6-7b",
    }  # fmt: skip


@pytest.mark.parametrize("name", FIGURES["figures"])
def test_counts_are_those_of_the_reference(name: str, zoo: list[System]) -> None:
    """Equal in every number, or off by exactly the arithmetic that `differs` gives a reason for."""
    figure = FIGURES["figures"][name]
    differs = FIGURES["differs"].get(name, {})
    one = next(one for system in zoo for one in system.configurations if one.name == name)
    totals = one.totals()
    moved = {role: part.dram_bytes for role, part in totals.by_role.items()}
    ours = {
        "macs": totals.macs,
        "exponentials": totals.exponentials,
        "dram_bytes": totals.dram_bytes,
        "weight_bytes": totals.weight_bytes,
        "mixer_bytes": moved.get("mixer", 0),
        "widest_bytes": sum(moved.get(role, 0) for role in ("mixer", "recurrent_gemv", "vocabulary")),
    }
    for what, count in ours.items():
        assert count == figure[what] + evaluate(differs.get(what, 0), {}), f"{name}: {what}"
    if "dram_bytes" not in differs:  # a share follows from the bytes; where those agree, it does as printed
        assert round(totals.mixer_share, 4) == figure["mixer_share"]
        assert round(totals.widest_share, 4) == figure["widest_share"]


def test_differences_are_real() -> None:
    """No reason is kept for a figure that agrees."""
    for name, differs in FIGURES["differs"].items():
        assert differs["why"]
        assert set(differs) - {"why"} <= set(FIGURES["figures"][name])
        assert all(evaluate(said, {}) for what, said in differs.items() if what != "why"), name


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the reference notes are not shipped")
def test_typed_figures_are_the_reference_notes() -> None:
    notes = yaml.load(REFERENCE.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    derived = {
        (system["key"], one["name"]): one["derived"]
        for system in notes["workloads"]
        for one in system["configs"]
        if "derived" in one
    }
    seeds = {tuple(figure["row"]) for figure in FIGURES["figures"].values() if figure["row"][0] != "extras"}
    assert seeds == set(derived)
    derived |= {("extras", one["name"]): one["derived"] for one in notes["extras"]}
    for name, figure in FIGURES["figures"].items():
        theirs = derived[tuple(figure["row"])]
        parts = {kind: part["dram_bytes"] for kind, part in theirs["by_cat"].items()}
        assert figure | {"row": None} == {
            "row": None,
            "macs": theirs["macs_total"],
            "exponentials": theirs["exp_ops"],
            "dram_bytes": theirs["dram_bytes_total_fp16"],
            "weight_bytes": theirs["weight_bytes_fp16"],
            "mixer_bytes": parts.get("mixer", 0),
            "widest_bytes": sum(parts.get(kind, 0) for kind in ("mixer", "rnn_w", "vocab")),
            "mixer_share": theirs["f_mixer"],
            "widest_share": theirs["f_with_vocab_rnn"],
        }, name
    modes = {"token_pruning": "token_value_pruning", "head_pruning": "head_pruning",
             "progressive_quantisation": "progressive_quant"}  # fmt: skip
    for system in notes["workloads"]:
        ours = load_system(system["key"].replace("_", "-"))
        assert (ours.seed, ours.paper) == (system["id"], system["arxiv"])
        for our, their in modes.items():
            assert getattr(ours.techniques, our).mode == system["techniques"][their]["mode"], f"{ours.name}: {our}"


def test_a_backbone_of_which_only_totals_are_known_is_never_the_mixer(zoo: list[System]) -> None:
    for system in zoo:
        for one in system.configurations:
            assert all(call.role == "conv" for call in one.calls() if isinstance(call.kernel, Aggregate))


def test_modified_techniques_have_names_of_their_own(zoo: list[System]) -> None:
    published = {"token pruning", "value pruning", "head pruning", "progressive quantisation"}
    for system in zoo:
        for said in system.techniques:
            assert said[1].mode != "modified" or said[1].name.lower() not in published


def test_the_page_is_that_of_the_files() -> None:
    """`python -m workloads.systems.page > docs/zoo.md` after a change of the zoo."""
    assert PAGE.read_text(encoding="utf-8") == zoo_page()


def test_runs_are_found_by_name(zoo: list[System]) -> None:
    names = run_names()
    assert len(set(names)) == len(names)
    for name, configuration in (
        ("vir-s16", "vir-s16"), ("vir", "vir-s16"), ("vir-b16-1024", "vir-b16-1024"), ("mamba-130m", "mamba-130m"),
        ("retnet", "retnet-1-3b"), ("vit-s16", "vit-s16"), ("llama-3-8b", "llama-3-8b-4k"),
    ):  # fmt: skip
        assert find_run(name)[1].name == configuration
    with pytest.raises(UserError, match=r"did you mean .*vir-s16"):
        find_run("vir-x16")
    with pytest.raises(UserError, match="no system is called 'gpt2-small-wikitext2'"):
        find_run("gpt2-small-wikitext2")


def test_a_file_becomes_kernels(tmp_path: Path) -> None:
    system = load_system(written(tmp_path))
    one = system.configuration("tiny")
    assert one.sizes() == {"layers": 3, "tokens": 4, "d": 8}
    project, mix = one.calls()
    assert (project.kernel, project.times) == (Gemm(4, 8, 24), 3)
    assert isinstance(mix.kernel, StateUpdate)
    assert mix.kernel.decays == pytest.approx((3 / 4, 15 / 16))
    assert mix.dram_bytes(8) == dict.fromkeys(("q", "k", "v", "output"), 3 * 4 * 8)
    totals = one.totals()
    assert totals.macs == 3 * (4 * 8 * 24 + 4 * 4 * 16)
    assert {role: part.macs for role, part in totals.by_role.items()} == {
        "projection": 3 * 4 * 8 * 24,
        "mixer": 3 * 4 * 4 * 16,
    }
    assert totals.dram_bytes == 2 * 3 * (8 * 24 + 4 * 8 + 4 * 24 + 4 * 32)
    assert totals.share("mixer", "projection") == 1
    assert one.totals(8).dram_bytes * 2 == totals.dram_bytes


def test_a_configuration_may_have_kernels_of_its_own(tmp_path: Path) -> None:
    own = {"kernel": "decay_attention", "label": "all at once", "role": "mixer", "heads": 2, "length": "tokens",
           "key_dim": 4, "value_dim": 4, "gammas": 0.5}  # fmt: skip
    system = load_system(written(tmp_path, lambda data: data["configurations"][0].update(kernels=[own])))
    assert [call.kernel for call in system.configurations[0].calls()] == [DecayAttention(2, 4, 4, 4, (0.5, 0.5))]


def kernel(index: int = 0, **changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda data: data["kernels"][index].update(changes)


def configuration(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda data: data["configurations"][0].update(changes)


def rename(data: dict[str, Any]) -> None:
    data["name"] = "other"
    data["configurations"][0]["name"] = "other-4"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.update(kind="systems"), "a system is of kind system"),
        (rename, "the name of its file, tiny, is right"),
        (lambda data: data.update(titel="x"), "unknown key titel; did you mean title?"),
        (lambda data: data.pop("sources"), "sources is missing"),
        (lambda data: data.update(seed=38), "seed: 38 is not possible"),
        (lambda data: data.update(family="retentive"), "family: 'retentive'"),
        (configuration(confidense="high"), "unknown key configurations.0.confidense; did you mean confidence?"),
        (configuration(confidence="sure"), "configurations.0.confidence: 'sure'"),
        (configuration(confidence_of={"dd": "low"}), "no parameter is called dd; did you mean d?"),
        (configuration(name="small-4"), "its name must start with tiny-"),
        (configuration(name="tiny-4.5"), "small letters, digits and single hyphens"),
        (configuration(sources=["P"]), "no source is called P; there are: O"),
        (
            configuration(parameters={"layers": "2 * d", "d": 8}),
            "parameters: layers: '2 * d': there is no size called d",
        ),
        (configuration(on_chip=["states"]), "in: on_chip: states: did you mean state?"),
        (kernel(kernel="gemn"), "kernel 'gemn': did you mean gem"),
        (kernel(rolle="ffn"), "in: unknown key rolle; did you mean role?"),
        (kernel(role="gate"), "role: 'gate'"),
        (kernel(N="3 * dd"), "tiny-4: in: '3 * dd': there is no size called dd; did you mean d?"),
        (kernel(N="d ** 9"), "only whole numbers, names, + - * // and brackets"),
        (kernel(N="__import__('os')"), "only whole numbers, names, + - * // and brackets"),
        (kernel(N=0), "tiny-4: in: gemm: N = 0: must be a whole number, 1 or more"),
        (kernel(N=1.5), "1.5 is no size"),
        (kernel(count="layers - 3"), "count = 0: must be 1 or more"),
        (lambda data: data["kernels"][0].pop("N"), "in: 'N' is missing"),
        (lambda data: data["kernels"][1].pop("states"), "mix: states is missing"),
        (kernel(1, gammas="1/4"), None),
        (kernel(1, gammas="slow to fast"), "gammas = 'slow to fast': 1/32 to 1/512"),
        (kernel(1, decay="channel"), "only a constant decay is known"),
        (kernel(1, decay="konstant"), "must be one of constant, head"),
        (lambda data: data["techniques"]["head_pruning"].update(name="x"), "as_is: name and bound belong to"),
        (lambda data: data["techniques"]["token_pruning"].pop("bound"), "a modified technique has a name of its own"),
        (lambda data: data["techniques"].pop("head_pruning"), "techniques.head_pruning is missing"),
        (lambda data: data["configurations"].append(data["configurations"][0]), "each name once"),
    ],
)
def test_wrong_files_are_refused_in_one_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str | None
) -> None:
    path = written(tmp_path, change)
    if words is None:
        assert load_system(path)
        return
    with pytest.raises(UserError) as caught:
        load_system(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert words in message


@given(a=st.integers(0, 99), b=st.integers(0, 99), c=st.integers(1, 99))
def test_arithmetic(a: int, b: int, c: int) -> None:
    names = {"a": a, "b": b, "c": c}
    assert evaluate("a + b * c - (a - b) // c", names) == a + b * c - (a - b) // c


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("a // (a - a)", "divides by 0"),
        ("a +", "cannot be read"),
        ("a if a else a", "only whole numbers"),
        ("a * " * 60 + "a", "too long"),
        ("9999999999 * 9999999999", "too large"),
        ("1.5 * a", "only whole numbers"),
        ("True", "only whole numbers"),
        (True, "is no size"),
    ],
)
def test_arithmetic_is_nothing_but_arithmetic(said: str | int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        evaluate(said, {"a": 7})
