"""Small random gpt-oss checkpoints, written in Hugging Face's layout, and transformers' logits for them.

MXFP4 is quantised and decoded here by code of its own, so that an error in moxie's codec or in its reading of the
packing cannot hide: transformers gets the decoded values, moxie gets the packed bytes.
"""

import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)


def quantize_mxfp4(weights):
    """[..., rows, k] float32 -> blocks uint8 [..., rows, k/32, 16], scales uint8 [..., rows, k/32] (rule ROUND_UP)."""
    w = weights.reshape(*weights.shape[:-1], -1, 32).astype(np.float32)
    amax = np.abs(w).max(axis=-1)
    # The smallest power of two that brings amax to at most 6.
    exponent = np.where(amax > 0, np.ceil(np.log2(np.maximum(amax, 1e-30) / 6)), -127).astype(np.int32)
    scaled = np.abs(w) / np.exp2(exponent)[..., None].astype(np.float32)
    assert scaled.max() <= 6
    # Nearest value; of two equally near, the one with the even code.
    distance = np.abs(scaled[..., None] - E2M1)
    order = np.array([0, 2, 4, 6, 1, 3, 5, 7])
    codes = order[np.argmin(distance[..., order], axis=-1)].astype(np.uint8)
    codes |= np.where(np.signbit(w), 8, 0).astype(np.uint8)
    blocks = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return blocks, (exponent + 127).astype(np.uint8)


def dequantize_mxfp4(blocks, scales):
    values = np.concatenate([E2M1, -E2M1])
    w = np.empty((*blocks.shape[:-1], 32), dtype=np.float32)
    w[..., 0::2] = values[blocks & 15]
    w[..., 1::2] = values[blocks >> 4]
    w = np.ldexp(w, scales.astype(np.int32)[..., None] - 127)
    return w.reshape(*blocks.shape[:-2], -1)


def hf_config(**overrides):
    """config.json as the published models spell it, small; None removes a key."""
    config = {
        "architectures": ["GptOssForCausalLM"],
        "attention_bias": True,
        "attention_dropout": 0.0,
        "experts_per_token": 2,
        "head_dim": 16,
        "hidden_act": "silu",
        "hidden_size": 64,
        "initial_context_length": 4096,
        "initializer_range": 0.02,
        "intermediate_size": 64,
        "max_position_embeddings": 131072,
        "model_type": "gpt_oss",
        "num_attention_heads": 4,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 4,
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "output_router_logits": False,
        "quantization_config": {
            "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
            "quant_method": "mxfp4",
        },
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "rope_type": "yarn",
            "truncate": False,
        },
        "rope_theta": 150000,
        "sliding_window": 8,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
        "use_cache": True,
        "vocab_size": 128,
    }
    config.update(overrides)
    config["experts_per_token"] = config["num_experts_per_tok"]
    if "layer_types" not in config:
        config["layer_types"] = [("sliding_attention", "full_attention")[n % 2] for n in range(config["num_hidden_layers"])]
    return {key: value for key, value in config.items() if value is not None}


