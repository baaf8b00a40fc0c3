"""SmolLM2 and other Llama-type decoders out of a GGUF file, in NumPy float32, with the attention left to a hook.

Architecture: Llama 2 (RMSNorm before each block, rotary positions, SwiGLU, grouped-query attention), llama.cpp's
tensor names. All sizes come from the file; SmolLM2-135M has 30 layers, 9 query and 3 KV heads of 64, width 576 and
49152 tokens.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from accel.errors import UserError
from workloads.nets.attention import Attend, AttentionCall, apply_attend, surviving_tokens
from workloads.nets.kv_cache import KVCache
from workloads.nets.readers import Gguf, check_ids, gguf_bpe_tokenizer

# Rows of logits made at a time: 128 x 49152 float32 are 25 MB.
LOGIT_ROWS = 128


class _Layer(NamedTuple):
    """Weights of one layer, float32, outputs first. Products that share an input are stacked into one matrix."""

    attn_norm: np.ndarray  # (d,)
    qkv: np.ndarray  # ((Hq + 2 Hkv) dh, d)
    attn_out: np.ndarray  # (d, Hq dh)
    ffn_norm: np.ndarray  # (d,)
    gate_up: np.ndarray  # (2 ffn, d)
    down: np.ndarray  # (d, ffn)


class SmolLM2:
    """A Llama-type decoder read from the one GGUF file in `folder`; weights are dequantised to float32 at once.

    Attributes: layers, width, q_heads, kv_heads, head_dim, vocabulary, context_length, and the token ids
    `document_start` (`<|endoftext|>`, the token that begins a text of its own) and `end_token` (ends a generated
    answer). Raises UserError when the file is missing, damaged, or of another architecture.
    """

    def __init__(self, folder: Path) -> None:
        gguf = Gguf(_one_gguf(Path(folder)))
        architecture = gguf.field("general.architecture")
        if architecture != "llama":
            raise UserError(f"{gguf.path}: architecture {architecture!r} is not supported; 'llama' is")
        if gguf.field("llama.rope.scaling.type", "none") != "none":
            raise UserError(f"{gguf.path}: scaled rotary positions are not supported")
        self.layers = int(gguf.field("llama.block_count"))
        self.width = int(gguf.field("llama.embedding_length"))
        self.q_heads = int(gguf.field("llama.attention.head_count"))
        self.kv_heads = int(gguf.field("llama.attention.head_count_kv", self.q_heads))
        self.head_dim = self.width // self.q_heads
        self.context_length = int(gguf.field("llama.context_length"))
        self._ffn_width = int(gguf.field("llama.feed_forward_length"))
        self._norm_epsilon = np.float32(gguf.field("llama.attention.layer_norm_rms_epsilon"))
        # 10000 is llama.cpp's default for files that do not say.
        self._rope_base = float(gguf.field("llama.rope.freq_base", 10000.0))
        if gguf.field("llama.rope.dimension_count", self.head_dim) != self.head_dim or self.q_heads % self.kv_heads:
            raise UserError(f"{gguf.path}: partly rotated heads or uneven head groups are not supported")
        self._tokenizer = gguf_bpe_tokenizer(gguf)
        self.vocabulary = len(gguf.field("tokenizer.ggml.tokens"))
        self.end_token = int(gguf.field("tokenizer.ggml.eos_token_id", 0))
        start = self._tokenizer.token_to_id("<|endoftext|>")
        self.document_start = int(gguf.field("tokenizer.ggml.bos_token_id", 0)) if start is None else start
        self._embedding = gguf.tensor("token_embd.weight", (self.vocabulary, self.width))
        self._output = self._embedding
        if gguf.has("output.weight"):
            self._output = gguf.tensor("output.weight", (self.vocabulary, self.width))
        self._output_norm = gguf.tensor("output_norm.weight", (self.width,))
        self._weights = [self._read_layer(gguf, layer) for layer in range(self.layers)]

    def _read_layer(self, gguf: Gguf, layer: int) -> _Layer:
        d, ffn = self.width, self._ffn_width
        q_rows, kv_rows = self.q_heads * self.head_dim, self.kv_heads * self.head_dim

        def weight(name: str, *shape: int) -> np.ndarray:
            return gguf.tensor(f"blk.{layer}.{name}.weight", shape)

        qkv = [weight("attn_q", q_rows, d), weight("attn_k", kv_rows, d), weight("attn_v", kv_rows, d)]
        return _Layer(
            attn_norm=weight("attn_norm", d),
            qkv=np.concatenate(qkv),
            attn_out=weight("attn_output", d, q_rows),
            ffn_norm=weight("ffn_norm", d),
            gate_up=np.concatenate([weight("ffn_gate", ffn, d), weight("ffn_up", ffn, d)]),
            down=weight("ffn_down", d, ffn),
        )

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text; nothing is put in front."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def new_cache(self) -> KVCache:
        """An empty cache for one sequence."""
        return KVCache(self.layers, self.kv_heads, self.head_dim)

    def forward(self, ids: Sequence[int], attend: Attend | None = None, cache: KVCache | None = None) -> np.ndarray:
        """Hidden state of every given token after the final norm, float32 (T, d).

        With a cache, the tokens follow those already in it, and their keys and values are added. When the hook has
        `alive` and the cache is empty (prefill), a token that is dropped before layer n keeps the state it had there:
        it makes no keys, values or FFN work from layer n on, and the cache of those layers holds only survivors.
        Survivors keep their own rotary positions.

        Raises UserError for ids outside the vocabulary and for more tokens than the network's context.
        """
        cache = self.new_cache() if cache is None else cache
        array = check_ids(ids, self.vocabulary, self.context_length - cache.length, "decoder")
        state = self._embedding[array]
        start, count = cache.length, len(array)
        cosine, sine = self._rotation(start + np.arange(count))
        present = np.arange(count)
        for layer, weights in enumerate(self._weights):
            if start == 0:
                present = surviving_tokens(attend, layer, present)
            x = state[present]
            q, k, v = self._project(weights, x, cosine[present], sine[present])
            keys, values = cache.append(layer, k, v)
            call = AttentionCall(layer, q, keys, values, causal=True, q_start=keys.shape[1] - len(present))
            mixed = apply_attend(attend, call).transpose(1, 0, 2).reshape(len(present), -1)
            x = x + mixed @ weights.attn_out.T
            state[present] = x + self._ffn(weights, x)
        cache.length += count
        return self._norm(state, self._output_norm)

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        """Next-token logits float32 (T, vocabulary) of final hidden states (T, d)."""
        return hidden @ self._output.T

    def logit_blocks(self, hidden: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """The same logits a block of rows at a time, so that long texts fit in memory: (rows, logits of these rows)."""
        for start in range(0, len(hidden), LOGIT_ROWS):
            rows = slice(start, min(start + LOGIT_ROWS, len(hidden)))
            yield rows, self.logits(hidden[rows])

    def nll_of(self, hidden: np.ndarray, targets: Sequence[int]) -> np.ndarray:
        """-ln P(targets[i] | hidden[i]), float64 (n,)."""
        wanted = np.asarray(targets, dtype=np.int64)
        out = np.empty(len(wanted))
        for rows, logits in self.logit_blocks(hidden):
            top = logits.max(axis=1)
            total = np.exp(logits - top[:, None]).sum(axis=1, dtype=np.float64)
            chosen = logits[np.arange(len(logits)), wanted[rows]]
            out[rows] = top.astype(np.float64) + np.log(total) - chosen
        return out

    def nll(self, ids: Sequence[int], attend: Attend | None = None) -> np.ndarray:
        """-ln P of ids[1:] in one prefill pass, float64 (T - 1,).

        With a hook that prunes tokens, a pruned token predicts from its frozen state; use `decode_hidden` to measure
        what a machine with token pruning generates.
        """
        return self.nll_of(self.forward(ids, attend)[:-1], ids[1:])

    def decode_hidden(self, ids: Sequence[int], prompt: int, attend: Attend | None = None) -> np.ndarray:
        """Teacher-forced decoding: prefill ids[:prompt], then one step per further token, as in generation.

        Returns the hidden states that predict ids[prompt:], float32 (T - prompt, d).
        Raises UserError unless 1 <= prompt < T.
        """
        if not 1 <= prompt < len(ids):
            raise UserError(
                f"decoder: prompt of {prompt} tokens, expected 1 .. {len(ids) - 1} of the {len(ids)} tokens"
            )
        cache = self.new_cache()
        out = np.empty((len(ids) - prompt, self.width), dtype=np.float32)
        out[0] = self.forward(ids[:prompt], attend, cache)[-1]
        for place in range(prompt, len(ids) - 1):
            out[place - prompt + 1] = self.forward(ids[place : place + 1], attend, cache)[-1]
        return out

    def decode_nll(self, ids: Sequence[int], prompt: int, attend: Attend | None = None) -> np.ndarray:
        """-ln P of ids[prompt:] by teacher-forced decoding, float64 (T - prompt,)."""
        return self.nll_of(self.decode_hidden(ids, prompt, attend), ids[prompt:])

    def generate(self, ids: Sequence[int], n: int, attend: Attend | None = None) -> list[int]:
        """Greedy continuation: up to `n` new token ids; ends early after `end_token`, which is included."""
        cache = self.new_cache()
        out: list[int] = []
        feed = list(ids)
        while len(out) < n:
            hidden = self.forward(feed, attend, cache)[-1:]
            token = int(self.logits(hidden)[0].argmax())
            out.append(token)
            if token == self.end_token:
                break
            feed = [token]
        return out

    def _norm(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        mean_square = np.einsum("td,td->t", x, x)[:, None] / np.float32(self.width)
        return x / np.sqrt(mean_square + self._norm_epsilon) * weight

    def _rotation(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cosine and sine of the rotary angles, float32 (T, dh / 2); float64 angles, as they reach 8000 radians."""
        rates = self._rope_base ** (-np.arange(0, self.head_dim, 2) / self.head_dim)
        angles = positions[:, None] * rates
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    def _project(
        self, weights: _Layer, x: np.ndarray, cosine: np.ndarray, sine: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """q (Hq, T, dh) and k (Hkv, T, dh), rotated, and v (Hkv, T, dh)."""
        product = self._norm(x, weights.attn_norm) @ weights.qkv.T
        heads = product.reshape(len(x), -1, self.head_dim).transpose(1, 0, 2)
        rotated = self.q_heads + self.kv_heads
        # GGUF stores Llama's q and k rows so that a rotated pair is two neighbours (2i, 2i + 1).
        even, odd = heads[:rotated, :, 0::2], heads[:rotated, :, 1::2]
        turned = np.empty((rotated, len(x), self.head_dim), dtype=np.float32)
        turned[..., 0::2] = even * cosine - odd * sine
        turned[..., 1::2] = even * sine + odd * cosine
        return turned[: self.q_heads], turned[self.q_heads :], heads[rotated:]

    def _ffn(self, weights: _Layer, x: np.ndarray) -> np.ndarray:
        product = self._norm(x, weights.ffn_norm) @ weights.gate_up.T
        gate, up = product[:, : self._ffn_width], product[:, self._ffn_width :]
        # gate * sigmoid(gate), in the form that cannot overflow
        return (np.float32(0.5) * gate * (1 + np.tanh(np.float32(0.5) * gate)) * up) @ weights.down.T


def _one_gguf(folder: Path) -> Path:
    found = sorted(folder.glob("*.gguf"))
    if len(found) != 1:
        raise UserError(f"{folder}: expected exactly one *.gguf file, found {len(found)}")
    return found[0]
