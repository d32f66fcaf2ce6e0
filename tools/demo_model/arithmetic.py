"""Addition, subtraction, multiplication and comparison, worked out digit by digit.

Every fact in a chain has operands of single digits, so the chains need a table of a few hundred facts and no more; whole
numbers are written beside each other with leading zeros, so that equal places stand at equal distances.
"""

from . import split
from .context import Context, Resample, analysis, conversation, final, user

PLACES = ["ones", "tens", "hundreds", "thousands", "ten thousands", "hundred thousands"]
NAMES = ["Mia", "Tom", "Anna", "Ben", "Lena", "Omar", "Sara", "Ravi", "Nina", "Paul", "Emma", "Luca", "Yuki", "Ivan", "Zoe", "Adam", "Clara",
         "David", "Eva", "Felix", "Grace", "Hugo", "Iris", "Jonas", "Kira", "Leo", "Maya", "Noah", "Olga", "Peter", "Rosa", "Sam"]
THINGS = ["apples", "books", "coins", "stamps", "marbles", "cards", "stones", "pencils", "shells", "tickets", "nails", "seeds", "photos",
          "eggs", "pages", "points", "boxes", "bricks", "candles", "letters", "bottles", "screws", "tiles", "cups"]

ADDITION = [
    "What is {a} + {b}?", "What is {a} plus {b}?", "{a} + {b}", "{a}+{b}", "{a} + {b} = ?", "Add {a} and {b}.", "Add {b} to {a}.",
    "Compute {a} + {b}.", "Calculate {a} + {b}.", "Calculate the sum of {a} and {b}.", "How much is {a} plus {b}?", "How much is {a} + {b}?",
    "Please add {a} and {b}.", "Can you add {a} and {b} for me?", "Sum of {a} and {b}?", "Find the sum of {a} and {b}.", "Work out {a} + {b}.",
    "Tell me {a} plus {b}.", "I need {a} + {b}.", "What do {a} and {b} make together?", "What do you get when you add {a} and {b}?",
    "If I add {a} to {b}, what do I get?", "{a} plus {b} is what?", "Give me the total of {a} and {b}.", "Evaluate {a} + {b}.",
    "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?",
    "There are {a} {things} in one room and {b} in another. How many are there in all?",
    "{name} found {a} {things}, {other} found {b}. How many {things} do they have together?",
    "A shop sold {a} {things} on Monday and {b} on Tuesday. How many in total?",
    "One box holds {a} {things}, a second one holds {b}. How many {things} are in both?",
]
SUBTRACTION = [
    "What is {a} - {b}?", "What is {a} minus {b}?", "{a} - {b}", "{a}-{b}", "{a} - {b} = ?", "Subtract {b} from {a}.", "Compute {a} - {b}.",
    "Calculate {a} - {b}.", "How much is {a} minus {b}?", "How much is {a} - {b}?", "Take {b} away from {a}.", "Please subtract {b} from {a}.",
    "Can you subtract {b} from {a}?", "What is {a} less {b}?", "Work out {a} - {b}.", "Tell me {a} minus {b}.", "I need {a} - {b}.",
    "If I take {b} from {a}, what is left?", "{a} minus {b} is what?", "Evaluate {a} - {b}.", "What remains of {a} after taking away {b}?",
    "Find {a} minus {b}.", "What do you get when you subtract {b} from {a}?",
]
SUBTRACTION_STORIES = [
    "{name} had {a} {things} and gave {b} away. How many {things} are left?",
    "Of {a} {things}, {b} are broken. How many are not?", "A box held {a} {things}; {b} were taken out. How many remain?",
    "{name} has {a} {things}, {other} has {b}. How many more does {name} have?",
    "A shop had {a} {things} and sold {b}. How many does it still have?",
]
MULTIPLICATION = [
    "What is {a} * {b}?", "What is {a} times {b}?", "{a} * {b}", "{a}*{b}", "{a} x {b}", "What is {a} x {b}?", "{a} * {b} = ?", "Multiply {a} by {b}.",
    "Multiply {a} and {b}.", "Compute {a} * {b}.", "Calculate {a} * {b}.", "Calculate {a} times {b}.", "Calculate {a} x {b}.",
    "How much is {a} times {b}?", "What is the product of {a} and {b}?", "Find the product of {a} and {b}.", "Work out {a} x {b}.",
    "Please multiply {a} by {b}.", "Can you multiply {a} and {b}?", "Tell me {a} times {b}.", "I need {a} * {b}.", "{a} times {b} is what?",
    "Evaluate {a} * {b}.", "If I multiply {a} by {b}, what do I get?", "What do you get when you multiply {a} and {b}?",
    "There are {a} boxes with {b} {things} each. How many {things} are there?", "{name} buys {a} packs of {b} {things}. How many {things} is that?",
    "A hall has {a} rows of {b} seats. How many seats does it have?", "One {thing} costs {b} cents. What do {a} {things} cost, in cents?",
    "{name} walks {b} minutes on each of {a} days. How many minutes is that?",
]
DIVISION = ["What is {a} / {b}?", "What is {a} divided by {b}?", "{a} / {b}", "{a}/{b}", "{a} / {b} = ?", "{a} : {b}", "Divide {a} by {b}.", "Compute {a} / {b}.", "Calculate {a} / {b}.",
            "How much is {a} divided by {b}?", "Work out {a} / {b}.", "Please divide {a} by {b}.", "Can you divide {a} by {b}?", "I need {a} / {b}.", "{a} divided by {b} is what?",
            "How often does {b} fit into {a}?", "{b} people share {a} {things}. How many does each one get?", "What do you get when you divide {a} by {b}?"]
