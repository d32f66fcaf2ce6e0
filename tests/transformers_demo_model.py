#!/usr/bin/env python3
"""The training side of the demo model (tools/demo_model) against transformers, moxie and the golden vectors.

    tests/transformers_demo_model.py --build build/dev

Exit code 77 with a last line that says why when a package is missing.
"""

import argparse
import contextlib
import io
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
build = ROOT / "build" / "dev"

try:
    import numpy as np
    import torch
    import transformers
    from safetensors.torch import load_file
except ImportError as missing:
    print(f"skipped: {missing.name} is not installed (tests/requirements-transformers.txt)")
    sys.exit(77)

from tools.demo_model import checkpoints, export, mxfp4, packing, plot, scoring, shards, train  # noqa: E402
from tools.demo_model.model import Attention, Config, GptOss, block_mask, masks  # noqa: E402
from tools.demo_model.optimizer import Optimizer, orthogonalise  # noqa: E402

SPECIAL = {name: 50 + at for at, name in enumerate(
    ["<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>", "<|call|>"])}
SMALL = Config(vocab_size=64, hidden_size=64, intermediate_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
               head_dim=32, num_local_experts=5, num_experts_per_tok=2, sliding_window=16, original_max_position_embeddings=64,
               max_position_embeddings=256)
TINY = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 32, "num_local_experts": 4, "sliding_window": 8}


def small_model(rule: str | None, seed: int = 1) -> GptOss:
    """Random weights in bfloat16's values, with every bias, sink and norm of a size that shows."""
    model = GptOss(SMALL, rule)
    model.initialise(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "sinks", "norm.weight")):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
            if name == "lm_head.weight":
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            parameter.copy_(parameter.bfloat16())
    return model


def moxie(*arguments) -> None:
    run = subprocess.run([str(build.resolve() / "moxie"), *map(str, arguments)], text=True, capture_output=True)
    if run.returncode != 0:
        raise AssertionError(f"moxie {' '.join(map(str, arguments))}: exit code {run.returncode}: {run.stderr}")


def distance(got: torch.Tensor, want: torch.Tensor) -> float:
    """The largest ||got - want|| / ||want|| of a position."""
    return ((got.double() - want.double()).norm(dim=-1) / want.double().norm(dim=-1)).max().item()


