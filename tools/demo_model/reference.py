"""What the unquantised weights of a checkpoint score, in PyTorch and float32, and some logits of theirs and of the quantised ones.

    python3 -m tools.demo_model.reference CHECKPOINT --tokenizer TOKENIZER.json --tests tests/demo --out FILE.json [--device cuda]

All weights are rounded to bfloat16, as the exported model has them; only the experts' quantisation differs. The sets are
those of `make_sets --committed`, decoding is greedy, answers are judged as `moxie eval` does. Two CPU cores take half an
hour and a GPU less (with a larger --batch); --limit asks for fewer items of each set.
"""

import argparse
import hashlib
import json
import pathlib
import sys
import time

import torch

from . import checkpoints
from .judging import judge, read_answer
from .model import Config, GptOss
from .rendering import render, render_prompt
from .tokenizer import Tokenizer

MOST_TOKENS = 512  # of an answer; the longest reference has some 300
SHORT_TOKENS = 256  # of most answers
NUM_LOGITS, LOGIT_ITEMS = 24, 8


def rounded(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight.bfloat16().float() for name, weight in weights.items()}


def fingerprint(weights: dict[str, torch.Tensor]) -> str:
    """Of the weights rounded to bfloat16: says that scores and model belong together."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + checkpoints.to_bytes(weights[name].bfloat16()))
    return digest.hexdigest()


def fingerprint_of_sets(tests: pathlib.Path) -> str:
    digest = hashlib.sha256()
    for path in [*sorted((tests / "sets").glob("*.jsonl")), tests / "smoke.jsonl"]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def read_set(path: pathlib.Path, tokenizer: Tokenizer, limit: int | None) -> list[dict]:
    """The items with what is to be read ("prompt") and, where they have a reference, what would be said ("said")."""
    items = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()][:limit]
    for item in items:
        item["prompt"] = render_prompt(item, tokenizer)
        item["said"] = []
        if "reference" in item:
            whole, _ = render({**item, "messages": item["messages"] + item["reference"]}, tokenizer)
            assert whole[:len(item["prompt"])] == item["prompt"]
            item["said"] = whole[len(item["prompt"]):]
    return items


def padded(rows: list[list[int]], device) -> torch.Tensor:
    """Behind its end a row's tokens change nothing before it."""
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)


def answers(model: GptOss, prompts: list[list[int]], stops: set[int], batch: int) -> list[list[int]]:
    """Greedy answers. The few that take longer begin anew: the cost of a step grows with the room that is kept for the answer."""
    out: list[list[int]] = [[] for _ in prompts]
    waiting = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for most in (SHORT_TOKENS, MOST_TOKENS):
        longer = []
        for first in range(0, len(waiting), batch):
            group = waiting[first:first + batch]
            for i, answer in zip(group, model.generate([prompts[i] for i in group], most, stops)):
                out[i] = answer
                if answer[-1] not in stops:
                    longer.append(i)
        waiting = longer
    return out


@torch.no_grad()
def score(model: GptOss, sets: dict[str, list[dict]], tokenizer: Tokenizer, batch: int) -> dict[str, dict]:
    """By ability sums over its items, by the names of `moxie eval --json`."""
    special, device = tokenizer.special, model.lm_head.weight.device
    stops = {special[name] for name in ("<|return|>", "<|call|>", "<|endoftext|>")}
    said = iter(answers(model, [item["prompt"] for items in sets.values() for item in items], stops, batch))
    results = {}
    for ability, items in sets.items():
        verdicts: dict[str, int] = {}
        tokens = 0
        for item, answer in zip(items, said):
            verdict = judge(item["expect"], read_answer(answer, tokenizer), answer[-1] in stops)
            verdicts[verdict] = verdicts.get(verdict, 0) + 1
            tokens += len(answer)
        nll, length = 0.0, 0
        with_reference = sorted((item for item in items if item["said"]), key=lambda item: len(item["prompt"]))
        for first in range(0, len(with_reference), 32):
            group = with_reference[first:first + 32]
            logits = model(padded([(item["prompt"] + item["said"])[:-1] for item in group], device))
            for row, item in enumerate(group):
                start = len(item["prompt"]) - 1
                chances = logits[row, start:start + len(item["said"])].double().log_softmax(-1)
                nll -= chances.gather(1, torch.tensor(item["said"], device=device)[:, None]).sum().item()
                length += len(item["said"])
        results[ability] = {"items": len(items), "right": verdicts.get("right", 0), "verdicts": dict(sorted(verdicts.items())), "reference_tokens": length,
                            "reference_nll": nll, "answer_tokens": tokens}
    return results


