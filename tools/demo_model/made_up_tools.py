"""Calls of functions nobody has seen before: random names and parameters, all of them named in the question.

They teach to read the declaration, where tools_use.py's kinds teach what people ask for.
"""

from . import split
from .context import Context, analysis, call, conversation, final, result, user
from .tools_use import DEVELOPER, KINDS, declare, step_numbers
from .words import WORDS

VERBS = ["get", "set", "find", "make", "open", "check", "start", "stop", "read", "count", "update", "move", "clean", "scan", "pack", "mark", "test", "load", "print", "close"]
NOUNS = ["order", "door", "invoice", "robot", "sample", "camera", "recipe", "parcel", "ticket", "printer", "pump", "valve", "score", "badge", "queue", "crate", "sensor",
         "report", "truck", "oven", "lamp", "file", "shelf", "engine", "filter", "account", "meter", "kite", "boat", "gate"]
PARAMETERS = ["size", "color", "id", "level", "mode", "label", "speed", "amount", "code", "width", "owner", "priority", "position", "target", "note", "weight", "height", "kind",
              "channel", "group", "rank", "depth", "tag", "zone"]
FIELDS = ["status", "total", "state", "age", "place", "price", "length", "version", "area", "index"]
CHOICES = [["fast", "slow"], ["high", "low"], ["red", "green", "blue"], ["small", "medium", "large"], ["left", "right"], ["soft", "hard"], ["day", "night"]]
QUESTIONS = ["{verb} the {noun} with {list}.", "Please {verb} the {noun}: {list}.", "Can you {verb} the {noun} with {list}?", "{verb} {noun}, {list}", "I want to {verb} the {noun} with {list}.",
             "Now {verb} the {noun}, please. Use {list}.", "{verb} a {noun}. Take {list}.", "With {list}, {verb} the {noun}."]


def call_key(verb: str, noun: str, values: list) -> split.Key:
    """However the name is spelled. Values from a choice are few."""
    own = [value for value in values if not any(value in choice for choice in CHOICES)]
    return split.key_of("tool", [verb, noun, *values]) if len(own) >= 2 else None


def spelled_name(ctx: Context, verb: str, noun: str) -> str:
    return ctx.pick([f"{verb}_{noun}", f"{verb}_{noun}", f"{noun}_{verb}", f"{verb}{noun.capitalize()}", f"{verb}-{noun}"])


def made_up(ctx: Context, verb: str, noun: str) -> tuple[dict, dict]:
    """A tool, and arguments for it."""
    properties, arguments = {}, {}
    for name in ctx.rng.sample(PARAMETERS, ctx.pick([1, 2, 2, 3])):
        kind = ctx.rng.randrange(3)
        if kind == 0:
            properties[name], arguments[name] = {"type": "integer"}, ctx.rng.randint(1, 999)
        elif kind == 1:
            properties[name], arguments[name] = {"type": "string"}, ctx.pick(WORDS)
        else:
            choice = ctx.pick(CHOICES)
            properties[name], arguments[name] = {"type": "string", "enum": choice}, ctx.pick(choice)
        if ctx.chance(0.25):
            properties[name] = {"type": properties[name]["type"], "description": f"The {name} of the {noun}", **properties[name]}
    tool = {"name": spelled_name(ctx, verb, noun), "description": ctx.pick([f"Can {verb} the {noun}.", f"To {verb} the {noun}.", f"Used to {verb} a {noun}."]),
            "parameters": {"type": "object", "properties": properties, "required": list(properties)}}
    return tool, arguments


def made_up_tools(ctx: Context) -> dict:
    (verb, other_verb), (noun, other_noun) = ctx.rng.sample(VERBS, 2), ctx.rng.sample(NOUNS, 2)
    tool, arguments = made_up(ctx, verb, noun)
    values = list(arguments.values())
    ctx.ask(call_key(verb, noun, values))
    step_numbers(ctx, values)
    tools = [tool]
    if ctx.chance(0.6):  # one that differs in the verb, the noun or both
        tools.append(made_up(ctx, *ctx.pick([(other_verb, noun), (verb, other_noun), (other_verb, other_noun)]))[0])
    elif ctx.chance(0.5):
        tools.append(declare(ctx, ctx.pick(KINDS))[0])
    ctx.rng.shuffle(tools)
    said = [f"{name} {value}" for name, value in arguments.items()]
    if ctx.chance(0.3):
        ctx.rng.shuffle(said)
    listed = said[0] if len(said) == 1 else ", ".join(said[:-1]) + " and " + said[-1]
    question = ctx.pick(QUESTIONS).format(verb=verb, noun=noun, list=listed)
    question = question[0].upper() + question[1:]
    shown = ", ".join(f"{name} is {value}" for name, value in arguments.items())
    thought = f"Call {tool['name']}: {shown}." if ctx.low else f"The user wants to {verb} the {noun}. The tool {tool['name']} fits: {shown}."
    if ctx.high:
        thought += f" All {len(said)} of its parameters are known, so I call it." if len(said) > 1 else " Its parameter is known, so I call it."
    messages = [user(question), analysis(thought), call(tool["name"], arguments)]
    if ctx.split == "heldout" or ctx.chance(0.6):
        return conversation(ctx, "tools", messages, developer=ctx.pick(DEVELOPER), tools=tools, expect={"call": {"name": tool["name"], "arguments": arguments}})
    field = ctx.pick(FIELDS)
    value = ctx.rng.randint(1, 9999) if ctx.chance(0.6) else ctx.pick(WORDS)
    thought = f"Result: {field} {value}." if ctx.low else f"The tool {tool['name']} says: {field} {value}. I answer with that."
    messages += [result(tool["name"], {field: value}), analysis(thought), final(f"The {field} is {value}.")]
    return conversation(ctx, "tool_results", messages, developer=ctx.pick(DEVELOPER), tools=tools)