def some_tokens(count: int, seed: int = 5) -> list[int]:
    return torch.randint(0, SMALL.vocab_size, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


class Mxfp4(unittest.TestCase):
    def test_all_golden_blocks_under_all_rules(self):
        lines = (ROOT / "tests" / "golden" / "mxfp4_vectors.txt").read_text().splitlines()
        self.assertGreater(len(lines), 100)
        for line in lines:
            bits, *wanted = line.split("|")
            block = torch.tensor([int(word, 16) for word in bits.split()], dtype=torch.int64).to(torch.int32).view(torch.float32)
            for rule, want in zip(mxfp4.SCALE_RULES, wanted, strict=True):
                codes, scales = mxfp4.quantize(block, rule)
                self.assertEqual(f"{scales.item():02x} {bytes(codes[0].tolist()).hex()}", want.strip(), f"{rule}: {bits}")
                self.assertTrue(torch.equal(mxfp4.dequantize(codes, scales), mxfp4.round_trip(block, rule)))

    def test_blocks_lie_along_the_last_dimension(self):
        weight = torch.ones(2, 64)
        weight[:, 32:] = 100
        _, scales = mxfp4.quantize(weight, "floor")
        self.assertEqual(scales.tolist(), [[125, 131]] * 2)

    def test_straight_through_is_quantised_forwards_and_the_identity_backwards(self):
        weight = torch.randn(3, 64, requires_grad=True)
        upstream = torch.randn(3, 64)
        for rule in mxfp4.SCALE_RULES:
            out = mxfp4.straight_through(weight, rule)
            self.assertTrue(torch.equal(out, mxfp4.round_trip(weight.detach(), rule)))
            self.assertFalse(torch.equal(out, weight))
            self.assertTrue(torch.equal(torch.autograd.grad(out, weight, upstream)[0], upstream))
            self.assertTrue(torch.equal(mxfp4.straight_through(weight, rule, torch.tensor(False)), weight))

    def test_what_is_not_finite_is_refused(self):
        with self.assertRaisesRegex(ValueError, "not finite"):
            mxfp4.quantize(torch.tensor([float("nan")] + [0.0] * 31), "even")


class Architecture(unittest.TestCase):
    def test_logits_are_those_of_transformers_in_float32(self):
        model = small_model("even")
        config = SMALL.to_hf(52, 51, quantised=False)
        config.pop("dtype")
        theirs = transformers.GptOssForCausalLM._from_config(
            transformers.GptOssConfig(**json.loads(json.dumps(config))), attn_implementation="eager", experts_implementation="eager",
            dtype=torch.float32).eval()
        theirs.load_state_dict({
            name: mxfp4.round_trip(weight, "even").transpose(1, 2) if name.endswith(export.MATRICES) else weight
            for name, weight in model.state_dict().items()}, strict=True)
        for length in (1, 15, 16, 17, 130):
            ids = torch.tensor([some_tokens(length), some_tokens(length, 6)])
            with torch.no_grad():
                self.assertLessEqual(distance(model(ids), theirs(ids, use_cache=False).logits), 1e-5, f"{length} tokens")

    def test_packed_conversations_do_not_see_each_other(self):
        model = small_model("round_up")
        texts = [(some_tokens(length, length), [int(at % 3 != 0) for at in range(length)]) for length in (5, 40, 23, 31, 2)]
        documents = packing.Documents.of(texts)
        total, weight = 0.0, 0
        for ids, mask in texts:
            with torch.no_grad():
                chances = model(torch.tensor([ids]))[0].log_softmax(-1)
            for at in range(1, len(ids)):
                total -= mask[at] * chances[at - 1, ids[at]].item()
                weight += mask[at]
        losses, weights = 0.0, 0
        for batch in packing.batches(documents, 64, 2, None):
            with torch.no_grad():
                loss, _ = model.loss(*(torch.from_numpy(array) for array in batch.arrays()))
            losses += loss.item() * int(batch.mask.sum())
            weights += int(batch.mask.sum())
        self.assertEqual(weights, weight)
        self.assertAlmostEqual(losses / weights, total / weight, delta=1e-5 * total / weight)

    def test_attention_in_blocks_is_attention(self):
        """What a GPU trains with, and everything else: documents of several lengths, padding, windows and sinks."""
        attention = Attention(SMALL, 0)
        generator = torch.Generator().manual_seed(4)
        time, half = 200, SMALL.head_dim // 2
        with torch.no_grad():
            attention.sinks.copy_(torch.randn(attention.sinks.shape, generator=generator))
            x, angles = torch.randn(2, time, SMALL.hidden_size, generator=generator), torch.rand(2, time, half, generator=generator)
            lengths = [torch.tensor([5, 130, 40, 25]), torch.tensor([1, 1, 198, 0])]
            documents = torch.stack([torch.repeat_interleave(torch.tensor([0, 1, 2, -1]), length) for length in lengths]).int()
            index = torch.arange(time)[None]
            same = documents[:, :, None] == documents[:, None, :]
            for reach, allowed in zip((1 << 30, SMALL.sliding_window), masks(index, index, SMALL.sliding_window)):
                want = attention(x, angles.cos(), angles.sin(), allowed & same)
                got = attention(x, angles.cos(), angles.sin(), block_mask(documents, torch.tensor(reach)))
                self.assertLessEqual(distance(got, want), 1e-5)

    def test_generation_is_the_greedy_choice_of_whole_forward_passes(self):
        model = small_model("floor")
        prompts = [some_tokens(30), some_tokens(3, 9), some_tokens(17, 10), some_tokens(9, 11)]
        answers = model.generate(prompts, 24, {7, 12, 33})
        for prompt, answer in zip(prompts, answers):
            ids = list(prompt)
            while len(ids) < len(prompt) + 24 and (len(ids) == len(prompt) or ids[-1] not in {7, 12, 33}):
                with torch.no_grad():
                    ids.append(model(torch.tensor([ids]))[0, -1].argmax().item())
            self.assertEqual(answer, ids[len(prompt):])
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        with model.quantised_once():
            self.assertEqual(model.generate(prompts, 24, {7, 12, 33}), answers)
            self.assertFalse(torch.equal(model.model.layers[0].mlp.experts.down_proj, before["model.layers.0.mlp.experts.down_proj"]))
        for name, weight in model.state_dict().items():
            self.assertTrue(torch.equal(weight, before[name]), name)

    def test_balance_is_the_load_balancing_loss_of_transformers(self):
        from transformers.models.gpt_oss.modeling_gpt_oss import load_balancing_loss_func

        model = small_model(None)
        seen = []
        for layer in model.model.layers:
            router = layer.mlp.router
            router.register_forward_hook(lambda router, inputs, _: seen.append(
                torch.nn.functional.linear(inputs[0], router.weight, router.bias)))
        ids = torch.tensor([some_tokens(20)])
        zeros, counted = torch.zeros(1, 20, dtype=torch.int64), torch.tensor([[0] * 13 + [-1] * 7])
        with torch.no_grad():
            _, balance = model.loss(ids, ids, zeros + 1, counted, torch.arange(20)[None])
        want = [load_balancing_loss_func((logits,), 5, 2, (counted >= 0).int()) for logits in seen]
        self.assertEqual(len(want), 4)
        self.assertAlmostEqual(balance.item(), sum(want).item() / 4, places=5)


class Export(unittest.TestCase):
    def test_moxie_and_transformers_load_it_and_agree(self):
        tokens = some_tokens(90)
        with tempfile.TemporaryDirectory(prefix="moxie_demo_model_") as name:
            scratch = pathlib.Path(name)
            for rule in mxfp4.SCALE_RULES:
                model = small_model(rule, seed=3)
                weights = model.state_dict()
                packed, plain, again = (scratch / f"{rule}-{kind}" for kind in ("mxfp4", "bf16", "quantized"))
                export.write_folder(packed, SMALL, weights, SPECIAL, rule)
                export.write_folder(plain, SMALL, weights, SPECIAL, None)
                with torch.no_grad():
                    want = model(torch.tensor([tokens]))[0]
                moxie("logits", packed, "--tokens", ",".join(map(str, tokens)), "--precision", "fp32", "--out", scratch / "l.safetensors")
                self.assertLessEqual(distance(load_file(scratch / "l.safetensors")["logits"], want), 1e-5, rule)

                moxie("quantize", plain, again, "--scale-rule", rule)
                mine, theirs = load_file(packed / "model.safetensors"), load_file(again / "model.safetensors")
                self.assertEqual(mine.keys(), theirs.keys())
                for key in mine:
                    self.assertEqual(mine[key].dtype, theirs[key].dtype, key)
                    self.assertTrue(torch.equal(mine[key], theirs[key]), f"{rule}: {key}")

            loaded, report = transformers.GptOssForCausalLM.from_pretrained(
                packed, attn_implementation="eager", dtype=torch.bfloat16, output_loading_info=True,
                quantization_config=transformers.Mxfp4Config(dequantize=True))
            self.assertFalse(report["missing_keys"] or report["unexpected_keys"] or report["mismatched_keys"], report)
            for key, tensor in loaded.state_dict().items():  # in bfloat16, which the experts fit into
                weight = weights[key]
                if key.endswith(export.MATRICES):
                    weight = mxfp4.round_trip(weight, rule).transpose(1, 2)
                self.assertTrue(torch.equal(tensor.float(), weight), key)

    def test_the_demo_model_fits_into_its_size(self):
        model = GptOss(Config(), "even")
        model.initialise(1)
        with tempfile.TemporaryDirectory(prefix="moxie_demo_model_") as name:
            total = export.write_folder(pathlib.Path(name), Config(), model.state_dict(), SPECIAL, "even")
        print(f"the demo model without its tokenizer: {total} bytes, {export.MAX_BYTES - total} left")
        self.assertLess(total + 400_000, export.MAX_BYTES)


class Training(unittest.TestCase):
    def test_every_conversation_is_packed_once_and_whole(self):
        draw = np.random.default_rng(3)
        lengths = draw.integers(2, 65, 300)
        documents = packing.Documents.of([([number % 65536] * length, [1] * length) for number, length in enumerate(lengths)])
        seen, places = [], 0
        for batch in packing.batches(documents, 64, 4, None):
            places += batch.ids.size
            for row in range(4):
                for number in range(batch.documents[row].max() + 1):
                    at = np.flatnonzero(batch.documents[row] == number)
                    self.assertEqual(len(set(batch.ids[row, at])), 1)
                    self.assertEqual(batch.positions[row, at].tolist(), list(range(len(at))))
                    self.assertEqual(batch.mask[row, at].tolist(), [1] * (len(at) - 1) + [0])
                    seen.append((int(batch.ids[row, at[0]]), len(at)))
        self.assertEqual(sorted(seen), [(number, length) for number, length in enumerate(lengths)])
        self.assertGreater(lengths.sum() / places, 0.9)
        orders = [[batch.ids.tobytes() for batch in packing.batches(documents, 64, 4, seed)] for seed in (1, 1, 2)]
        self.assertEqual(orders[0], orders[1])
        self.assertNotEqual(orders[0], orders[2])

    def test_shards_are_cut_where_a_conversation_begins(self):
        start, end = SPECIAL["<|start|>"], SPECIAL["<|return|>"]
        texts = [[start, 3, 9, end], [start, 3, 9, start, 4, end], [start, 3, *[8] * 20, end]]
        with tempfile.TemporaryDirectory() as name:
            ids = np.array(sum(texts, []), dtype=np.uint16)
            np.save(pathlib.Path(name) / "0.ids.npy", ids)
            np.save(pathlib.Path(name) / "0.mask.npy", (ids != 3).astype(np.uint16))
            documents, dropped = shards.read(shards.all_in(pathlib.Path(name)), 10, SPECIAL)
        self.assertEqual((documents.starts.tolist(), dropped), ([0, 4, 10], 1))
        self.assertEqual(documents.ids.tolist(), texts[0] + texts[1])
        self.assertEqual(documents.mask.tolist(), [1, 0, 1, 1, 1, 0, 1, 1, 1, 1])

    def test_orthogonal_steps(self):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(3, 48, 32, generator=torch.Generator().manual_seed(1))))
        self.assertTrue(0.5 < values.min() and values.max() < 1.3, values)

    def test_checkpoints_hold_what_they_say(self):
        model = small_model("even")
        optimizer = Optimizer(model.named_parameters(), "adamw", 1e-3, 1e-2, 0)
        for tensor in optimizer.state().values():
            tensor.copy_(torch.exp2(torch.rand(tensor.shape) * 14))
        weights, state = model.state_dict(), optimizer.state()
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            sizes = {}
            for keep in checkpoints.KEEP:
                sizes[keep] = checkpoints.save(folder, keep, {"step": 3}, weights, state)
                kept, facts, got, got_state = checkpoints.load(folder)
                self.assertEqual((kept, facts), (keep, {"step": 3}))
                for key, weight in weights.items():  # bfloat16's values, so exact in all
                    self.assertTrue(torch.equal(got[key], weight), key)
                self.assertEqual(got_state.keys(), set() if keep == "weights" else state.keys())
                for key, tensor in got_state.items():
                    if keep == "full":
                        self.assertTrue(torch.equal(tensor, state[key]), key)
                    elif key.startswith("moment."):
                        bound = state[key].abs().max().item() * (0.5 / 127 + 2**-8)  # half a step, and the scale's rounding
                        self.assertLessEqual((tensor - state[key]).abs().max().item(), bound, key)
                    else:  # half an octave, if not more than 15 below the largest
                        ratio = (tensor / state[key]).log2()
                        self.assertLessEqual(ratio.abs().max().item(), 0.501, key)
            self.assertTrue(sizes["full"] > sizes["compact"] > sizes["weights"])
            piece = folder / "piece-00"
            piece.write_bytes(piece.read_bytes()[:-1])
            with self.assertRaisesRegex(ValueError, "cut short"):
                checkpoints.load(folder)

    def test_the_demo_models_compact_checkpoint_fits_eight_files_of_16_mib(self):
        model = GptOss(Config())
        optimizer = Optimizer(model.named_parameters(), "adamw", 1e-3, 1e-2, 0)
        with tempfile.TemporaryDirectory() as name:
            total = checkpoints.save(pathlib.Path(name), "compact", {}, model.state_dict(), optimizer.state())
            files = list(pathlib.Path(name).iterdir())
            self.assertLessEqual(max(file.stat().st_size for file in files), 16 << 20)
        self.assertLessEqual(len(files), 5)  # log, loss curve and scores beside them
        self.assertLess(total, 60 << 20)  # of 64 MiB that all files together may have

    def test_a_png_that_others_can_read(self):
        with tempfile.TemporaryDirectory() as name:
            path = pathlib.Path(name) / "x.png"
            plot.chart(path, "loss", {"training": [(0, 5.0), (10, 1.0), (20, 0.1)], "held-out": [(20, 0.2)]})
            data = path.read_bytes()
        self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n")
        at, kinds, pixels = 8, [], b""
        while at < len(data):
            length, kind = struct.unpack(">I4s", data[at : at + 8])
            body = data[at + 8 : at + 8 + length]
            self.assertEqual(struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0], zlib.crc32(kind + body))
            kinds.append(kind)
            pixels += body if kind == b"IDAT" else b""
            at += 12 + length
        self.assertEqual(kinds, [b"IHDR", b"IDAT", b"IEND"])
        rows = zlib.decompress(pixels)
        self.assertEqual(len(rows), plot.HEIGHT * (3 * plot.WIDTH + 1))
        self.assertIn(bytes(plot.COLOURS[0]), rows)

    def test_it_learns_repeats_itself_stops_and_resumes(self):
        """Say three digits backwards, and then the last one again."""
        start, message, end, stop = (SPECIAL[name] for name in ("<|start|>", "<|message|>", "<|end|>", "<|return|>"))

        def conversation(a: int, b: int, c: int) -> tuple[list[int], list[int]]:
            prompt = [start, 20, message, end, start, 21, message, a, b, c, end, start, 22]
            answer = [message, c, b, a, c, stop]
            return prompt + answer, [0] * len(prompt) + [1] * len(answer)

        with tempfile.TemporaryDirectory(prefix="moxie_demo_model_") as name, contextlib.redirect_stdout(io.StringIO()):
            folder = pathlib.Path(name)
            tasks = [(a, b, c) for a in range(10) for b in range(10) for c in range(10)]
            heldout = [task for task in tasks if (task[0] + 2 * task[1] + 3 * task[2]) % 7 == 0]
            documents = packing.Documents.of([conversation(*task) for task in tasks if task not in heldout])
            (folder / "data").mkdir()
            np.save(folder / "data" / "ids.npy", documents.ids)
            np.save(folder / "data" / "mask.npy", documents.mask)
            (folder / "tokenizer.json").write_text(json.dumps({
                "added_tokens": [{"content": k, "id": v} for k, v in SPECIAL.items()],
                "model": {"ignore_merges": True, "vocab": {chr(0x21 + at): at for at in range(50)} | {chr(0x60 + at): at for at in range(59, 64)}, "merges": []}}))
            (folder / "config.json").write_text(json.dumps(TINY))
            (folder / "sets").mkdir()
            with (folder / "sets" / "backwards.jsonl").open("w") as file:
                for task in heldout:
                    ids, mask = conversation(*task)
                    file.write(json.dumps({"ability": "backwards", "ids": ids, "mask": mask}) + "\n")

            def run(out: str, *more: str) -> dict[str, torch.Tensor]:
                train.main(["--data", str(folder / "data"), "--tokenizer", str(folder / "tokenizer.json"), "--config",
                            str(folder / "config.json"), "--sets", str(folder / "sets"), "--out", str(folder / out),
                            "--rows", "8", "--length", "64", "--warmup", "5", "--device", "cpu", "--keep", "full", *more])
                return checkpoints.load(folder / out)[2]

            whole = run("whole", "--steps", "300")
            scores = [json.loads(line) for line in (folder / "whole" / "log.jsonl").read_text().splitlines()]
            right, total = next(e for e in scores if e.get("quantised") is True and "exact_match" in e)["exact_match"]["backwards"]
            self.assertGreater(right / total, 0.95, scores[-3:])
            self.assertEqual([entry["step"] for entry in scores if "loss" in entry], list(range(300)))
            self.assertTrue((folder / "whole" / "loss.png").exists() and (folder / "whole" / "scores.txt").exists())

            short = ["--steps", "12", "--schedule", "wsd", "--decay", "0.3"]
            straight = run("straight", *short)
            repeated = run("repeated", *short)
            for key in straight:
                self.assertTrue(torch.equal(straight[key], repeated[key]), key)

            original = train.rate_factor
            try:  # the schedule of 12 steps, stopped after 5 of them as if time were up
                train.rate_factor = lambda step, arguments, fresh: original(step, argparse.Namespace(**{**vars(arguments), "steps": 12}), fresh)
                run("half", "--steps", "5")
            finally:
                train.rate_factor = original
            resumed = run("resumed", *short, "--resume", str(folder / "half"))
            for key in straight:
                self.assertTrue(torch.equal(straight[key], resumed[key]), key)

            # Shards as make_shards.py numbers them, some of which come late: the same as when all are there; the end is when none comes.
            third = len(documents) // 3
            for number in range(3):
                part = slice(documents.starts[number * third], documents.starts[(number + 1) * third])
                np.save(folder / f"train-ids-{number:05}.npy", documents.ids[part])
                np.save(folder / f"train-mask-{number:05}.npy", documents.mask[part])

            def move(numbers: range) -> None:
                for number in numbers:
                    for kind in ("mask", "ids"):
                        (folder / f"train-{kind}-{number:05}.npy").rename(folder / "shards" / f"train-{kind}-{number:05}.npy")

            (folder / "shards").mkdir()
            streamed = ["--steps", "1000", "--data", str(folder / "shards"), "--shards", "1"]
            move(range(1))
            late = threading.Timer(1, move, [range(1, 3)])
            late.start()
            seconds = train.WAIT_SECONDS
            try:
                train.WAIT_SECONDS = 5
                awaited = run("awaited", *streamed)
                train.WAIT_SECONDS = 0.2
                there = run("there", *streamed)
            finally:
                train.WAIT_SECONDS = seconds
                late.join()
            facts = checkpoints.load(folder / "awaited")[1]
            self.assertEqual(facts["place"]["turn"], 2)
            self.assertTrue(10 < facts["step"] < 1000, facts)
            for key in there:
                self.assertTrue(torch.equal(awaited[key], there[key]), key)

            run("timed", "--steps", "100000", "--minutes", "0.001", "--reserve-seconds", "0")
            self.assertLess(checkpoints.load(folder / "timed")[1]["step"], 100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=build)
    arguments, rest = parser.parse_known_args()
    build = arguments.build
    torch.set_num_threads(1)  # the models are small, and waiting for a second thread takes longer than its help is worth
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