def random_checkpoint(config, seed, float32_vectors=False):
    """Tensors by name as on disk, and the same as transformers' parameters (float32).

    Sizes are chosen so that a mistake shows: attention is sharp, sinks take a good part of it, SwiGLU's clamps bite,
    experts and attention matter as much as the embedding does.
    """
    rng = np.random.default_rng(seed)
    hidden, inner, experts = config["hidden_size"], config["intermediate_size"], config["num_local_experts"]
    q_width = config["num_attention_heads"] * config["head_dim"]
    kv_width = config["num_key_value_heads"] * config["head_dim"]
    disk, parameters = {}, {}

    def dense(name, shape, size, mean=0.0, vector=False):
        value = torch.from_numpy(rng.normal(mean, size, shape).astype(np.float32)).to(torch.bfloat16)
        disk[name] = value.float() if vector and float32_vectors else value
        parameters[name] = value.float()

    def experts_matrix(name, rows, k, size):
        blocks, scales = quantize_mxfp4(rng.normal(0, size, (experts, rows, k)).astype(np.float32))
        disk[name + "_blocks"], disk[name + "_scales"] = torch.from_numpy(blocks), torch.from_numpy(scales)
        decoded = dequantize_mxfp4(blocks, scales)
        parameters[name] = torch.from_numpy(np.ascontiguousarray(decoded.transpose(0, 2, 1)))

    dense("model.embed_tokens.weight", (config["vocab_size"], hidden), 1)
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}."
        dense(layer + "input_layernorm.weight", hidden, 0.3, 1, vector=True)
        for name, width, size in (("q", q_width, 1.5), ("k", kv_width, 1.5), ("v", kv_width, 1)):
            dense(layer + f"self_attn.{name}_proj.weight", (width, hidden), size / hidden**0.5)
            dense(layer + f"self_attn.{name}_proj.bias", width, 0.5, vector=True)
        dense(layer + "self_attn.sinks", config["num_attention_heads"], 1.5, 1, vector=True)
        dense(layer + "self_attn.o_proj.weight", (hidden, q_width), 1 / q_width**0.5)
        dense(layer + "self_attn.o_proj.bias", hidden, 0.2, vector=True)
        dense(layer + "post_attention_layernorm.weight", hidden, 0.3, 1, vector=True)
        dense(layer + "mlp.router.weight", (experts, hidden), 1.5 / hidden**0.5)
        dense(layer + "mlp.router.bias", experts, 0.5, vector=True)
        experts_matrix(layer + "mlp.experts.gate_up_proj", 2 * inner, hidden, 2 / hidden**0.5)
        dense(layer + "mlp.experts.gate_up_proj_bias", (experts, 2 * inner), 0.7, vector=True)
        experts_matrix(layer + "mlp.experts.down_proj", hidden, inner, 0.5 / inner**0.5)
        dense(layer + "mlp.experts.down_proj_bias", (experts, hidden), 0.3, vector=True)
    dense("model.norm.weight", hidden, 0.3, 1, vector=True)
    if not config["tie_word_embeddings"]:
        dense("lm_head.weight", (config["vocab_size"], hidden), 3 / hidden**0.5)
    return disk, parameters


def write_checkpoint(folder, config, disk):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    save_file({name: tensor.contiguous() for name, tensor in disk.items()}, folder / "model.safetensors", metadata={"format": "pt"})


def transformers_model(config, parameters, dtype=torch.float32):
    from transformers import GptOssConfig, GptOssForCausalLM

    plain = {key: value for key, value in config.items() if key not in ("quantization_config", "experts_per_token")}
    plain = json.loads(json.dumps(plain))  # transformers writes into nested dictionaries
    model = GptOssForCausalLM._from_config(
        GptOssConfig(**plain), attn_implementation="eager", experts_implementation="eager", dtype=torch.float32
    )
    parameters = dict(parameters)
    if config["tie_word_embeddings"]:
        parameters["lm_head.weight"] = parameters["model.embed_tokens.weight"]
    model.load_state_dict(parameters, strict=True)
    if dtype != torch.float32:
        inv_freq = model.model.rotary_emb.inv_freq.clone()
        model = model.to(dtype)
        model.model.rotary_emb.inv_freq = inv_freq  # from_pretrained keeps it, and the norms, in float32
        for name, module in model.named_modules():
            if name.endswith("norm"):
                module.float()
    return model.eval()


@torch.no_grad()
def logits(model, tokens):
    """float32 [len(tokens), vocab]"""
    return model(torch.tensor([tokens]), use_cache=False).logits[0].float()


@torch.no_grad()
def smallest_router_gap(model, tokens):
    """The nearest decision of any router: the last expert taken against the first one left out, in logits."""
    gaps = []

    def see(router, _, output):
        best = output[0].sort(dim=-1, descending=True).values
        if router.top_k < router.num_experts:
            gaps.append((best[:, router.top_k - 1] - best[:, router.top_k]).min().item())

    hooks = [layer.mlp.router.register_forward_hook(see) for layer in model.model.layers]
    logits(model, tokens)
    for hook in hooks:
        hook.remove()
    return min(gaps, default=float("inf"))


def relative_errors(got, want):
    """||got - want|| / ||want|| of every row."""
    return ((got.double() - want.double()).norm(dim=-1) / want.double().norm(dim=-1)).numpy()


def kl_divergence(want, got):
    """Of every row: how far the distribution of `got` is from that of `want`, in nats."""
    p, q = want.double().log_softmax(-1), got.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).numpy()
