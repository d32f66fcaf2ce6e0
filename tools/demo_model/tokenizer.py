"""A small reader of the demo model's tokenizer.json, for text in ASCII: no package needed, the same ids as moxie's.

The training text is ASCII throughout, so the Unicode classes of the o200k splitter shrink to A-Z, a-z and 0-9.
"""

import json
import pathlib
import re

# The o200k splitter on printable ASCII and newlines.
_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_SPLIT = re.compile("|".join([
    rf"[^\r\nA-Za-z0-9]?[A-Z]*[a-z]+{_CONTRACTION}",
    rf"[^\r\nA-Za-z0-9]?[A-Z]+[a-z]*{_CONTRACTION}",
    r"[0-9]{1,3}",
    r" ?[^\sA-Za-z0-9]+[\r\n/]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
]))
_PLAIN = re.compile(r"[\n\x20-\x7e]*")
SPECIAL_TOKENS = ["<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>",
                  "<|message|>", "<|call|>"]


def split_pieces(text: str) -> list[str]:
    """The pieces that merges stay within."""
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"expected printable ASCII and newlines, found {text!r}")
    return _SPLIT.findall(text)


class Tokenizer:
    """encode() gives ordinary text's ids; special tokens have ids of their own, by name in `special`."""

    def __init__(self, document: dict) -> None:
        model = document["model"]
        if not model["ignore_merges"]:
            raise ValueError("expected a tokenizer.json of make_tokenizer.py, with ignore_merges")
        spell = {"\u0120": " ", "\u010a": "\n"}  # of the bytes allowed here only these are written otherwise
        self._ids = {"".join(spell.get(c, c) for c in token): index for token, index in model["vocab"].items()}
        pairs = (pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"])
        self._ranks = {tuple("".join(spell.get(c, c) for c in part) for part in pair): rank for rank, pair in enumerate(pairs)}
        self.special = {token["content"]: token["id"] for token in document["added_tokens"]}
        self.size = len(model["vocab"]) + len(self.special)
        self._names = {index: token for token, index in [*self._ids.items(), *self.special.items()]}
        self._known: dict[str, list[int]] = {}

    @classmethod
    def load(cls, path) -> "Tokenizer":
        return cls(json.loads(pathlib.Path(path).read_text(encoding="utf-8")))

    def encode(self, text: str) -> list[int]:
        out: list[int] = []
        for piece in split_pieces(text):
            ids = self._known.get(piece)
            if ids is None:
                ids = self._known[piece] = self._merge(piece)
            out += ids
        return out

    def decode(self, ids) -> str:
        return "".join(self._names[index] for index in ids)

    def _merge(self, piece: str) -> list[int]:
        if piece in self._ids:
            return [self._ids[piece]]
        parts = list(piece)
        while len(parts) > 1:
            rank, at = min((self._ranks.get((parts[i], parts[i + 1]), 1 << 30), i) for i in range(len(parts) - 1))
            if rank == 1 << 30:
                break
            parts[at:at + 2] = [parts[at] + parts[at + 1]]
        return [self._ids[part] for part in parts]
