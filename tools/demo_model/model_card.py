"""The demo model's card, models/demo/README.md, and its examples: texts around the scores. No package needed."""

import json
import math
import pathlib

from .context import DEFAULT_IDENTITY
from .make_sets import COMMITTED_REFERENCES

# ability -> what is asked
ABILITIES = {
    "addition": "sums of numbers of three digits",
    "subtraction": "differences of numbers of three digits",
    "multiplication": "products of numbers of two digits",
    "division": "numbers divided by a digit, with the rest",
    "compare": "which of two numbers is larger",
    "sort_numbers": "lists of numbers in order",
    "sort_words": "lists of words in order",
    "count_letters": "how often a letter is in a word",
    "spelling": "words letter by letter",
    "calendar": "weekdays, leap years, months",
    "units": "units of length, weight, time",
    "tools": "the right call of a declared tool",
    "tool_results": "an answer from what a tool gave back",
    "declining": "no call where no tool fits",
    "instructions": "a rule of the system or developer, such as capital letters",
    "multi_turn": "questions that lean on the turn before",
    "mixed_turns": "questions that have nothing to do with the turn before",
    "about_moxie": "questions about moxie",
    "stories": "short stories about somebody",
}

# A tool to try; ./demo.sh calls it.
EXAMPLE_TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Gets the weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Name of the city"}}, "required": ["city"]}}}]


def wilson(right: int, items: int) -> tuple[float, float]:
    """The 95 % score interval of a share."""
    z2 = 1.959963984540054**2
    share = right / items
    middle, half = share + z2 / (2 * items), math.sqrt(z2 * (share * (1 - share) / items + z2 / (4 * items**2)))
    return max(0.0, (middle - half) / (1 + z2 / items)), min(1.0, (middle + half) / (1 + z2 / items))


def total(scores: dict[str, dict]) -> dict:
    keys = ("items", "right", "reference_tokens", "reference_nll")
    return {key: sum(score[key] for score in scores.values()) for key in keys}


def _perplexity(score: dict) -> str:
    return f"{math.exp(score['reference_nll'] / score['reference_tokens']):.4f}" if score["reference_tokens"] else "-"


