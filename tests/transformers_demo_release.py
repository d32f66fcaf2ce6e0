#!/usr/bin/env python3
"""models/demo as transformers sees it: tokenizer, chat template and model, unchanged.

    tests/transformers_demo_release.py --build build/dev [--model models/demo]

Exit code 77 with a last line that says why when a package is missing; what needs the model is skipped when it is not there.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["HF_HUB_OFFLINE"] = "1"
BUILD, MODEL = ROOT / "build" / "dev", ROOT / "models" / "demo"

try:
    import torch
    import transformers
    from safetensors.torch import load_file
    from transformers.utils.chat_template_utils import render_jinja_template
except ImportError as missing:
    print(f"skipped: {missing.name} is not installed (tests/requirements-transformers.txt)")
    sys.exit(77)

from demo_text_test import Driver, byte_tokenizer  # noqa: E402
from harmony_oracle import Generator  # noqa: E402
from tools.demo_model.conversations import WEIGHTS, draw  # noqa: E402
from tools.demo_model.rendering import render, render_prompt  # noqa: E402
from tools.demo_model.tokenizer import Tokenizer  # noqa: E402

TEMPLATE = ROOT / "tools" / "demo_model" / "chat_template.jinja"
DEFAULT_IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
DATE = "2026-03-01"


def settings_of(conversation: dict) -> dict:
    """A saved conversation's settings as arguments of the template."""
    return {"tools": conversation.get("tools") or None, "model_identity": conversation.get("system", DEFAULT_IDENTITY),
            "knowledge_cutoff": conversation.get("knowledge_cutoff", "2024-06"), "current_date": conversation.get("date", ""),
            "reasoning_effort": conversation.get("effort", "medium")}


def with_instructions(conversation: dict, messages: list[dict]) -> list[dict]:
    return ([{"role": "developer", "content": conversation["developer"]}] if conversation.get("developer") else []) + messages


def template_text(messages: list[dict], *, prompt: bool, tools=None, **more) -> str:
    """What apply_chat_template(tokenize=False) does."""
    rendered, _ = render_jinja_template(conversations=[messages], tools=tools, chat_template=TEMPLATE.read_text(encoding="utf-8"),
                                        add_generation_prompt=prompt, **more)
    return rendered[0]


