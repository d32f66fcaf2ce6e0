"""Spelling words, and counting letters by spelling the word with a number at each letter."""

from . import split
from .context import Context, analysis, conversation, final, user
from .words import ALL_WORDS, WORDS

ONSETS = "b c d f g h j k l m n p r s t v w z bl br ch cl cr dr fl fr gl gr pl pr sc sh sk sl sm sn sp st str sw th tr".split()
VOWELS = "a e i o u a e i o u ai ea ee oo ou".split()
CODAS = ["", "", "", *"b d g k l m n p r s t ck ll nd ng nt rd rk rn rt ss st".split()]

COUNT = ["How many times does {letter} appear in {word}?", "How many {letter}'s are in {word}?", "How many letters {letter} are in the word {word}?",
         "Count the letter {letter} in {word}.", "How often does the letter {letter} occur in {word}?", "Count the {letter}'s in {word}.",
         "In the word {word}, how many times do you see {letter}?", "Tell me how many {letter} there are in {word}.",
         "How often is {letter} used in {word}?", "How many of the letters in {word} are {letter}?", "Number of {letter} in {word}?",
         "Please count how often {letter} stands in {word}.", "The word is {word}. How many {letter}?", "Can you count the letter {letter} in the word {word}?"]
LENGTH = ["How many letters does {word} have?", "How long is the word {word}?", "Count the letters of {word}.", "How many letters are in {word}?",
          "What is the number of letters in {word}?", "Tell me the length of the word {word}.", "The word {word} has how many letters?", "How many letters has {word}?", "{word}: how many letters?"]


SPELL = ["Spell {list}.", "How do you spell {list}?", "Please spell {list}.", "Spell out {list}.", "Write {list} letter by letter.", "Can you spell {list} for me?",
         "What are the letters of {list}?", "Letter by letter: {list}"]


def made_up_word(ctx: Context) -> str:
    """Of syllables, or the beginning of a word and the end of another, so that every piece of a word is met in many."""
    if ctx.chance(0.65):
        first, second = ctx.rng.sample(ALL_WORDS, 2)
        return first[:ctx.rng.randint(2, 5)] + second[-ctx.rng.randint(2, 4):]
    word = ""
    for _ in range(ctx.rng.randint(1, 3)):
        word += ctx.pick(ONSETS) + ctx.pick(VOWELS) + ctx.pick(CODAS)
    return word


def numbered(word: str) -> str:
    """For "fig": 1f 2i 3g."""
    return " ".join(f"{index}{letter}" for index, letter in enumerate(word, 1))


def count_letters(ctx: Context) -> dict:
    kind = ctx.rng.random()
    word = ctx.pick(WORDS) if kind < 0.35 else ctx.pick(ALL_WORDS) if kind < 0.5 else made_up_word(ctx)
    while not 3 <= len(word) <= 11:
        word = made_up_word(ctx)
    ctx.ask(split.word_key(word))
    spelled = numbered(word)
    shown = word.capitalize() if ctx.chance(0.12) else word
    if ctx.chance(0.2):
        lines = [spelled] if ctx.low else [f"Spell {word}: {spelled}", f"The last number is {len(word)}."]
        question, answer = ctx.pick(LENGTH).format(word=shown), len(word)
    else:
        letter = ctx.pick(word) if ctx.chance(0.85) else ctx.pick("abcdefghijklmnopqrstuvwxyz")
        places = [index for index, c in enumerate(word, 1) if c == letter]
        answer = word.count(letter)
        assert answer == len(places)
        found = f"{letter} at {', '.join(map(str, places))}: {answer}" if places else f"{letter} at none: 0"
        lines = [spelled, found] if ctx.low else [f"Spell {word}: {spelled}", found]
        if ctx.high and places:
            lines.append("Count them: " + " ".join(f"{index}{letter}" for index in range(1, answer + 1)))
        question = ctx.pick(COUNT).format(word=shown, letter=letter)
    return conversation(ctx, "count_letters", [user(question), analysis("\n".join(lines)), final(str(answer))])


def any_word(ctx: Context) -> str:
    word = ctx.pick(ALL_WORDS) if ctx.chance(0.7) else made_up_word(ctx)
    return word if 3 <= len(word) <= 11 else any_word(ctx)


def spelling(ctx: Context) -> dict:
    """One to five words, each letter on its own. Shows every word of the lists often, also those that are one token."""
    words = [any_word(ctx) for _ in range(ctx.rng.randint(1, 5))]
    ctx.ask(split.word_key(words[0]))
    for word in words[1:]:
        ctx.step(split.word_key(word))
    ctx.step(split.words_key(words))
    shown = [word.capitalize() if ctx.chance(0.08) else word for word in words]
    answer = ", ".join(" ".join(word) for word in words)
    if ctx.low:
        reasoning = "Letter by letter."
    else:
        reasoning = f"{len(words)} word{'s' if len(words) > 1 else ''}: {', '.join(shown)}."
    if ctx.high:
        reasoning += "".join(f"\n{word}: {numbered(word)}" for word in words)
    return conversation(ctx, "spelling", [user(ctx.pick(SPELL).format(list=", ".join(shown))), analysis(reasoning), final(answer)])
