"""Writes tokenised training conversations: python3 -m tools.demo_model.make_shards --tokenizer T/tokenizer.json --out FOLDER

Shard i is train-ids-i.npy, uint16 [tokens], conversations one behind the other, each beginning with <|start|>system, and
train-mask-i.npy, uint8 [tokens], 1 where the model must predict that token. A shard depends on the seed and its number only,
not on the number of processes. Prints the lengths by ability at the end.
"""

import argparse
import array
import collections
import multiprocessing
import os
import pathlib
import random
import sys
import time
from collections.abc import Iterator

from .conversations import sample
from .rendering import render
from .tokenizer import Tokenizer

SHARD_TOKENS, SEED = 2_000_000, 1  # the defaults
Statistics = dict[str, tuple[int, int, int, int]]  # ability -> conversations, tokens, learned tokens, longest


def npy_bytes(values: array.array) -> bytes:
    """A NumPy file (format 1.0) of a flat array of type "H" (uint16) or "B" (uint8)."""
    kind = {"H": "<u2", "B": "|u1"}[values.typecode]
    if sys.byteorder == "big" and values.itemsize > 1:
        values = values[:]
        values.byteswap()
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({len(values)},), }}"
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + values.tobytes()


def conversations(tokenizer: Tokenizer, num_tokens: int, seed: int, number: int) -> Iterator[tuple[dict, list[int], list[int]]]:
    """The conversations of a shard, at least `num_tokens` tokens of them, with their ids and mask."""
    rng = random.Random(f"{seed} {number}")
    while num_tokens > 0:
        conversation = sample(rng, "train")
        ids, mask = render(conversation, tokenizer)
        num_tokens -= len(ids)
        yield conversation, ids, mask


def make_shard(tokenizer: Tokenizer, num_tokens: int, seed: int, number: int) -> tuple[array.array, array.array, Statistics]:
    ids, mask = array.array("H"), array.array("B")
    statistics: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0, 0, 0])
    for conversation, piece, learned in conversations(tokenizer, num_tokens, seed, number):
        ids.extend(piece)
        mask.extend(learned)
        entry = statistics[conversation["ability"]]
        entry[0] += 1
        entry[1] += len(piece)
        entry[2] += sum(learned)
        entry[3] = max(entry[3], len(piece))
    return ids, mask, {ability: tuple(entry) for ability, entry in statistics.items()}


def write_file(path: pathlib.Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def _work(job: tuple[pathlib.Path, pathlib.Path, int, int, int]) -> Statistics:
    tokenizer, out, num_tokens, seed, number = job
    ids, mask, statistics = make_shard(Tokenizer.load(tokenizer), num_tokens, seed, number)
    # The mask first: a reader looks for ids.
    write_file(out / f"train-mask-{number:05}.npy", npy_bytes(mask))
    write_file(out / f"train-ids-{number:05}.npy", npy_bytes(ids))
    return statistics


def add_statistics(total: Statistics, more: Statistics) -> None:
    for ability, entry in more.items():
        old = total.get(ability, (0, 0, 0, 0))
        total[ability] = (old[0] + entry[0], old[1] + entry[1], old[2] + entry[2], max(old[3], entry[3]))


def statistics_table(total: Statistics) -> str:
    lines = [f"{'ability':<16} {'conversations':>13} {'mean tokens':>11} {'learned':>8} {'longest':>8} {'of all tokens':>13}"]
    all_tokens = sum(entry[1] for entry in total.values())
    whole = (sum(entry[0] for entry in total.values()), all_tokens, sum(entry[2] for entry in total.values()), max(entry[3] for entry in total.values()))
    for ability, (count, tokens, learned, longest) in [*sorted(total.items()), ("all", whole)]:
        lines.append(f"{ability:<16} {count:>13} {tokens / count:>11.0f} {learned / count:>8.0f} {longest:>8} {100 * tokens / all_tokens:>11.1f} %")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True, help="tokenizer.json of make_tokenizer.py")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the shards")
    parser.add_argument("--tokens", type=int, default=10_000_000, help="tokens in all; default 10 million")
    parser.add_argument("--shard-tokens", type=int, default=SHARD_TOKENS, help="tokens of a shard; default 2 million")
    parser.add_argument("--first", type=int, default=0, help="number of the first shard, to add to what is there; default 0")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    num_shards = -(-arguments.tokens // arguments.shard_tokens)
    jobs = [(arguments.tokenizer, arguments.out, arguments.shard_tokens, arguments.seed, arguments.first + i) for i in range(num_shards)]
    total: Statistics = {}
    start = time.monotonic()
    with multiprocessing.Pool(min(arguments.processes, num_shards)) as pool:
        for done, statistics in enumerate(pool.imap_unordered(_work, jobs), 1):
            add_statistics(total, statistics)
            tokens = sum(entry[1] for entry in total.values())
            seconds = time.monotonic() - start
            print(f"\r{done} of {num_shards} shards, {tokens} tokens, {tokens / seconds / 1e6:.2f} million a second ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(statistics_table(total))


if __name__ == "__main__":
    main()
