#!/usr/bin/env python3
"""The demo model's training text: tests/demo_text_test.py --build build/dev [--conversations N | --shards N] [unittest arguments]

What is held out stays out of training (read back from the text alone), our renderer in Python gives moxie's ids, and the
generators repeat themselves by seed. Python's standard library only.
"""

import argparse
import array
import ast
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))

from demo_model import instructions, judging, letters, made_up_tools, make_sets, make_shards, mixed, ordering, split, stories, tools_use, words  # noqa: E402
from demo_model.context import DEFAULT_IDENTITY  # noqa: E402
from demo_model.conversations import SCORED, WEIGHTS, draw, sample  # noqa: E402
from demo_model.rendering import last_turn, render, render_prompt, whole_messages  # noqa: E402
from demo_model.tokenizer import SPECIAL_TOKENS, Tokenizer  # noqa: E402

import demo_text_reading as reading  # noqa: E402

BUILD = ROOT / "build" / "dev"
num_conversations, num_shards = 20000, 0  # of training, in which the items of the sets are looked for


def byte_tokenizer() -> dict:
    """A tokenizer.json of the 256 bytes and harmony's special tokens."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    other = [byte for byte in range(256) if byte not in printable]
    vocab = {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(other)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    from demo_model.make_tokenizer import O200K_SPLIT, added_token
    return {"version": "1.0", "added_tokens": [added_token(name, 256 + i) for i, name in enumerate(SPECIAL_TOKENS)], "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": O200K_SPLIT}, "behavior": "Isolated", "invert": False}, byte_level]},
            "post_processor": byte_level, "decoder": byte_level,
            "model": {"type": "BPE", "ignore_merges": True, "vocab": vocab, "merges": []}}


def prompts_of(conversation: dict, last_only: bool) -> set[tuple]:
    """What is asked, as far as punctuation at the end and capital letters do not matter: each turn by itself, and with those before it.

    After a rule capital letters do matter, and the rule may be the developer's."""
    asked = [message["content"] for message in conversation["messages"] if message["role"] == "user"]
    head: tuple = (bool(conversation.get("tools")),)
    if conversation["ability"] == "instructions":
        head = conversation.get("system", DEFAULT_IDENTITY), conversation.get("developer", "")
    else:
        asked = [text.lower().rstrip(".?!") for text in asked]
    if last_only:
        return {(*head, *asked)}
    return {(*head, *asked[:i]) for i in range(1, len(asked) + 1)} | {(*head, text) for text in asked[1:]}


def training_text():
    """Conversations, or those of the first shards of make_shards.py."""
    if num_shards == 0:
        rng = random.Random(10)
        for _ in range(num_conversations):
            yield sample(rng, "train")
    tokenizer = Tokenizer.load(ROOT / "models" / "demo" / "tokenizer.json")
    for number in range(num_shards):
        for conversation, _, _ in make_shards.conversations(tokenizer, make_shards.SHARD_TOKENS, make_shards.SEED, number):
            yield conversation


def heldout_shown(conversation: dict) -> list[str]:
    return sorted(key for key in reading.shown(conversation) if split.is_heldout(key))


