"""Held-out loss and greedy exact match by ability, on tokenised conversations.

An item counts as right when the last message of the greedy answer (its header, text and end token) is that of the
reference; the reasoning before it may differ. `moxie eval` scores the same sets less strictly: by values, not by tokens.
"""

import dataclasses
import json
import math
import pathlib

import torch

from . import packing
from .model import GptOss
from .rendering import render
from .tokenizer import Tokenizer


@dataclasses.dataclass
class Item:
    ability: str
    ids: list[int]  # of the whole conversation
    mask: list[int]  # 1 where the assistant's tokens are learned; the last run of 1 is its last turn

    @property
    def turn(self) -> int:
        """Where the last turn begins."""
        at = len(self.mask)
        while at > 0 and self.mask[at - 1]:
            at -= 1
        return at


@dataclasses.dataclass
class Score:
    right: int = 0
    total: int = 0

    def interval(self) -> tuple[float, float]:
        """Wilson's, 95 %."""
        if self.total == 0:
            return 0.0, 1.0
        z, n, p = 1.959964, self.total, self.right / self.total
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(0.0, middle - half), min(1.0, middle + half)


def read_items(path: pathlib.Path, tokenizer: Tokenizer) -> list[Item]:
    """A set for `moxie eval` with references (make_sets.py), or, where its lines have them, ids and mask as they stand."""
    items = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            entry = json.loads(line)
            if "ids" in entry:
                ids, mask = entry["ids"], entry["mask"]
            else:
                ids, mask = render({**entry, "messages": entry["messages"] + entry["reference"]}, tokenizer)
            item = Item(entry["ability"], ids, mask)
            if len(ids) != len(mask) or item.turn in (0, len(ids)):
                raise ValueError(f"{path}:{number}: expected as many ids as mask, a prompt and an answer at the end")
            items.append(item)
    return items


def last_message(tokens: list[int], start_id: int) -> list[int]:
    """What follows the last <|start|>, or all where there is none."""
    for at in range(len(tokens) - 1, -1, -1):
        if tokens[at] == start_id:
            return tokens[at:]
    return tokens


@torch.no_grad()
def heldout_loss(model: GptOss, items: list[Item], row_length: int, num_rows: int) -> float:
    """Nats for a learned token."""
    fitting = [(item.ids, item.mask) for item in items if len(item.ids) <= row_length]
    device = model.lm_head.weight.device
    total, weight = 0.0, 0.0
    for batch in packing.batches(packing.Documents.of(fitting), row_length, num_rows, None):
        value, _ = model.loss(*(torch.from_numpy(array).to(device) for array in batch.arrays()))
        total += value.item() * int(batch.mask.sum())
        weight += int(batch.mask.sum())
    return total / max(weight, 1.0)


def exact_match(model: GptOss, items: list[Item], start_id: int, stop_ids: set[int], batch: int = 256,
                wrong: list[tuple[Item, list[int]]] | None = None) -> dict[str, Score]:
    """Scores by ability, in the order of the names. To `wrong` go the items that were not right, and what was answered."""
    scores: dict[str, Score] = {ability: Score() for ability in sorted({item.ability for item in items})}
    by_length = sorted(items, key=lambda item: (len(item.ids), item.ids))
    for first in range(0, len(by_length), batch):
        group = by_length[first : first + batch]
        longest = max(len(item.ids) - item.turn for item in group)
        with model.quantised_once():
            answers = model.generate([item.ids[: item.turn] for item in group], longest + longest // 4 + 16, stop_ids)
        for item, answer in zip(group, answers):
            score = scores[item.ability]
            score.total += 1
            right = last_message(answer, start_id) == last_message(item.ids[item.turn :], start_id)
            score.right += right
            if not right and wrong is not None:
                wrong.append((item, answer))
    return scores


def table(columns: dict[str, dict[str, Score]]) -> str:
    """Abilities down, columns across: percent right with the interval."""
    abilities = list(next(iter(columns.values())))
    lines = [f"{'ability':24}{'items':>7}" + "".join(f"{name:>26}" for name in columns)]
    sums = {name: Score(sum(s.right for s in scores.values()), sum(s.total for s in scores.values())) for name, scores in columns.items()}
    for ability in [*abilities, "total"]:
        line = ""
        for name, scores in columns.items():
            score = sums[name] if ability == "total" else scores[ability]
            low, high = score.interval()
            line += f"{100 * score.right / max(score.total, 1):>10.1f} % ({100 * low:5.1f}-{100 * high:5.1f})"
        lines.append(f"{ability:24}{score.total:>7}{line}")
    return "\n".join(lines)