def score_table(scores: dict) -> str:
    """A table of tests/demo/scores.json: what moxie scores, beside the same weights before the experts were quantised."""
    lines = ["| ability | asked | items | right | 95 % interval | unquantised | perplexity | unquantised |",
             "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    ours, theirs = scores["moxie"], scores["unquantised"]
    known = list(ABILITIES)
    order = sorted(ours, key=lambda ability: (known.index(ability) if ability in known else len(known), ability))
    rows = [(ability, ABILITIES.get(ability, ""), ours[ability], theirs[ability]) for ability in order]
    for ability, asked, score, other in [*rows, ("**all**", "", total(ours), total(theirs))]:
        low, high = wilson(score["right"], score["items"])
        lines.append(f"| {ability} | {asked} | {score['items']} | {100 * score['right'] / score['items']:.1f} % | {100 * low:.1f} - {100 * high:.1f} | "
                     f"{100 * other['right'] / other['items']:.1f} % | {_perplexity(score)} | {_perplexity(other)} |")
    return "\n".join(lines)


def card(config: dict, scores: dict | None, facts: dict, has_loss: bool) -> str:
    """README.md of the folder. `facts`: step and scale rule of the training; `scores`: tests/demo/scores.json, None before there are any."""
    table = "Not measured yet." if scores is None else score_table(scores)
    loss = "\n![loss](loss.png)\n" if has_loss else ""
    measured = "" if scores is None else f"""
Greedy decoding by `moxie eval` ({scores['backend']}), exact match of the answer; the unquantised column is the same weights with their experts in bfloat16,
evaluated in PyTorch in float32. What an item asks for is held out of training: its operands in either order, under any operation and inside a chain of steps; `tools/demo_model/README.md` says what
counts as operands. Perplexity is over {COMMITTED_REFERENCES}
reference answers of each ability, reasoning included. The sets are in `tests/demo/sets` of moxie's repository:

    moxie eval demo tests/demo/sets --max-tokens 512
"""
    return f"""---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [gpt_oss, mxfp4, mixture-of-experts, demo]
---

# moxie's demo model

A gpt-oss of {_parameters(config) / 1e6:.1f} million parameters that fits into a repository: the architecture, the file format and the chat format of OpenAI's gpt-oss-20b, trained from nothing on text that scripts wrote.
It is there to try an engine on a machine of any size, and to test one: its answers can be right or wrong. It calculates, compares, sorts, counts letters, knows the calendar and some units,
follows simple instructions, tells short stories, calls tools that are declared to it and says something about moxie. It reasons before it answers, and how long follows the effort asked for.
Of the world it knows nothing.

## Try it

    moxie run "What is 347 + 58?" --reasoning show
    moxie chat
    moxie chat --tools tools.json

It loads in transformers as it is (`AutoTokenizer`, `GptOssForCausalLM`, with `accelerate` installed; the experts are dequantised where there are no kernels for MXFP4). Greedy decoding is best, and what `generation_config.json` asks for.

## Scores
{measured}
{table}

## What it is

| | |
| --- | --- |
| layers, hidden size | {config['num_hidden_layers']}, {config['hidden_size']} |
| attention | {config['num_attention_heads']} query heads and {config['num_key_value_heads']} key-value heads of {config['head_dim']}, each with a sink; window of {config['sliding_window']} in every other layer |
| experts | {config['num_local_experts']} in each layer, {config['num_experts_per_tok']} a token, intermediate size {config['intermediate_size']}, in MXFP4 (4.25 bits a weight; scale rule `{facts['scale_rule']}`) |
| all other weights | bfloat16 |
| positions | {config['max_position_embeddings']}, YaRN by {config['rope_scaling']['factor']:g} from {config['rope_scaling']['original_max_position_embeddings']}; trained on rows of 512 |
| vocabulary | {config['vocab_size']}: byte-level BPE, a token for each digit, harmony's control tokens at ids of its own |

## How it was made

All text comes from the generators in `tools/demo_model/` of moxie's repository; no data set was used. Training ran {facts['step']} steps in PyTorch with the experts quantised to MXFP4 in every forward pass and the
gradient passed straight through, so that the weights are those that 4 bits serve best. `tools/demo_model/README.md` has the commands, and says which operands are held out.
{loss}
## Limits

- English only, and only questions of the kinds above. It was taught to say that it does not know the rest, but often makes something up instead, in the tone of what it knows.
- Whole numbers only, and no negative ones in a question. Numbers of more digits than it was trained on (six in sums, three times two in products), longer lists and longer words go wrong. So do conversations beyond some 400 tokens, a dozen short questions; `/reset` in `moxie chat` begins anew.
- `{DEFAULT_IDENTITY}` stands in its system message because that is the format's default; this model is not OpenAI's.
- The chat template writes one text, so a message that spells a control token such as `<|end|>` becomes one. moxie's own renderer has no such hole.

Apache-2.0, as moxie. The weights, the tokenizer and the chat template were made for moxie.
"""


def _parameters(config: dict) -> int:
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    q, kv = config["num_attention_heads"] * config["head_dim"], config["num_key_value_heads"] * config["head_dim"]
    attention = hidden * (q + 2 * kv) + q + 2 * kv + q * hidden + hidden + config["num_attention_heads"]
    experts = config["num_local_experts"] * (3 * hidden * inner + 2 * inner + hidden)
    router = config["num_local_experts"] * (hidden + 1)
    return layers * (attention + router + experts + 2 * hidden) + 2 * config["vocab_size"] * hidden + hidden


def write(folder: pathlib.Path, scores: dict | None, facts: dict) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "README.md").write_text(card(config, scores, facts, (folder / "loss.png").exists()), encoding="utf-8")
    (folder / "tools.json").write_text(json.dumps(EXAMPLE_TOOLS, indent=2) + "\n")
