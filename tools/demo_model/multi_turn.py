"""Calculations, and sorted lists, that go on from the answer of an earlier turn, whose reasoning is gone by then."""

from . import ordering
from .arithmetic import difference_reasoning, fill, product_reasoning, sum_reasoning
from .arithmetic import ADDITION, MULTIPLICATION, SUBTRACTION
from .context import Context, Resample, analysis, conversation, final, user

PLUS = ["Now add {n}.", "And plus {n}?", "Add {n} to that.", "And if I add {n}?", "Plus {n}, please.", "Then add {n} more.", "What is that plus {n}?", "Now {n} more.",
        "Increase it by {n}.", "And {n} more than that?", "Could you add {n} to the result?", "Put {n} on top."]
MINUS = ["Now subtract {n}.", "And minus {n}?", "Take {n} away from that.", "And if I take {n} away?", "Minus {n}, please.", "Then subtract {n}.", "What is that minus {n}?",
         "Now {n} less.", "Decrease it by {n}.", "And {n} less than that?", "Could you subtract {n} from the result?"]
TIMES = ["Now multiply that by {n}.", "And times {n}?", "Multiply it by {n}.", "And {n} times that?", "Times {n}, please.", "What is that times {n}?",
         "Could you multiply the result by {n}?"]
TWICE = ["And twice that?", "Now double it.", "Double that, please.", "What is twice as much?", "And two times that?", "And double the result?"]
THREE_TIMES = ["And three times that?", "Triple it.", "Now three times as much.", "What is triple that?"]
FIRST = ["Which number came out first?", "What was the first result?", "Remind me of the first result.", "What did you get at the start?"]
REVERSE = ["Now the other way round.", "And in reverse order?", "Reverse the list.", "Turn the list around.", "Now from the other end, please."]
ORDINALS = ["first", "second", "third", "fourth", "fifth"]
ORDINAL = ["Which one is the {nth}?", "What is the {nth} one?", "And the {nth} number?", "Name the {nth} of them.", "Which number is in the {nth} place?"]
LAST = ["Which one is the last?", "What is the last one?", "And the last number?", "Which number stands at the end?"]
HOW_MANY = ["How many numbers are these?", "How many are there in the list?", "Count them.", "How long is the list?"]
CHANGE_TOPIC = ["Thanks. Something else: {q}", "Ok. {q}", "New question: {q}", "Good. Next: {q}", "{q}"]


def _calculation(ctx: Context, sign: str, a: int, b: int) -> tuple[str, str, int]:
    """Reasoning, final text and result; the operands count as steps."""
    if sign == "+":
        return sum_reasoning(ctx, a, b), f"{a} + {b} = {a + b}", a + b
    if sign == "-":
        return difference_reasoning(ctx, a, b), f"{a} - {b} = {a - b}", a - b
    return product_reasoning(ctx, a, b), f"{a} * {b} = {a * b}", a * b


def _first(ctx: Context) -> tuple[str, str, str, int]:
    sign = ctx.pick("++--*")
    if sign == "*":
        a, b = ctx.number(ctx.pick([1, 2])), ctx.number(ctx.pick([1, 2]))
        templates = MULTIPLICATION
    else:
        a, b = ctx.number(ctx.rng.randint(1, 3)), ctx.number(ctx.rng.randint(1, 3))
        if sign == "-" and a < b:
            a, b = b, a
        templates = ADDITION if sign == "+" else SUBTRACTION
    text, answer, value = _calculation(ctx, sign, a, b)
    return fill(ctx, ctx.pick(templates), a=a, b=b), text, answer, value


def _follow(ctx: Context, value: int, asked: bool) -> tuple[str, str, str, int]:
    """A question about `value`. `asked`: it is the one that an evaluation scores."""
    ask = ctx.ask_pair if asked else ctx.step_pair
    kinds = ["+"] * 3 + (["-"] * 2 if value > 0 else []) + (["2", "2", "3", "*"] if value < 1000 else [])
    kind = ctx.pick(kinds)
    if kind in "23":
        n, templates = int(kind), TWICE if kind == "2" else THREE_TIMES
    elif kind == "*":
        n, templates = ctx.number(1 if value > 99 else ctx.pick([1, 1, 2])), TIMES
    else:
        n, templates = ctx.number(ctx.rng.randint(1, 3)), PLUS if kind == "+" else MINUS
    if kind == "-" and n > value:
        n = ctx.rng.randint(0, value)
    ask(value, n)
    sign = "*" if kind in "23*" else kind
    text, answer, result = _calculation(ctx, sign, value, n)
    return ctx.pick(templates).format(n=n), text, answer, result


def multi_turn(ctx: Context) -> dict:
    """Two to four turns. Only the last one has its reasoning when moxie renders it."""
    num_turns = ctx.rng.choices([2, 3, 4], [6, 3, 1])[0]
    question, text, answer, value = _first(ctx)
    messages = [user(question), analysis(text), final(answer)]
    results = [value]
    for turn in range(1, num_turns):
        last = turn == num_turns - 1
        choice = ctx.rng.random()
        if last and turn > 1 and choice < 0.15 and ctx.split == "train":
            question, text, answer = ctx.pick(FIRST), f"The first answer was {messages[2]['content']}", str(results[0])
        elif choice < 0.1 and not last:
            question, text, answer, value = _first(ctx)
            question = ctx.pick(CHANGE_TOPIC).format(q=question)
            results.append(value)
        else:
            if value > 9999:
                raise Resample
            question, text, answer, value = _follow(ctx, value, asked=last)
            text = text if ctx.low else f"The last result is {results[-1]}.\n{text}"
            results.append(value)
        messages += [user(question), analysis(text), final(answer)]
    return conversation(ctx, "multi_turn", messages)


def list_follow_up(ctx: Context) -> dict:
    """A list is sorted, then something is asked of the sorted list."""
    messages = ordering.sort_numbers(ctx)["messages"]
    values = messages[-1]["content"].split(", ")
    numbered = ", ".join(f"{index}: {value}" for index, value in enumerate(values, 1))
    kind = ctx.rng.randrange(4)
    if kind == 0:
        question, answer = ctx.pick(REVERSE), ", ".join(reversed(values))
        text = "From the end." if ctx.low else f"The list is {', '.join(values)}. I start at its end."
        if ctx.high:
            text += f"\n{numbered}"
    elif kind == 1:
        index = ctx.rng.randrange(len(values[:5]))
        question, answer = ctx.pick(ORDINAL).format(nth=ORDINALS[index]), values[index]
        text = ", ".join(f"{i}: {value}" for i, value in enumerate(values[:index + 1], 1)) if ctx.low else f"The list with places: {numbered}"
    elif kind == 2:
        question, answer = ctx.pick(LAST), values[-1]
        text = f"The end: {values[-1]}" if ctx.low else f"The list with places: {numbered}"
    else:
        question, answer = ctx.pick(HOW_MANY), str(len(values))
        text = numbered if ctx.low else f"The list with places: {numbered}"
    if ctx.high:
        text += f"\nSo the answer is {answer}."
    return conversation(ctx, "multi_turn", [*messages, user(question), analysis(text), final(answer)])
