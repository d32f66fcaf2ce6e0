"""Conversations whose turns have nothing to do with each other, as they come up in a chat, and several questions under one rule."""

from . import about_moxie, arithmetic, calendar_units, instructions, letters, ordering, split, stories
from .context import Context, conversation, user

# generator -> its share; each makes a conversation of one turn without tools and without a developer's message
TURNS = {
    arithmetic.addition: 5, arithmetic.subtraction: 4, arithmetic.multiplication: 4, arithmetic.division: 2, arithmetic.not_learned: 1, arithmetic.compare: 2, ordering.sort_numbers: 3, ordering.sort_words: 3,
    letters.count_letters: 4, letters.spelling: 2, calendar_units.calendar: 3, calendar_units.units: 3, about_moxie.about_moxie: 4, instructions.plain_talk: 4,
    stories.stories: 1,
}
# How these are scored cannot be said by the last message alone, or nothing of them is held out.
NOT_ASKED = {instructions.plain_talk, stories.stories}


def mixed_turns(ctx: Context) -> dict:
    """Two to four turns; the last one is the task. Its key "parts" says what ability each turn is of."""
    num_turns = ctx.rng.choices([2, 3, 4], [5, 3, 1])[0]
    messages, parts = [], []
    for turn in range(num_turns):
        asked = turn == num_turns - 1
        choices = {generator: share for generator, share in TURNS.items() if not (asked and ctx.split == "heldout" and generator in NOT_ASKED)}
        generator = ctx.rng.choices(list(choices), list(choices.values()))[0]
        part = generator(ctx if asked else Context(ctx.rng, "train", ctx.effort))
        messages += part["messages"]
        parts.append(part["ability"])
    return {**conversation(ctx, "mixed_turns", messages, expect=part["expect"]), "parts": parts}


def instructed_turns(ctx: Context) -> dict:
    """Two or three questions under one rule of the developer's."""
    rule = ctx.pick(list(instructions.RULES))
    questions = ctx.rng.sample(instructions.QUESTIONS, ctx.pick([2, 2, 3]))
    messages = []
    for question, short, sentence in questions:
        (ctx.ask if question == questions[-1][0] else ctx.step)(split.key_of("instruction", [rule, question]))
        messages += [user(ctx.pick(instructions.GREETINGS).format(q=question)), *instructions.obey(ctx, rule, short, sentence)]
    return conversation(ctx, "instructions", messages, developer=ctx.pick(instructions.PREFIXES) + ctx.pick(instructions.RULES[rule][0]))
