"""What a generator of conversations gets: randomness, the split it must stay in, and how to write messages."""

import json
import random

from . import split as rule

EFFORTS = ["low", "medium", "high"]
DEFAULT_IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
IDENTITIES = ["You are moxie's demo model.", "You are a small model that ships with moxie.", "You are a helpful assistant.", ""]


class Resample(Exception):
    """The operands drawn belong to the other split: draw again."""


class Context:
    """`split` is "train" (nothing may be held out) or "heldout" (the task asked must be)."""

    def __init__(self, rng: random.Random, split: str, effort: str | None = None) -> None:
        if split not in ("train", "heldout"):
            raise ValueError(f'split must be "train" or "heldout", found "{split}"')
        self.rng = rng
        self.split = split
        self.effort = effort or rng.choices(EFFORTS, [30, 45, 25])[0]

    # --- the split ---------------------------------------------------------------------------------

    def ask(self, key: rule.Key) -> None:
        """The operands of the task itself."""
        if rule.is_heldout(key) != (self.split == "heldout"):
            raise Resample

    def step(self, key: rule.Key) -> None:
        """Operands inside a reasoning or an earlier turn: free in a held-out item, else trained on."""
        if self.split == "train" and rule.is_heldout(key):
            raise Resample

    def ask_pair(self, a: int, b: int) -> None:
        self.ask(rule.pair_key(a, b))

    def step_pair(self, a: int, b: int) -> None:
        self.step(rule.pair_key(a, b))

    # --- chance ------------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def pick(self, options):
        return self.rng.choice(options)

    def number(self, digits: int) -> int:
        """A number of exactly that many digits."""
        return self.rng.randint(0 if digits == 1 else 10 ** (digits - 1), 10**digits - 1)

    @property
    def low(self) -> bool:
        return self.effort == "low"

    @property
    def high(self) -> bool:
        return self.effort == "high"


# --- messages --------------------------------------------------------------------------------------


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def analysis(text: str) -> dict:
    return {"role": "assistant", "channel": "analysis", "content": text}


def final(text: str) -> dict:
    return {"role": "assistant", "channel": "final", "content": text}


def call(name: str, arguments: dict) -> dict:
    return {"role": "assistant", "recipient": "functions." + name, "channel": "commentary", "content_type": "<|constrain|>json",
            "content": json.dumps(arguments, separators=(",", ":"))}


def result(name: str, value) -> dict:
    content = value if isinstance(value, str) else json.dumps(value)
    return {"role": "tool", "name": "functions." + name, "recipient": "assistant", "channel": "commentary", "content": content}


def conversation(ctx: Context, ability: str, messages: list[dict], *, developer: str = "", tools: list[dict] | None = None,
                 expect: dict | None = None, system: str | None = None) -> dict:
    """A conversation in the format of `moxie chat`'s /save, with its ability and what an evaluation expects.

    `expect` is {"final": text of the last message} unless given; `system` is the identity, drawn unless given."""
    rng = ctx.rng
    default = ctx.chance(0.7) and system is None
    out = {"format": "moxie-conversation-1", "ability": ability,
           "system": DEFAULT_IDENTITY if default else rng.choice(IDENTITIES) if system is None else system,
           "knowledge_cutoff": "2024-06" if ctx.chance(0.8 if default else 0.3) else "",
           "date": f"{rng.randint(2024, 2031)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}" if ctx.chance(0.5) else "",
           "effort": ctx.effort, "developer": developer, "tools": tools or [], "messages": messages}
    out["expect"] = expect if expect is not None else {"final": messages[-1]["content"]}
    return out
