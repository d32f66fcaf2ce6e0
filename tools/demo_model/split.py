"""Which operands are held out, that is, never trained on.

The rule. Every task has operands: the two numbers of a calculation or comparison, the numbers or words of a
list, the word whose letters are counted, the arguments of a tool call, ... They are hashed without their
order and without the operation, so {347, 58} is held out for 347 + 58, 58 + 347, 347 - 58, 347 * 58 and
"is 58 < 347?" alike. PERCENT of all operands are held out.

Exempt are facts whose operands are all single digits (7+8=15, 4*6+4=28, 5-8 with a borrow): they are the
alphabet of every longer calculation. So are the letters of words that other tasks use too (words.COMMON): a token of its own
does not show its letters, so that they can only be known; the steps of a long division (31: 5*6=30 rest 1); and what is counted past on
the way to a farther month, weekday or multiple. Everything else counts, also inside reasoning: a partial product, the sum of
two partial products, the rest of a list that is being sorted, the follow-up of an earlier turn. A training
conversation in which one of them is held out is thrown away and drawn anew.
"""

import hashlib

from .words import COMMON

PERCENT = 15


def _hash_is_heldout(key: str) -> bool:
    digest = hashlib.blake2b(b"moxie demo model\0" + key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 100 < PERCENT


def is_heldout(kind: str, operands) -> bool:
    """Whether `operands` (any order) of a task of this kind are held out. For two numbers use is_heldout_pair."""
    return _hash_is_heldout("\0".join([kind, *sorted(str(operand) for operand in operands)]))


def is_exempt_pair(a: int, b: int) -> bool:
    return abs(a) < 10 and abs(b) < 10


def is_heldout_pair(a: int, b: int) -> bool:
    """Whether two numbers are held out as operands of anything that takes two numbers."""
    if is_exempt_pair(a, b):
        return False
    low, high = sorted((abs(a), abs(b)))
    return _hash_is_heldout(f"pair\0{low}\0{high}")


def is_heldout_numbers(numbers) -> bool:
    """Whether a list of numbers is held out as a multiset; a list of two is a pair, a shorter one is free."""
    numbers = list(numbers)
    if len(numbers) < 2:
        return False
    if len(numbers) == 2:
        return is_heldout_pair(*numbers)
    return _hash_is_heldout("\0".join(["list", *(str(number) for number in sorted(numbers))]))


def is_heldout_words(words) -> bool:
    """Whether a list of words is held out as a multiset; fewer than two are free."""
    words = list(words)
    return len(words) >= 2 and is_heldout("words", words)


def is_heldout_word(word: str) -> bool:
    """Whether a word whose letters are counted is held out."""
    return word not in COMMON and is_heldout("letters", [word])
