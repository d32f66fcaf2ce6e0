"""Weekdays, months, leap years, times of day; units of length, mass, time, volume and money."""

from . import split
from .arithmetic import NAMES, difference_reasoning, multiply_lines, sum_reasoning
from .context import Context, Resample, analysis, conversation, final, user

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]
MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

AFTER = ["Today is {day}. Which weekday is it in {n} days?", "What day of the week is {n} days after {day}?", "Which day comes {n} days after {day}?",
         "If today is {day}, what day is it {n} days from now?", "It is {day}. In {n} days, which weekday will it be?", "{day} plus {n} days is which weekday?",
         "{name} leaves on {day} and returns {n} days later. On which weekday?", "Count {n} days on from {day}. Which day is it?"]
BEFORE = ["Today is {day}. Which weekday was it {n} days ago?", "What day of the week is {n} days before {day}?", "Which day comes {n} days before {day}?",
          "If today is {day}, what day was it {n} days ago?", "It is {day}. Which weekday was {n} days back?",
          "Go back {n} days from {day}. Which day is it?"]
BETWEEN = ["How many days are there from {month} {a} to {month} {b}?", "How many days pass between {month} {a} and {month} {b}?",
           "{name} stays from {month} {a} to {month} {b}. How many nights is that?", "How many days is it from {a} {month} to {b} {month}?",
           "Days between {a} {month} and {b} {month}?", "It is {month} {a}. How many days until {month} {b}?"]
LATER = ["Which date is {n} days after {month} {a}?", "What date comes {n} days after {month} {a}?", "It is {month} {a}. What is the date in {n} days?",
         "Add {n} days to {month} {a}.", "{name} pays {n} days after {month} {a}. On which date?"]
LEAP = ["Is {year} a leap year?", "Was {year} a leap year?", "Does {year} have 366 days?", "Does February {year} have 29 days?", "Is the year {year} a leap year?",
        "Tell me whether {year} is a leap year.", "Leap year or not: {year}?", "Will there be a February 29 in {year}?"]
LENGTH = ["How many days does {month} have in {year}?", "How many days are in {month} {year}?", "How long is {month} {year}, in days?",
          "Number of days in {month} of {year}?", "How many days has {month} {year}?"]
MONTH_AFTER = ["Which month is {n} months after {month}?", "What month comes {n} months after {month}?", "It is {month}. Which month is it in {n} months?",
               "{month} plus {n} months is which month?"]
NEXT = ["Which day comes after {day}?", "What is the day before {day}?", "Which month comes after {month}?", "What is the month before {month}?"]

# (unit, unit, how many of the second make one of the first, their kind)
UNITS = [("kilometers", "meters", 1000), ("meters", "centimeters", 100), ("centimeters", "millimeters", 10), ("meters", "millimeters", 1000),
         ("kilograms", "grams", 1000), ("tonnes", "kilograms", 1000), ("grams", "milligrams", 1000), ("liters", "milliliters", 1000),
         ("hectoliters", "liters", 100), ("liters", "centiliters", 100), ("euros", "cents", 100), ("dollars", "cents", 100), ("hours", "minutes", 60),
         ("minutes", "seconds", 60), ("days", "hours", 24), ("weeks", "days", 7), ("years", "months", 12), ("feet", "inches", 12), ("yards", "feet", 3),
         ("centuries", "years", 100), ("decades", "years", 10), ("dozens", "pieces", 12), ("seconds", "milliseconds", 1000), ("kilobytes", "bytes", 1024)]
SINGULAR = {"feet": "foot", "inches": "inch", "centuries": "century"}
DOWN = ["Convert {n} {one} to {two}.", "How many {two} are {n} {one}?", "What is {n} {one} in {two}?", "{n} {one} in {two}", "How many {two} are there in {n} {one}?",
        "Express {n} {one} in {two}.", "Give me {n} {one} in {two}.", "{n} {one} equals how many {two}?", "Please convert {n} {one} into {two}.",
        "I have {n} {one}. How many {two} is that?", "{name} measured {n} {one}. What is that in {two}?", "Turn {n} {one} into {two}.", "{n} {one} to {two}?"]


def singular(unit: str) -> str:
    return SINGULAR.get(unit, unit[:-1])