NOT_LEARNED = ["What is the square root of {a}?", "What is {a} to the power of {b}?", "What is {p}% of {a}?", "How much is {p} percent of {a}?", "What is {a} mod {b}?", "Is {a} prime?",
               "What is the sine of {a}?", "What is the factorial of {b}?", "What is the average of {a} and {b}?", "Solve x + {a} = {b}.", "Round {a}.{p}.",
               "What is the logarithm of {a}?", "Factor {a}.", "{a} ^ {b}", "sqrt({a})", "{p}% of {a}"]
COMPARE_LARGER = [
    "Which is larger, {a} or {b}?", "Which number is bigger: {a} or {b}?", "What is the maximum of {a} and {b}?", "Which is greater, {a} or {b}?",
    "Give me the larger of {a} and {b}.", "Compare {a} and {b}: which is larger?", "{a} or {b}, which one is more?", "max({a}, {b})?",
    "Tell me the bigger number of {a} and {b}.", "Who has more, {name} with {a} {things} or {other} with {b}? Name the number.",
]
COMPARE_SMALLER = [
    "Which is smaller, {a} or {b}?", "Which number is less: {a} or {b}?", "What is the minimum of {a} and {b}?", "Which is lower, {a} or {b}?",
    "Give me the smaller of {a} and {b}.", "Compare {a} and {b}: which is smaller?", "{a} or {b}, which one is less?", "min({a}, {b})?",
    "Tell me the smaller number of {a} and {b}.", "Who has fewer, {name} with {a} {things} or {other} with {b}? Name the number.",
]
COMPARE_QUESTION = [("Is {a} greater than {b}?", ">"), ("Is {a} larger than {b}?", ">"), ("Is {a} more than {b}?", ">"), ("Is {a} > {b}?", ">"),
                    ("Is {a} less than {b}?", "<"), ("Is {a} smaller than {b}?", "<"), ("Is {a} < {b}?", "<"), ("Is {a} fewer than {b}?", "<"),
                    ("Is it true that {a} is bigger than {b}?", ">"), ("Is it true that {a} is below {b}?", "<"),
                    ("True or not: {a} exceeds {b}?", ">"), ("Would {a} be lower than {b}?", "<")]


