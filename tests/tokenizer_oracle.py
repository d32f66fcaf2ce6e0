#!/usr/bin/env python3
"""Compares moxie's tokenizer with PyPI's tokenizers and tiktoken: tests/tokenizer_oracle.py --build build/dev

Tokenizers: one trained here (as a rank file, as a tokenizer.json made from it by tools/make-tokenizer-json,
and as tokenizers saves it, with each splitter that moxie reads), and o200k where its ranks are: MOXIE_O200K,
else shared/data beside the source folder. Texts: the mixed corpus, one for every character old enough to be
known to all, random strings of what the splitter tells apart, long runs, and names of special tokens.
"""

import argparse
import base64
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parent.parent

try:
    import tiktoken
    import tokenizers
except ImportError as missing:
    print(f"skipped: {missing.name} is not installed (tests/requirements.txt)")
    sys.exit(77)


def load_tool(name: str):
    """A script in tools/ as a module."""
    path = str(ROOT / "tools" / name)
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


make_tokenizer_json = load_tool("make-tokenizer-json")
make_text_corpus = load_tool("make-text-corpus")


class Driver:
    def __init__(self, build: pathlib.Path) -> None:
        self.program = build / "tests" / "tokenizer_driver"

    def ask(self, tokenizer: pathlib.Path, mode: str, texts: list[bytes]) -> list[tuple[int, ...]]:
        frames = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        done = subprocess.run([str(self.program), str(tokenizer), mode], input=frames, stdout=subprocess.PIPE, check=True)
        answers, at = [], 0
        for _ in texts:
            (count,) = struct.unpack_from("<I", done.stdout, at)
            answers.append(struct.unpack_from(f"<{count}i", done.stdout, at + 4))
            at += 4 + 4 * count
        assert at == len(done.stdout)
        return answers


# Texts

def corpus_texts(num_bytes: int, seed: int) -> list[str]:
    text = make_text_corpus.corpus(num_bytes, seed, invalid=False).decode()
    # Some of every length, so that ends of texts fall everywhere.
    sizes = [1, 7, 100, 1000, 20000]
    texts, at, turn = [], 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        texts.append(text[at:at + size])
        at, turn = at + size, turn + 1
    return texts


def every_character() -> list[str]:
    """Characters of Unicode 3.2: younger ones are letters to one library and unassigned to another."""
    old = unicodedata.ucd_3_2_0
    return [f"a{c}b {c}{c}A{c}1{c} {c}\n{c}'s{c}" for c in map(chr, range(0x110000))
            if old.category(c) not in ("Cn", "Cs", "Co") and not 0x4E10 < ord(c) < 0x9F00 and not 0xAC10 < ord(c) < 0xD700
            and not 0x20010 < ord(c) < 0x2A600]


def random_strings(count: int, seed: int) -> list[str]:
    alphabet = list("aAbBsStTrReEvVlLmMdD'’\"!/._-0123 \t\n\r") + [
        "\u017f", "\u212a", "\u00df", "\u0301", "\u20dd", "\u0903", "\u02b0", "\u00aa", "\u01c5", "\u1f88", "中", "の", "ä", "Ä", "א", "\u0660",
        "½", "Ⅷ", "②", "\u00a0", "\u0085", "\u2028", "\u3000", "\u200b", "\u200d", "\ufeff", "\x0b", "\x0c", "\x1c", "\x00", "€", "😀", "\U0001F3FD",
        "\ufffd", "\U00010400", "\U00010428", "\U0001D7CE", "\U00020000", "\ufb05", "\u0149", "\u1e9e", "\u0130", "\u0131"]
    chance = random.Random(seed)
    return ["".join(chance.choices(alphabet, k=chance.randint(1, 14))) for _ in range(count)]