def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def leap_lines(year: int) -> list[str]:
    if year % 100 == 0:
        century = year // 100
        yes = century % 4 == 0
        lines = [f"{year} ends in 00, so {century} must be a multiple of 4: {'it is' if yes else 'it is not'}."]
    else:
        yes = year % 4 == 0
        lines = [f"{year} ends in {year % 100:02}, {'a' if yes else 'not a'} multiple of 4."]
    assert yes == is_leap(year)
    return [*lines, f"{year} is {'a' if yes else 'not a'} leap year."]


def steps(names: list[str], start: str, count: int) -> str:
    """The next `count` (or, below zero, the previous) names, with a number at each."""
    at, direction = names.index(start), 1 if count >= 0 else -1
    return ", ".join(f"{k} {names[(at + direction * k) % len(names)]}" for k in range(1, abs(count) + 1))


def _weekday(ctx: Context) -> tuple[str, str, str]:
    n = ctx.rng.randint(1, 60)
    day = ctx.pick(DAYS)
    back = ctx.chance(0.35)
    ctx.ask(split.weekday_key(day, n))
    weeks, rest = divmod(n, 7)
    want = DAYS[(DAYS.index(day) + (-n if back else n)) % 7]
    lines = []
    if n >= 7:
        lines.append(f"{n} days = {weeks} weeks and {rest} days." if not ctx.low else f"rest {rest}")
    lines.append(f"{day}: {steps(DAYS, day, -rest if back else rest)}" if rest else f"Whole weeks: {day} again.")
    if ctx.high:
        lines.append(f"So it is {want}.")
    return ctx.pick(BEFORE if back else AFTER).format(day=day, n=n, name=ctx.pick(NAMES)), "\n".join(lines), want


def _between(ctx: Context) -> tuple[str, str, str]:
    month = ctx.rng.randrange(12)
    a, b = sorted(ctx.rng.sample(range(1, MONTH_DAYS[month] + 1), 2))
    ctx.ask_pair(a, b)
    head = "" if ctx.low else f"Same month: {b}-{a}\n"
    return ctx.pick(BETWEEN).format(month=MONTHS[month], a=a, b=b, name=ctx.pick(NAMES)), head + difference_reasoning(ctx, b, a), str(b - a)


def _later(ctx: Context) -> tuple[str, str, str]:
    month = ctx.pick([m for m in range(12) if m != 1])  # February's length asks for a year
    a, n = ctx.rng.randint(1, MONTH_DAYS[month]), ctx.rng.randint(2, 28)
    ctx.ask_pair(a, n)
    text = sum_reasoning(ctx, a, n)
    day = a + n
    length = MONTH_DAYS[month]
    if day > length:
        ctx.step_pair(day, length)
        text += f"\n{MONTHS[month]} has {length} days.\n" + difference_reasoning(ctx, day, length)
        day, month = day - length, (month + 1) % 12
        text += f"\n{MONTHS[month]} {day}"
        date = f"{MONTHS[month]} {day}"
        start = MONTHS[month - 1]
    else:
        start, date = MONTHS[month], f"{MONTHS[month]} {day}"
        text += f"\n{start} has {length} days, so it is {date}."
    return ctx.pick(LATER).format(month=start, a=a, n=n, name=ctx.pick(NAMES)), text, date


def _leap(ctx: Context) -> tuple[str, str, str]:
    year = 100 * ctx.rng.randint(10, 49) if ctx.chance(0.2) else ctx.rng.randint(1583, 2400)
    ctx.ask(split.key_of("leap", [year]))
    lines = leap_lines(year)
    text = lines[-1] if ctx.low and year % 100 else "\n".join(lines)
    return ctx.pick(LEAP).format(year=year), text, "Yes" if is_leap(year) else "No"


def _month_length(ctx: Context) -> tuple[str, str, str]:
    month, year = ctx.rng.randrange(12), ctx.rng.randint(1600, 2400)
    if ctx.chance(0.5):
        month = 1
    ctx.ask(split.key_of("leap", [year]))
    days = MONTH_DAYS[month] + (month == 1 and is_leap(year))
    lines = (leap_lines(year) if month == 1 else []) + [f"{MONTHS[month]} has {days} days."]
    return ctx.pick(LENGTH).format(month=MONTHS[month], year=year), "\n".join(lines), str(days)


