"""Prints conversations readably: python3 -m tools.demo_model.show --ability addition --count 3"""

import argparse
import random

from .conversations import HELD_OUT_FREE, WEIGHTS, draw, sample
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
    if arguments.split == "heldout" and arguments.ability in {generator.__name__ for generator in HELD_OUT_FREE}:
        parser.error(f"{arguments.ability} is a closed list of which nothing is held out")
    rng = random.Random(arguments.seed)
    for _ in range(arguments.count):
        if arguments.ability:
            print(show(draw(names[arguments.ability], rng, arguments.split, arguments.effort)))
        else:
            print(show(sample(rng, arguments.split)))


if __name__ == "__main__":
    main()
