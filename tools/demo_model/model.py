"""gpt-oss in PyTorch, written for training: packed rows, experts as two wide products, no data-dependent shapes.

Parameters carry the names of the checkpoint. The experts' matrices keep the orientation of the MXFP4 layout,
[experts, outputs, inputs] (transformers' bf16 layout is transposed), rows 2j of gate_up_proj are gates, 2j + 1 ups.

All experts are computed for all tokens, and those not chosen are weighted with 0: with 8 small experts, two dense
products are faster than sorting tokens by expert, and their shapes never change.
"""

import contextlib
import dataclasses
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from . import mxfp4

SWIGLU_ALPHA = 1.702
PREFILL_ROWS = 256  # prompts that are read together


@dataclasses.dataclass(frozen=True)
class Config:
    vocab_size: int = 4096
    hidden_size: int = 256
    intermediate_size: int = 256
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    num_key_value_heads: int = 2
    head_dim: int = 64
    num_local_experts: int = 8
    num_experts_per_tok: int = 2
    sliding_window: int = 128
    max_position_embeddings: int = 4096
    original_max_position_embeddings: int = 1024
    rope_theta: float = 150000.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    rms_norm_eps: float = 1e-5
    swiglu_limit: float = 7.0
    router_aux_loss_coef: float = 0.01

    @property
    def rope_factor(self) -> float:
        return self.max_position_embeddings / self.original_max_position_embeddings

    def slides(self, layer: int) -> bool:
        return layer % 2 == 0

    def to_hf(self, eos_token_id: int, pad_token_id: int, quantised: bool) -> dict:
        """config.json as the published models spell it."""
        config = {
            "architectures": ["GptOssForCausalLM"],
            "attention_bias": True,
            "attention_dropout": 0.0,
            "eos_token_id": eos_token_id,
            "experts_per_token": self.num_experts_per_tok,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initial_context_length": self.original_max_position_embeddings,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate_size,
            "layer_types": [
                "sliding_attention" if self.slides(layer) else "full_attention" for layer in range(self.num_hidden_layers)
            ],
            "max_position_embeddings": self.max_position_embeddings,
            "model_type": "gpt_oss",
            "num_attention_heads": self.num_attention_heads,
            "num_experts_per_tok": self.num_experts_per_tok,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "num_local_experts": self.num_local_experts,
            "output_router_logits": False,
            "pad_token_id": pad_token_id,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_scaling": {
                "beta_fast": self.beta_fast,
                "beta_slow": self.beta_slow,
                "factor": self.rope_factor,
                "original_max_position_embeddings": self.original_max_position_embeddings,
                "rope_type": "yarn",
                "truncate": False,
            },
            "rope_theta": self.rope_theta,
            "router_aux_loss_coef": self.router_aux_loss_coef,
            "sliding_window": self.sliding_window,
            "swiglu_limit": self.swiglu_limit,
            "tie_word_embeddings": False,
            "use_cache": True,
            "vocab_size": self.vocab_size,
        }
        if quantised:
            config["quantization_config"] = {
                "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
                "quant_method": "mxfp4",
            }
        else:
            config["dtype"] = "bfloat16"
        return config

    @staticmethod
    def load(path: pathlib.Path) -> "Config":
        """A JSON object of some of the fields above; the others keep their defaults."""
        return Config(**json.loads(path.read_text()))