class Split(unittest.TestCase):
    def test_order_and_operation_do_not_matter(self) -> None:
        for a, b in ((347, 58), (12, 30), (9999, 10)):
            self.assertEqual(split.pair_key(a, b), split.pair_key(b, a))
            self.assertEqual(split.pair_key(a, b), split.numbers_key([b, a]))
        self.assertEqual(split.words_key(["pear", "fig", "plum"]), split.words_key(["plum", "pear", "fig"]))
        self.assertEqual(split.phrase_key("lower", "SEE THE SEA"), split.phrase_key("lower", "See The Sea"))

    def test_share_is_the_stated_one(self) -> None:
        pairs = [split.pair_key(a, b) for a in range(25, 125) for b in range(25, a + 1)]
        self.assertNotIn(None, pairs)
        self.assertLess(abs(sum(map(split.is_heldout, pairs)) / len(pairs) - split.PERCENT / 100), 0.02)

    def test_what_steps_show_is_exempt(self) -> None:
        for a, b in ((7, 8), (0, 99), (31, 5), (12, 7), (11, 24), (1024, 12)):
            self.assertIsNone(split.pair_key(a, b), (a, b))
        for a, b in ((100, 1), (10, 10), (13, 24), (1024, 13)):
            self.assertIsNotNone(split.pair_key(a, b), (a, b))
        for exempt in (split.word_key("fig"), split.word_key("about"), split.weekday_key("Monday", 6), split.conversion_key(1, "meters", "centimeters", 100),
                       split.conversion_key(5, "days", "hours", 24), split.phrase_key("upper", "the lantern"), made_up_tools.call_key("open", "door", [7, "fast"]), stories.hero_key("fox", "Rusty"), split.numbers_key([500])):
            self.assertIsNone(exempt)
        self.assertFalse(split.is_heldout(None))

    def test_no_held_out_operands_in_training_text(self) -> None:
        rng = random.Random(7)
        for generator in WEIGHTS:
            for _ in range(300):
                conversation = draw(generator, rng, "train")
                self.assertEqual(heldout_shown(conversation), [], json.dumps(conversation, indent=1))

    def test_held_out_items_ask_for_what_is_held_out(self) -> None:
        """What is read from the question is read from the whole text too: so the test before would find it."""
        rng = random.Random(8)
        for ability, choices in SCORED.items():
            for generator, arguments in choices:
                for _ in range(100):
                    conversation = draw(generator, rng, "heldout", **arguments)
                    key = reading.asked(conversation)
                    self.assertTrue(split.is_heldout(key), ability + json.dumps(conversation, indent=1))
                    self.assertIn(key, reading.shown(conversation), ability)

    def test_the_sets_are_what_the_generators_make(self) -> None:
        for ability in SCORED:
            drawn = make_sets.draw_set(ability, make_sets.COUNT, make_sets.SEED)
            committed = [json.loads(line) for line in (ROOT / "tests" / "demo" / "sets" / f"{ability}.jsonl").read_text().splitlines()]
            self.assertGreaterEqual(len(committed), 1000)
            self.assertEqual(committed, make_sets.committed([item for item, _ in drawn]))

    def test_no_item_of_the_sets_is_in_training_text(self) -> None:
        """Neither its operands, wherever they stand, nor its prompt."""
        keys, prompts = {}, {}
        for ability in SCORED:
            for item, conversation in make_sets.draw_set(ability, make_sets.COUNT, make_sets.SEED):
                key = reading.asked(conversation)
                self.assertTrue(split.is_heldout(key), item)
                keys[key] = item
                prompts.update((prompt, item) for prompt in prompts_of(item, last_only=True))
        self.assertGreater(len(keys), 10000)
        count = 0
        for conversation in training_text():
            count += 1
            shown = reading.shown(conversation)
            self.assertEqual([keys[key] for key in shown if key in keys], [], conversation)
            self.assertEqual([key for key in shown if split.is_heldout(key)], [], conversation)
            self.assertEqual([prompts[prompt] for prompt in prompts_of(conversation, last_only=False) if prompt in prompts], [], conversation)
        print(f"{count} training conversations read")

    def test_declined_requests_are_those_of_calls(self) -> None:
        """What is held out of calling is not declined in training either, and the other way round."""
        rng = random.Random(9)
        asked = {kind: {draw(generator, rng, kind)["messages"][0]["content"] for generator in (tools_use.tools, tools_use.declining) for _ in range(1500)}
                 for kind in ("train", "heldout")}
        self.assertGreater(len(asked["heldout"]), 1000)
        self.assertFalse(asked["heldout"] & asked["train"])


def talk(ability: str, question: str, *said: str, **more) -> dict:
    names = ["analysis", "final"]
    messages = [{"role": "user", "content": question}, *({"role": "assistant", "channel": names[i % 2], "content": text} for i, text in enumerate(said))]
    return {"ability": ability, "system": DEFAULT_IDENTITY, "developer": "", "tools": [], "messages": messages, **more}


