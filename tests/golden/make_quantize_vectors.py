#!/usr/bin/env python3
"""Makes tests/golden/quantize/: what `moxie quantize` must make of a bf16 gpt-oss of transformers.

    python3 tests/golden/make_quantize_vectors.py

Needs torch, transformers, safetensors and numpy. Writes

    bf16/                  a tiny random model, by save_pretrained
    expected.safetensors   the experts' blocks and scales under every scale rule, by the plain emulation below
                           (names begin with the rule), `tokens`, and `logits` [tokens, vocabulary]: what transformers
                           computes in float32 with the experts replaced by what the round_up blocks decode to

hidden_size and intermediate_size are equal: down_proj is square, and only its values tell which axis is which.
"""

import pathlib

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import GptOssConfig, GptOssForCausalLM

FOLDER = pathlib.Path(__file__).resolve().parent / "quantize"
VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
RULES = ("round_up", "floor", "even")


def make_model() -> GptOssForCausalLM:
    torch.manual_seed(20)
    config = GptOssConfig(
        num_hidden_layers=2, num_local_experts=3, num_experts_per_tok=2, hidden_size=64, intermediate_size=64,
        vocab_size=112, num_attention_heads=4, num_key_value_heads=2, head_dim=16, sliding_window=8)
    model = GptOssForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("layernorm.weight") or name.endswith("norm.weight"):
                parameter.normal_(1, 0.1)
            elif name.endswith("embed_tokens.weight") or name.endswith("sinks"):
                parameter.normal_(0, 1)
            elif "experts" in name and not name.endswith("bias"):
                parameter.normal_(0, 0.1)
                # Blocks of very different sizes, so that a scale taken along the wrong axis shows.
                parameter.mul_(torch.exp2(torch.randint(-3, 4, (*parameter.shape[:1], 1, parameter.shape[2])).float()))
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1)
            else:
                parameter.normal_(0, 0.125)
        down = model.model.layers[0].mlp.experts.down_proj
        down[0, :, 0] = 0  # a row of zeros
        down[0, 0:2, 0] = -0.0
        # Ties at scale 1, a largest element just above 6, and one of 7.9.
        for column, first in ((1, 6.0), (2, 6.03125), (3, 7.9)):
            down[0, :32, column] = torch.tensor([first, .25, .75, 1.25, 1.75, 2.5, 3.5, 5, -.25, -.75, -1.25, -1.75] + [0.0] * 20)
    return model.to(torch.bfloat16)


def floor_log2(values: np.ndarray) -> np.ndarray:
    return np.frexp(values)[1] - 1


def scale_exponent(amax: np.ndarray, rule: str) -> np.ndarray:
    """Of the power of two that a block is divided by; amax is positive."""
    if rule == "round_up":
        sixth = (amax.astype(np.float32) / np.float32(6)).astype(np.float64)
        mantissa, exponent = np.frexp(sixth)
        return np.where(mantissa == 0.5, exponent - 1, exponent)
    if rule == "floor":
        return floor_log2(amax) - 2
    mantissa, exponent = np.frexp(amax)  # mantissa in [0.5, 1); one bit behind the leading one is kept
    return np.where(mantissa >= 0.875, exponent + 1, exponent) - 1 - 2


def nearest_codes(magnitudes: np.ndarray) -> np.ndarray:
    """Index of the nearest of VALUES, the even index on ties; above 6 is 6."""
    distance = np.abs(np.minimum(magnitudes, 6)[..., None] - VALUES)
    # An odd index loses against an even one at the same distance.
    order = np.array([0, 2, 4, 6, 1, 3, 5, 7])
    return order[np.argmin(distance[..., order], axis=-1)]


def quantize(weight: np.ndarray, rule: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[E, in, out] float64 to blocks [E, out, in/32, 16], scales [E, out, in/32], and what they decode to."""
    experts, inputs, outputs = weight.shape
    blocks = weight.transpose(0, 2, 1).reshape(experts, outputs, inputs // 32, 32)
    amax = np.abs(blocks).max(axis=-1)
    zero = amax == 0
    exponent = scale_exponent(np.where(zero, 1, amax), rule)
    exponent = np.where(zero, -127, exponent)
    codes = nearest_codes(np.abs(blocks) / np.exp2(exponent.astype(np.float64))[..., None])
    signs = np.signbit(blocks)
    decoded = np.where(signs, -1.0, 1.0) * VALUES[codes] * np.exp2(exponent.astype(np.float64))[..., None]
    codes = (codes + 8 * signs).astype(np.uint8)
    packed = codes[..., 0::2] | (codes[..., 1::2] << 4)
    decoded = decoded.reshape(experts, outputs, inputs).transpose(0, 2, 1)
    return packed, (exponent + 127).astype(np.uint8), decoded


def main() -> None:
    model = make_model()
    model.save_pretrained(FOLDER / "bf16")

    expected = {}
    decoded = {}
    for layer, block in enumerate(model.model.layers):
        for matrix in ("gate_up_proj", "down_proj"):
            weight = getattr(block.mlp.experts, matrix).detach().double().numpy()
            for rule in RULES:
                packed, scales, values = quantize(weight, rule)
                name = f"{rule}.model.layers.{layer}.mlp.experts.{matrix}"
                expected[name + "_blocks"] = np.ascontiguousarray(packed)
                expected[name + "_scales"] = np.ascontiguousarray(scales)
                if rule == "round_up":
                    decoded[layer, matrix] = torch.from_numpy(values.copy()).float()

    # Loaded anew: .float() of the bf16 model would keep its rotary frequencies rounded to bf16.
    model = GptOssForCausalLM.from_pretrained(FOLDER / "bf16", dtype=torch.float32)
    with torch.no_grad():
        for (layer, matrix), values in decoded.items():
            getattr(model.model.layers[layer].mlp.experts, matrix).copy_(values)
        tokens = torch.tensor([[3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46, 26, 43, 38, 32, 79, 50, 28, 84, 19]])
        model.set_attn_implementation("eager")
        logits = model(tokens).logits[0]
    expected["tokens"] = tokens[0].to(torch.int32).numpy()
    expected["logits"] = logits.numpy().astype(np.float32)
    save_file(expected, FOLDER / "expected.safetensors")
    total = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{total} bytes in {FOLDER}")


if __name__ == "__main__":
    main()