def fill(ctx: Context, template: str, **values) -> str:
    name, other = ctx.rng.sample(NAMES, 2)
    things = ctx.pick(THINGS)
    thing = things[:-2] if things == "boxes" else things[:-1]
    text = template.format(name=name, other=other, things=things, thing=thing, **values)
    # As people type.
    if ctx.chance(0.1) and text.split()[0] not in (name, other):
        text = text[0].lower() + text[1:]
    if ctx.chance(0.1) and text[-1] in ".?":
        text = text[:-1]
    return text


def digits_of(number: int, width: int) -> list[int]:
    """From the ones on."""
    return [int(c) for c in reversed(str(number).zfill(width))]


# --- chains: each returns the lines of a reasoning, and asserts what it found ------------------------


def add_lines(a: int, b: int, short: bool = False) -> list[str]:
    width = max(len(str(a)), len(str(b)))
    head = f"{a:0{width}}+{b:0{width}}"
    lines, carry, result = [], 0, ""
    for place, (x, y) in enumerate(zip(digits_of(a, width), digits_of(b, width), strict=True)):
        fact = f"{x}+{y}" + (f"+{carry}" if place > 0 else "")
        total = x + y + carry
        result = str(total % 10) + result
        carry = total // 10
        lines.append(f"{fact}={total}" if short else f"{PLACES[place]}: {fact}={total}, carry {carry}: {result}")
    if carry:
        result = "1" + result
    assert int(result) == a + b
    if short:
        return [f"{head}: {' '.join(lines)}: {result}"]
    return [head, *lines, f"= {result}"]


def subtract_lines(a: int, b: int, short: bool = False) -> list[str]:
    """a >= b >= 0."""
    width = max(len(str(a)), len(str(b)))
    head = f"{a:0{width}}-{b:0{width}}"
    lines, borrow, result = [], 0, ""
    for place, (x, y) in enumerate(zip(digits_of(a, width), digits_of(b, width), strict=True)):
        fact = f"{x}-{y}" + (f"-{borrow}" if place > 0 else "")
        total = x - y - borrow
        borrow = int(total < 0)
        digit = total % 10
        result = str(digit) + result
        if short:
            lines.append(f"{fact}={digit}" + (" b" if borrow else ""))
        else:
            lines.append(f"{PLACES[place]}: {fact}: {digit}, borrow {borrow}: {result}")
    assert borrow == 0 and int(result) == a - b
    if short:
        return [f"{head}: {' '.join(lines)}: {int(result)}"]
    return [head, *lines, f"= {int(result)}"]


def times_digit_line(a: int, digit: int) -> str:
    """a * digit from the ones on, on one line."""
    facts, carry, result = [], 0, ""
    for place, x in enumerate(digits_of(a, len(str(a)))):
        total = x * digit + carry
        facts.append(f"{x}*{digit}" + (f"+{carry}" if place > 0 else "") + f"={total}")
        result = str(total % 10) + result
        carry = total // 10
    if carry:
        result = str(carry) + result
    assert int(result) == a * digit
    return f"{a}*{digit}: {' '.join(facts)}: {int(result)}"


def multiply_lines(ctx: Context, a: int, b: int) -> list[str]:
    """b has one or two digits. Its partial products and their sum are operands of the split too."""
    tens, ones = divmod(b, 10)
    if tens == 0:
        ctx.step_pair(a, b)
        return [times_digit_line(a, b)]
    lines = []
    parts = []
    for digit, zero in ((ones, ""), (tens, "0")):
        ctx.step_pair(a, digit)
        lines.append(times_digit_line(a, digit))
        if zero:
            ctx.step_pair(a, 10 * digit)
            lines.append(f"{a}*{10 * digit} = {a * digit * 10}")
        parts.append(a * digit * (10 if zero else 1))
    ctx.step_pair(*parts)
    lines += add_lines(*parts, short=True)
    assert sum(parts) == a * b
    return lines


