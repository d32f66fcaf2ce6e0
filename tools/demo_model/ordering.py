"""Sorting numbers and words by taking out the smallest again and again, with what is left written out.

Words are told apart by their first three letters, which stand beside each other as the digits of a number do.
"""

from . import split
from .arithmetic import NAMES
from .context import Context, Resample, analysis, conversation, final, user
from .letters import any_word
from .words import ALL_WORDS, WORDS

NUMBERS_UP = ["Sort {list} in ascending order.", "Sort these numbers: {list}.", "Put {list} in order from smallest to largest.", "Sort {list}.",
              "Order these numbers from low to high: {list}", "Please sort the numbers {list}.", "Arrange {list} from smallest to largest.",
              "Can you sort {list} for me?", "Ascending order, please: {list}", "List {list} by size, smallest first.",
              "{name} wants these sorted upwards: {list}", "Rank {list}, starting with the smallest.", "What is the sorted form of [{list}]?",
              "Bring {list} into increasing order.", "sort numbers: {list}"]
NUMBERS_DOWN = ["Sort {list} in descending order.", "Put {list} in order from largest to smallest.", "Sort these numbers downwards: {list}",
                "Order these numbers from high to low: {list}", "Arrange {list} from largest to smallest.", "Descending order, please: {list}",
                "List {list} by size, largest first.", "Rank {list}, starting with the largest.", "Bring {list} into decreasing order.",
                "{name} wants these sorted from the largest down: {list}"]
WORD_TASKS = ["Sort these words: {list}.", "Sort {list} alphabetically.", "Put these words in alphabetical order: {list}", "Alphabetize {list}.",
              "Order {list} from A to Z.", "Please sort the words {list}.", "Arrange in alphabetical order: {list}", "Can you sort {list} by the alphabet?",
              "In which order would a dictionary list {list}?", "Which order do {list} have in the alphabet?", "Alphabetical order, please: {list}",
              "{name} needs this list sorted: {list}", "sort words: {list}"]
WORD_TASKS_DOWN = ["Sort {list} from Z to A.", "Put these words in reverse alphabetical order: {list}", "Sort these words backwards, from Z to A: {list}"]


def sort_numbers(ctx: Context) -> dict:
    digits = ctx.rng.randint(1, 3)
    count = ctx.pick([3, 4, 5, 6, 7, 8] if digits < 3 else [3, 4, 5, 6])
    numbers = [ctx.number(ctx.rng.randint(1, digits)) for _ in range(count)]
    ctx.ask(split.numbers_key(numbers))
    down = ctx.chance(0.3)
    width = max(len(str(number)) for number in numbers)
    padded = [f"{number:0{width}}" for number in numbers]
    word = "largest" if down else "smallest"
    lines = [] if ctx.low and width == 1 else ["With equal length: " + " ".join(padded)] if width > 1 else [" ".join(padded)]
    done, left = [], list(padded)
    while len(left) > 1:
        best = max(left) if down else min(left)
        left.remove(best)
        done.append(best)
        ctx.step(split.numbers_key(int(number) for number in left))
        lines.append(f"take {best}, left {' '.join(left)}" if ctx.low else f"{word} {best}, left {' '.join(left)}")
    done += left
    ordered = [str(int(number)) for number in done]
    assert [int(number) for number in ordered] == sorted(numbers, reverse=down)
    if ctx.high:
        lines.append(f"All {len(ordered)}: {' '.join(done)}")
    text = ", ".join(map(str, numbers))
    question = ctx.pick(NUMBERS_DOWN if down else NUMBERS_UP).format(list=text, name=ctx.pick(NAMES))
    return conversation(ctx, "sort_numbers", [user(question), analysis("\n".join(lines)), final(", ".join(ordered))])


def _alike(ctx: Context, count: int) -> list[str]:
    """Words of which several begin alike."""
    words = [any_word(ctx)]
    shared = words[0][:ctx.rng.randint(1, 2)]
    alike = [word for word in ALL_WORDS if word.startswith(shared) and word != words[0]]
    words += ctx.rng.sample(alike, min(len(alike), ctx.rng.randint(1, count - 1)))
    while len(words) < count:
        words.append(any_word(ctx))
    return words


def sort_words(ctx: Context, alike: bool = False) -> dict:
    count = ctx.rng.randint(3, 5)
    kind = ctx.rng.random()
    words = _alike(ctx, count) if alike else ctx.rng.sample(WORDS, count) if kind < 0.55 else ctx.rng.sample(NAMES, count) if kind < 0.65 else [any_word(ctx) for _ in range(count)]
    if kind < 0.55 and not alike and ctx.chance(0.4):  # two that begin alike
        alike = [word for word in WORDS if word[0] == words[0][0] and word not in words]
        if alike:
            words[1] = ctx.pick(alike)
    ctx.rng.shuffle(words)
    ctx.ask(split.words_key(words))
    down = ctx.chance(0.15)
    if len({word[:3].lower() for word in words}) < count:
        raise Resample  # three letters shall tell all of them apart
    key = {word: " ".join(word[:3].lower()) for word in words}
    lines = [", ".join(f"{word} {key[word]}" for word in words)]
    left = list(words)
    done = []
    while left:
        best = (max if down else min)(left, key=str.lower)
        left.remove(best)
        done.append(best)
        ctx.step(split.words_key(left))
        rest = ", left " + ", ".join(key[word] for word in left) if left else ""
        lines.append(f"{'' if ctx.low else 'last ' if down else 'first '}{key[best]}: {best}{rest}")
    assert done == sorted(words, key=str.lower, reverse=down)
    if ctx.high:
        lines.append(f"All {count}: {' '.join(done)}")
    question = ctx.pick(WORD_TASKS_DOWN if down else WORD_TASKS).format(list=", ".join(words), name=ctx.pick(NAMES))
    return conversation(ctx, "sort_words", [user(question), analysis("\n".join(lines)), final(", ".join(done))])


def sort_alike_words(ctx: Context) -> dict:
    """What is hard about sorting words: more of it for training than the sets have."""
    return sort_words(ctx, alike=True)
