"""What an answer is worth, by the rules of `moxie eval` (docs/evaluation.md), for answers that are made in PyTorch.

Reads well-formed harmony only: of an answer whose headers are not, what stands before. moxie's parser mends more.
"""

import json
import re

_HEADER = re.compile(r"(?:assistant)?(?: to=(?P<early>[^\s<]+))?(?:<\|channel\|>(?P<channel>\w+)(?: to=(?P<late>[^\s<]+))?)?(?: ?(?:<\|constrain\|>)?\w+)?")
_MOST_PATTERN_TEXT = 4096


def read_answer(ids: list[int], tokenizer) -> list[dict]:
    """The messages of a turn, from behind the prompt's <|start|>assistant: channel, recipient (or ""), content."""
    special = tokenizer.special
    ends = {special[name] for name in ("<|end|>", "<|return|>", "<|call|>", "<|endoftext|>")}
    messages: list[dict] = []
    at = 0
    while at < len(ids):
        if messages:
            if ids[at] != special["<|start|>"]:
                break
            at += 1
        try:
            begin = ids.index(special["<|message|>"], at)
        except ValueError:
            break
        header = _HEADER.fullmatch(tokenizer.decode(ids[at:begin]))
        if header is None:
            break
        end = next((i for i in range(begin + 1, len(ids)) if ids[i] in ends), len(ids))
        messages.append({"channel": header["channel"] or "", "recipient": header["early"] or header["late"] or "",
                         "content": tokenizer.decode(ids[begin + 1:end])})
        at = end + 1
    return messages


def judge(expect: dict, messages: list[dict], ended: bool) -> str:
    """"right" or the kind of failure; ended: the turn came to its end token."""
    if not ended:
        return "max_tokens"
    calls = [message for message in messages if message["recipient"] not in ("", "all")]
    if "call" in expect:
        if not calls:
            return "no_call"
        if calls[0]["recipient"].removeprefix("functions.") != expect["call"]["name"]:
            return "wrong_function"
        try:
            arguments = json.loads(calls[0]["content"])
        except ValueError:
            return "not_json"
        return "right" if _same(arguments, expect["call"]["arguments"]) else "wrong"
    finals = [message["content"] for message in messages if message["channel"] == "final" and message not in calls]
    if not finals:
        return "no_final"
    text = "\n".join(finals)
    if "final_pattern" in expect:
        right = len(text) <= _MOST_PATTERN_TEXT and re.fullmatch(expect["final_pattern"], text)
    else:
        right = text.strip(" \t\n\r\f\v") == expect["final"].strip(" \t\n\r\f\v")
    return "right" if right else "wrong"


def _same(a, b) -> bool:
    """JSON values; 3 is 3.0, and true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    return type(a) is type(b) and a == b or isinstance(a, (int, float)) and isinstance(b, (int, float)) and a == b