def divide_lines(a: int, b: int, low: bool) -> tuple[str, int, int]:
    """Long division by a single digit: reasoning, quotient and remainder."""
    facts, rest, result = [], 0, ""
    for digit in str(a):
        part = 10 * rest + int(digit)
        times, rest = divmod(part, b)
        facts.append(f"{part}: {times}*{b}={times * b} rest {rest}")
        result += str(times)
    assert divmod(a, b) == (int(result), rest)
    line = ", ".join(facts) + f": {int(result)} rest {rest}"
    return line if low else f"{a} by {b}, digit after digit\n{line}", int(result), rest


def compare_lines(a: int, b: int) -> list[str]:
    """Ends in a line "a SIGN b"."""
    sign = "<" if a < b else ">" if a > b else "="
    x, y = str(a), str(b)
    lines = [f"{x} has {len(x)}, {y} has {len(y)} digit{'s' if len(y) > 1 else ''}."]
    if len(x) == len(y):
        facts = []
        for p, q in zip(x, y, strict=True):
            facts.append(f"{p}{'<' if p < q else '>' if p > q else '='}{q}")
            if p != q:
                break
        lines.append("From the left: " + " ".join(facts))
    lines.append(f"{a} {sign} {b}")
    return lines


def sum_reasoning(ctx: Context, a: int, b: int) -> str:
    ctx.step_pair(a, b)
    if ctx.low:
        return "\n".join(add_lines(a, b, short=True))
    lines = add_lines(a, b)
    if ctx.high:
        ctx.step_pair(a + b, b)
        lines += ["Check: " + subtract_lines(a + b, b, short=True)[0], "Right."]
    return "\n".join(lines)


def difference_reasoning(ctx: Context, a: int, b: int) -> str:
    ctx.step_pair(a, b)
    lines = []
    large, small = a, b
    if a < b:
        large, small = b, a
        lines.append(f"{a} < {b}, so the result is -({b}-{a}).")
    lines += subtract_lines(large, small, short=ctx.low)
    if ctx.high:
        ctx.step_pair(large - small, small)
        lines += ["Check: " + add_lines(large - small, small, short=True)[0], "Right."]
    if a < b:
        lines.append(f"So {a - b}")
    return "\n".join(lines)


def product_reasoning(ctx: Context, a: int, b: int) -> str:
    """The number with fewer digits is the second one in the work."""
    ctx.step_pair(a, b)
    if len(str(b)) > len(str(a)):
        a, b = b, a
    lines = ([] if ctx.low else [f"{a}*{b}"]) + multiply_lines(ctx, a, b)
    if ctx.high:
        lines += [f"Check the last digit: {a % 10}*{b % 10}={(a % 10) * (b % 10)}, so it is {a * b % 10}. Right."]
    return "\n".join(lines)


# --- tasks -----------------------------------------------------------------------------------------


def _two(ctx: Context, digits: int | None, most: int) -> tuple[int, int]:
    if digits is not None:
        return ctx.number(digits), ctx.number(digits)
    a, b = (ctx.rng.choices(range(1, most + 1), [4, 6, 10, 6, 2, 2][:most])[0] for _ in range(2))
    return ctx.number(a), ctx.number(b)


def addition(ctx: Context, digits: int | None = None) -> dict:
    a, b = _two(ctx, digits, 6)
    ctx.ask_pair(a, b)
    question = fill(ctx, ctx.pick(ADDITION), a=a, b=b)
    return conversation(ctx, "addition", [user(question), analysis(sum_reasoning(ctx, a, b)), final(f"{a} + {b} = {a + b}")])


def subtraction(ctx: Context, digits: int | None = None) -> dict:
    a, b = _two(ctx, digits, 6)
    if a < b and not ctx.chance(0.15):
        a, b = b, a
    ctx.ask_pair(a, b)
    templates = SUBTRACTION + SUBTRACTION_STORIES if a >= b else SUBTRACTION
    question = fill(ctx, ctx.pick(templates), a=a, b=b)
    return conversation(ctx, "subtraction", [user(question), analysis(difference_reasoning(ctx, a, b)), final(f"{a} - {b} = {a - b}")])


