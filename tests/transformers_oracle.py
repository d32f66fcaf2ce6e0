#!/usr/bin/env python3
"""moxie against transformers, live: random small checkpoints, GptOssForCausalLM in float32 and in bfloat16.

Every run draws other configurations (the seed is printed; --seed repeats them) and then goes past 4096 positions once.
The committed golden vectors are recomputed as well. Fails when a position's float32 logits differ by more than
||a - b|| / ||b|| = 1e-4, or when moxie's bf16 logits lie further from the float32 ones than transformers' bf16 does.
"""

import argparse
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "golden"))

import gpt_oss_checkpoint as gpt_oss  # noqa: E402
import make_model_vectors  # noqa: E402

FP32_LIMIT = 1e-4
NEAR_TIE = 2e-5  # router logits nearer than this may be ordered either way in float32: such a draw is made again
BF16_LIMIT = 1.5  # times transformers' own distance; medians over all positions, as near ties of a router flip in either


def random_config(draw, long):
    head_dim = draw.choice([16, 32, 64])
    kv_heads = draw.choice([1, 2, 3])
    experts = draw.randint(2, 12)
    layers = 2 if long else draw.randint(1, 5)
    factor = draw.choice([4.0, 32.0])
    window = draw.choice([1, 2, 5, 8, 16, 33, 128])
    return gpt_oss.hf_config(
        head_dim=head_dim,
        num_key_value_heads=kv_heads,
        num_attention_heads=kv_heads * draw.choice([1, 2, 4] if not long else [1, 2]),
        hidden_size=32 * draw.randint(1, 4),
        intermediate_size=32 * draw.randint(1, 4),
        num_local_experts=experts,
        num_experts_per_tok=draw.randint(1, min(4, experts)),
        num_hidden_layers=layers,
        layer_types=[draw.choice(["sliding_attention", "full_attention"]) for _ in range(layers)],
        sliding_window=window,
        swiglu_limit=draw.choice([7.0, 2.0]),
        rms_norm_eps=draw.choice([1e-5, 1e-3]),
        max_position_embeddings=int(4096 * factor),
        rope_theta=draw.choice([150000, 10000]),
        rope_scaling={
            "rope_type": "yarn", "factor": factor, "beta_fast": 32.0, "beta_slow": 1.0,
            "original_max_position_embeddings": 4096, "truncate": draw.random() < 0.3,
        },
        tie_word_embeddings=draw.random() < 0.3,
        vocab_size=draw.randint(40, 300),
    )


def moxie_logits(program, folder, tokens, precision):
    out = folder / f"{precision}.safetensors"
    command = [str(program), "logits", str(folder), "--tokens", ",".join(map(str, tokens)), "--precision", precision, "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    logits = load_file(out)["logits"]
    out.unlink()
    return logits


def main():
    parser = argparse.ArgumentParser(description="moxie against transformers on random checkpoints")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "dev", help="where the program moxie lies")
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(2**31)
    print(f"seed {seed}")
    torch.set_num_threads(2)
    draw = random.Random(seed)

    failures = 0
    ours, theirs = [], []
    for run in range(arguments.runs + 1):
        long = run == arguments.runs
        config = random_config(draw, long)
        length = 4300 if long else draw.choice([1, 2, 3, draw.randint(4, 200)])
        gap = 0
        while gap < NEAR_TIE:
            disk, parameters = gpt_oss.random_checkpoint(config, draw.randrange(2**31), draw.random() < 0.5)
            tokens = [draw.randrange(config["vocab_size"]) for _ in range(length)]
            model = gpt_oss.transformers_model(config, parameters)
            gap = gpt_oss.smallest_router_gap(model, tokens)
        want = gpt_oss.logits(model, tokens)
        rough = gpt_oss.logits(gpt_oss.transformers_model(config, parameters, torch.bfloat16), tokens)
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            gpt_oss.write_checkpoint(folder, config, disk)
            error = gpt_oss.relative_errors(moxie_logits(arguments.build / "moxie", folder, tokens, "fp32"), want).max()
            bf16 = gpt_oss.relative_errors(moxie_logits(arguments.build / "moxie", folder, tokens, "bf16"), want)
        ours.append(np.median(bf16))
        theirs.append(np.median(gpt_oss.relative_errors(rough, want)))
        failures += not error <= FP32_LIMIT  # NaN fails too
        print(f"{config['num_hidden_layers']} layers, hidden {config['hidden_size']}, heads {config['num_attention_heads']}/"
              f"{config['num_key_value_heads']} of {config['head_dim']}, experts {config['num_experts_per_tok']}/"
              f"{config['num_local_experts']}, window {config['sliding_window']}, {length} tokens: fp32 within {error:.1e}, "
              f"bf16 {ours[-1]:.4f}, transformers' bf16 {theirs[-1]:.4f}{'' if error <= FP32_LIMIT else '  TOO FAR'}")
    ratio = np.median(ours) / np.median(theirs)
    print(f"bf16: {ratio:.2f} of transformers' own distance from float32 (at most {BF16_LIMIT})")
    failures += not ratio <= BF16_LIMIT
    sys.argv[1:] = ["--check"]
    failures += make_model_vectors.main()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
