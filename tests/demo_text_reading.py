"""Operands read back from a conversation's text, on their own, as split.py hashes them: what it asks for last, and all that it shows.

The generators are not asked for anything but their lists of names. demo_text_test.py uses it, with tools/ in the path.
"""

import json
import re

from demo_model import about_moxie, calendar_units, instructions, made_up_tools, multi_turn, split, stories, tools_use

DATE_OR_TIME = re.compile(r"\d{4}-\d\d-\d\d|\d\d:\d\d")
CHAIN = re.compile(r"\d+(?:\s*(?:[-+*/x<>^%]|% of|percent of|by|plus|minus|times|divided by|mod)\s*\d+)+")
NUMBERED = re.compile(r"\b1[a-z](?: \d+[a-z]\b)+")
COUNTED = re.compile(r"Count them: .*")  # one letter, as often as it was found
LETTER_BY_LETTER = re.compile(r"\b[a-z](?: [a-z]\b)+")
LEAP = re.compile(r"\b(\d{4}) (?:ends in|is (?:not )?a leap)")
DAYS_ON = re.compile(r"(\w+day): ((?:\d+ \w+day(?:, )?)+)")
HERO = re.compile(r"(?:Hero|Helper): (\w+), an? (?:\w+ )?(\w+)\.")
NAMED = re.compile(r"(\w+) named (\w+)")
TWO_NUMBERS = {"addition", "subtraction", "multiplication", "division", "not_learned", "compare", "declining", "instructions"}

UNIT_NAMES = {name: unit for one, two, _ in calendar_units.UNITS for unit in (one, two) for name in (unit, calendar_units.singular(unit))}
TOPICS = {name: kind.topic for kind in tools_use.KINDS for name in kind.names}
MADE_UP = {name: [verb, noun] for verb in made_up_tools.VERBS for noun in made_up_tools.NOUNS for name in (verb + noun, noun + verb)}
FACTORS = {(one, two): factor for one, two, factor in calendar_units.UNITS}


def _pattern_of(kind: tools_use.Kind, template: str) -> re.Pattern:
    """Of a question: its values as groups v0, v1, ..., an operation as vverb or vsign."""

    def group(name: str) -> str:
        schema = kind.parameters[int(name)].schema if name.isdigit() else {}
        value = "|".join(schema["enum"]) if "enum" in schema else "[0-9]+" if schema.get("type") in ("integer", "number") else ".+?"
        return f"(?P<v{name}>{value})"

    parts = re.split(r"(\{\w+\})", template)
    return re.compile("".join(group(part[1:-1]) if part[:1] == "{" else re.escape(part) for part in parts))


REQUESTS = [(kind, _pattern_of(kind, question)) for kind in tools_use.KINDS for question in kind.questions]