class Reading(unittest.TestCase):
    """reading.py, on text that no generator made."""

    def shows(self, conversation: dict, *keys: str) -> None:
        for key in keys:
            self.assertIn(key, reading.shown(conversation))

    def test_numbers_are_read_from_questions_and_reasoning(self) -> None:
        self.shows(talk("addition", "Add 58 and 347.", "058+347: 8+7=15", "58 + 347 = 405"), split.pair_key(347, 58))
        self.shows(talk("not_learned", "What is 13% of 332?", "Not learned.", "No."), split.pair_key(13, 332))
        self.shows(talk("division", "3444 / 7", "3444 by 7, digit after digit", "492"), split.pair_key(3444, 7))
        self.shows(talk("sort_numbers", "Sort 30, 200, 10.", "030 200 010\nsmallest 010, left 030 200", "10, 30, 200"),
                   split.numbers_key([10, 30, 200]), split.pair_key(30, 200))
        self.shows(talk("units", "How many meters are 25 kilometers?", "1 kilometer = 1000 meters", "25000 meters"),
                   split.conversion_key(25, "kilometers", "meters", 1000), split.pair_key(25, 1000))
        self.shows(talk("calendar", "Was 1923 a leap year?", "1923 is not a leap year.", "No"), split.key_of("leap", [1923]))
        self.shows(talk("calendar", "Which day comes 45 days after Monday?", "45 days = 6 weeks and 3 days.", "Thursday"), split.weekday_key("Monday", 45))

    def test_words_are_read_in_every_spelling(self) -> None:
        for conversation in (talk("spelling", "Spell Zebras.", "Letter by letter.", "z e b r a s"), talk("other", "?", "zebras: 1z 2e 3b 4r 5a 6s", "6")):
            self.shows(conversation, split.word_key("zebras"))
        self.shows(talk("sort_words", "Sort kiwi, fig, pear.", "kiwi k i w, fig f i g, pear p e a\nfirst f i g: fig, left k i w, p e a", "fig, kiwi, pear"),
                   split.words_key(["fig", "kiwi", "pear"]), split.words_key(["pear", "kiwi"]))

    def test_requests_and_rules_are_read(self) -> None:
        light = split.key_of("tool", ["lights", "living room", "on"])
        self.shows(talk("declining", "Please turn the light in the living room on.", "No tool.", "Sorry.", tools=[{"name": "timer"}]), light)
        called = talk("tools", "Light on in the living room, please.")
        called["messages"].append({"role": "assistant", "recipient": "functions.light", "channel": "commentary", "content": '{"where":"living room","to":"on"}'})
        self.shows(called, light)
        called["messages"][-1].update(recipient="functions.door-open", content='{"level":7,"note":"kite","mode":"fast"}')
        self.shows(called, split.key_of("tool", ["open", "door", 7, "kite", "fast"]))
        self.shows(talk("instructions", "What color is snow?", "White, in double quotes.", '"white"', developer="Quote the answer."),
                   split.key_of("instruction", ["quoted", "What color is snow?"]))
        self.shows(talk("instructions", "Say this: SEE THE SEA. Answer in lower case.", "SEE THE SEA, in lower case.", "see the sea"), split.phrase_key("lower", "See the sea"))
        self.shows(talk("plain_talk", "how do I quantize a model", "I do not know that.", "No."), split.key_of("about", ["How do I quantize a model?"]))
        self.shows(talk("stories", "Write about a fox named Molly.", "Hero: Molly, a shy fox.", "A fox named Molly."), stories.hero_key("fox", "Molly"))

    def test_mixed_turns_are_read_one_by_one(self) -> None:
        parts = talk("mixed_turns", "Spell Zebras.", "Letter by letter.", "z e b r a s")
        parts["messages"] += talk("", "Is 482 > 77?", "482 > 77", "Yes")["messages"]
        parts["parts"] = ["spelling", "compare"]
        self.shows(parts, split.word_key("zebras"), split.pair_key(482, 77))
        self.assertEqual(reading.asked(parts), split.pair_key(482, 77))


