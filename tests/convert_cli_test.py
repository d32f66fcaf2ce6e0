#!/usr/bin/env python3
"""The commands that make model folders (synth, convert, quantize) and inspect, from outside.

    python3 tests/convert_cli_test.py --build build/dev [CLASS[.TEST] ...]

Only Python's standard library. Exit code 77: every test asked for was skipped, the last line says why.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BF16 = ROOT / "tests" / "golden" / "quantize" / "bf16"
MOXIE: pathlib.Path


def moxie(*arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run([str(MOXIE), *map(str, arguments)], text=True, capture_output=True, timeout=120, **options)


def header(path: pathlib.Path) -> dict:
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))


def overwrite(path: pathlib.Path, tensor: str, offset: int, data: bytes) -> None:
    """Bytes of one tensor in place."""
    begin = header(path)[tensor]["data_offsets"][0]
    with open(path, "r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(8 + length + begin + offset)
        file.write(data)


def files_of(folder: pathlib.Path) -> dict:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Case(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="moxie_convert_cli_"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def entries(self) -> list:
        return sorted(path.name for path in self.folder.iterdir())

    def good(self, *arguments, **options) -> str:
        run = moxie(*arguments, **options)
        self.assertEqual((run.returncode, run.stderr), (0, ""), run)
        return run.stdout

    def bad(self, code: int, *arguments, **options) -> str:
        """One sentence on standard error, nothing on standard output."""
        run = moxie(*arguments, **options)
        self.assertEqual(run.returncode, code, run)
        self.assertRegex(run.stderr, r"\Amoxie: [^\n]+\n\Z")
        return run.stderr

    def tiny(self, name: str = "tiny", *options) -> pathlib.Path:
        self.good("synth", self.folder / name, "--like", "tiny", *options)
        return self.folder / name


class Synth(Case):
    def test_a_tiny_model_is_complete_and_checks_clean(self):
        model = self.tiny()
        self.assertEqual(sorted(path.name for path in model.iterdir()),
                         ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                          "tokenizer_config.json"])
        self.assertIn("every value is finite", self.good("inspect", model, "--check"))
        self.assertEqual(self.entries(), ["tiny"])

    def test_layers_and_seed_do_what_they_say(self):
        one, same, other = self.tiny("one", "--seed", 5), self.tiny("same", "--seed", 5), self.tiny("other", "--seed", 6)
        self.assertEqual(files_of(one), files_of(same))
        self.assertNotEqual((one / "model.safetensors").read_bytes(), (other / "model.safetensors").read_bytes())
        long = self.tiny("long", "--layers", 7)
        self.assertEqual(json.loads((long / "config.json").read_text())["num_hidden_layers"], 7)
        self.assertEqual(len([name for name in header(long / "model.safetensors") if ".sinks" in name]), 7)

    def test_tiny_grows_to_the_tokenizer_it_is_given(self):
        donor = self.tiny("donor")
        tokenizer = json.loads((donor / "tokenizer.json").read_text())
        for token in tokenizer["added_tokens"]:
            token["id"] += 1000
        (self.folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        grown = self.tiny("grown", "--tokenizer", self.folder / "tokenizer.json")
        self.assertEqual(json.loads((grown / "config.json").read_text())["vocab_size"], 1536)
        self.assertEqual((grown / "tokenizer.json").read_bytes(), (self.folder / "tokenizer.json").read_bytes())

    def test_what_cannot_be_meant_is_exit_code_2(self):
        for arguments in (["synth"], ["synth", "x"], ["synth", "x", "--like", "7b"], ["synth", "x", "--like", "tiny", "--layers", "0"],
                          ["synth", "x", "--like", "tiny", "--layout", "bf16"], ["synth", "x", "--like", "tiny", "--bogus"],
                          ["synth", "x", "--like", "tiny", "--max-shard-size", "4 parsecs"], ["convert", "x", "y"],
                          ["convert", "x", "y", "--layout", "gguf"], ["quantize", "x", "y", "--scale-rule", "down"]):
            self.bad(2, *arguments, cwd=self.folder)
        self.assertEqual(self.entries(), [])

    def test_a_shape_larger_than_the_disk_is_refused_at_once(self):
        free = shutil.disk_usage(self.folder).free
        layers = min(1000, free // 300_000_000 + 10)
        if layers * 400_000_000 < free:
            self.skipTest("this disk takes 1000 layers of 20b")
        sentence = self.bad(1, "synth", self.folder / "huge", "--like", "20b", "--layers", 1000)
        self.assertRegex(sentence, r"needs \d+ bytes, .* has \d+ free")
        self.assertEqual(self.entries(), [])


class Convert(Case):
    def test_through_the_original_layout_and_back(self):
        model = self.tiny()
        self.good("convert", model, self.folder / "original", "--layout", "original")
        self.assertIn("dtypes.json", files_of(self.folder / "original"))
        self.good("convert", self.folder / "original", self.folder / "back", "--layout", "hf")
        self.assertEqual((model / "model.safetensors").read_bytes(),
                         (self.folder / "back" / "model.safetensors").read_bytes())
        self.assertEqual((model / "tokenizer.json").read_bytes(), (self.folder / "back" / "tokenizer.json").read_bytes())
        before = files_of(model)
        summary = json.loads(self.good("convert", model, self.folder / "bf16", "--layout", "bf16", "--json",
                                       "--max-shard-size", "200kB"))
        self.assertGreater(summary["files"], 2)
        index = json.loads((self.folder / "bf16" / "model.safetensors.index.json").read_text())
        self.assertEqual(index["metadata"]["total_size"], summary["tensor_bytes"])
        self.assertEqual(len(index["weight_map"]), summary["tensors"])
        names = sorted(set(index["weight_map"].values()))
        self.assertEqual(names, [f"model-{i + 1:05}-of-{len(names):05}.safetensors" for i in range(len(names))])
        self.assertEqual(files_of(model), before)
        self.assertIn("moxie quantize", self.bad(1, "convert", self.folder / "bf16", self.folder / "x", "--layout", "hf"))

    def test_an_output_that_exists_is_refused(self):
        model = self.tiny()
        taken = self.folder / "taken"
        taken.mkdir()
        (taken / "mine").write_text("precious")
        for command in (["convert", model, taken, "--layout", "hf"], ["synth", taken, "--like", "tiny"],
                        ["quantize", BF16, taken], ["convert", model, model, "--layout", "hf"]):
            self.bad(1, *command)
        self.assertEqual(files_of(taken), {"mine": b"precious"})
        self.assertIn("inside", self.bad(1, "convert", model, model / "sub", "--layout", "hf"))
        self.assertIn("make it first", self.bad(1, "synth", self.folder / "no" / "such", "--like", "tiny"))
        (self.folder / "empty").mkdir()
        self.good("convert", model, self.folder / "empty", "--layout", "hf")
        self.assertEqual(self.entries(), ["empty", "taken", "tiny"])

    def test_bad_inputs_are_one_sentence_and_leave_nothing(self):
        whole = self.tiny("whole", "--max-shard-size", "200kB")
        shards = sorted(path for path in whole.iterdir() if path.suffix == ".safetensors")
        self.assertGreater(len(shards), 2)

        def broken(name, change):
            copy = self.folder / name
            shutil.copytree(whole, copy)
            change(copy)
            for command in ("convert", "inspect"):
                extra = [self.folder / "out", "--layout", "bf16"] if command == "convert" else []
                sentence = self.bad(1, command, copy, *extra)
            self.assertFalse((self.folder / "out").exists())
            return sentence

        def cut(copy):
            with open(copy / shards[1].name, "r+b") as file:
                file.truncate(os.path.getsize(copy / shards[1].name) - 100)

        def other_model(copy):
            config = json.loads((copy / "config.json").read_text())
            config.update(model_type="llama", architectures=["LlamaForCausalLM"])
            (copy / "config.json").write_text(json.dumps(config))

        self.assertIn(shards[1].name, broken("half", lambda copy: (copy / shards[1].name).unlink()))
        self.assertIn(shards[1].name, broken("cut", cut))
        self.assertIn("config.json", broken("bare", lambda copy: (copy / "config.json").unlink()))
        self.assertIn("llama", broken("other", other_model))
        self.assertIn("nowhere", self.bad(1, "convert", self.folder / "nowhere", self.folder / "out", "--layout", "hf"))
        leftovers = [name for name in self.entries() if name.startswith(".")]
        self.assertEqual(leftovers, [])


class DiskFull(Case):
    def test_a_file_past_the_limit_of_the_process_leaves_nothing(self):
        model = self.tiny()

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

        for command in (["convert", model, self.folder / "out", "--layout", "bf16"],
                        ["synth", self.folder / "out", "--like", "tiny"]):
            sentence = self.bad(1, *command, preexec_fn=limit)
            self.assertIn("cannot write", sentence)
            self.assertEqual(self.entries(), ["tiny"])


class SmallDisk(Case):
    def test_a_small_file_system_is_refused_with_needed_and_free_bytes(self):
        self.on_small_disk(lambda disk: self.assertRegex(
            self.bad(1, "synth", disk / "out", "--like", "tiny"), r"needs \d+ bytes, .* has \d+ free"))

    def on_small_disk(self, body) -> None:
        disk = self.folder / "disk"
        disk.mkdir()
        if os.geteuid() != 0:
            self.skipTest("mounting a small file system takes root")
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(disk)], capture_output=True, text=True)
        if mounted.returncode != 0:
            self.skipTest("mount -t tmpfs: " + mounted.stderr.strip())
        try:
            body(disk)
            self.assertEqual(list(disk.iterdir()), [])
        finally:
            subprocess.run(["umount", str(disk)], check=True)


class Interrupt(Case):
    """A signal at any moment: 130, one sentence, nothing left behind, the input as it was."""

    def interrupt(self, delay: float, number: int, *arguments) -> bool:
        """Whether the signal came in time."""
        process = subprocess.Popen([str(MOXIE), *map(str, arguments)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(delay)
        process.send_signal(number)
        process.send_signal(number)  # impatience must not leave anything either
        out, error = process.communicate(timeout=60)
        if process.returncode == 0:
            return False
        # Before main() has taken the signal over there is no sentence to be had.
        if process.returncode == 130 and error.strip():
            self.assertEqual((out, error), ("", "moxie: stopped, nothing was written\n"))
        else:
            self.assertIn(process.returncode, (130, -number), error)
        return True

    def test_synth(self):
        stopped = 0
        for delay in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4):
            stopped += self.interrupt(delay, signal.SIGINT, "synth", self.folder / "out", "--like", "20b", "--layers", 1)
            self.assertTrue(self.entries() in ([], ["out"]), self.entries())
            shutil.rmtree(self.folder / "out", ignore_errors=True)
        self.assertGreaterEqual(stopped, 3)

    def test_convert_and_quantize(self):
        big = self.tiny("big", "--layers", 200)
        before = files_of(big)
        self.good("convert", big, self.folder / "bf16", "--layout", "bf16")
        stopped = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            for delay in (0.0, 0.01, 0.03, 0.06, 0.1):
                for command in (["convert", big, self.folder / "out", "--layout", "bf16"],
                                ["quantize", self.folder / "bf16", self.folder / "out"]):
                    stopped += self.interrupt(delay, number, *command)
                    names = [name for name in self.entries() if name not in ("big", "bf16")]
                    self.assertIn(names, ([], ["out"]))
                    if names:
                        self.assertTrue((self.folder / "out" / "config.json").exists())
                    shutil.rmtree(self.folder / "out", ignore_errors=True)
        self.assertGreaterEqual(stopped, 4)
        self.assertEqual(files_of(big), before)

    def test_what_a_killed_process_leaves_is_gone_after_the_next(self):
        process = subprocess.Popen([str(MOXIE), "synth", str(self.folder / "out"), "--like", "20b", "--layers", "1"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while not self.entries() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        process.kill()
        process.wait()
        self.assertEqual(len(self.entries()), 1)
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        self.tiny("out")
        self.assertEqual(self.entries(), ["out"])


class Quantize(Case):
    def test_a_checkpoint_of_transformers(self):
        for rule in ("round_up", "floor", "even"):
            out = self.folder / rule
            summary = json.loads(self.good("quantize", BF16, out, "--scale-rule", rule, "--json"))
            self.assertEqual((summary["tensors"], summary["files"]), (41, 1))
            config = json.loads((out / "config.json").read_text())
            self.assertEqual(config["quantization_config"]["quant_method"], "mxfp4")
            self.good("inspect", out, "--check")
        self.assertNotEqual((self.folder / "round_up" / "model.safetensors").read_bytes(),
                            (self.folder / "floor" / "model.safetensors").read_bytes())
        self.assertIn("moxie convert", self.bad(1, "quantize", self.folder / "floor", self.folder / "x"))

    def test_a_nan_is_found_and_named(self):
        shutil.copytree(BF16, self.folder / "in")
        overwrite(self.folder / "in" / "model.safetensors", "model.layers.1.mlp.experts.down_proj", 2 * (64 * 64 + 5), b"\xc0\x7f")
        self.assertIn("model.layers.1.mlp.experts.down_proj, expert 1 of 3",
                      self.bad(1, "quantize", self.folder / "in", self.folder / "out"))
        self.assertEqual(self.entries(), ["in"])


class Inspect(Case):
    def test_numbers_of_the_tiny_model(self):
        model = self.tiny()
        found = json.loads(self.good("inspect", model, "--json", "--ctx", 1000))
        tensors = {name: entry for name, entry in header(model / "model.safetensors").items() if name != "__metadata__"}
        sizes = {name: entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in tensors.items()}
        self.assertEqual(found["tensor_bytes"], sum(sizes.values()))
        self.assertEqual(found["num_tensors"], len(tensors))
        self.assertEqual(sum(found["bytes_by_kind"].values()), found["tensor_bytes"])
        scales = sum(size for name, size in sizes.items() if name.endswith("_scales"))
        self.assertEqual(sum(found["scales"].values()), scales)
        self.assertEqual(found["bytes_by_kind"]["expert scales"], scales)
        memory = found["memory"]
        self.assertEqual(memory["context"], 1000)
        self.assertEqual(memory["weights_bytes"], found["tensor_bytes"])
        self.assertEqual(memory["total_bytes"], memory["weights_bytes"] + memory["cache_bytes"] + memory["workspace_bytes"])
        self.assertNotIn("problems", found)
        parameters = sum(size // 2 for name, size in sizes.items() if not name.endswith(("_scales", "_blocks")))
        parameters += sum(2 * size for name, size in sizes.items() if name.endswith("_blocks"))
        self.assertEqual(found["parameters"], parameters)
        every = json.loads(self.good("inspect", model, "--json", "--tensors"))
        self.assertEqual({entry["name"]: entry["bytes"] for entry in every["tensors"]}, sizes)
        self.assertIn("model.layers.3.self_attn.sinks", self.good("inspect", model, "--tensors"))

    def test_check_finds_each_kind_of_damage(self):
        damages = {
            "nan": ("model.layers.0.self_attn.q_proj.weight", 10, b"\xc0\x7f", "NaN or infinite"),
            "infinity": ("lm_head.weight", 0, b"\x80\xff", "NaN or infinite"),
            "scale 255": ("model.layers.1.mlp.experts.down_proj_scales", 3, b"\xff", "255"),
            "overflow": ("model.layers.1.mlp.experts.gate_up_proj_scales", 3, b"\xfe", "254"),
        }
        self.tiny("healthy")
        for name, (tensor, offset, data, word) in damages.items():
            model = self.folder / name
            shutil.copytree(self.folder / "healthy", model)
            overwrite(model / "model.safetensors", tensor, offset, data)
            self.good("inspect", model)
            run = moxie("inspect", model, "--check", "--json")
            self.assertEqual(run.returncode, 1, name)
            problems = json.loads(run.stdout)["problems"]
            self.assertEqual(len(problems), 1, problems)
            self.assertIn(tensor, problems[0])
            self.assertIn(word, problems[0])
            self.assertIn("1 problem found", run.stderr)

    def test_tensors_that_do_not_fit_are_a_problem_with_and_without_check(self):
        model = self.tiny()
        config = json.loads((model / "config.json").read_text())
        config["num_local_experts"] = 9
        (model / "config.json").write_text(json.dumps(config))
        for options in ([], ["--check"]):
            run = moxie("inspect", model, *options)
            self.assertEqual(run.returncode, 1)
            self.assertIn("expected BF16 [9, 96]", run.stderr)

    def test_a_bf16_checkpoint_is_no_fault(self):
        found = json.loads(self.good("inspect", BF16, "--json", "--check"))
        self.assertEqual((found["layout"], found["memory"], found["problems"]), ("bf16", None, []))
        self.assertIn("moxie quantize", found["unusable"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "dev")
    arguments, rest = parser.parse_known_args()
    global MOXIE
    MOXIE = arguments.build.resolve() / "moxie"
    if not MOXIE.exists():
        sys.exit(f"{MOXIE} is missing; build the target moxie-cli first")
    result = unittest.main(argv=[sys.argv[0], *rest], exit=False).result
    for test, reason in result.skipped:
        print(f"skipped: {test.id().rpartition('.')[2]}: {reason}")
    if result.skipped and len(result.skipped) == result.testsRun:
        sys.exit(77)
    sys.exit(0 if result.wasSuccessful() else 1)


if __name__ == "__main__":
    main()