def rotary_frequencies(config: Config) -> tuple[torch.Tensor, float]:
    """YaRN: radians a position of the head_dim / 2 pairs, float32, and the factor on sines and cosines."""
    half, base, factor = config.head_dim // 2, config.rope_theta, config.rope_factor

    def pair_that_turns(times: float) -> float:
        return half * math.log(config.original_max_position_embeddings / (times * 2 * math.pi)) / math.log(base)

    low, high = pair_that_turns(config.beta_fast), pair_that_turns(config.beta_slow)
    low, high = max(low, 0.0), min(high, config.head_dim - 1.0)
    pairs = torch.arange(half, dtype=torch.float64)
    ramp = ((pairs - low) / max(high - low, 1e-3)).clamp(0, 1)
    frequencies = base ** (-pairs / half)
    return (frequencies / factor * ramp + frequencies * (1 - ramp)).float(), 0.1 * math.log(factor) + 1 if factor > 1 else 1.0


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x [batch, time, heads, head_dim]; element d pairs with d + head_dim / 2; cos, sin [batch, time, head_dim / 2]."""
    first, second = x.float().chunk(2, dim=-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        x = x.float()
        return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight).to(dtype)


def linear(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype) if layer.bias is not None else None)


class Attention(nn.Module):
    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.config = config
        self.window = config.sliding_window if config.slides(layer) else None
        q_width = config.num_attention_heads * config.head_dim
        kv_width = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, q_width)
        self.k_proj = nn.Linear(config.hidden_size, kv_width)
        self.v_proj = nn.Linear(config.hidden_size, kv_width)
        self.o_proj = nn.Linear(q_width, config.hidden_size)
        self.sinks = nn.Parameter(torch.zeros(config.num_attention_heads))

    def forward(self, x, cos, sin, allowed, cache=None):
        """x [batch, time, hidden]; allowed [batch, time, keys], bool, at least one key of each row true, or a BlockMask.

        With a BlockMask no scores are written to memory, a third of a GPU's time in training. cache is (keys, values, slots): both [batch, kv heads, positions, head_dim], which take this call's at the
        positions slots [batch, time] and are then what is attended to.
        """
        config = self.config
        batch, time, _ = x.shape
        q = rotate(linear(x, self.q_proj).view(batch, time, -1, config.head_dim), cos, sin)
        k = rotate(linear(x, self.k_proj).view(batch, time, -1, config.head_dim), cos, sin)
        v = linear(x, self.v_proj).view(batch, time, -1, config.head_dim)
        if cache is not None:
            keys, values, slots = cache
            rows = torch.arange(batch, device=x.device)[:, None]
            keys[rows, :, slots], values[rows, :, slots] = k, v
            k, v = keys.transpose(1, 2), values.transpose(1, 2)
        if isinstance(allowed, BlockMask):
            heads = (tensor.transpose(1, 2) for tensor in (q, k, v))
            out, total = flex_attention(*heads, block_mask=allowed, enable_gqa=True, return_lse=True)
            out = out * torch.sigmoid(total - self.sinks.float()[:, None])[..., None].to(out.dtype)  # a sink is explained below
            return linear(out.transpose(1, 2).reshape(batch, time, -1), self.o_proj)
        # The query heads of one key-value head are stacked as more rows: [batch, kv heads, group * time, head_dim].
        kv_heads, group = config.num_key_value_heads, config.num_attention_heads // config.num_key_value_heads
        q = q.view(batch, time, kv_heads, group, config.head_dim).permute(0, 2, 3, 1, 4).flatten(2, 3)
        scores = torch.matmul(q, k.permute(0, 2, 3, 1)).float().unflatten(2, (group, time)) * config.head_dim**-0.5
        scores = scores.masked_fill(~allowed[:, None, None], -torch.inf)
        # A sink is a logit without a value: it only enlarges the sum that the weights are divided by.
        sinks = self.sinks.float().view(1, kv_heads, group, 1)
        total = torch.logaddexp(torch.logsumexp(scores, dim=-1), sinks)
        weights = torch.exp(scores - total[..., None]).to(v.dtype).flatten(2, 3)
        out = torch.matmul(weights, v.transpose(1, 2)).unflatten(2, (group, time))
        return linear(out.permute(0, 3, 1, 2, 4).reshape(batch, time, -1), self.o_proj)


class Router(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.num_local_experts, config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(config.num_local_experts))
        self.chosen = config.num_experts_per_tok

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """x [tokens, hidden]: weights float32 [tokens, experts], 0 where not chosen, and softmax over all logits."""
        logits = F.linear(x.float(), self.weight.float(), self.bias.float())
        best, index = logits.topk(self.chosen, dim=-1)
        return torch.zeros_like(logits).scatter(-1, index, best.softmax(-1)), logits.softmax(-1)


class Experts(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        experts, hidden, inner = config.num_local_experts, config.hidden_size, config.intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, hidden))
        self.gate_up_proj_bias = nn.Parameter(torch.zeros(experts, 2 * inner))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, inner))
        self.down_proj_bias = nn.Parameter(torch.zeros(experts, hidden))
        self.limit = config.swiglu_limit

    def forward(self, x: torch.Tensor, weights: torch.Tensor, rule: str | None, active: torch.Tensor | None) -> torch.Tensor:
        """x [tokens, hidden], weights [tokens, experts]; rule and active: as mxfp4.straight_through() has them."""
        gate_up, down = self.gate_up_proj, self.down_proj
        if rule is not None:
            gate_up, down = mxfp4.straight_through(gate_up, rule, active), mxfp4.straight_through(down, rule, active)
        if not torch.is_grad_enabled() and not x.is_cuda:
            return self.sparse(x, weights, gate_up, down)
        experts, hidden, inner = down.shape
        z = F.linear(x, gate_up.flatten(0, 1).to(x.dtype), self.gate_up_proj_bias.flatten().to(x.dtype))
        gate, up = z.view(-1, experts, inner, 2).float().unbind(-1)
        gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        a = gate * torch.sigmoid(SWIGLU_ALPHA * gate) * (up + 1) * weights[:, :, None]
        down = down.transpose(0, 1).reshape(hidden, experts * inner)
        out = F.linear(a.to(x.dtype).flatten(1), down.to(x.dtype))
        return out.float() + weights @ self.down_proj_bias.float()

    def sparse(self, x: torch.Tensor, weights: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        """The same, each expert for its tokens only: a quarter of the work, where nothing is compiled and a CPU answers."""
        out = weights @ self.down_proj_bias.float()
        for expert in range(len(down)):
            rows = weights[:, expert].nonzero()[:, 0]
            z = F.linear(x[rows], gate_up[expert].to(x.dtype), self.gate_up_proj_bias[expert].to(x.dtype)).float()
            gate, up = z[:, 0::2].clamp(max=self.limit), z[:, 1::2].clamp(-self.limit, self.limit)
            a = gate * torch.sigmoid(SWIGLU_ALPHA * gate) * (up + 1) * weights[rows, expert, None]
            out.index_add_(0, rows, F.linear(a.to(x.dtype), down[expert].to(x.dtype)).float())
        return out


class MLP(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.router = Router(config)
        self.experts = Experts(config)


class Layer(nn.Module):
    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x, cos, sin, allowed, share, rule, active, dtype, cache=None):
        """The residual [batch, time, hidden] behind this layer, and its load-balancing loss.

        share: [tokens], what each counts in that loss (their sum is 1); rule, active: see Experts; dtype: of products.
        """
        x = x + self.self_attn(self.input_layernorm(x, dtype), cos, sin, allowed, cache).float()
        normed = self.post_attention_layernorm(x, dtype).flatten(0, 1)
        weights, chances = self.mlp.router(normed)
        x = x + self.mlp.experts(normed, weights, rule, active).view_as(x)
        balance = chances.shape[1] * ((share @ (weights > 0).float()) * (share @ chances)).sum()
        return x, balance


def run_layer(layer: Layer, *arguments):
    return layer(*arguments)


class Body(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class GptOss(nn.Module):
    """rule: quantise the experts in the forward pass by this scale rule where `quantising` is true; None: never."""

    def __init__(self, config: Config, rule: str | None = None, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.rule, self.dtype = config, rule, dtype  # dtype: of the products; the residual is float32
        self.model = Body(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        frequencies, self.rotary_factor = rotary_frequencies(config)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("quantising", torch.tensor(True), persistent=False)
        self.register_buffer("reaches", torch.tensor([1 << 30, config.sliding_window]), persistent=False)
        self.layer_of_loss, self.head_of_loss, self.in_blocks = run_layer, self.head, False

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        depth = (2 * self.config.num_hidden_layers) ** -0.5  # of what each branch adds to the residual
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1)
            elif name.endswith("bias") or name.endswith("sinks") or name == "lm_head.weight":
                parameter.zero_()
            else:
                size = 0.5 if name.endswith("embed_tokens.weight") else parameter.shape[-1] ** -0.5
                size *= depth if "o_proj" in name or "down_proj" in name else 1
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)

    def compile(self) -> None:
        """Compiles what loss() runs: one layer for all layers, and the head. Then loss() has one shape only."""
        self.in_blocks = self.reaches.is_cuda  # flex_attention has no gradient on a CPU
        self.layer_of_loss = torch.compile(run_layer, dynamic=False, fullgraph=True)
        self.head_of_loss = torch.compile(self.head, dynamic=False, fullgraph=True)

    def hidden(self, ids, positions, allowed_full, allowed_window, share=None, caches=None, run=run_layer):
        """ids, positions [batch, time]; allowed_* [batch, time, keys]: the residual behind all layers and the
        load-balancing loss.

        The loss is that of Switch Transformers, a mean over layers, tokens counting by `share` [tokens]; it is the number
        of experts a token when all experts are used alike.
        """
        x = F.embedding(ids, self.model.embed_tokens.weight).float()
        angles = positions[..., None].float() * self.frequencies
        cos, sin = angles.cos() * self.rotary_factor, angles.sin() * self.rotary_factor
        share = x.new_zeros(ids.numel()) if share is None else share
        balances = []
        for index, layer in enumerate(self.model.layers):
            allowed = allowed_window if layer.self_attn.window else allowed_full
            x, balance = run(layer, x, cos, sin, allowed, share, self.rule, self.quantising, self.dtype,
                             caches[index] if caches else None)
            balances.append(balance)
        return x, torch.stack(balances).mean()

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """x: the residual, float32."""
        return F.linear(self.model.norm(x, self.dtype), self.lm_head.weight.to(self.dtype)).float()

    def head(self, x: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        losses = F.cross_entropy(self.logits(x).flatten(0, 1), targets.flatten(), reduction="none")
        mask = mask.flatten().float()
        return (losses * mask).sum() / mask.sum().clamp(min=1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids [batch, time], one text a row from position 0: float32 logits [batch, time, vocab]."""
        positions = torch.arange(ids.shape[1], device=ids.device)[None].expand(len(ids), -1)
        full, window = masks(positions, positions, self.config.sliding_window)
        return self.logits(self.hidden(ids, positions, full, window)[0])

    def loss(self, ids, targets, mask, documents, positions) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean cross-entropy of `targets` (the next tokens) where mask is 1, and the load-balancing loss.

        All are [batch, time]; rows hold several documents, numbered in `documents` (-1: padding), with positions from
        0 in each. No document sees another.
        """
        # With gradients only: a measurement in between has no second compilation to wait for.
        compiled = torch.is_grad_enabled()
        run, head = (self.layer_of_loss, self.head_of_loss) if compiled else (run_layer, self.head)
        if compiled and self.in_blocks:
            full, window = (block_mask(documents, reach) for reach in self.reaches)
        else:
            same = documents[:, :, None] == documents[:, None, :]
            index = torch.arange(ids.shape[1], device=ids.device)[None]  # padding has no positions worth comparing
            full, window = (mask & same for mask in masks(index, index, self.config.sliding_window))
        counted = (documents >= 0).flatten().float()
        x, balance = self.hidden(ids, positions, full, window, counted / counted.sum().clamp(min=1), run=run)
        return head(x, targets, mask), balance

    @contextlib.contextmanager
    def quantised_once(self):
        """Within, the experts hold what quantising makes of them, and forward passes need not quantise: not for training."""
        if self.rule is None or not bool(self.quantising):
            yield
            return
        matrices = [matrix for layer in self.model.layers for matrix in (layer.mlp.experts.gate_up_proj, layer.mlp.experts.down_proj)]
        kept, rule = [matrix.data for matrix in matrices], self.rule
        try:
            self.rule = None
            for matrix in matrices:
                matrix.data = mxfp4.round_trip(matrix.data, rule)
            yield
        finally:
            self.rule = rule
            for matrix, data in zip(matrices, kept):
                matrix.data = data

    @torch.no_grad()
    def generate(self, prompts: list[list[int]], max_new_tokens: int, stop_ids: set[int]) -> list[list[int]]:
        """Greedy continuations, each up to and including its first stop id, or max_new_tokens long.

        Rows that are done are left out of the batch once they are half of it."""
        device = self.lm_head.weight.device
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        longest, batch = int(lengths.max()), len(prompts)
        room = longest + max_new_tokens
        ids = torch.zeros(batch, longest, dtype=torch.long, device=device)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt, device=device)
        shape = (batch, self.config.num_key_value_heads, room, self.config.head_dim)
        caches = [tuple(torch.zeros(shape, dtype=self.dtype, device=device) for _ in "kv") for _ in self.model.layers]
        keys = torch.arange(room, device=device)[None].expand(batch, -1)
        stops = torch.tensor(sorted(stop_ids), device=device)
        positions = torch.arange(longest, device=device)[None].expand(batch, -1)
        done = torch.zeros(batch, dtype=torch.bool, device=device)
        rows = torch.arange(batch, device=device)  # of the prompts that are still answered
        made = torch.zeros(batch, max_new_tokens, dtype=torch.long, device=device)
        for step in range(max_new_tokens):
            parts, reach = [], longest + step  # what lies behind it in the caches is empty
            for first in range(0, len(rows), PREFILL_ROWS if step == 0 else len(rows)):
                part = slice(first, first + PREFILL_ROWS if step == 0 else None)
                full, window = masks(positions[part], keys[part, :reach], self.config.sliding_window)
                hidden, _ = self.hidden(ids[part], positions[part], full, window,
                                        caches=[(k[part, :, :reach], v[part, :, :reach], positions[part]) for k, v in caches])
                ends = lengths[part] - 1 if step == 0 else torch.zeros_like(lengths)
                parts.append(hidden[torch.arange(len(hidden), device=device), ends])
            ids = self.logits(torch.cat(parts)).argmax(-1)[:, None]
            made[rows, step] = ids[:, 0]
            done |= torch.isin(ids[:, 0], stops)
            if step % 16 == 15:  # asked seldom: the answer stops a GPU's queue
                left = (~done).nonzero()[:, 0]
                if len(left) == 0:
                    break
                if 2 * len(left) <= len(done):
                    ids, lengths, done, rows, keys = (tensor[left] for tensor in (ids, lengths, done, rows, keys))
                    caches = [(k[left], v[left]) for k, v in caches]
            positions = (lengths + step)[:, None]
        results = []
        for row in made.tolist():
            end = next((at + 1 for at, token in enumerate(row) if token in stop_ids), len(row))
            results.append(row[:end])
        return results


def masks(queries: torch.Tensor, keys: torch.Tensor, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions [batch, time] and [batch, keys] to who may see whom, [batch, time, keys]: in all, and in a window."""
    distance = queries[:, :, None] - keys[:, None, :]
    full = distance >= 0
    return full, full & (distance < window)


def block_mask(documents: torch.Tensor, reach: torch.Tensor) -> BlockMask:
    """The same for packed rows: within a document, up to `reach` (a scalar, so that both masks are one compiled function) back."""

    def sees(batch, head, query, key):
        distance = query - key
        return (distance >= 0) & (distance < reach) & (documents[batch, query] == documents[batch, key])

    batch, time = documents.shape
    return create_block_mask(sees, batch, None, time, time, device=documents.device)
