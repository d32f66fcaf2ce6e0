#!/usr/bin/env python3
"""Writes the golden vectors of the model: tests/golden/model/CASE/{config.json, model.safetensors} and
CASE.expected.safetensors beside it.

Needs torch, transformers, safetensors, numpy. CASE.expected.safetensors holds
  tokens          [T]                 I32
  positions       [P]                 I32   of which logits are kept
  logits          [P, vocab]          F32   GptOssForCausalLM, float32, eager attention
  bf16_error      [<= P]              F32   ||b - a|| / ||a||, b the logits of the same model in bfloat16
  bf16_kl         [<= P]              F32   KL divergence of b's distribution from a's, in nats
A causal model's logits at position p are those of a prompt of p + 1 tokens: the positions are the lengths tested.

With --check nothing is written: logits are computed again from the committed checkpoints' recipe and compared.
"""

import argparse
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import gpt_oss_checkpoint as gpt_oss

FOLDER = pathlib.Path(__file__).resolve().parent / "model"

CASES = {
    # Alternating windows of 8, lengths from 1 to several windows. Two of four experts and four layers make near ties of
    # a router frequent; they flip in any bf16 run, for this token and all that attend to it, and the error then
    # measures luck. So the seed is the first whose routers decide the first 18 tokens by 0.08 at least, and bf16 is
    # compared there.
    "alternating": dict(
        seed=189,
        length=72,
        bf16_below=18,
        positions=[0, 1, 2, 6, 7, 8, 9, 15, 16, 17, 31, 40, 63, 71],
        config=gpt_oss.hf_config(),
    ),
    # An odd number of layers in an order of their own, three heads of kv, three of five experts, low clamps.
    "odd": dict(
        seed=2,
        length=40,
        positions=[0, 1, 3, 4, 5, 6, 11, 20, 39],
        float32_vectors=True,
        config=gpt_oss.hf_config(
            num_hidden_layers=3, hidden_size=96, intermediate_size=32, num_attention_heads=6, num_key_value_heads=3,
            head_dim=32, num_local_experts=5, num_experts_per_tok=3, sliding_window=5, swiglu_limit=1.5,
            rms_norm_eps=1e-3, vocab_size=131, layer_types=["full_attention", "sliding_attention", "sliding_attention"],
        ),
    ),
    # Past 4096 positions, with the published head size and so the published frequencies.
    "long": dict(
        seed=3,
        length=4300,
        positions=[0, 100, 127, 128, 129, 1000, 2500, 4094, 4095, 4096, 4097, 4200, 4299],
        config=gpt_oss.hf_config(
            num_hidden_layers=2, hidden_size=32, intermediate_size=32, num_attention_heads=2, num_key_value_heads=1,
            head_dim=64, sliding_window=128, vocab_size=96,
        ),
    ),
    # YaRN with rounded ends of the ramp and another base, reached early; tied embeddings; new spelling of RoPE.
    "truncated_ramp": dict(
        seed=4,
        length=200,
        positions=[0, 1, 31, 32, 33, 64, 128, 199],
        config=gpt_oss.hf_config(
            num_hidden_layers=2, hidden_size=32, intermediate_size=64, num_attention_heads=4, num_key_value_heads=4,
            head_dim=32, sliding_window=48, vocab_size=200, tie_word_embeddings=True, max_position_embeddings=1024,
            rope_scaling=None, rope_theta=None, initial_context_length=None,
            rope_parameters={
                "rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "beta_fast": 16.0, "beta_slow": 1.0,
                "original_max_position_embeddings": 128, "truncate": True,
            },
        ),
    ),
    # One layer, 32 experts of which four, eight query heads on one of kv, as the 20b has them.
    "many_experts": dict(
        seed=5,
        length=24,
        positions=[0, 1, 5, 23],
        config=gpt_oss.hf_config(
            num_hidden_layers=1, hidden_size=64, intermediate_size=32, num_attention_heads=8, num_key_value_heads=1,
            head_dim=16, num_local_experts=32, num_experts_per_tok=4, sliding_window=16, vocab_size=64,
        ),
    ),
}


def compute(case):
    config = case["config"]
    disk, parameters = gpt_oss.random_checkpoint(config, case["seed"], case.get("float32_vectors", False))
    tokens = np.random.default_rng(case["seed"] + 1000).integers(0, config["vocab_size"], case["length"]).tolist()
    positions = torch.tensor(case["positions"])
    exact = gpt_oss.logits(gpt_oss.transformers_model(config, parameters), tokens)[positions]
    rough = gpt_oss.logits(gpt_oss.transformers_model(config, parameters, torch.bfloat16), tokens)[positions]
    compared = sum(position < case.get("bf16_below", case["length"]) for position in case["positions"])
    return disk, {
        "tokens": torch.tensor(tokens, dtype=torch.int32),
        "positions": positions.to(torch.int32),
        "logits": exact.contiguous(),
        "bf16_error": torch.from_numpy(gpt_oss.relative_errors(rough, exact)[:compared]).float(),
        "bf16_kl": torch.from_numpy(gpt_oss.kl_divergence(exact, rough)[:compared]).float(),
    }


def main():
    parser = argparse.ArgumentParser(description="golden vectors of the model")
    parser.add_argument("--check", action="store_true", help="compute again and compare with the committed vectors")
    parser.add_argument("cases", nargs="*", help="default: all")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    failures = 0
    for name in arguments.cases or CASES:
        case, folder = CASES[name], FOLDER / name
        disk, expected = compute(case)
        if arguments.check:
            committed = load_file(FOLDER / f"{name}.expected.safetensors")
            same = all(torch.equal(tensor, load_file(folder / "model.safetensors")[key]) for key, tensor in disk.items())
            error = gpt_oss.relative_errors(expected["logits"], committed["logits"]).max()
            failures += not same or error > 1e-5
            print(f"{name}: checkpoint {'the same' if same else 'DIFFERS'}, logits differ by at most {error:.2g}")
            continue
        gpt_oss.write_checkpoint(folder, case["config"], disk)
        save_file(expected, FOLDER / f"{name}.expected.safetensors")
        size = sum(path.stat().st_size for path in [*folder.iterdir(), FOLDER / f"{name}.expected.safetensors"])
        print(f"{name}: {size / 1000:.0f} kB, |logits| {expected['logits'].std():.2f}, "
              f"bf16 error {expected['bf16_error'].mean():.4f}, KL {expected['bf16_kl'].mean():.2g}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