def numbers_in(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _chains(text: str):
    """Neighbours in chains such as 007+838, 12 * 30 or 348 by 7."""
    for chain in CHAIN.findall(DATE_OR_TIME.sub("", text)):
        numbers = numbers_in(chain)
        yield from map(split.pair_key, numbers, numbers[1:])


def _calendar(question: str):
    days = [day for day in calendar_units.DAYS if day in question]
    numbers = numbers_in(question)
    if days and numbers:
        yield split.weekday_key(days[0], numbers[0])
    elif numbers and max(numbers) > 999:
        yield split.key_of("leap", [max(numbers)])
    elif len(numbers) == 2:
        yield split.pair_key(*numbers)


def _units(question: str, answer: str):
    """The smaller number with the larger unit, as the question or the answer has it."""
    found = [UNIT_NAMES[word] for word in re.findall(r"[a-z]+", question) if word in UNIT_NAMES]
    asked, answered = numbers_in(question)[0], numbers_in(answer)[0]
    few, many = sorted((asked, answered))
    for (one, two), factor in FACTORS.items():
        if {one, two} <= set(found) and many == factor * few:
            yield split.conversion_key(few, one, two, factor)
            yield split.pair_key(few, factor)
            if asked == many:
                yield split.pair_key(many, factor)


def _multiples(question: str, text: str):
    """Of a list such as "1 24, 2 48"."""
    found = {UNIT_NAMES[word] for word in re.findall(r"[a-z]+", question) if word in UNIT_NAMES}
    for few, many in re.findall(r"(?:^|, )(\d+) (\d+)(?=,|$)", text, re.MULTILINE):
        for (one, two), factor in FACTORS.items():
            if {one, two} <= found and int(many) == factor * int(few):
                yield split.conversion_key(int(few), one, two, factor)
                yield split.pair_key(int(few), factor)


def _called(message: dict):
    name, arguments = message["recipient"].removeprefix("functions."), json.loads(message["content"])
    values = list(arguments.values())
    made_up = MADE_UP.get(re.sub("[-_]", "", name).lower())
    if name in TOPICS or not made_up:
        yield split.key_of("tool", [TOPICS.get(name, name), *values])
    if made_up:
        yield made_up_tools.call_key(*made_up, values)
    numbers = [value for value in values if isinstance(value, int)]
    if len(numbers) == 2:
        yield split.pair_key(*numbers)
    if TOPICS.get(name) == "units":
        factor = FACTORS[values[1], values[2]]
        yield split.conversion_key(*values, factor)
        yield split.pair_key(values[0], factor)


def _requested(question: str):
    """What a tool of some kind is asked for: each way to read it."""
    for kind, pattern in REQUESTS:
        found = pattern.fullmatch(question)
        if found:
            values = found.groupdict()
            for names, name_of in ((tools_use.VERBS, "vverb"), (tools_use.SIGNS, "vsign")):
                values["v0"] = next((name for name, shown in names.items() if shown == values.get(name_of)), values.get("v0"))
            yield split.key_of("tool", [kind.topic, *(values[f"v{i}"] for i in range(len(kind.parameters)))])


def _rules(conversation: dict) -> list[str]:
    """The rules about how to answer."""
    text = " ".join([conversation["system"], conversation["developer"], *(message["content"] for message in conversation["messages"] if message["role"] == "user")])
    return [name for name, (wordings, _, _) in instructions.RULES.items() if any(wording in text for wording in wordings)]


def _rewritten(question: str, thought: str):
    if not any(copy.split("{")[0] in question for copy in instructions.COPY):
        return
    for name in instructions.REWRITTEN:
        how = instructions.RULES[name][2]
        found = re.match(rf"The words are: (.*)\. They have to be written {how}\.|(.+?), {how}\.$", thought.split("\n")[0].split(" With the rule")[0])
        if found:
            phrase = found[1] or found[2]
            yield split.phrase_key(name, phrase)
            if phrase.lower() in instructions.QUESTION_OF:
                yield split.key_of("instruction", [name, instructions.QUESTION_OF[phrase.lower()]])


def _sorted_list(text: str):
    """Of the reasoning of a sorted list of numbers: the list and what is left of it each time."""
    for line in text.splitlines():
        yield split.numbers_key(numbers_in(line.split("left ")[-1].split(": ")[-1]))


def _sorted_words(text: str):
    """What is left stands there as words, or as their first letters with commas between."""
    first, *rest = text.splitlines()
    words = {part.split(" ", 1)[1]: part.split(" ", 1)[0].rstrip(":") for part in first.split(", ")}
    yield split.words_key(words.values())
    for line in rest:
        if ", left " in line:
            left = line.split(", left ")[1]
            yield split.words_key([words[key] for key in left.split(", ")] if left.split(", ")[0] in words else left.split(" "))


def _turns(conversation: dict) -> list[dict]:
    """Of a conversation of mixed turns each turn by itself, with its ability."""
    if not conversation.get("parts"):
        return [conversation]
    return [{**conversation, "ability": ability, "messages": conversation["messages"][3 * i:3 * i + 3], "parts": []} for i, ability in enumerate(conversation["parts"])]


def _shown_by_turns(conversation: dict):
    ability, messages = conversation["ability"], conversation["messages"]
    question, answer = messages[0]["content"], messages[-1]["content"]
    questions = [message["content"] for message in messages if message["role"] == "user"]
    for message in messages:
        text = message["content"]
        if message.get("recipient", "").startswith("functions."):
            yield from _called(message)
        elif message["role"] != "tool":
            yield from _chains(text)
            if message["role"] == "assistant":
                for spelled in NUMBERED.findall(COUNTED.sub("", text)):
                    yield split.word_key("".join(re.findall("[a-z]", spelled)))
                for spelled in LETTER_BY_LETTER.findall(text):
                    yield split.word_key(spelled.replace(" ", ""))
                for day, days in DAYS_ON.findall(text):
                    yield from (split.weekday_key(day, number) for number in numbers_in(days))
                yield from (split.key_of("leap", [year]) for year in LEAP.findall(text))
    if ability in TWO_NUMBERS:
        for text in questions:
            numbers = numbers_in(DATE_OR_TIME.sub("", text))
            if len(numbers) == 2:
                yield split.pair_key(*numbers)
    if conversation["tools"]:
        for text in questions:
            yield from _requested(text)
    if ability == "sort_numbers" or (ability == "multi_turn" and ", " in messages[2]["content"]):
        yield split.numbers_key(numbers_in(question))
        yield from _sorted_list(messages[1]["content"])
    elif ability == "sort_words":
        yield from _sorted_words(messages[1]["content"])
    elif ability == "spelling":
        words = [spelled.replace(" ", "") for spelled in answer.split(", ")]
        yield split.words_key(words)
        yield from map(split.word_key, words)
    elif ability == "calendar":
        yield from _calendar(question)
    elif ability == "units":
        yield from _units(question, answer)
        yield from _multiples(question, messages[1]["content"])
    elif ability == "instructions":
        for rule in _rules(conversation):
            yield from (split.key_of("instruction", [rule, asked]) for asked, _, _ in instructions.QUESTIONS if any(asked in text for text in questions))
        yield from _rewritten(question, messages[1]["content"])
    elif ability == "about_moxie":
        yield split.key_of("about", [question])
    elif ability == "plain_talk":
        wording = about_moxie.wording_of(question)
        yield split.key_of("about", [wording]) if wording else None
    elif ability == "stories":
        found = [*HERO.findall(messages[1]["content"]), *(named[::-1] for named in NAMED.findall(question + "\n" + answer))]
        yield from (stories.hero_key(hero, name) for name, hero in found if hero in stories.HEROES)


def shown(conversation: dict) -> set[str]:
    """The keys of all operands that a conversation shows; of those that are exempt there is none."""
    return {key for turn in _turns(conversation) for key in _shown_by_turns(turn) if key is not None}


def _follow_up(messages: list[dict]) -> split.Key:
    """What is asked about the result before."""
    question, before = messages[-3]["content"], messages[-4]["content"]
    if ", " in before:
        return split.numbers_key(numbers_in(before))
    factor = 2 if question in multi_turn.TWICE else 3 if question in multi_turn.THREE_TIMES else None
    return split.pair_key(numbers_in(before)[-1], factor or numbers_in(question)[0])


def asked(conversation: dict) -> split.Key:
    """The key of what a conversation with its teacher's answer asks for last; None where that is exempt."""
    turn = _turns(conversation)[-1]
    ability, messages = turn["ability"], turn["messages"]
    question = [message["content"] for message in messages if message["role"] == "user"][-1]
    calls = [message for message in messages if message.get("recipient", "").startswith("functions.")]
    numbers = numbers_in(question)
    if calls:
        return next(_called(calls[-1]))
    if ability == "multi_turn":
        return _follow_up(messages)
    if ability == "sort_numbers":
        return split.numbers_key(numbers)
    if ability == "sort_words":
        return split.words_key(messages[-1]["content"].split(", "))
    if ability == "count_letters":
        return split.word_key("".join(re.findall("[a-z]", NUMBERED.search(messages[-2]["content"])[0])))
    if ability == "spelling":
        return split.word_key(messages[-1]["content"].split(", ")[0].replace(" ", ""))
    if ability == "calendar":
        return next(_calendar(question), None)
    if ability == "units":
        return next(_units(question, messages[-1]["content"]), None)
    if ability == "about_moxie":
        return split.key_of("about", [question])
    if ability == "stories":
        found = NAMED.search(question)
        return stories.hero_key(*found.groups()) if found else None
    if ability == "declining" and (requests := list(_requested(question))):
        return requests[0]
    if ability == "instructions":
        of_list = [entry[0] for entry in instructions.QUESTIONS if entry[0] in question]
        if of_list:
            return split.key_of("instruction", [_rules(turn)[0], of_list[0]])
        rewritten = list(_rewritten(question, messages[-2]["content"]))
        if rewritten:
            return rewritten[0]
    return split.pair_key(*numbers) if len(numbers) == 2 else None
