#!/usr/bin/env python3
"""Holds moxie's harmony against PyPI's openai-harmony on random conversations and token streams.

    tests/harmony_oracle.py --build build/dev [--ranks o200k_base.tiktoken] [--count 600] [--seed 1]

1. Every file of tests/golden/harmony is what the library renders and parses.
2. Random conversations (roles, names, channels, recipients, content types, tools with every oddity of
   the schema notation) are the same ids in both.
3. Random well-formed streams, in every header order, are the same messages in both, with no recovery.
4. Streams with random edits: where moxie reports no recovery, the library says the same; where the
   library objects, moxie reports one; headers without <|message|>, which the library mends in its lenient
   mode, moxie mends alike. What only moxie mends is counted, and its events fold to its messages.

The ranks are MOXIE_O200K unless given.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SKIPPED = 77
CONTROL = {"start": 200006, "message": 200008, "channel": 200005, "constrain": 200003, "end": 200007,
           "call": 200012, "return": 200002, "endoftext": 199999}
CHANNELS = ["analysis", "commentary", "final"]
TERMINATORS = [CONTROL[name] for name in ("end", "call", "return")]


def skip(reason: str) -> None:
    print(reason)
    sys.exit(SKIPPED)


class Driver:
    """tests/harmony_driver.cc, one request at a time."""

    def __init__(self, build: pathlib.Path, ranks: pathlib.Path) -> None:
        self.process = subprocess.Popen([str(build / "tests" / "harmony_driver"), str(ranks)], text=True,
                                        encoding="utf-8", stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, **request) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise AssertionError(f"the driver refused {json.dumps(request)[:2000]}: {answer['error']}")
        return answer


# --- the library -----------------------------------------------------------------------------------


class Library:
    """openai-harmony behind the JSON of harmony_driver.cc."""

    def __init__(self) -> None:
        import openai_harmony as library
        self.module = library
        self.encoding = library.load_harmony_encoding(library.HarmonyEncodingName.HARMONY_GPT_OSS)

    def render(self, messages: list, history: str, prompt: bool) -> list[int]:
        # Straight to the core: the Python classes drop null members from schemas on the way.
        text = json.dumps({"messages": [self.message(message) for message in messages]})
        config = {"auto_drop_analysis": history == "library"}
        if prompt:
            return self.encoding._inner.render_conversation_for_completion(
                conversation_json=text, next_turn_role="assistant", config=config)
        return self.encoding._inner.render_conversation(conversation_json=text, config=config)

    def message(self, message: dict) -> dict:
        out = {"role": message["role"]}
        for key in ("name", "recipient", "channel", "content_type"):
            if message.get(key):
                out[key] = message[key]
        if "system" in message:
            out["content"] = [self.system(message["system"])]
        elif "developer" in message:
            out["content"] = [self.developer(message["developer"])]
        else:
            out["content"] = [{"type": "text", "text": message["content"]}]
        return out

    def system(self, system: dict) -> dict:
        out = {"type": "system_content", "model_identity": system.get("identity"),
               "knowledge_cutoff": system.get("knowledge_cutoff"),
               "conversation_start_date": system.get("current_date"),
               "reasoning_effort": system["effort"].capitalize() if system.get("effort") else None,
               "channel_config": {"valid_channels": system.get("channels", []), "channel_required": True}}
        tools = {}
        if system.get("browser"):
            tools["browser"] = self.module.ToolNamespaceConfig.browser().model_dump(exclude_none=True)
        if system.get("python"):
            tools["python"] = self.module.ToolNamespaceConfig.python().model_dump(exclude_none=True)
        if tools:
            out["tools"] = tools
        return {key: value for key, value in out.items() if value is not None}

    @staticmethod
    def developer(developer: dict) -> dict:
        assert not developer.get("response_formats"), "the library has no response formats"
        out = {"type": "developer_content"}
        if developer.get("instructions"):
            out["instructions"] = developer["instructions"]
        if developer.get("namespaces"):
            out["tools"] = {space["name"]: {"name": space["name"], "description": space.get("description"),
                                            "tools": [{"name": tool["name"], "description": tool.get("description", ""),
                                                       **({"parameters": tool["parameters"]} if "parameters" in tool else {})}
                                                      for tool in space.get("tools", [])]}
                            for space in developer["namespaces"]}
        return out

    def parse(self, ids: list[int], in_assistant_turn: bool, strict: bool) -> tuple[list, str | None]:
        """The messages it got to, and what it objected to."""
        role = self.module.Role.ASSISTANT if in_assistant_turn else None
        parser = self.module.StreamableParser(self.encoding, role, strict=strict)
        problem = None
        try:
            for token in ids:
                parser.process(token)
            parser.process_eos()
        except self.module.HarmonyError as error:
            problem = str(error)
        return [self.plain(message) for message in parser.messages], problem

    @staticmethod
    def plain(message) -> dict:
        out = {"role": message.author.role.value, "name": message.author.name, "recipient": message.recipient,
               "channel": message.channel, "content_type": message.content_type,
               "content": "".join(part.text for part in message.content)}
        return {key: value for key, value in out.items() if value or key == "content"}


# --- random conversations --------------------------------------------------------------------------

WORDS = ["", "a", "weather", "Hello, world!", "  two  spaces ", "line\nline", "line\r\nline\n", "\n\n", "x\ry", "naïve 日本語 😊👋🏾", "null",
         "<|start|>system<|message|>", "<|end|>", "<|constrain|>json", "to=functions.f", "// comment", "\"quoted\\\"", "\t tab",
         "a\u00a0b", "zero\u200bwidth", "\ufeff", "\u0000", "\u001f\u007f", "1234567 3.14", "assistant", "Straße Ω", "\u2028", "e\u0301", "x" * 300]
NAMES = ["get_weather", "f", "a-b", "lookup", "user_2", "ünï", "日本"]
TYPES = ["object", "string", "number", "integer", "boolean", "array", "null", "file", "any"]


class Generator:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def text(self) -> str:
        return self.random.choice(["", " ", "\n"]).join(self.random.choices(WORDS, k=self.random.randint(0, 3)))

    def value(self, depth: int = 2):
        kind = self.random.randrange(9 if depth > 0 else 7)
        if kind < 2:
            return self.text()
        if kind == 2:
            return self.random.choice([0, 1, -1, 20, 2**53, 2**63 - 1, 2**64 - 1, -2**63])
        if kind == 3:
            return self.random.choice([0.5, -1.25, 1.0, 1e16, 1e15, 12345678.9, 1e21, 1e-5, 0.001, 1.5e-7, 1e300, 0.1, 100.0, 123456789012345680.0])
        if kind < 6:
            return self.random.choice([True, False])
        if kind == 6:
            return None
        if kind == 7:
            return [self.value(depth - 1) for _ in range(self.random.randint(0, 3))]
        return {self.random.choice(NAMES) + str(i): self.value(depth - 1) for i in range(self.random.randint(0, 3))}

    def schema(self, depth: int = 3):
        if self.chance(0.03):
            return self.value(1)
        schema: dict = {}
        for key, probability in (("title", 0.15), ("description", 0.4)):
            if self.chance(probability):
                schema[key] = self.text() if self.chance(0.9) else self.value(1)
        if self.chance(0.9):
            schema["type"] = self.random.choice(TYPES)
            if depth > 2 and self.chance(0.8):
                schema["type"] = "object"
        if self.chance(0.1):
            schema["type"] = [self.random.choice([*TYPES, 3]) for _ in range(self.random.randint(0, 3))]
        if depth > 0 and (schema.get("type") == "object" or self.chance(0.05)):
            names = [self.random.choice(NAMES) + str(i) for i in range(self.random.randint(0, 4))]
            schema["properties"] = {name: self.schema(depth - 1) for name in names}
            if self.chance(0.6):
                schema["required"] = [name for name in names if self.chance(0.5)] + ([7] if self.chance(0.1) else [])
        if schema.get("type") == "array" and self.chance(0.8):
            schema["items"] = self.schema(depth - 1) if depth > 0 else {"type": "string"}
        if depth > 0 and self.chance(0.15):
            schema["oneOf"] = [self.schema(depth - 1) for _ in range(self.random.randint(0, 3))] if self.chance(0.9) else self.value(1)
            if schema.get("description") and self.chance(0.3) and isinstance(schema["oneOf"], list) and schema["oneOf"]:
                if isinstance(schema["oneOf"][0], dict):
                    schema["oneOf"][0]["description"] = schema["description"]
        if self.chance(0.2):
            schema["enum"] = [self.value(0) for _ in range(self.random.randint(0, 4))]
        if self.chance(0.25):
            schema["default"] = self.value()
        if self.chance(0.15):
            schema["examples"] = [self.value(0) for _ in range(self.random.randint(0, 3))] if self.chance(0.9) else self.text()
        if self.chance(0.15):
            schema["nullable"] = self.random.choice([True, False, "yes", None])
        if self.chance(0.05):
            schema["anyOf"] = [{"type": "string"}]
        items = list(schema.items())
        self.random.shuffle(items)
        return dict(items)

    def tool(self) -> dict:
        tool = {"name": self.random.choice(NAMES), "description": self.text()}
        if self.chance(0.85):
            schema = self.schema()
            tool["parameters"] = schema if schema is not None else {}
        return tool

    def namespaces(self) -> list:
        names = self.random.sample(["functions", "browser", "python", "zoo", "a.b"], self.random.randint(0, 3))
        return [{"name": name, "description": self.text(), "tools": [self.tool() for _ in range(self.random.randint(0, 3))]}
                for name in names]

    def system(self) -> dict:
        system = {"channels": self.random.choice([CHANNELS, CHANNELS, ["analysis", "final"], []]),
                  "browser": self.chance(0.2), "python": self.chance(0.2)}
        for key, values in (("identity", ["You are ChatGPT, a large language model trained by OpenAI.", "Ω"]),
                            ("knowledge_cutoff", ["2024-06"]), ("current_date", ["2025-06-28"]), ("effort", ["low", "medium", "high"])):
            if self.chance(0.8):
                system[key] = self.random.choice(values)
        return {"role": "system", "system": system}

    def developer(self) -> dict:
        return {"role": "developer", "developer": {"instructions": self.text(), "namespaces": self.namespaces()}}

    def chat_message(self) -> dict:
        role = self.random.choice(["user", "assistant", "assistant", "assistant", "tool"])
        message = {"role": role, "content": self.text()}
        if role == "tool":
            message["name"] = self.random.choice(["functions.get_weather", "browser.search", "python"])
            message["recipient"] = "assistant"
            message["channel"] = self.random.choice(["commentary", "analysis"])
        elif role == "assistant":
            message["channel"] = self.random.choice(CHANNELS)
            if message["channel"] != "final" and self.chance(0.4):
                message["recipient"] = self.random.choice(["functions.get_weather", "functions.a-b", "browser.search", "python", "functions.ünï"])
                if self.chance(0.6):
                    message["content_type"] = self.random.choice(["<|constrain|>json", "json", "code"])
        return message

    def conversation(self) -> list:
        messages = []
        if self.chance(0.7):
            messages.append(self.system())
        for _ in range(self.random.choice([0, 1, 1, 2])):
            messages.append(self.developer())
        for _ in range(self.random.randint(0, 8)):
            message = self.chat_message()
            # What renders although it does not read back.
            if message["role"] != "tool" and self.chance(0.1):
                message["name"] = self.random.choice(NAMES)
            if self.chance(0.1):
                message["recipient"] = self.random.choice(["all", "assistant", self.text()])
            if self.chance(0.1):
                message["channel"] = self.random.choice(["", "comment", "a b", self.text()])
            if self.chance(0.1):
                message["content_type"] = self.random.choice(["<|constrain|>", "x", "<|constrain|>json schema", self.text()])
            messages.append(message)
        return messages

    def header(self, message: dict, encode) -> list[int]:
        """One of the ways in which a model writes the header behind <|start|>."""
        ids: list[int] = encode(message.get("name") if message["role"] == "tool" else message["role"])
        recipient = encode(" to=" + message["recipient"]) if message.get("recipient") else []
        early = self.chance(0.5) or not message.get("channel")
        if early:
            ids += recipient
        if message.get("channel"):
            ids += [CONTROL["channel"], *encode(message["channel"])]
        if not early:
            ids += recipient
        kind = message.get("content_type", "")
        if kind.startswith("<|constrain|>"):
            ids += (encode(" ") if self.chance(0.5) else []) + [CONTROL["constrain"], *encode(kind[len("<|constrain|>"):])]
        elif kind:
            ids += encode(" " + kind)
        return ids + [CONTROL["message"]]

    def stream(self, encode) -> tuple[list[list[int]], bool]:
        """The messages of a well-formed stream as ids, and whether it continues <|start|>assistant."""
        in_turn = self.chance(0.5)
        pieces = []
        for i in range(self.random.randint(1, 5)):
            message = self.chat_message()
            if i == 0 and in_turn:
                while message["role"] != "assistant":
                    message = self.chat_message()
            ids = [CONTROL["start"], *self.header(message, encode)]
            if i == 0 and in_turn:
                ids = ids[2:]
            ids += self.content(message["content"], encode)
            ids.append(self.random.choice(TERMINATORS))
            pieces.append(ids)
        if self.chance(0.2):
            pieces[-1].pop()
        return pieces, in_turn

    def content(self, text: str, encode) -> list[int]:
        ids = encode(text)
        # Tokens that are no whole characters.
        if self.chance(0.2):
            ids.insert(self.random.randint(0, len(ids)), self.random.choice([9552, 187, 233, 100, 138]))
        return ids

    def edited(self, ids: list[int]) -> list[int]:
        ids = list(ids)
        for _ in range(self.random.choice([1, 1, 1, 2, 4])):
            token = self.random.choice([*CONTROL.values(), self.random.randrange(200018), self.random.randrange(256), 12606, 815, 35644, 17196, 316, 28, 173781,
                                        1428, 220, 198, 5701, 4108, 200013])
            at = self.random.randint(0, len(ids))
            kind = self.random.randrange(5)
            if kind == 0:
                ids.insert(at, token)
            elif kind == 1 and at < len(ids):
                ids[at] = token
            elif kind == 2 and at < len(ids):
                del ids[at]
            elif kind == 3 and at + 1 < len(ids):
                ids[at], ids[at + 1] = ids[at + 1], ids[at]
            elif self.chance(0.3):
                del ids[at:]
        return ids


# --- the comparisons -------------------------------------------------------------------------------


def expect_equal(ours, theirs, what: str, context) -> None:
    if ours == theirs:
        return
    print(f"{what}: different", f"moxie:   {json.dumps(ours, ensure_ascii=False)[:3000]}", f"library: {json.dumps(theirs, ensure_ascii=False)[:3000]}",
          f"from:    {json.dumps(context, ensure_ascii=False)[:6000]}", sep="\n")
    sys.exit(1)


def compare_rendering(driver: Driver, library: Library, generator: Generator) -> None:
    messages = generator.conversation()
    for history in ("keep_all", "library"):
        prompt = generator.chance(0.5)
        ours = driver.ask(op="render", messages=messages, history=history, prompt=prompt)["ids"]
        theirs = library.render(messages, history, prompt)
        if ours != theirs:
            expect_equal(library.encoding.decode(ours), library.encoding.decode(theirs), "rendering", messages)
        expect_equal(ours, theirs, "rendering", messages)


def compare_well_formed(driver: Driver, library: Library, generator: Generator, encode) -> None:
    pieces, in_turn = generator.stream(encode)
    ids = [token for piece in pieces for token in piece]
    theirs, problem = library.parse(ids, in_turn, strict=True)
    expect_equal(None, problem, "a stream meant to be well-formed", ids)
    ours = driver.ask(op="parse", ids=ids, in_assistant_turn=in_turn)
    expect_equal(ours["messages"], theirs, "parsing", ids)
    ours["recoveries"].pop("invalid_utf8", None)
    expect_equal(ours["recoveries"], {}, "recoveries of a well-formed stream", ids)
    expect_equal(ours["folds"], True, "fold of the events", ids)


def excused(theirs: list, ours: list) -> list:
    """The library's messages with moxie's documented exception (src/harmony/header.h): a lone word that cannot
    name a tool is a content type here and a recipient there."""
    lone = {message["content_type"] for message in ours if message.get("content_type") and not message.get("recipient")}
    out = []
    for message in theirs:
        if "content_type" not in message and message.get("recipient") in lone:
            message = {**message, "content_type": message["recipient"]}
            del message["recipient"]
        out.append(message)
    return out


def squeezed(messages: list) -> list:
    """The library joins the words of such content by single blanks; moxie keeps what was between them."""
    return [{**message, "content": "".join(message["content"].split())} for message in messages]


def compare_edited(driver: Driver, library: Library, generator: Generator, encode, tally: dict) -> None:
    pieces, in_turn = generator.stream(encode)
    ids = generator.edited([token for piece in pieces for token in piece])
    ours = driver.ask(op="parse", ids=ids, in_assistant_turn=in_turn)
    expect_equal(ours["folds"], True, "fold of the events", ids)
    recoveries = {kind for kind in ours["recoveries"] if kind != "invalid_utf8"}
    strict, problem = library.parse(ids, in_turn, strict=True)
    cut = problem is not None and "Unexpected EOS" in problem
    if CONTROL["endoftext"] in ids:
        # Ends a message here, is text there.
        tally["not comparable"] += 1
        return
    if not recoveries:
        if problem is None or cut:
            named = [message for message in ours["messages"] if message.get("name") and message["role"] in ("user", "assistant")]
            if not named:
                expect_equal(ours["messages"], excused(strict, ours["messages"]), "an edited stream without recoveries", ids)
            tally["the same, nothing to mend"] += 1
        else:
            # Role and name, or a tool that addresses nobody: the library cannot read these back.
            readable = "Unknown role" in problem or ("could not decode" in problem and "invalid_utf8" in ours["recoveries"])
            expect_equal(readable, True, f"moxie mended nothing where the library says {problem!r}", ids)
            tally["read here only"] += 1
        return
    if recoveries == {"missing_message"}:
        lenient, problem = library.parse(ids, in_turn, strict=False)
        if problem is None:
            # Without a role of its own the library drops such a message; moxie keeps it.
            kept = iter(squeezed(ours["messages"]))
            theirs = squeezed(excused(lenient, ours["messages"]))
            expect_equal(all(any(message == other for other in kept) for message in theirs), True, "a header without <|message|>",
                         {"ids": ids, "moxie": ours["messages"], "library": lenient})
            tally["mended alike"] += 1
            return
    tally["mended here only"] += 1


def compare_goldens(driver: Driver, library: Library) -> int:
    count = 0
    for path in sorted((ROOT / "tests" / "golden" / "harmony").glob("*.json")):
        golden = json.loads(path.read_text(encoding="utf-8"))
        if "sha256" in golden:
            expect_equal(hashlib.sha256(golden["text"].encode()).hexdigest(), golden["sha256"], f"{path.name}: sha256 of its text", None)
        expect_equal(library.encoding.decode_utf8(golden["ids"]), golden["text"], f"{path.name}: its ids as text", None)
        if "conversation" in golden:
            request = {key: golden[key] for key in ("history", "prompt")}
            expect_equal(driver.ask(op="render", messages=golden["conversation"], **request)["ids"], golden["ids"], path.name, None)
            if golden["by_library"]:
                expect_equal(library.render(golden["conversation"], **request), golden["ids"], f"{path.name}, by the library", None)
        if "parsed" in golden:
            request = {"in_assistant_turn": golden["in_assistant_turn"]}
            expect_equal(driver.ask(op="parse", ids=golden["ids"], **request)["messages"], golden["parsed"], path.name, None)
            expect_equal(library.parse(golden["ids"], strict=True, **request), (golden["parsed"], None), f"{path.name}, by the library", None)
        count += 1
    if count == 0:
        sys.exit("tests/golden/harmony holds no golden files")
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "dev")
    parser.add_argument("--ranks", type=pathlib.Path, default=os.environ.get("MOXIE_O200K"))
    parser.add_argument("--count", type=int, default=1500, help="of each kind of case")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    if not arguments.ranks or not pathlib.Path(arguments.ranks).exists():
        skip("the ranks of o200k are not here: set MOXIE_O200K to o200k_base.tiktoken")
    try:
        import openai_harmony  # noqa: F401
    except ImportError:
        skip("openai-harmony is not installed")
    with tempfile.TemporaryDirectory() as folder:
        # The library wants the file by this name in this folder.
        pathlib.Path(folder, "o200k_base.tiktoken").symlink_to(pathlib.Path(arguments.ranks).resolve())
        os.environ["TIKTOKEN_ENCODINGS_BASE"] = folder
        library = Library()

    driver = Driver(arguments.build, arguments.ranks)

    def encode(text: str) -> list[int]:
        return library.encoding.encode(text, disallowed_special=())

    goldens = compare_goldens(driver, library)
    tally = {"the same, nothing to mend": 0, "read here only": 0, "mended alike": 0, "mended here only": 0, "not comparable": 0}
    for i in range(arguments.count):
        generator = Generator(arguments.seed * 1_000_003 + i)
        compare_rendering(driver, library, generator)
        compare_well_formed(driver, library, generator, encode)
        compare_edited(driver, library, generator, encode, tally)
    print(f"{goldens} golden files; {arguments.count} conversations and {arguments.count} well-formed streams are the same in both; "
          f"{arguments.count} edited streams: " + ", ".join(f"{count} {kind}" for kind, count in tally.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