class Conversations(unittest.TestCase):
    def test_words_that_other_tasks_use_are_common(self) -> None:
        rng = random.Random(2)
        used: set[str] = set()
        for generator in WEIGHTS.keys() - {letters.count_letters, letters.spelling, ordering.sort_words, ordering.sort_alike_words, instructions.rewriting, made_up_tools.made_up_tools, mixed.mixed_turns}:
            for _ in range(300):
                for message in whole_messages(draw(generator, rng, "train")):
                    used.update(re.findall("(?<![A-Za-z_])[a-z]{3,11}(?![A-Za-z_])", message["content"]))
        used = {word for word in used if not re.fullmatch("(ba|lo|ki|ra|ne|su|to|mi)+", word)}  # made-up translations
        self.assertEqual(used - words.COMMON, set())
        beginnings = {word[:length] for word in used for length in range(3, len(word) + 1)}
        self.assertEqual(beginnings & set(words.WORDS) - words.COMMON, set())

    def test_a_seed_gives_the_same_conversations(self) -> None:
        for kind in ("train", "heldout"):
            once, again = ([sample(random.Random(seed), kind) for seed in range(50)] for _ in range(2))
            self.assertEqual(once, again)

    def test_calls_fit_their_schema(self) -> None:
        rng = random.Random(3)
        for _ in range(300):
            conversation = draw(rng.choice([tools_use.tools, tools_use.second_call, made_up_tools.made_up_tools]), rng, "heldout")
            called = conversation["expect"]["call"]
            tool = next(tool for tool in conversation["tools"] if tool["name"] == called["name"])
            self.assertEqual(json.loads(conversation["messages"][-1]["content"]), called["arguments"])
            properties = tool["parameters"]["properties"]
            self.assertEqual(set(called["arguments"]), set(properties))
            for name, value in called["arguments"].items():
                self.assertIsInstance(value, str if properties[name]["type"] == "string" else int)
                self.assertIn(value, properties[name].get("enum", [value]))

    def test_every_task_has_its_efforts(self) -> None:
        rng = random.Random(4)
        for generator in WEIGHTS:
            if generator is instructions.plain_talk:
                continue
            lengths = {}
            for effort in ("low", "medium", "high"):
                drawn = [draw(generator, rng, "train", effort)["messages"] for _ in range(300)]
                lengths[effort] = sum(len(message["content"]) for messages in drawn for message in messages if message["role"] == "assistant")
            self.assertLess(lengths["low"], lengths["medium"], generator.__name__)
            self.assertLess(lengths["medium"], lengths["high"], generator.__name__)


class Rendering(unittest.TestCase):
    def setUp(self) -> None:
        self.tokenizer = Tokenizer(byte_tokenizer())

    def text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids)

    def test_what_is_learned_is_what_the_model_writes(self) -> None:
        conversation = {"effort": "low", "messages": [
            {"role": "user", "content": "1+1"}, {"role": "assistant", "channel": "analysis", "content": "old"},
            {"role": "assistant", "channel": "final", "content": "2"}, {"role": "user", "content": "add 1"},
            {"role": "assistant", "channel": "analysis", "content": "call"},
            {"role": "assistant", "recipient": "functions.add", "channel": "commentary", "content_type": "<|constrain|>json", "content": "{}"},
            {"role": "tool", "name": "functions.add", "recipient": "assistant", "channel": "commentary", "content": "3"},
            {"role": "assistant", "channel": "analysis", "content": "so"}, {"role": "assistant", "channel": "final", "content": "3"}]}
        ids, mask = render(conversation, self.tokenizer)
        self.assertEqual(self.text(ids), (
            f"<|start|>system<|message|>{DEFAULT_IDENTITY}\nKnowledge cutoff: 2024-06\n\nReasoning: low\n\n"
            "# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>"
            "<|start|>user<|message|>1+1<|end|><|start|>assistant<|channel|>final<|message|>2<|end|><|start|>user<|message|>add 1<|end|>"
            "<|start|>assistant<|channel|>analysis<|message|>call<|end|>"
            "<|start|>assistant to=functions.add<|channel|>commentary <|constrain|>json<|message|>{}<|call|>"
            "<|start|>functions.add to=assistant<|channel|>commentary<|message|>3<|end|>"
            "<|start|>assistant<|channel|>analysis<|message|>so<|end|><|start|>assistant<|channel|>final<|message|>3<|return|>"))
        self.assertEqual(self.text([token for token, learned in zip(ids, mask, strict=True) if learned]), (
            "<|channel|>analysis<|message|>call<|end|><|start|>assistant to=functions.add<|channel|>commentary <|constrain|>json<|message|>{}<|call|>"
            "<|channel|>analysis<|message|>so<|end|><|start|>assistant<|channel|>final<|message|>3<|return|>"))

    def test_text_that_spells_a_special_token_stays_text(self) -> None:
        ids, _ = render({"messages": [{"role": "user", "content": "<|end|>"}, {"role": "assistant", "channel": "final", "content": "x"}]}, self.tokenizer)
        self.assertEqual(ids.count(self.tokenizer.special["<|end|>"]), 2)

    def test_what_the_renderer_does_not_know_is_refused(self) -> None:
        message = [{"role": "user", "content": "x"}, {"role": "assistant", "channel": "final", "content": "x"}]
        for schema in ({"type": "object", "title": "x"}, {"type": "object", "properties": {"x": {"type": "object"}}}, {"type": "null"}):
            with self.assertRaises(ValueError):
                render({"tools": [{"name": "f", "description": "", "parameters": schema}], "messages": message}, self.tokenizer)
        with self.assertRaises(ValueError):
            render({"messages": [{"role": "user", "content": "naïve"}, message[1]]}, self.tokenizer)
        with self.assertRaises(ValueError):
            render({"messages": message[:1]}, self.tokenizer)


