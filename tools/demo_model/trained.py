"""Makes the text that the shipped weights were trained on once more, and reads from it what the rule holds out.

    python3 -m tools.demo_model.trained --run FOLDER FIRST TOKENS [--run ...] --out KEYS.txt

FOLDER has tools/demo_model as it was at that run, for example from `git archive`; FIRST and TOKENS are --first and --tokens of its
make_shards.py. What is printed as data is what checkpoint.json of that run has as data, conversations, tokens and checksum: if they are
equal, it is the same text. KEYS.txt gets the keys of all operands that the text shows and split.py holds out, for `make_sets --trained`.
Printed is also which items of --tests ask for one of these or stand in the text word for word; the exit code is 1 if there are any.
"""

import argparse
import array
import functools
import importlib.util
import json
import multiprocessing
import os
import pathlib
import random
import sys
import zlib

from . import make_sets, reading, split
from .context import DEFAULT_IDENTITY
from .conversations import SCORED

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SEED = 1  # of make_shards.py


@functools.cache
def generators(folder: pathlib.Path):
    """The package of this name in a folder, beside the one that runs."""
    name = f"trained_{zlib.crc32(str(folder.resolve()).encode()):08x}"
    package = folder / "tools" / "demo_model"
    spec = importlib.util.spec_from_file_location(name, package / "__init__.py", submodule_search_locations=[str(package)])
    sys.modules[name] = importlib.util.module_from_spec(spec)
    return importlib.import_module(name + ".conversations"), importlib.import_module(name + ".rendering"), importlib.import_module(name + ".tokenizer")


def prompts_of(conversation: dict, last_only: bool) -> list[tuple]:
    """What is asked, as far as punctuation at the end and capital letters do not matter: each turn by itself, and with those before it.

    After a rule capital letters do matter, and the rule may be the developer's."""
    asked = [message["content"] for message in conversation["messages"] if message["role"] == "user"]
    head: tuple = (bool(conversation.get("tools")),)
    if conversation["ability"] == "instructions":
        head = conversation.get("system", DEFAULT_IDENTITY), conversation.get("developer", "")
    else:
        asked = [text.lower().rstrip(".?!") for text in asked]
    if last_only:
        return [(*head, *asked)]
    return [(*head, *asked[:i]) for i in range(1, len(asked) + 1)] + [(*head, text) for text in asked[1:]]


@functools.cache
def item_prompts(tests: pathlib.Path) -> dict[int, tuple[str, str]]:
    """By their hash the prompts of all items: ability and id."""
    items = [json.loads(line) for path in sorted((tests / "sets").glob("*.jsonl")) for line in path.read_text().splitlines()]
    return {hash(prompt): (item["ability"], item["id"]) for item in items for prompt in prompts_of(item, last_only=True)}


def read_shard(job: tuple[pathlib.Path, int, argparse.Namespace]) -> tuple[int, bytes, set[str], set[tuple[str, str]]]:
    """Conversations, their tokens, keys held out and items whose prompt was found, of one shard."""
    folder, number, arguments = job
    conversations, rendering, tokens = generators(folder)
    tokenizer, prompts = tokens.Tokenizer.load(arguments.tokenizer), item_prompts(arguments.tests)
    rng = random.Random(f"{SEED} {number}")
    ids, made, count = array.array("H"), 0, 0
    keys: set[str] = set()
    found: set[tuple[str, str]] = set()
    while made < arguments.shard_tokens:
        conversation = conversations.sample(rng, "train")
        piece, _ = rendering.render(conversation, tokenizer)
        made += len(piece)
        if len(piece) <= arguments.longest:
            ids.extend(piece)
            count += 1
        keys.update(reading.shown(conversation))
        found.update(prompts[hash(prompt)] for prompt in prompts_of(conversation, last_only=False) if hash(prompt) in prompts)
    return count, ids.tobytes(), {key for key in keys if split.is_heldout(key)}, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs=3, action="append", required=True, metavar=("FOLDER", "FIRST", "TOKENS"))
    parser.add_argument("--tokenizer", type=pathlib.Path, default=ROOT / "models" / "demo" / "tokenizer.json")
    parser.add_argument("--tests", type=pathlib.Path, default=ROOT / "tests" / "demo", help="folder with sets/")
    parser.add_argument("--shard-tokens", type=int, default=2_000_000, help="as make_shards.py had it; default 2 million")
    parser.add_argument("--longest", type=int, default=512, help="tokens of the longest conversation that train.py takes, its --length; default 512")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="file for the keys")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    keys: set[str] = set()
    found: set[tuple[str, str]] = set()
    with multiprocessing.Pool(arguments.processes) as pool:
        for folder, first, tokens in arguments.run:
            numbers = range(int(first), int(first) + -(-int(tokens) // arguments.shard_tokens))
            count = length = checksum = 0
            for shard_count, ids, shard_keys, shard_found in pool.imap(read_shard, [(pathlib.Path(folder), n, arguments) for n in numbers]):
                count, length, checksum = count + shard_count, length + len(ids) // 2, zlib.crc32(ids, checksum)
                keys |= shard_keys
                found |= shard_found
            print(f"{folder}: data {[count, length, checksum]}", flush=True)
    arguments.out.write_text("".join(make_sets.spelled(key) + "\n" for key in sorted(keys)), encoding="ascii")
    print(f"{arguments.out}: {len(keys)} keys that are held out")
    bad = 0
    for ability in SCORED:
        asked = sum(key in keys for _, key in make_sets.draw_set(ability, make_sets.COUNT, SEED, make_sets.known_shown()))
        words = sum(ability == found_ability for found_ability, _ in found)
        bad += asked + words
        print(f"{ability:16} {asked:5} items ask for operands that were shown, {words:5} prompts stand in it word for word")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
