"""Which operands are held out, that is, never trained on.

The rule. Every task has operands, and its question shows them: the two numbers of a calculation or comparison, the numbers or words
of a list, the word whose letters are counted, the arguments of a tool call, ... They are hashed without their order and without the
operation, so {347, 58} is held out for 347 + 58, 58 + 347, 347 - 58, 347 * 58 and "is 58 < 347?" alike. PERCENT of all operands are
held out. They count wherever text shows them, also inside reasoning: a partial product, the sum of two partial products, the rest of a
list that is being sorted, the follow-up of an earlier turn. A training conversation in which one of them is held out is thrown away
and drawn anew.

Exempt, that is, trained on and never asked for in a held-out item, is what the steps of larger tasks show whatever their operands:
the alphabet of every longer calculation. It has no key:

- two numbers of which one is a digit and the other below 100 (7+8, 4*6+4, the steps of a long division), and what the list of
  multiples shows that leads to a larger one (COUNTED_BY);
- words of three letters, which sorting shows letter by letter, and words that other tasks use too (words.COMMON): a token of its own
  does not show its letters, so that they can only be known;
- the weekday less than a week away and one unit of anything, which every longer way begins with;
- of what has few combinations: one or two words to be written by a rule, a hero's own names, calls of made-up functions with fewer
  than two values of their own.
"""

import hashlib

from .words import COMMON

PERCENT = 15
COUNTED_BY, MOST_COUNTED = (12, 24, 1024), 12  # multiples of these are listed one by one, so many of them at most

Key = str | None  # of operands: what is hashed; None where they are exempt


def is_heldout(key: Key) -> bool:
    if key is None:
        return False
    digest = hashlib.blake2b(b"moxie demo model\0" + key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 100 < PERCENT


def key_of(kind: str, operands) -> str:
    """Of the operands, in any order, of a task of this kind."""
    return "\0".join([kind, *sorted(str(operand) for operand in operands)])


def pair_key(a: int, b: int) -> Key:
    """Of two numbers, whatever is done with them."""
    low, high = sorted((abs(a), abs(b)))
    if (low < 10 and high < 100) or (low in COUNTED_BY and high <= MOST_COUNTED) or (high in COUNTED_BY and low <= MOST_COUNTED):
        return None
    return f"pair\0{low}\0{high}"


def numbers_key(numbers) -> Key:
    """Of a list of numbers as a multiset; a list of two is a pair, a shorter one is free."""
    numbers = sorted(numbers)
    if len(numbers) <= 2:
        return pair_key(*numbers) if len(numbers) == 2 else None
    return "\0".join(["list", *map(str, numbers)])


def words_key(words) -> Key:
    """Of a list of words as a multiset; fewer than two are free."""
    words = list(words)
    return key_of("words", words) if len(words) >= 2 else None


def word_key(word: str) -> Key:
    """Of a word whose letters are asked for."""
    return key_of("letters", [word]) if len(word) > 3 and word not in COMMON else None


def weekday_key(day: str, days: int) -> Key:
    """Of the weekday so many days after or before one."""
    return key_of("weekday", [day, days]) if days >= 7 else None


def conversion_key(number: int, one: str, two: str, factor: int) -> Key:
    """Of so many of the larger unit `one`, of which each is `factor` of the smaller one, either way."""
    counted = factor in COUNTED_BY and number <= MOST_COUNTED
    return key_of("units", [number, one, two]) if number > 1 and not counted else None


def phrase_key(rule: str, phrase: str) -> Key:
    """Of words that are to be written by a rule; in upper or lower case they are the same."""
    return key_of("rewriting", [rule, phrase.lower()]) if phrase.count(" ") >= 2 else None
