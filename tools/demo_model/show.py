"""Prints conversations readably: python3 -m demo_model.show --ability addition --count 3"""

import argparse
import random

from .conversations import SCORED, WEIGHTS, draw, sample
from .rendering import whole_messages


def show(conversation: dict) -> str:
    lines = [f"=== {conversation['ability']}, effort {conversation['effort']}"]
    for message in whole_messages(conversation):
        head = " ".join(part for part in (message["role"], message.get("name"), message.get("channel"),
                                          "to=" + message["recipient"] if message.get("recipient") else None) if part)
        lines.append(f"[{head}]\n" + message["content"])
    return "\n".join([*lines, f"expect {conversation['expect']}", ""])


def main() -> None:
    names = {generator.__name__: generator for generator in WEIGHTS}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ability", choices=sorted(names), help="one generator only; left out: as in training")
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--split", choices=["train", "heldout"], default="train")
    parser.add_argument("--effort", choices=["low", "medium", "high"])
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    for _ in range(arguments.count):
        if arguments.ability:
            variants = dict(next((choice for choices in SCORED.values() for choice in [dict([c[:1] + (c[1],) for c in choices])] if names[arguments.ability] in choice), {}))
            extra = variants.get(names[arguments.ability], {}) if arguments.split == "heldout" else {}
            print(show(draw(names[arguments.ability], rng, arguments.split, arguments.effort, **extra)))
        else:
            print(show(sample(rng, arguments.split)))


if __name__ == "__main__":
    main()