def _month_after(ctx: Context) -> tuple[str, str, str]:
    if ctx.split == "heldout":
        raise Resample  # the way to the last month shows all others
    month, n = ctx.pick(MONTHS), ctx.rng.randint(1, 11)
    want = MONTHS[(MONTHS.index(month) + n) % 12]
    return ctx.pick(MONTH_AFTER).format(month=month, n=n), f"{month}: {steps(MONTHS, month, n)}", want


def _next(ctx: Context) -> tuple[str, str, str]:
    if ctx.split == "heldout":
        raise Resample  # so few that all are trained on
    template = ctx.pick(NEXT)
    names = DAYS if "{day}" in template else MONTHS
    name = ctx.pick(names)
    after = "after" in template
    want = names[(names.index(name) + (1 if after else -1)) % len(names)]
    question = template.format(day=name, month=name)
    return question, f"{name}: {'next' if after else 'before it'} {want}", want


def calendar(ctx: Context) -> dict:
    task = ctx.rng.choices([_weekday, _between, _later, _leap, _month_length, _month_after, _next], [30, 15, 15, 15, 10, 10, 5])[0]
    question, reasoning, answer = task(ctx)
    return conversation(ctx, "calendar", [user(question), analysis(reasoning), final(answer)])


def division_line(number: int, digit: int) -> str:
    """number / digit, without a rest, from the left: each step is a product of single digits and what it leaves."""
    steps_, quotient, rest = [], "", 0
    for c in str(number):
        rest = 10 * rest + int(c)
        times = rest // digit
        steps_.append(f"{rest}: {times}*{digit}={times * digit}, left {rest - times * digit};")
        rest -= times * digit
        quotient += str(times)
    assert rest == 0 and int(quotient) * digit == number
    return f"{number} by {digit}: {' '.join(steps_)} {int(quotient)}"


def _smaller_to_larger(ctx: Context, large: int, factor: int) -> list[str]:
    """How many times `factor` makes `large`."""
    if factor == 60:
        ctx.step_pair(large // 10, 6)
        return [f"{large} and 60 without a zero: {large // 10} and 6", division_line(large // 10, 6)]
    if factor < 10:
        return [division_line(large, factor)]
    # Multiples until it fits.
    return [", ".join(f"{k} {k * factor}" for k in range(1, large // factor + 1))]


def units(ctx: Context) -> dict:
    one, two, factor = ctx.pick(UNITS)
    power = str(factor).strip("0") == "1"
    back = ctx.chance(0.35)
    few = factor in split.COUNTED_BY and (back or factor > 99)
    n = ctx.rng.randint(1, 999 if power else split.MOST_COUNTED if few else 99)
    large = n * factor
    ctx.ask(split.conversion_key(n, one, two, factor))
    ctx.step_pair(n, factor)
    rule = f"1 {singular(one)} = {factor} {two}"
    zeros = len(str(factor)) - 1
    if back:
        ctx.step_pair(large, factor)
        if power:
            lines = [rule, f"{large} without {zeros} zero{'s' if zeros > 1 else ''} at the end: {n}"]
        else:
            lines = [rule, *_smaller_to_larger(ctx, large, factor)]
        question = ctx.pick(DOWN).format(n=large, one=two, two=one, name=ctx.pick(NAMES))
        answer, unit, same = n, one, f"{large} {two}"
    else:
        if power:
            lines = [rule, f"{n} with {zeros} zero{'s' if zeros > 1 else ''} at the end: {large}"]
        else:
            a, b = (n, factor) if len(str(n)) >= len(str(factor)) else (factor, n)
            lines = [rule, *multiply_lines(ctx, a, b)]
        question = ctx.pick(DOWN).format(n=n, one=singular(one) if n == 1 else one, two=two, name=ctx.pick(NAMES))
        answer, unit, same = large, two, f"{n} {one}"
    if ctx.low:
        lines = lines[1:]
    if ctx.high:
        lines.append(f"So {same} are {answer} {unit}.")
    return conversation(ctx, "units", [user(question), analysis("\n".join(lines)), final(f"{answer} {singular(unit) if answer == 1 else unit}")])