class Template(unittest.TestCase):
    """chat_template.jinja against src/harmony and tools/demo_model/rendering.py."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory(prefix="moxie_demo_release_")
        vocabulary = pathlib.Path(cls.folder.name, "tokenizer.json")
        vocabulary.write_text(json.dumps(byte_tokenizer()), encoding="utf-8")
        cls.driver = Driver(vocabulary, BUILD)
        cls.special = {token["id"]: token["content"].encode() for token in byte_tokenizer()["added_tokens"]}

    @classmethod
    def tearDownClass(cls) -> None:
        cls.driver.close()
        cls.folder.cleanup()

    def text_of(self, ids: list[int]) -> str:
        return b"".join(self.special.get(token) or bytes([token]) for token in ids).decode()

    def test_training_text(self) -> None:
        tokenizer = Tokenizer(byte_tokenizer())
        rng = random.Random(11)
        for generator in WEIGHTS:
            for _ in range(25):
                conversation = draw(generator, rng, "train")
                more = settings_of(conversation)
                whole = template_text(with_instructions(conversation, conversation["messages"]), prompt=False, **more)
                self.assertEqual(whole, tokenizer.decode(render(conversation, tokenizer)[0]))
                for cut in range(1, len(conversation["messages"])):
                    part = {**conversation, "messages": conversation["messages"][:cut]}
                    text = template_text(with_instructions(part, part["messages"]), prompt=True, **more)
                    self.assertEqual(text, tokenizer.decode(render_prompt(part, tokenizer)))

    def random_conversation(self, generator: Generator) -> dict:
        """As a file of /save has it, with any text, tools with any schema, and messages in harmony's own terms."""
        messages = []
        for _ in range(generator.random.randint(1, 9)):
            message = {"role": "user", "content": generator.text()} if generator.chance(0.3) else generator.chat_message()
            if message["role"] == "user" and generator.chance(0.1):
                message["name"] = "ada"
            if message["role"] == "assistant" and generator.chance(0.05):
                message["recipient"] = "all"
            messages.append(message)
        tools = [generator.tool() for _ in range(generator.random.choice([0, 0, 1, 1, 3]))]
        return {"system": generator.random.choice([DEFAULT_IDENTITY, "", "You are Ω."]), "knowledge_cutoff": generator.random.choice(["2024-06", ""]),
                "date": generator.random.choice(["", DATE]), "effort": generator.random.choice(["low", "medium", "high", "none"]),
                "developer": generator.text(), "tools": tools, "messages": messages}

    def test_random_conversations(self) -> None:
        for seed in range(1500):
            generator = Generator(seed)
            conversation = self.random_conversation(generator)
            messages = with_instructions(conversation, conversation["messages"])
            text = template_text(messages, prompt=True, **settings_of(conversation))
            effort = conversation["effort"]
            ids = self.driver.render({**conversation, "effort": "" if effort == "none" else effort}, conversation["messages"], whole=True, prompt=True)
            self.assertEqual(text, self.text_of(ids), json.dumps(conversation))

    def test_messages_of_the_openai_api(self) -> None:
        tools = [{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {
            "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}}}]
        call = {"id": "x1", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
        plain = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "1+"}, {"type": "text", "text": "2?"}]},
                 {"role": "assistant", "thinking": "call it", "content": "A moment.", "tool_calls": [call]},
                 {"role": "tool", "tool_call_id": "x1", "content": "3"}, {"role": "assistant", "reasoning_content": "it is 3", "content": "3"},
                 {"role": "user", "content": "again"}]
        harmony = [{"role": "user", "content": "1+2?"}, {"role": "assistant", "channel": "analysis", "content": "call it"},
                   {"role": "assistant", "channel": "commentary", "content": "A moment."},
                   {"role": "assistant", "recipient": "functions.add", "channel": "commentary", "content_type": "<|constrain|>json", "content": '{"a":1,"b":2}'},
                   {"role": "tool", "name": "functions.add", "recipient": "assistant", "channel": "commentary", "content": "3"},
                   {"role": "assistant", "channel": "analysis", "content": "it is 3"}, {"role": "assistant", "channel": "final", "content": "3"},
                   {"role": "user", "content": "again"}]
        settings = {"system": DEFAULT_IDENTITY, "knowledge_cutoff": "2024-06", "date": DATE, "effort": "high", "developer": "Be brief.", "tools": [tools[0]["function"]]}
        # How many messages of one are how many of the other, where somebody may speak.
        for cut, same in ((2, 1), (4, 5), (6, 8)):
            ids = self.driver.render(settings, harmony[:same], whole=True, prompt=True)
            text = template_text(plain[:cut], prompt=True, tools=tools, reasoning_effort="high", current_date=DATE)
            self.assertEqual(text, self.text_of(ids))
        for change in ({"name": "add"}, {"name": "functions.add"}, {}):
            changed = [*plain[:3], {"role": "tool", "content": "3", **change}]
            self.assertEqual(template_text(changed, prompt=True, tools=tools, reasoning_effort="high", current_date=DATE),
                             self.text_of(self.driver.render(settings, harmony[:5], whole=True, prompt=True)))

    def test_defaults(self) -> None:
        text = template_text([{"role": "user", "content": "hi"}], prompt=True)
        self.assertRegex(text, r"\A<\|start\|>system<\|message\|>You are ChatGPT, a large language model trained by OpenAI\.\nKnowledge cutoff: 2024-06\n"
                               r"Current date: \d{4}-\d\d-\d\d\n\nReasoning: medium\n\n# Valid channels: .*<\|start\|>assistant\Z")

    def test_what_it_refuses(self) -> None:
        for message in ({"role": "narrator", "content": "x"}, {"role": "tool", "content": "x"}):
            with self.assertRaises(Exception):
                template_text([message], prompt=True)


