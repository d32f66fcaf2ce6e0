#!/usr/bin/env python3
"""What the repository holds of the demo model belongs together: tests/demo_files_test.py. Python's standard library only.

models/demo and tests/demo are written by tools/demo_model/release.py. Exit code 77 when the model is not there.
"""

import hashlib
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODEL, TESTS = ROOT / "models" / "demo", ROOT / "tests" / "demo"
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT))

from tools.demo_model import make_tokenizer, model_card  # noqa: E402
from tools.demo_model.conversations import SCORED  # noqa: E402

MOST_BYTES = 16 << 20
# Percent of held-out items that have to be right; and how far quantisation may move a score.
LEAST = {"addition": 98, "subtraction": 98, "multiplication": 95, "sort_numbers": 95, "sort_words": 95, "count_letters": 95, "tools": 98, "instructions": 95}
MOST_LOST = 1.0


def read_scores() -> dict:
    return json.loads((TESTS / "scores.json").read_text())


class Model(unittest.TestCase):
    def test_fits_and_is_whole(self) -> None:
        names = {path.name for path in MODEL.iterdir()}
        self.assertLessEqual({"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                              "tools.json", "README.md"}, names)
        self.assertLessEqual(names, {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
                                     "chat_template.jinja", "tools.json", "README.md", "loss.png"})
        self.assertLessEqual(sum(path.stat().st_size for path in MODEL.iterdir()), MOST_BYTES)

    def test_experts_are_mxfp4_and_the_rest_bf16(self) -> None:
        with (MODEL / "model.safetensors").open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        header.pop("__metadata__")
        for name, tensor in header.items():
            self.assertEqual(tensor["dtype"], "U8" if name.endswith(("_blocks", "_scales")) else "BF16", name)
        self.assertEqual(sum(name.endswith("_proj_blocks") for name in header), 2 * json.loads((MODEL / "config.json").read_text())["num_hidden_layers"])

    def test_tokenizer_and_template_are_what_the_tools_write(self) -> None:
        document = json.loads((MODEL / "tokenizer.json").read_text(encoding="utf-8"))
        config = json.loads((MODEL / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.assertEqual(config, make_tokenizer.tokenizer_config(document))
        self.assertEqual((MODEL / "chat_template.jinja").read_bytes(), (ROOT / "tools" / "demo_model" / "chat_template.jinja").read_bytes())
        special = {token["content"]: token["id"] for token in document["added_tokens"]}
        generation = json.loads((MODEL / "generation_config.json").read_text())
        self.assertEqual(generation["eos_token_id"], [special["<|return|>"], special["<|endoftext|>"], special["<|call|>"]])

    def test_card_has_the_scores(self) -> None:
        scores = read_scores()
        expected = model_card.card(json.loads((MODEL / "config.json").read_text()), scores, scores["facts"], (MODEL / "loss.png").exists())
        self.assertEqual((MODEL / "README.md").read_text(encoding="utf-8"), expected)


class Scores(unittest.TestCase):
    def test_are_of_this_model(self) -> None:
        self.assertEqual(read_scores()["model_sha256"], hashlib.sha256((MODEL / "model.safetensors").read_bytes()).hexdigest())

    def test_reach_what_was_asked(self) -> None:
        scores = read_scores()
        self.assertEqual(set(scores["moxie"]), set(SCORED))
        for ability, least in LEAST.items():
            score = scores["moxie"][ability]
            self.assertGreaterEqual(score["items"], 1000)
            self.assertGreaterEqual(100 * score["right"] / score["items"], least, ability)

    def test_four_bits_cost_at_most_a_point(self) -> None:
        scores = read_scores()
        pairs = {ability: (scores["moxie"][ability], scores["unquantised"][ability]) for ability in LEAST}
        pairs["all"] = model_card.total(scores["moxie"]), model_card.total(scores["unquantised"])
        for ability, (ours, theirs) in pairs.items():
            self.assertGreater(theirs["reference_tokens"], 0)
            self.assertEqual(ours["items"], theirs["items"], ability)
            self.assertGreaterEqual(100 * ours["right"] / ours["items"], 100 * theirs["right"] / theirs["items"] - MOST_LOST, ability)


class Sets(unittest.TestCase):
    def test_are_what_the_generators_make(self) -> None:
        with tempfile.TemporaryDirectory(prefix="moxie_demo_sets_") as folder:
            subprocess.run([sys.executable, "-m", "tools.demo_model.make_sets", "--out", folder, "--committed"], cwd=ROOT, check=True, capture_output=True,
                           env={"PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"})
            made = {str(path.relative_to(folder)): path.read_bytes() for path in pathlib.Path(folder).rglob("*.jsonl")}
        committed = {str(path.relative_to(TESTS)): path.read_bytes() for path in TESTS.rglob("*.jsonl")}
        self.assertEqual(set(made), set(committed))
        self.assertEqual(set(made), {"smoke.jsonl", *(f"sets/{ability}.jsonl" for ability in SCORED)})
        for name, content in made.items():
            self.assertTrue(content == committed[name], f"{name}: python3 -m tools.demo_model.make_sets --out tests/demo --committed makes another")
            self.assertGreaterEqual(content.count(b"\n"), 100 if name == "smoke.jsonl" else 1000)


if __name__ == "__main__":
    if not (MODEL / "model.safetensors").exists():
        print("skipped: models/demo/model.safetensors is not here; tools/demo_model/release.py makes it")
        sys.exit(77)
    unittest.main()
