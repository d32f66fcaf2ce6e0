"""All abilities of the demo model, and how often each is trained."""

import random

from . import about_moxie, arithmetic, calendar_units, instructions, letters, made_up_tools, mixed, multi_turn, ordering, stories, tools_use
from .context import EFFORTS, Context, Resample

# generator -> its share of the training conversations
WEIGHTS = {
    arithmetic.addition: 6, arithmetic.subtraction: 8, arithmetic.multiplication: 7, arithmetic.division: 7, arithmetic.not_learned: 3, arithmetic.compare: 7, ordering.sort_numbers: 7,
    ordering.sort_words: 15, ordering.sort_alike_words: 8, letters.count_letters: 13, letters.spelling: 14, calendar_units.calendar: 8, calendar_units.units: 7, about_moxie.about_moxie: 5,
    instructions.instructions: 22, instructions.rewriting: 26, instructions.plain_talk: 8, stories.stories: 4, multi_turn.multi_turn: 7, multi_turn.list_follow_up: 3,
    mixed.mixed_turns: 12, mixed.instructed_turns: 5, tools_use.tools: 9, tools_use.tool_results: 6, tools_use.second_call: 3, tools_use.declining: 5,
    tools_use.no_tool_needed: 3, made_up_tools.made_up_tools: 7,
}

# Closed lists, all of which is trained on.
HELD_OUT_FREE = {instructions.plain_talk}

# ability -> what makes a held-out item of it (a generator and its arguments)
SCORED = {
    "addition": [(arithmetic.addition, {"digits": 3})],
    "subtraction": [(arithmetic.subtraction, {"digits": 3})],
    "multiplication": [(arithmetic.multiplication, {"digits": 2})],
    "division": [(arithmetic.division, {})],
    "sort_numbers": [(ordering.sort_numbers, {})],
    "sort_words": [(ordering.sort_words, {})],
    "count_letters": [(letters.count_letters, {})],
    "spelling": [(letters.spelling, {})],
    "compare": [(arithmetic.compare, {})],
    "calendar": [(calendar_units.calendar, {})],
    "units": [(calendar_units.units, {})],
    "tools": [(tools_use.tools, {}), (tools_use.tools, {}), (tools_use.second_call, {}), (made_up_tools.made_up_tools, {})],
    "tool_results": [(tools_use.tool_results, {})],
    "declining": [(tools_use.declining, {}), (tools_use.declining, {}), (tools_use.no_tool_needed, {})],
    "instructions": [(instructions.instructions, {}), (instructions.instructions, {}), (instructions.rewriting, {}), (mixed.instructed_turns, {})],
    "multi_turn": [(multi_turn.multi_turn, {}), (multi_turn.multi_turn, {}), (multi_turn.multi_turn, {}), (multi_turn.list_follow_up, {})],
    "mixed_turns": [(mixed.mixed_turns, {})],
    "about_moxie": [(about_moxie.about_moxie, {})],
    "stories": [(stories.stories, {})],
}


def draw(generator, rng: random.Random, split: str, effort: str | None = None, **arguments) -> dict:
    """A conversation of one generator, drawn until its operands belong to the split.

    The effort is drawn once: conversations of high effort show more operands and are thrown away more often."""
    if effort is None:
        effort = rng.choices(EFFORTS, [30, 45, 25])[0]
    while True:
        try:
            return generator(Context(rng, split, effort), **arguments)
        except Resample:
            continue


def sample(rng: random.Random, split: str) -> dict:
    """One conversation: in the format of `moxie chat`, with "ability" and "expect" as in a set of `moxie eval`."""
    if split == "heldout":
        choices = SCORED[rng.choice(list(SCORED))]
        generator, arguments = rng.choice(choices)
        return draw(generator, rng, split, **arguments)
    generator = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    return draw(generator, rng, split)