class Folder(unittest.TestCase):
    """models/demo, loaded as it lies there."""

    @classmethod
    def setUpClass(cls) -> None:
        if not (MODEL / "model.safetensors").exists():
            raise unittest.SkipTest(f"{MODEL}/model.safetensors is not here; tools/demo_model/release.py makes it")
        torch.set_num_threads(2)
        cls.tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
        cls.model = transformers.GptOssForCausalLM.from_pretrained(
            MODEL, quantization_config=transformers.Mxfp4Config(dequantize=True), dtype=torch.float32, attn_implementation="eager").eval()
        cls.smoke = [json.loads(line) for line in (ROOT / "tests" / "demo" / "smoke.jsonl").read_text().splitlines()]

    def prompt(self, item: dict) -> list[int]:
        return self.tokenizer.apply_chat_template(with_instructions(item, item["messages"]), add_generation_prompt=True, return_dict=False,
                                                  **{**settings_of(item), "current_date": item.get("date", "")})

    def moxie(self, *arguments: str) -> str:
        done = subprocess.run([str(BUILD.resolve() / "moxie"), *arguments], text=True, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_tokenizer_reads_as_moxies(self) -> None:
        driver = Driver(MODEL / "tokenizer.json", BUILD)
        self.addCleanup(driver.close)
        ours = Tokenizer.load(MODEL / "tokenizer.json")
        for item in self.smoke:
            conversation = {"system": DEFAULT_IDENTITY, "knowledge_cutoff": "2024-06", "date": "", "effort": "medium", "developer": "", "tools": [], **item}
            ids = driver.render(conversation, item["messages"], whole=True, prompt=True)
            self.assertEqual(self.prompt(item), ids)
            self.assertEqual(render_prompt(item, ours), ids)
        for name, index in ours.special.items():
            self.assertEqual(self.tokenizer.convert_tokens_to_ids(name), index)
        self.assertEqual((self.tokenizer.eos_token, self.tokenizer.pad_token, self.tokenizer.bos_token), ("<|return|>", "<|endoftext|>", "<|startoftext|>"))
        self.assertEqual(len(self.tokenizer), self.model.config.vocab_size)

    def test_random_conversations_are_the_same_ids(self) -> None:
        """Where no text spells a control token, which a template cannot tell from one."""
        driver = Driver(MODEL / "tokenizer.json", BUILD)
        self.addCleanup(driver.close)
        compared = 0
        for seed in range(600):
            generator = Generator(70_000 + seed)
            conversation = Template.random_conversation(self, generator)
            texts = [{key: value for key, value in message.items() if key != "content_type"} for message in conversation["messages"]]
            if "<|" in json.dumps([texts, conversation["tools"], conversation["developer"]]):
                continue
            effort = conversation["effort"]
            ids = driver.render({**conversation, "effort": "" if effort == "none" else effort}, conversation["messages"], whole=True, prompt=True)
            self.assertEqual(self.prompt(conversation), ids, json.dumps(conversation))
            compared += 1
        self.assertGreater(compared, 50)

    def test_logits_agree(self) -> None:
        with tempfile.TemporaryDirectory(prefix="moxie_demo_release_") as folder:
            for item in self.smoke[::9]:
                ids = self.prompt(item)
                out = pathlib.Path(folder, "logits.safetensors")
                self.moxie("logits", str(MODEL), "--tokens", ",".join(map(str, ids)), "--precision", "fp32", "--out", str(out))
                with torch.no_grad():
                    want = self.model(torch.tensor([ids])).logits[0].double()
                got = load_file(out)["logits"].double()
                out.unlink()
                error = ((got - want).norm(dim=-1) / want.norm(dim=-1)).max().item()
                self.assertLessEqual(error, 1e-4, item["id"])

    def test_a_batch_gives_what_one_by_one_gives(self) -> None:
        """With the padding that tokenizer_config.json asks for."""
        questions = ["What is 3+4?", "Is 58 > 347?"]
        answers = []
        for batch in (questions, *([question] for question in questions)):
            inputs = self.tokenizer.apply_chat_template([[{"role": "user", "content": question}] for question in batch], current_date="", reasoning_effort="low", add_generation_prompt=True,
                                                        padding=True, return_tensors="pt", return_dict=True)
            with torch.no_grad():
                made = self.model.generate(**inputs, max_new_tokens=60)[:, inputs["input_ids"].shape[1]:]
            answers += [self.tokenizer.decode(row).replace("<|endoftext|>", "") for row in made]
        self.assertEqual(answers[:2], answers[2:])
        self.assertIn("<|message|>3 + 4 = 7<|return|>", answers[0])

    def test_generate_gives_moxies_answers(self) -> None:
        """Greedy by generation_config.json, up to and with the end token, in float32 on both sides."""
        for item in self.smoke[:9]:
            ids = torch.tensor([self.prompt(item)])
            with torch.no_grad():
                made = self.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=200)[0, ids.shape[1]:].tolist()
            with tempfile.TemporaryDirectory(prefix="moxie_demo_release_") as folder:
                path = pathlib.Path(folder, "one.jsonl")
                path.write_text(json.dumps({key: value for key, value in item.items() if key != "reference"}) + "\n")
                report = json.loads(self.moxie("eval", str(MODEL), str(path), "--precision", "fp32", "--max-tokens", "200", "--json", "-"))
            self.assertEqual(self.tokenizer.decode(made), report["items"][0]["raw"], item["id"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    parser.add_argument("--build", type=pathlib.Path, default=BUILD)
    parser.add_argument("--model", type=pathlib.Path, default=MODEL)
    known, rest = parser.parse_known_args()
    BUILD, MODEL = known.build, known.model
    unittest.main(argv=[sys.argv[0], *rest])