@torch.no_grad()
def some_logits(model: GptOss, items: list[dict], likeliest: list[list[int]] | None) -> tuple[list[dict], list[list[int]]]:
    """Of some items: at the prompt's end and in the middle of the reference, the likeliest tokens' logits, or those of `likeliest`."""
    chosen = items[::max(1, len(items) // LOGIT_ITEMS)][:LOGIT_ITEMS]
    device = model.lm_head.weight.device
    rows, wanted = [], []
    for item in chosen:
        for extra in (0, len(item["said"]) // 2):
            tokens = item["prompt"] + item["said"][:extra]
            logits = model(torch.tensor([tokens], device=device))[0, -1].double()
            ids = likeliest[len(rows)] if likeliest else logits.topk(NUM_LOGITS).indices.tolist()
            rows.append({"tokens": tokens, "logits": [round(value, 5) for value in logits[ids].tolist()],
                         "log_sum": round(logits.logsumexp(-1).item(), 5)})
            wanted.append(ids)
    return rows, wanted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--tests", type=pathlib.Path, required=True, help="folder with sets/ and smoke.jsonl")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--limit", type=int, help="items of each set")
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--both", action="store_true", help="let the quantised weights answer too, which moxie does as well")
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False

    _, facts, weights, _ = checkpoints.load(arguments.checkpoint)
    weights = rounded(weights)
    tokenizer = Tokenizer.load(arguments.tokenizer)
    sets = {path.stem: read_set(path, tokenizer, arguments.limit) for path in sorted((arguments.tests / "sets").glob("*.jsonl"))}
    if not sets:
        sys.exit(f"{arguments.tests}/sets: expected sets of make_sets --committed, found none")
    smoke = read_set(arguments.tests / "smoke.jsonl", tokenizer, None)
    document: dict = {"weights": fingerprint(weights), "sets": fingerprint_of_sets(arguments.tests), "limit": arguments.limit, "torch": torch.__version__,
                      "scale_rule": facts["scale_rule"], "scores": {}, "logits": []}
    models = {name: GptOss(Config(**facts["config"]), rule) for name, rule in (("unquantised", None), ("quantised", facts["scale_rule"] or "even"))}
    likeliest, columns = None, {}
    for name, model in models.items():
        model.load_state_dict(weights)
        model.to(arguments.device)
        with model.quantised_once():
            columns[name], likeliest = some_logits(model, smoke, likeliest)
    for one, other, ids in zip(columns["unquantised"], columns["quantised"], likeliest, strict=True):
        document["logits"].append({"tokens": one["tokens"], "ids": ids, "unquantised": one["logits"], "unquantised_log_sum": one["log_sum"],
                                   "quantised": other["logits"], "quantised_log_sum": other["log_sum"]})
    for name, model in models.items() if arguments.both else [("unquantised", models["unquantised"])]:
        started = time.monotonic()
        with model.quantised_once():
            scores = document["scores"][name] = score(model, sets, tokenizer, arguments.batch)
        print(f"{name}, {time.monotonic() - started:.0f} s: " + ", ".join(f"{ability} {result['right']} of {result['items']}" for ability, result in scores.items()), flush=True)
        arguments.out.write_text(json.dumps(document) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