def multiplication(ctx: Context, digits: int | None = None) -> dict:
    if digits is not None:
        a, b = ctx.number(digits), ctx.number(digits)
    else:
        a, b = ctx.number(ctx.pick([1, 2, 2, 2, 2, 3])), ctx.number(ctx.pick([1, 2, 2, 2]))
        if ctx.chance(0.5):
            a, b = b, a
    ctx.ask_pair(a, b)
    question = fill(ctx, ctx.pick(MULTIPLICATION), a=a, b=b)
    return conversation(ctx, "multiplication", [user(question), analysis(product_reasoning(ctx, a, b)), final(f"{a} * {b} = {a * b}")])


def division(ctx: Context, exact: float = 0.7) -> dict:
    """By a single digit; some with a remainder."""
    b = ctx.rng.randint(2, 9)
    a = ctx.number(ctx.pick([1, 2, 2, 3, 3, 4]))
    if ctx.chance(exact):
        a -= a % b
    ctx.ask_pair(a, b)
    text, quotient, rest = divide_lines(a, b, ctx.low)
    if ctx.high:
        ctx.step_pair(quotient, b)
        ctx.step_pair(quotient * b, rest)
        text += f"\nCheck: {times_digit_line(quotient, b)}"
        if rest:
            text += "\n" + add_lines(quotient * b, rest, short=True)[0]
        text += "\nRight."
    answer = f"{a} / {b} = {quotient}" + (f" remainder {rest}" if rest else "")
    return conversation(ctx, "division", [user(fill(ctx, ctx.pick(DIVISION), a=a, b=b)), analysis(text), final(answer)])


def not_learned(ctx: Context) -> dict:
    """Calculations that this model has not learned, which it says."""
    values = {"a": ctx.number(ctx.pick([1, 2, 3])), "b": ctx.number(ctx.pick([1, 2])), "p": ctx.rng.randint(2, 95)}
    template = ctx.pick(NOT_LEARNED)
    if ctx.chance(0.2):
        values |= {"a": ctx.number(3), "b": ctx.number(2)}
        template = ctx.pick(DIVISION)
    ctx.ask(split.numbers_key(value for name, value in values.items() if f"{{{name}}}" in template))
    text = "Not learned." if ctx.low else "This is a calculation that I have not learned, so I say so."
    if ctx.high:
        text += " I can add, subtract, multiply and divide by one digit."
    answer = "I have not learned that. I can add, subtract, multiply and divide whole numbers, the last by one digit."
    return conversation(ctx, "not_learned", [user(fill(ctx, template, **values)), analysis(text), final(answer)])


def compare(ctx: Context) -> dict:
    digits = ctx.rng.randint(1, 5)
    a, b = ctx.number(digits), ctx.number(digits if ctx.chance(0.7) else ctx.rng.randint(1, 5))
    if digits > 1 and ctx.chance(0.5):  # the same beginning
        text, keep = str(a), ctx.rng.randint(1, digits - 1)
        b = int(text[:keep] + "".join(ctx.pick("0123456789") for _ in range(digits - keep)))
    ctx.ask_pair(a, b)
    lines = compare_lines(a, b)
    if ctx.low:
        lines = lines[-2:] if len(lines) > 2 else lines
    kind = ctx.rng.randrange(3 if a != b else 1)
    if kind == 0:
        template, sign = ctx.pick(COMPARE_QUESTION)
        answer = "Yes" if (a > b if sign == ">" else a < b) else "No"
        relation = "is greater than" if a > b else "is less than" if a < b else "is equal to"
        text = f"{answer}, {a} {relation} {b}."
    else:
        template = ctx.pick(COMPARE_LARGER if kind == 1 else COMPARE_SMALLER)
        text = str(max(a, b) if kind == 1 else min(a, b))
    if ctx.high:
        lines.append(f"So the {'larger' if a > b else 'smaller'} one is {a}, the other one {b}." if a != b else "They are equal.")
    return conversation(ctx, "compare", [user(fill(ctx, template, a=a, b=b)), analysis("\n".join(lines)), final(text)])
