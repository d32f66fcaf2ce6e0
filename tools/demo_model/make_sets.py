"""Writes the held-out sets for `moxie eval`.

    python3 -m tools.demo_model.make_sets --out FOLDER [--committed]

ABILITY.jsonl for each scored ability, one item a line, no two with the same prompt, and smoke.jsonl with the first items of all of
them in turn. What is the default of a conversation is left out, and so is reasoning that a prompt does not show.

--committed writes the sets of the repository, for example into tests/demo: the same items in FOLDER/sets, of which the first 100
of each ability have a reference (perplexity is measured over these), and FOLDER/smoke.jsonl.
"""

import argparse
import json
import os
import pathlib
import random

from .conversations import SCORED, draw
from .rendering import DEFAULT_CUTOFF, DEFAULT_IDENTITY, last_turn

DEFAULTS = {"system": DEFAULT_IDENTITY, "knowledge_cutoff": DEFAULT_CUTOFF, "date": "", "effort": "medium", "developer": "", "tools": []}
COMMITTED_REFERENCES = 100  # of each ability
COUNT, SMOKE_COUNT, SEED = 1000, 100, 1  # of the committed sets
MOST_TRIES = 200  # for one item more, before a task counts as exhausted


def item(conversation: dict, ident: str, ability: str) -> dict:
    """A line of a set: the prompt, what is expected, and under "reference" what a teacher would have said."""
    messages = conversation["messages"]
    turn = last_turn(messages)
    out = {"id": ident, "ability": ability}
    for key in ("system", "knowledge_cutoff", "date", "effort", "developer", "tools"):
        if conversation[key] != DEFAULTS[key]:
            out[key] = conversation[key]
    answer = max((i for i, message in enumerate(messages[:turn]) if message.get("channel") == "final"), default=0)
    shown = [message for i, message in enumerate(messages[:turn]) if i >= answer or message.get("channel") != "analysis"]
    return {**out, "messages": shown, "expect": conversation["expect"], "reference": messages[turn:]}


def draw_set(ability: str, count: int, seed: int) -> list[tuple[dict, dict]]:
    """`count` items with different prompts, each with the conversation that it was made from; the same for the same arguments."""
    rng = random.Random(f"{seed} {ability}")
    items: list[tuple[dict, dict]] = []
    seen: set[str] = set()
    tries = 0
    while len(items) < count:
        generator, arguments = SCORED[ability][len(items) % len(SCORED[ability])]
        conversation = draw(generator, rng, "heldout", **arguments)
        made = item(conversation, str(len(items) + 1), ability)
        prompt = json.dumps([message["content"] for message in made["messages"]] + [tool["name"] for tool in conversation["tools"]])
        if prompt in seen:
            tries += 1
            if tries == MOST_TRIES:
                raise ValueError(f"{ability}: found only {len(items)} different prompts, expected {count}")
            continue
        tries = 0
        seen.add(prompt)
        items.append((made, conversation))
    return items


def smoke_set(sets: dict[str, list[dict]], count: int) -> list[dict]:
    """The first items of all sets in turn."""
    rounds = max(map(len, sets.values()))
    chosen = [items[i] for i in range(rounds) for items in sets.values() if i < len(items)][:count]
    return [{**made, "id": f"{made['ability']}-{made['id']}"} for made in chosen]


def committed(items: list[dict]) -> list[dict]:
    """The items of a set as the repository has them."""
    return [{key: value for key, value in made.items() if key != "reference" or i < COMMITTED_REFERENCES} for i, made in enumerate(items)]


def write_set(path: pathlib.Path, items: list[dict]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in items), encoding="ascii")
    os.replace(partial, path)
    print(f"{path}: {len(items)} items, {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the sets")
    parser.add_argument("--committed", action="store_true", help="as the repository has them")
    parser.add_argument("--count", type=int, default=COUNT, help=f"items of each ability; default {COUNT}")
    parser.add_argument("--smoke", type=int, default=SMOKE_COUNT, help=f"items of smoke.jsonl; default {SMOKE_COUNT}")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    folder = arguments.out / "sets" if arguments.committed else arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    sets = {ability: [made for made, _ in draw_set(ability, arguments.count, arguments.seed)] for ability in SCORED}
    for ability, items in sets.items():
        write_set(folder / f"{ability}.jsonl", committed(items) if arguments.committed else items)
    write_set(arguments.out / "smoke.jsonl", smoke_set(sets, arguments.smoke))


if __name__ == "__main__":
    main()
