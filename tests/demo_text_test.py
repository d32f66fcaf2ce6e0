#!/usr/bin/env python3
"""The demo model's training text: tests/demo_text_test.py --build build/dev [unittest arguments]

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

from demo_model import calendar_units, instructions, judging, letters, made_up_tools, make_sets, mixed, ordering, split, stories, tools_use, words  # noqa: E402
from demo_model.context import DEFAULT_IDENTITY  # noqa: E402
from demo_model.conversations import SCORED, WEIGHTS, draw, sample  # noqa: E402
from demo_model.rendering import last_turn, render, render_prompt, whole_messages  # noqa: E402
from demo_model.tokenizer import SPECIAL_TOKENS, Tokenizer  # noqa: E402

BUILD = ROOT / "build" / "dev"
DATE = re.compile(r"\d{4}-\d\d-\d\d")
CHAIN = re.compile(r"\d+(?:\s*[-+*/x<>]\s*\d+)+")
PAIR_TASKS = {"addition", "subtraction", "multiplication", "division", "compare"}


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


# --- reading operands back from text ---------------------------------------------------------------


def numbers_in(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def pairs_of_text(text: str):
    """Neighbours in chains such as 007+838 or 12 * 30, single-digit facts (5+8+1) excepted."""
    for chain in CHAIN.findall(DATE.sub("", text)):
        numbers = numbers_in(chain)
        if max(numbers) >= 10:
            yield from zip(numbers, numbers[1:])


def calendar_operands(question: str):
    days = [day for day in calendar_units.DAYS if day in question]
    months = [month for month in calendar_units.MONTHS if month in question]
    numbers = numbers_in(question)
    if days and numbers:
        yield split.is_heldout("weekday", [days[0], numbers[0]])
    elif numbers and max(numbers) > 999:
        yield split.is_heldout("leap", [max(numbers)])
    elif months and len(numbers) == 2:
        yield split.is_heldout_pair(*numbers)
    elif months and numbers:
        yield split.is_heldout("month", [months[0], numbers[0]])


def units_operands(question: str, answer: str):
    """The smaller number with the larger unit, as the question or the answer has it."""
    names = {}
    for one, two, _ in calendar_units.UNITS:
        for unit in (one, two):
            names[unit] = names[calendar_units.singular(unit)] = unit
    found = [names[word] for word in re.findall(r"[a-z]+", question) if word in names]
    asked, answered = numbers_in(question)[0], numbers_in(answer)[0]
    for one, two, factor in calendar_units.UNITS:
        if {one, two} <= set(found) and max(asked, answered) == factor * min(asked, answered):
            yield split.is_heldout("units", [min(asked, answered), one, two])
            if factor >= 10:
                yield split.is_heldout_pair(min(asked, answered), factor)


def instruction_operands(conversation: dict):
    text = " ".join([conversation["system"], conversation["developer"], *(message["content"] for message in conversation["messages"] if message["role"] == "user")])
    for name, (wordings, _, _) in instructions.RULES.items():
        if any(wording in text for wording in wordings):
            yield from (split.is_heldout("instruction", [name, question]) for question, _, _ in instructions.QUESTIONS if question in text)
    thought = conversation["messages"][1]["content"]
    for name, (_, _, how) in instructions.RULES.items():
        found = re.match(rf"The words are: (.*)\. They have to be written {how}\.|(.+?), {how}\.$", thought)
        if found and name in instructions.REWRITTEN and any(copy.split("{")[0] in text for copy in instructions.COPY):
            phrase = found[1] or found[2]
            yield split.is_heldout("rewriting", [name, phrase])
            yield from (split.is_heldout_word(word) for word in re.findall("[a-z]+", phrase.lower()) if word in words.ALL_WORDS)


def story_operands(plan: str):
    hero, place, wish, helper = re.match(r"Hero: \w+, an? \w+ (\w+)\. Place: (\w+)\. Wish: ([^.]*)\. .* Helper: \w+, an? (\w+)\.", plan).groups()
    number = next(i for i, quest in enumerate(stories.QUESTS) if quest[0] == wish)
    yield split.is_heldout("story", [hero, helper, place, number])


def tool_operands(message: dict):
    name, arguments = message["recipient"].removeprefix("functions."), json.loads(message["content"])
    topic = next((kind.topic for kind in tools_use.KINDS if name in kind.names), name)
    values = list(arguments.values())
    yield split.is_heldout("tool", [topic, *values])
    numbers = [value for value in values if isinstance(value, int)]
    if len(numbers) == 2:
        yield split.is_heldout_pair(*numbers)
    if topic == "units":
        yield split.is_heldout("units", values)
        yield from (split.is_heldout_pair(values[0], factor) for one, two, factor in calendar_units.UNITS if [one, two] == values[1:])


def heldout_found(conversation: dict) -> bool:
    """Whether any operands that the text shows are held out."""
    if conversation.get("parts"):
        turns = [conversation["messages"][at : at + 3] for at in range(0, len(conversation["messages"]), 3)]
        assert len(turns) == len(conversation["parts"])
        return any(heldout_found({**conversation, "ability": ability, "messages": turn, "parts": []})
                   for ability, turn in zip(conversation["parts"], turns))
    found: list[bool] = []
    ability, messages = conversation["ability"], conversation["messages"]
    question, answer = messages[0]["content"], messages[-1]["content"]
    for message in messages:
        text = message["content"]
        if message["role"] != "tool" and not message.get("recipient"):
            found += [split.is_heldout_pair(a, b) for a, b in pairs_of_text(text)]
        if message.get("recipient", "").startswith("functions."):
            found += tool_operands(message)
    if ability in PAIR_TASKS:
        found.append(split.is_heldout_pair(*numbers_in(question)))
    elif ability == "sort_numbers" or (ability == "multi_turn" and ", " in messages[2]["content"]):
        for line in [question, *messages[1]["content"].splitlines()]:
            line = line.split("left ")[-1].split(": ")[-1]
            found.append(split.is_heldout_numbers(numbers_in(line)))
    elif ability == "sort_words":
        first, *rest = messages[1]["content"].splitlines()
        words_of = {part.split(" ", 1)[1]: part.split(" ", 1)[0] for part in first.split(", ")}  # by their first letters
        found.append(split.is_heldout_words(words_of.values()))
        found += [split.is_heldout_words([words_of[key] for key in line.split("left ")[1].split(", ")]) for line in rest if "left" in line]
    elif ability == "count_letters":
        spelled = next(line for line in messages[1]["content"].splitlines() if "1" in line).split(": ")[-1]
        found.append(split.is_heldout_word("".join(re.findall("[a-z]", spelled))))
    elif ability == "spelling":
        found += [split.is_heldout_word(spelled.replace(" ", "")) for spelled in answer.split(", ")]
    elif ability == "calendar":
        found += calendar_operands(question)
    elif ability == "units":
        found += units_operands(question, answer)
    elif ability == "instructions":
        found += instruction_operands(conversation)
    elif ability == "about_moxie":
        found.append(split.is_heldout("about", [question]))
    elif ability == "stories":
        found += story_operands(messages[1]["content"])
    return any(found)


class Split(unittest.TestCase):
    def test_order_and_operation_do_not_matter(self) -> None:
        for a, b in ((347, 58), (12, 3), (9999, 10)):
            self.assertEqual(split.is_heldout_pair(a, b), split.is_heldout_pair(b, a))
            self.assertEqual(split.is_heldout_pair(a, b), split.is_heldout_numbers([b, a]))
        self.assertEqual(split.is_heldout_words(["pear", "fig", "plum"]), split.is_heldout_words(["plum", "pear", "fig"]))

    def test_share_of_pairs_is_the_stated_one(self) -> None:
        pairs = [(a, b) for a in range(10, 100) for b in range(10, a + 1)]
        heldout = sum(split.is_heldout_pair(a, b) for a, b in pairs)
        self.assertLess(abs(heldout / len(pairs) - split.PERCENT / 100), 0.02)
        self.assertFalse(any(split.is_heldout_pair(a, b) for a in range(10) for b in range(10)))

    def test_no_held_out_operands_in_training_text(self) -> None:
        rng = random.Random(7)
        for generator in WEIGHTS:
            for _ in range(300):
                conversation = draw(generator, rng, "train")
                self.assertFalse(heldout_found(conversation), json.dumps(conversation, indent=1))

    def test_held_out_items_are_found_by_the_same_reading(self) -> None:
        rng = random.Random(8)
        for ability, choices in SCORED.items():
            for generator, arguments in choices:
                if generator is tools_use.declining:
                    continue  # declines by arguments that stand in no call; see the next test
                for _ in range(100):
                    conversation = draw(generator, rng, "heldout", **arguments)
                    self.assertTrue(heldout_found(conversation), ability + json.dumps(conversation, indent=1))

    def test_no_committed_prompt_stands_in_training_text(self) -> None:
        """Of the sets as they are, whatever their operands; a prompt of stories does not say all of its own."""

        def prompt(conversation: dict, exact: bool) -> tuple:
            asked = [message["content"] for message in conversation["messages"] if message["role"] == "user"]
            if exact:
                return conversation.get("system", DEFAULT_IDENTITY), conversation.get("developer", ""), *asked
            return bool(conversation.get("tools")), *(text.lower().rstrip(".?!") for text in asked)

        rng = random.Random(10)
        training = [sample(rng, "train") for _ in range(20000)]
        shown = {exact: {prompt(conversation, exact) for conversation in training} for exact in (False, True)}
        for path in sorted((ROOT / "tests" / "demo" / "sets").glob("*.jsonl")):
            exact = path.stem == "instructions"  # the rule may be the developer's, and its case matters
            prompts = {prompt(json.loads(line), exact) for line in path.read_text().splitlines()}
            self.assertGreater(len(prompts), 200)
            found = prompts & shown[exact]
            self.assertEqual(bool(found), path.stem == "stories", (path.stem, found))

    def test_declined_requests_are_those_of_calls(self) -> None:
        """What is held out of calling is not declined in training either, and the other way round."""
        rng = random.Random(9)
        asked = {kind: {draw(generator, rng, kind)["messages"][0]["content"] for generator in (tools_use.tools, tools_use.declining) for _ in range(1500)}
                 for kind in ("train", "heldout")}
        self.assertGreater(len(asked["heldout"]), 1000)
        self.assertFalse(asked["heldout"] & asked["train"])


class Conversations(unittest.TestCase):
    def test_words_that_other_tasks_use_are_common(self) -> None:
        rng = random.Random(2)
        used: set[str] = set()
        for generator in WEIGHTS.keys() - {letters.count_letters, letters.spelling, ordering.sort_words, instructions.rewriting, made_up_tools.made_up_tools, mixed.mixed_turns}:
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
            make_sets.make_set("about_moxie", 100000, seed=1)


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
    known, rest = parser.parse_known_args()
    BUILD = known.build
    unittest.main(argv=[sys.argv[0], *rest])
