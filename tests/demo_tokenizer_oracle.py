#!/usr/bin/env python3
"""The demo model's tokenizer against PyPI's tokenizers and moxie: tests/demo_tokenizer_oracle.py --build build/dev [--count 2000]

Trains one on generated text. Its ids are the same in tools/demo_model/tokenizer.py, in PyPI's tokenizers and in moxie; whole
conversations rendered with it are moxie's; each digit is a token; training it again gives the same file.
"""

import argparse
import importlib.util
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]

if importlib.util.find_spec("tokenizers") is None:
    print("skipped: tokenizers is not installed (tests/requirements.txt)")
    sys.exit(77)

import unittest  # noqa: E402

import tokenizers  # noqa: E402
from demo_model import make_tokenizer  # noqa: E402
from demo_model.conversations import sample  # noqa: E402
from demo_model.rendering import whole_messages  # noqa: E402
from demo_model.tokenizer import SPECIAL_TOKENS, Tokenizer  # noqa: E402
from demo_text_test import Driver, compare_with_moxie  # noqa: E402

# Words of headers that cost a token in each message must be one.
ONE_TOKEN = ["system", "developer", "user", "assistant", "analysis", "commentary", "final", "functions", "json", " to"]


def moxie_ids(program: pathlib.Path, vocabulary: pathlib.Path, texts: list[str]) -> list[list[int]]:
    frames = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)
    done = subprocess.run([str(program), str(vocabulary), "ordinary"], input=frames, stdout=subprocess.PIPE, check=True)
    answers, at = [], 0
    for _ in texts:
        (count,) = struct.unpack_from("<I", done.stdout, at)
        answers.append(list(struct.unpack_from(f"<{count}i", done.stdout, at + 4)))
        at += 4 + 4 * count
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "dev")
    parser.add_argument("--count", type=int, default=2000, help="conversations compared; default 2000")
    arguments = parser.parse_args()
    test = unittest.TestCase()
    rng = random.Random(6)

    document = make_tokenizer.train(make_tokenizer.corpus(20000, seed=1))
    test.assertEqual(document, make_tokenizer.train(make_tokenizer.corpus(20000, seed=1)))
    with tempfile.TemporaryDirectory(prefix="moxie_demo_tokenizer_") as folder:
        vocabulary = pathlib.Path(folder, "tokenizer.json")
        make_tokenizer.write_json(vocabulary, document)
        ours, theirs = Tokenizer.load(vocabulary), tokenizers.Tokenizer.from_file(str(vocabulary))
        test.assertEqual(ours.size, make_tokenizer.NUM_IDS)
        test.assertEqual(theirs.get_vocab_size(), make_tokenizer.NUM_IDS)
        test.assertEqual([ours.special[name] for name in SPECIAL_TOKENS], [theirs.token_to_id(name) for name in SPECIAL_TOKENS])
        for word in ONE_TOKEN:
            test.assertEqual(len(ours.encode(word)), 1, word)
        for number in ("7", "58", "3470", "1234567"):
            test.assertEqual([ours.decode([index]) for index in ours.encode(number)], list(number))

        conversations = [sample(rng, rng.choice(["train", "heldout"])) for _ in range(arguments.count)]
        texts = [message["content"] for conversation in conversations for message in whole_messages(conversation)]
        alphabet = "aAbBsStTrReE'\"!/._-0123 \n{}:,+*=?"
        texts += ["".join(rng.choices(alphabet, k=rng.randint(1, 14))) for _ in range(20000)]
        found = moxie_ids(arguments.build / "tests" / "tokenizer_driver", vocabulary, texts)
        for text, ids in zip(texts, found, strict=True):
            test.assertEqual(ours.encode(text), ids, text)
            test.assertEqual(theirs.encode(text, add_special_tokens=False).ids, ids, text)
            test.assertEqual(ours.decode(ids), text)

        driver = Driver(vocabulary, arguments.build)
        for conversation in conversations:
            compare_with_moxie(test, driver, ours, conversation)
        driver.close()
    print(f"{len(texts)} texts in three tokenizers, {len(conversations)} conversations in two renderers: the same ids")


if __name__ == "__main__":
    main()
