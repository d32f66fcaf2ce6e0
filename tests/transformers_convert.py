#!/usr/bin/env python3
"""Loads what synth, convert and quantize make in transformers: tests/transformers_convert.py --build build/dev

    synth      AutoTokenizer reads the tokenizer and agrees with `moxie tokenize`
    hf         GptOssForCausalLM reads it as it stands, experts dequantised on loading
    bf16       GptOssForCausalLM reads it, and its float32 logits are those of `moxie logits --precision fp32`
               of the MXFP4 folder it was made from, to 1e-4 relative per position
    quantize   the same for tests/golden/quantize/bf16, in both directions

Exit code 77 with a last line that says why when a package is missing.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOKENS = [5, 17, 99, 3, 250, 77, 12, 41, 8, 8, 63, 200, 31, 9, 2, 111, 45, 19, 7, 28, 83, 61]

try:
    import torch
    import transformers
    from safetensors.torch import load_file
except ImportError as missing:
    print(f"skipped: {missing.name} is not installed (tests/requirements-transformers.txt)")
    sys.exit(77)


class Moxie:
    def __init__(self, build: pathlib.Path, scratch: pathlib.Path) -> None:
        self.program = build.resolve() / "moxie"
        self.scratch = scratch

    def __call__(self, *arguments, text: str | None = None) -> str:
        run = subprocess.run([str(self.program), *map(str, arguments)], input=text, text=True, capture_output=True)
        if run.returncode != 0:
            sys.exit(f"moxie {' '.join(map(str, arguments))}: exit code {run.returncode}: {run.stderr}")
        return run.stdout

    def logits(self, model: pathlib.Path, tokens: list[int]) -> torch.Tensor:
        out = self.scratch / "logits.safetensors"
        out.unlink(missing_ok=True)
        self("logits", model, "--tokens", ",".join(map(str, tokens)), "--precision", "fp32", "--out", out)
        return load_file(out)["logits"]


def load(folder: pathlib.Path, **options) -> torch.nn.Module:
    model, report = transformers.GptOssForCausalLM.from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True, **options)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(kind):
            sys.exit(f"{folder}: {kind}: {report[kind]}")
    return model.eval()


def logits_of(model: torch.nn.Module, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float()


def compare(what: str, got: torch.Tensor, want: torch.Tensor, bound: float) -> None:
    worst = ((got - want).norm(dim=-1) / want.norm(dim=-1)).max().item()
    print(f"{what}: worst relative difference of a position {worst:.2e}, bound {bound:.0e}")
    if got.shape != want.shape or not worst <= bound:
        sys.exit(f"{what}: {tuple(got.shape)} against {tuple(want.shape)}, {worst} is over {bound}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "dev")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moxie_transformers_") as name:
        scratch = pathlib.Path(name)
        moxie = Moxie(arguments.build, scratch)

        model = scratch / "tiny"
        moxie("synth", model, "--like", "tiny", "--seed", 3, "--max-shard-size", "300kB")
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        text = "Hello, Wörld!\n  3.14159 and <|start|> 日本語"
        ids = [int(word) for word in moxie("tokenize", model, text=text).split()]
        plain = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if ids != plain or tokenizer.decode(ids) != text:
            sys.exit(f"the tokenizer says {plain}, moxie {ids}")
        if tokenizer.convert_tokens_to_ids("<|return|>") != tokenizer.eos_token_id:
            sys.exit("the end of a turn is not <|return|>")
        print("synth: AutoTokenizer agrees")

        moxie("convert", model, scratch / "bf16", "--layout", "bf16")
        moxie("convert", model, scratch / "original", "--layout", "original")
        want = moxie.logits(model, TOKENS)
        compare("the original layout in moxie", moxie.logits(scratch / "original", TOKENS), want, 0)
        plain_model = load(scratch / "bf16", dtype=torch.float32)
        compare("the bf16 layout in transformers", logits_of(plain_model, TOKENS), want, 1e-4)

        # transformers dequantises to bf16 whatever it is asked for: exact for the experts, so the weights are
        # compared, and the logits after widening.
        packed = load(model, dtype=torch.bfloat16,
                      quantization_config=transformers.Mxfp4Config(dequantize=True))
        mine = plain_model.state_dict()
        for key, tensor in packed.state_dict().items():
            if not torch.equal(tensor.float(), mine[key]):
                sys.exit(f"the hf layout in transformers: {key} differs from the bf16 layout")
        print(f"the hf layout in transformers: all {len(mine)} tensors are those of the bf16 layout")

        golden = ROOT / "tests" / "golden" / "quantize" / "bf16"
        tokens = [token % 112 for token in TOKENS]
        moxie("quantize", golden, scratch / "quantized")
        moxie("convert", scratch / "quantized", scratch / "dequantized", "--layout", "bf16")
        compare("quantize", logits_of(load(scratch / "dequantized", dtype=torch.float32), tokens),
                moxie.logits(scratch / "quantized", tokens), 1e-4)


if __name__ == "__main__":
    main()