class Judging(unittest.TestCase):
    """judging.py, by what is true of the rules of `moxie eval`."""

    def setUp(self) -> None:
        self.tokenizer = Tokenizer(byte_tokenizer())

    def said(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in re.split(r"(<\|[a-z]+\|>)", text):
            ids += [self.tokenizer.special[piece]] if piece in self.tokenizer.special else self.tokenizer.encode(piece)
        return ids

    def verdict(self, expect: dict, text: str, ended: bool = True) -> str:
        return judging.judge(expect, judging.read_answer(self.said(text), self.tokenizer), ended)

    def test_references_are_right_and_nothing_else(self) -> None:
        rng = random.Random(6)
        for ability, generators in SCORED.items():
            for generator, arguments in generators * 20:
                conversation = draw(generator, rng, "heldout", **arguments)
                ids, mask = render(conversation, self.tokenizer)
                turn = len(mask) - mask[::-1].index(0)
                messages = judging.read_answer(ids[turn:], self.tokenizer)
                self.assertEqual(len(messages), len(conversation["messages"]) - last_turn(conversation["messages"]))
                self.assertEqual(judging.judge(conversation["expect"], messages, True), "right", ability)
                self.assertEqual(judging.judge(conversation["expect"], messages[:-1], True), "no_call" if "call" in conversation["expect"] else "no_final")

    def test_kinds(self) -> None:
        five, call = {"final": "5"}, {"call": {"name": "f", "arguments": {"a": 1, "b": [True, "x"]}}}
        head = "<|channel|>analysis<|message|>2+3<|end|><|start|>assistant"
        for expect, text, verdict in [
                (five, head + "<|channel|>final<|message|> 5\n<|return|>", "right"), (five, head + "<|channel|>final<|message|>6<|return|>", "wrong"),
                (five, "<|channel|>analysis<|message|>5<|return|>", "no_final"), (five, "5<|return|>", "no_final"),
                ({"final_pattern": "[0-9]"}, "<|channel|>final<|message|>5<|return|>", "right"), ({"final_pattern": "[0-9]"}, "<|channel|>final<|message|>55<|return|>", "wrong"),
                (call, head + " to=functions.f<|channel|>commentary <|constrain|>json<|message|>{\"b\": [true, \"x\"], \"a\": 1.0}<|call|>", "right"),
                (call, head + "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"b\":[true,\"x\"],\"a\":1}<|call|>", "right"),
                (call, head + " to=functions.f<|channel|>commentary<|message|>{\"b\": [1, \"x\"], \"a\": 1}<|call|>", "wrong"),
                (call, head + " to=functions.g<|channel|>commentary<|message|>{}<|call|>", "wrong_function"),
                (call, head + " to=functions.f<|channel|>commentary<|message|>{<|call|>", "not_json"),
                (call, head + "<|channel|>final<|message|>5<|return|>", "no_call")]:
            self.assertEqual(self.verdict(expect, text), verdict, text)
        self.assertEqual(self.verdict(five, "<|channel|>final<|message|>5", ended=False), "max_tokens")


class Files(unittest.TestCase):
    """make_sets.py and make_shards.py."""

    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="moxie_demo_text_")
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)

    def run_module(self, name: str, *arguments: str) -> str:
        done = subprocess.run([sys.executable, "-m", "tools.demo_model." + name, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100,
                              env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_sets_end_where_the_assistant_speaks(self) -> None:
        for folder in ("a", "b"):
            self.run_module("make_sets", "--out", str(self.root / folder), "--count", "20", "--smoke", "40")
        smoke = (self.root / "a" / "smoke.jsonl").read_text()
        self.assertEqual(smoke, (self.root / "b" / "smoke.jsonl").read_text())
        self.assertEqual({json.loads(line)["ability"] for line in smoke.splitlines()}, set(SCORED))
        self.assertEqual(len(smoke.splitlines()), 40)
        for ability in SCORED:
            items = [json.loads(line) for line in (self.root / "a" / f"{ability}.jsonl").read_text().splitlines()]
            self.assertEqual(len({item["id"] for item in items}), 20)
            for item in items:
                self.assertEqual(item["ability"], ability)
                self.assertIn(item["messages"][-1]["role"], ("user", "tool"))
                self.assertEqual({message["role"] for message in item["reference"]}, {"assistant"})
                said = item["reference"][-1]
                if "call" in item["expect"]:
                    self.assertEqual(said["recipient"], "functions." + item["expect"]["call"]["name"])
                    self.assertEqual(json.loads(said["content"]), item["expect"]["call"]["arguments"])
                elif "final" in item["expect"]:
                    self.assertEqual((said["channel"], said["content"]), ("final", item["expect"]["final"]))
                else:
                    self.assertRegex(said["content"], "^(?:" + item["expect"]["final_pattern"] + ")$")

    def read_npy(self, path: pathlib.Path) -> array.array:
        content = path.read_bytes()
        self.assertEqual(content[:8], b"\x93NUMPY\x01\x00")
        start = 10 + int.from_bytes(content[8:10], "little")
        self.assertEqual(start % 64, 0)
        header = ast.literal_eval(content[10:start].decode())
        values = array.array({"<u2": "H", "|u1": "B"}[header["descr"]], content[start:])
        if sys.byteorder == "big" and values.itemsize > 1:
            values.byteswap()
        self.assertEqual(header["shape"], (len(values),))
        self.assertFalse(header["fortran_order"])
        return values

    def test_shards_depend_on_seed_and_number_only(self) -> None:
        vocabulary = self.root / "tokenizer.json"
        vocabulary.write_text(json.dumps(byte_tokenizer()), encoding="utf-8")
        common = ("--tokenizer", str(vocabulary), "--shard-tokens", "50000")
        table = self.run_module("make_shards", *common, "--out", str(self.root / "one"), "--tokens", "100000", "--processes", "1")
        self.run_module("make_shards", *common, "--out", str(self.root / "two"), "--tokens", "100000", "--processes", "2")
        self.run_module("make_shards", *common, "--out", str(self.root / "last"), "--tokens", "50000", "--first", "1")
        names = sorted(path.name for path in (self.root / "one").iterdir())
        self.assertEqual(names, ["train-ids-00000.npy", "train-ids-00001.npy", "train-mask-00000.npy", "train-mask-00001.npy"])
        for name in names:
            content = (self.root / "one" / name).read_bytes()
            self.assertEqual(content, (self.root / "two" / name).read_bytes())
            if "00001" in name:
                self.assertEqual(content, (self.root / "last" / name).read_bytes())

        tokenizer = Tokenizer.load(vocabulary)
        ids, mask = self.read_npy(self.root / "one" / "train-ids-00001.npy"), self.read_npy(self.root / "one" / "train-mask-00001.npy")
        rng, at = random.Random("1 1"), 0
        while at < len(ids):
            piece, learned = render(sample(rng, "train"), tokenizer)
            self.assertEqual(list(ids[at:at + len(piece)]), piece)
            self.assertEqual(list(mask[at:at + len(piece)]), learned)
            at += len(piece)
        self.assertEqual(at, len(mask))
        self.assertIn("multiplication", table)

    def test_a_prompt_cannot_be_asked_for_more_often_than_it_varies(self) -> None:
        with self.assertRaisesRegex(ValueError, "about_moxie: found only"):
            make_sets.draw_set("about_moxie", 100000, 1)


class Driver:
    """tests/harmony_driver.cc with a vocabulary."""

    def __init__(self, vocabulary: pathlib.Path, build: pathlib.Path) -> None:
        self.process = subprocess.Popen([str(build / "tests" / "harmony_driver"), str(vocabulary)], text=True, encoding="utf-8",
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def render(self, conversation: dict, messages: list[dict], *, whole: bool, prompt: bool) -> list[int]:
        """`whole`: with the system and developer message, and without the analysis that moxie drops."""
        head = []
        if whole:
            head.append({"role": "system", "system": {
                "identity": conversation["system"], "knowledge_cutoff": conversation["knowledge_cutoff"], "current_date": conversation["date"],
                "effort": conversation["effort"], "channels": ["analysis", "commentary", "final"]}})
            spaces = [{"name": "functions", "tools": conversation["tools"]}] if conversation["tools"] else []
            if spaces or conversation["developer"]:
                head.append({"role": "developer", "developer": {"instructions": conversation["developer"], "namespaces": spaces}})
        request = {"op": "render", "messages": head + messages, "history": "recommended" if whole else "keep_all", "prompt": prompt}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise AssertionError(f"the driver refused {json.dumps(request)[:2000]}: {answer['error']}")
        return answer["ids"]

    def parse(self, ids: list[int], functions: list[str]) -> dict:
        self.process.stdin.write(json.dumps({"op": "parse", "ids": ids, "in_assistant_turn": True, "functions": functions}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def compare_with_moxie(test: unittest.TestCase, driver: Driver, tokenizer: Tokenizer, conversation: dict) -> None:
    messages = conversation["messages"]
    turn = last_turn(messages)
    ids, mask = render(conversation, tokenizer)
    prompt = driver.render(conversation, messages[:turn], whole=True, prompt=True)
    test.assertEqual(render_prompt({**conversation, "messages": messages[:turn]}, tokenizer), prompt)
    test.assertEqual(ids[:len(prompt)], prompt)
    said = driver.render(conversation, messages[turn:], whole=False, prompt=False)
    if messages[-1]["channel"] == "final":
        test.assertEqual(said[-1], tokenizer.special["<|end|>"])
        said[-1] = tokenizer.special["<|return|>"]
    # The prompt already has the first message's <|start|>assistant.
    shared = 1 + len(tokenizer.encode("assistant"))
    test.assertEqual(ids[len(prompt):], said[shared:])
    test.assertEqual(mask[len(prompt):], [1] * (len(ids) - len(prompt)))
    # What is learned reads back as what was said.
    parsed = driver.parse(ids[len(prompt):], [tool["name"] for tool in conversation["tools"]])
    test.assertEqual(parsed["messages"], messages[turn:])
    test.assertEqual(parsed["recoveries"], {})


class SameAsMoxie(unittest.TestCase):
    def test_ids_are_those_of_moxies_renderer(self) -> None:
        with tempfile.TemporaryDirectory(prefix="moxie_demo_text_") as folder:
            vocabulary = pathlib.Path(folder, "tokenizer.json")
            vocabulary.write_text(json.dumps(byte_tokenizer()), encoding="utf-8")
            tokenizer = Tokenizer.load(vocabulary)
            driver = Driver(vocabulary, BUILD)
            self.addCleanup(driver.close)
            rng = random.Random(5)
            for generator in WEIGHTS:
                for _ in range(60):
                    compare_with_moxie(self, driver, tokenizer, draw(generator, rng, "train"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    parser.add_argument("--build", type=pathlib.Path, default=BUILD)
    parser.add_argument("--conversations", type=int, default=num_conversations)
    parser.add_argument("--shards", type=int, default=num_shards)
    known, rest = parser.parse_known_args()
    BUILD, num_conversations, num_shards = known.build, known.conversations, known.shards
    unittest.main(argv=[sys.argv[0], *rest])
