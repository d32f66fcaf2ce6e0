"""Makes a model folder in Hugging Face's layout of a training checkpoint (see checkpoints.py).

    python3 -m tools.demo_model.export CHECKPOINT OUT --tokenizer TOKENIZER.json [--scale-rule RULE | --bf16]

Writes model.safetensors, config.json and generation_config.json into OUT, beside what lies there already. Experts are
MXFP4, everything else bfloat16; --bf16 keeps the experts as bfloat16 in transformers' names and orientation, which
`moxie quantize` turns into the very same MXFP4 folder. All files of OUT together must be at most --max-bytes.
"""

import argparse
import json
import pathlib
import struct
import sys

import torch

from . import checkpoints, mxfp4
from .model import Config

MATRICES = ("gate_up_proj", "down_proj")
SAFETENSORS_TYPES = {torch.bfloat16: "BF16", torch.uint8: "U8"}
MAX_BYTES = 16 << 20


def quantised_tensors(weights: dict[str, torch.Tensor], rule: str) -> dict[str, torch.Tensor]:
    """The tensors of the published layout; weights are rounded to bfloat16 before they are quantised."""
    tensors = {}
    for name, weight in weights.items():
        if name.endswith(MATRICES):
            blocks, scales = mxfp4.quantize(weight.bfloat16().float(), rule)
            tensors[name + "_blocks"], tensors[name + "_scales"] = blocks, scales
        else:
            tensors[name] = weight.bfloat16()
    return tensors


def plain_tensors(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """bfloat16, experts as transformers holds them: [experts, inputs, outputs]."""
    return {name: (weight.transpose(1, 2) if name.endswith(MATRICES) else weight).bfloat16() for name, weight in weights.items()}


def write_safetensors(path: pathlib.Path, tensors: dict[str, torch.Tensor]) -> None:
    """In the order of the safetensors library: wider types first, then by name."""
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    data, at = [], 0
    for name in names:
        tensor = tensors[name]
        data.append(checkpoints.to_bytes(tensor))
        header[name] = {"dtype": SAFETENSORS_TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + len(data[-1])]}
        at += len(data[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def write_folder(out: pathlib.Path, config: Config, weights: dict[str, torch.Tensor], special: dict[str, int], rule: str | None) -> int:
    """`special` has the ids of special tokens by name; rule None: bfloat16 experts. Returns the bytes of all files in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    write_safetensors(out / "model.safetensors", quantised_tensors(weights, rule) if rule else plain_tensors(weights))
    stop, pad = special["<|return|>"], special["<|endoftext|>"]
    generation = {
        "bos_token_id": special["<|startoftext|>"],
        "do_sample": True,
        "eos_token_id": [stop, pad, special["<|call|>"]],
        "pad_token_id": pad,
        "top_k": 1,  # a model this small answers best with its first choice
    }
    for name, document in (("config.json", config.to_hf(stop, pad, rule is not None)), ("generation_config.json", generation)):
        (out / name).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def special_tokens(tokenizer: pathlib.Path) -> dict[str, int]:
    """Ids by name, of a tokenizer.json."""
    return {token["content"]: token["id"] for token in json.loads(tokenizer.read_text(encoding="utf-8"))["added_tokens"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True, help="tokenizer.json, for the special tokens' ids")
    parser.add_argument("--scale-rule", choices=mxfp4.SCALE_RULES, help="default: the one of the training")
    parser.add_argument("--bf16", action="store_true", help="do not quantise the experts")
    parser.add_argument("--max-bytes", type=int, default=None, help=f"of all files in OUT; default {MAX_BYTES}, with --bf16 any")
    arguments = parser.parse_args()
    _, facts, weights, _ = checkpoints.load(arguments.checkpoint)
    rule = None if arguments.bf16 else arguments.scale_rule or facts["scale_rule"]
    if rule is None and not arguments.bf16:
        sys.exit(f"{arguments.checkpoint} was trained without quantisation: name a --scale-rule, or --bf16")
    total = write_folder(arguments.out, Config(**facts["config"]), weights, special_tokens(arguments.tokenizer), rule)
    print(f"{arguments.out}: {total} bytes ({total / 2**20:.2f} MiB), experts in {'MXFP4, ' + rule if rule else 'bfloat16'}")
    limit = arguments.max_bytes or (None if arguments.bf16 else MAX_BYTES)
    if limit is not None and total > limit:
        sys.exit(f"{arguments.out}: {total} bytes are over {limit}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
