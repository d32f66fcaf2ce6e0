"""What the unquantised weights of a checkpoint score, and with quantised experts, in PyTorch and float32.

    python3 -m tools.demo_model.reference CHECKPOINT --tokenizer TOKENIZER.json --tests tests/demo --out FILE.json [--device cuda]

All weights are rounded to bfloat16, as the exported model has them; only the experts' quantisation differs. The sets are
those of `make_sets --committed`, decoding is greedy, answers are judged as `moxie eval` does. FILE also has some logits.
A GPU takes some minutes, two CPU cores hours: --limit asks for fewer items of each set.
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
SHORT_TOKENS = 160  # of most answers
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


@torch.no_grad()
def score(model: GptOss, items: list[dict], tokenizer: Tokenizer, batch: int) -> dict:
    """Sums over the items of one ability, by the names of `moxie eval --json`."""
    special, device = tokenizer.special, model.lm_head.weight.device
    stops = {special[name] for name in ("<|return|>", "<|call|>", "<|endoftext|>")}
    verdicts: dict[str, int] = {}
    tokens = 0
    by_length = sorted(items, key=lambda item: (len(item["prompt"]), item["id"]))
    for first in range(0, len(by_length), batch):
        group = by_length[first:first + batch]
        answers = model.generate([item["prompt"] for item in group], SHORT_TOKENS, stops)
        # The few that take longer begin anew: the cost of a step grows with the room that is kept for the answer.
        longer = [i for i, answer in enumerate(answers) if answer[-1] not in stops]
        for i, answer in zip(longer, model.generate([group[i]["prompt"] for i in longer], MOST_TOKENS, stops) if longer else []):
            answers[i] = answer
        for item, answer in zip(group, answers):
            verdict = judge(item["expect"], read_answer(answer, tokenizer), answer[-1] in stops)
            verdicts[verdict] = verdicts.get(verdict, 0) + 1
            tokens += len(answer)
    nll, said = 0.0, 0
    with_reference = [item for item in by_length if item["said"]]
    for first in range(0, len(with_reference), 32):
        group = with_reference[first:first + 32]
        logits = model(padded([(item["prompt"] + item["said"])[:-1] for item in group], device))
        for row, item in enumerate(group):
            start = len(item["prompt"]) - 1
            chances = logits[row, start:start + len(item["said"])].double().log_softmax(-1)
            nll -= chances.gather(1, torch.tensor(item["said"], device=device)[:, None]).sum().item()
            said += len(item["said"])
    return {"items": len(items), "right": verdicts.get("right", 0), "verdicts": dict(sorted(verdicts.items())), "reference_tokens": said,
            "reference_nll": nll, "answer_tokens": tokens}


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
    likeliest, columns = None, {}
    for name, rule in (("unquantised", None), ("quantised", facts["scale_rule"] or "even")):
        model = GptOss(Config(**facts["config"]), rule)
        model.load_state_dict(weights)
        model.to(arguments.device)
        document["scores"][name] = {}
        with model.quantised_once():
            columns[name], likeliest = some_logits(model, smoke, likeliest)
            for ability, items in sets.items():
                started = time.monotonic()
                result = document["scores"][name][ability] = score(model, items, tokenizer, arguments.batch)
                print(f"{name:12} {ability:16} {result['right']:5} of {result['items']:5}  {time.monotonic() - started:.0f} s", flush=True)
    for one, other, ids in zip(columns["unquantised"], columns["quantised"], likeliest, strict=True):
        document["logits"].append({"tokens": one["tokens"], "ids": ids, "unquantised": one["logits"], "unquantised_log_sum": one["log_sum"],
                                   "quantised": other["logits"], "quantised_log_sum": other["log_sum"]})
    arguments.out.write_text(json.dumps(document) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