def long_runs() -> list[str]:
    chance = random.Random(3)
    texts = [unit * (5000 // len(unit)) for unit in ["a", "A", " ", "\n", "\r\n", "=", "/", "0", "é", "中", "\u0301", "ab", "aB", "Ab", " a", "ſ", "'s", "\u3000", "-="]]
    texts += ["".join(chance.choices("ab", k=3000)), "".join(chance.choices("aábcA中", k=3000)), " " * 3000 + "x", "a" * 997 + "B" * 991 + "!" * 983]
    return texts


def names_of_special_tokens() -> list[str]:
    chance = random.Random(4)
    pieces = ["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|endoftext|>", "<|", "|>", "<", "start", " ", "\n", "final", "hello", "<|start", "|end|>", "<|call|>", "é"]
    return ["".join(chance.choices(pieces, k=chance.randint(1, 10))) for _ in range(3000)]


# Comparisons

class Comparison:
    def __init__(self) -> None:
        self.failures = 0

    def equal(self, what: str, texts: list[str], got, expected) -> None:
        wrong = [i for i in range(len(texts)) if tuple(got[i]) != tuple(expected[i])]
        size = sum(len(text.encode()) for text in texts)
        numbers = sum(len(answer) for answer in got)
        print(f"{what}: {len(texts)} texts, {size} bytes, {numbers} numbers, {len(wrong)} differences", flush=True)
        for i in wrong[:5]:
            at = next((k for k, (a, b) in enumerate(zip(got[i], expected[i])) if a != b), min(len(got[i]), len(expected[i])))
            print(f"  {texts[i][:80]!r}: from number {at} on, moxie {list(got[i][at:at + 8])}, expected {list(expected[i][at:at + 8])}")
        self.failures += len(wrong) > 0


def tiktoken_encoding(ranks: dict[bytes, int], special: dict[str, int]) -> tiktoken.Encoding:
    return tiktoken.Encoding("made_here", pat_str=make_tokenizer_json.O200K_SPLIT, mergeable_ranks=ranks, special_tokens=special)


def hugging_face_ids(tokenizer: tokenizers.Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]


def compare_ranks(comparison: Comparison, driver: Driver, name: str, ranks_path: pathlib.Path, folder: pathlib.Path, texts: list[str]) -> None:
    """A rank file against tiktoken, the tokenizer.json made of it against tokenizers."""
    ranks = make_tokenizer_json.read_ranks(str(ranks_path))
    document = make_tokenizer_json.tokenizer_json(ranks, merges_as_strings=False)
    json_path = folder / f"{name}.json"
    json_path.write_text(json.dumps(document, ensure_ascii=False))
    special = {token["content"]: token["id"] for token in document["added_tokens"]}
    encoding = tiktoken_encoding(ranks, special)
    hugging_face = tokenizers.Tokenizer.from_file(str(json_path))

    encoded = [text.encode() for text in texts]
    expected = [encoding.encode_ordinary(text) for text in texts]
    ordinary = driver.ask(ranks_path, "ordinary", encoded)
    comparison.equal(f"{name}: rank file against tiktoken", texts, ordinary, expected)
    comparison.equal(f"{name}: tokenizer.json against the rank file", texts, driver.ask(json_path, "ordinary", encoded), ordinary)
    # tokenizers always finds added tokens, so ordinary text is for one that has none.
    without_names = tokenizers.Tokenizer.from_str(json.dumps(document | {"added_tokens": []}))
    comparison.equal(f"{name}: tokenizer.json against tokenizers", texts, driver.ask(json_path, "ordinary", encoded),
                     hugging_face_ids(without_names, texts))
    named = names_of_special_tokens()
    recognized = driver.ask(json_path, "recognize", [text.encode() for text in named])
    comparison.equal(f"{name}: special tokens against tokenizers", named, recognized, hugging_face_ids(hugging_face, named))
    comparison.equal(f"{name}: special tokens against tiktoken", named, recognized, [encoding.encode(text, allowed_special="all") for text in named])
    comparison.equal(f"{name}: special tokens as text against tiktoken", named, driver.ask(json_path, "ordinary", [text.encode() for text in named]),
                     [encoding.encode_ordinary(text) for text in named])


def compare_splitter(comparison: Comparison, driver: Driver, any_tokenizer: pathlib.Path, texts: list[str]) -> None:
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(make_tokenizer_json.O200K_SPLIT), "isolated")
    expected = [[len(piece.encode()) for piece, _ in split.pre_tokenize_str(text)] for text in texts]
    comparison.equal("splitter against tokenizers' regular expressions", texts, driver.ask(any_tokenizer, "split", [text.encode() for text in texts]), expected)


def train(texts: list[str], split: str, vocab_size: int) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    if split == "o200k":
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(make_tokenizer_json.O200K_SPLIT), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    else:
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split == "gpt2")
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, show_progress=False, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    return tokenizer


def rank_file_of(tokenizer: tokenizers.Tokenizer, path: pathlib.Path) -> None:
    byte_of = {character: byte for byte, character in enumerate(make_tokenizer_json.byte_characters())}
    tokens = sorted((id, token) for token, id in tokenizer.get_vocab().items())
    path.write_text("".join(f"{base64.b64encode(bytes(byte_of[c] for c in token)).decode()} {rank}\n" for rank, (_, token) in enumerate(tokens)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "dev", help="build folder with tests/tokenizer_driver")
    parser.add_argument("--bytes", type=int, default=3_000_000, help="of the mixed corpus")
    parser.add_argument("--strings", type=int, default=50_000, help="random strings")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    driver = Driver(arguments.build)
    if not driver.program.exists():
        print(f"{driver.program} is not built")
        return 1
    start = time.monotonic()
    comparison = Comparison()
    texts = corpus_texts(arguments.bytes, arguments.seed)
    odd = every_character() + random_strings(arguments.strings, arguments.seed) + long_runs() + [""]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        samples = texts[:len(texts) // 8]
        ranks = folder / "trained.tiktoken"
        rank_file_of(train(samples, "o200k", 4000), ranks)
        compare_splitter(comparison, driver, ranks, texts + odd)
        compare_ranks(comparison, driver, "trained", ranks, folder, texts[:len(texts) // 4] + odd)
        for split in ("o200k", "gpt2", "none"):
            trained = train([text[:1000] for text in samples] if split == "none" else samples, split, 3000)
            path = folder / f"{split}.json"
            trained.save(str(path))
            some = [text for text in texts[:len(texts) // 4] + odd if split != "none" or len(text) < 3000]
            comparison.equal(f"trained and saved by tokenizers, split {split}", some, driver.ask(path, "ordinary", [text.encode() for text in some]),
                             hugging_face_ids(trained, some))
        o200k = pathlib.Path(os.environ.get("MOXIE_O200K") or ROOT.parent / "shared" / "data" / "o200k_base.tiktoken")
        if o200k.exists():
            compare_ranks(comparison, driver, "o200k", o200k, folder, texts + odd)
            broken = [make_text_corpus.corpus(100_000, seed, invalid=True) for seed in range(10)]
            driver.ask(o200k, "ordinary", broken)  # the driver ends if one does not come back
            print(f"o200k: {sum(map(len, broken))} bytes with invalid UTF-8 come back")
        else:
            print(f"skipped: o200k itself: no rank file at {o200k}; set MOXIE_O200K")
    print(f"{comparison.failures} comparisons with differences, {time.monotonic() - start:.0f} s")
    return 1 if comparison.failures else 0


if __name__ == "__main__":
    sys.exit(main())
