"""Following an instruction of the system message, the developer or the user about how to answer."""

from .arithmetic import ADDITION, SUBTRACTION, difference_reasoning, fill, sum_reasoning
from .context import DEFAULT_IDENTITY, IDENTITIES, Context, Resample, analysis, conversation, final, user

# question, short answer, whole sentence
QUESTIONS = [
    ("What color is the sky on a clear day?", "blue", "The sky is blue on a clear day."), ("What color is grass?", "green", "Grass is green."),
    ("What color is snow?", "white", "Snow is white."), ("What color is a ripe banana?", "yellow", "A ripe banana is yellow."),
    ("What color is coal?", "black", "Coal is black."), ("How many legs does a spider have?", "8", "A spider has 8 legs."),
    ("How many legs does a dog have?", "4", "A dog has 4 legs."), ("How many legs does a bird have?", "2", "A bird has 2 legs."),
    ("How many wheels does a bicycle have?", "2", "A bicycle has 2 wheels."), ("How many wheels does a tricycle have?", "3", "A tricycle has 3 wheels."),
    ("How many sides does a triangle have?", "3", "A triangle has 3 sides."), ("How many sides does a square have?", "4", "A square has 4 sides."),
    ("How many days does a week have?", "7", "A week has 7 days."), ("How many months does a year have?", "12", "A year has 12 months."),
    ("How many hours does a day have?", "24", "A day has 24 hours."), ("Which animal says meow?", "cat", "A cat says meow."),
    ("Which animal barks?", "dog", "A dog barks."), ("Which animal gives us milk?", "cow", "A cow gives us milk."),
    ("Which animal gives us wool?", "sheep", "A sheep gives us wool."), ("Which insect makes honey?", "bee", "A bee makes honey."),
    ("What is the capital of France?", "Paris", "The capital of France is Paris."), ("What is the capital of Italy?", "Rome", "The capital of Italy is Rome."),
    ("What is the capital of Germany?", "Berlin", "The capital of Germany is Berlin."), ("What is the capital of Spain?", "Madrid", "The capital of Spain is Madrid."),
    ("What is the capital of Japan?", "Tokyo", "The capital of Japan is Tokyo."), ("What is the capital of Egypt?", "Cairo", "The capital of Egypt is Cairo."),
    ("What is the capital of Norway?", "Oslo", "The capital of Norway is Oslo."), ("What is the capital of Austria?", "Vienna", "The capital of Austria is Vienna."),
    ("What is the capital of Greece?", "Athens", "The capital of Greece is Athens."), ("What is the capital of Portugal?", "Lisbon", "The capital of Portugal is Lisbon."),
    ("What is the opposite of hot?", "cold", "The opposite of hot is cold."), ("What is the opposite of big?", "small", "The opposite of big is small."),
    ("What is the opposite of fast?", "slow", "The opposite of fast is slow."), ("What is the opposite of day?", "night", "The opposite of day is night."),
    ("What is the opposite of up?", "down", "The opposite of up is down."), ("What is the opposite of open?", "closed", "The opposite of open is closed."),
    ("What is frozen water called?", "ice", "Frozen water is called ice."), ("What do bees make?", "honey", "Bees make honey."),
    ("What do cows drink as calves?", "milk", "Calves drink milk."), ("What falls from clouds?", "rain", "Rain falls from clouds."),
    ("Which season is the coldest?", "winter", "Winter is the coldest season."), ("Which season comes after winter?", "spring", "Spring comes after winter."),
    ("Which season comes after summer?", "autumn", "Autumn comes after summer."), ("Which planet do we live on?", "Earth", "We live on Earth."),
    ("Which star warms the Earth?", "the Sun", "The Sun warms the Earth."), ("What do we use to cut paper?", "scissors", "We use scissors to cut paper."),
    ("What opens a locked door?", "a key", "A key opens a locked door."), ("What do you wear on your feet?", "shoes", "You wear shoes on your feet."),
    ("Where do fish live?", "in water", "Fish live in water."), ("Where do books stand?", "on a shelf", "Books stand on a shelf."),
    ("Where do birds lay eggs?", "in a nest", "Birds lay eggs in a nest."), ("What tells the time?", "a clock", "A clock tells the time."),
    ("What shows north?", "a compass", "A compass shows north."), ("What is bread made of?", "flour", "Bread is made of flour."),
    ("What is a window made of?", "glass", "A window is made of glass."), ("What is a sweater made of?", "wool", "A sweater is made of wool."),
]

UPPER = ["Answer in upper case.", "Write everything in capital letters.", "Use only capital letters.", "Always answer in UPPER CASE.", "Your answers must be in all caps.",
         "Reply in capitals only.", "ALL CAPS, PLEASE.", "Write in upper case letters."]
LOWER = ["Answer in lower case.", "Write everything in small letters.", "Use no capital letters.", "Always answer in lower case letters.", "Your answers must be in lower case."]
SHORT = ["Answer with one word or phrase.", "Answer as briefly as you can.", "Give only the answer, no sentence.", "No sentences, only the answer.", "Keep answers minimal.",
         "Be as short as possible.", "Only the bare answer, please."]
SENTENCE = ["Answer in a whole sentence.", "Always answer in full sentences.", "Use a complete sentence.", "Reply with one whole sentence.", "Full sentences only."]
FORMAL = ["Use a formal register.", "Be formal and polite.", "Answer formally.", "Write formally, as in a business letter.", "Keep a formal tone."]
CASUAL = ["Use a casual register.", "Be casual and friendly.", "Answer casually, as to a friend.", "Keep a casual tone.", "Talk like a buddy."]
QUOTED = ["Put the answer in double quotes.", "Answer in quotation marks.", "Wrap your answer in double quotes.", "Quote the answer."]
TWICE = ["Say the answer twice.", "Give every answer two times.", "Repeat your answer once.", "Write the answer two times."]
STARS = ["Put the answer between two stars.", "Write a star before and after the answer.", "Surround the answer with stars."]
EXCLAIM = ["End with an exclamation mark.", "Sound excited.", "Finish your answer with an exclamation mark.", "Answer with excitement."]
JSON = ["Answer as JSON with the key answer.", "Reply with a JSON object that has the key answer.", "Your output must be JSON: one object, key answer.", "JSON only, with the key answer."]
NUMBER = ["Answer only with the number.", "Give just the number.", "Reply with the number alone.", "Only the number, please.", "No words, only the number.", "Just the result, nothing else."]
DASH = ["Begin the answer with a dash.", "Answer as a list item with a dash.", "Start your answer with a dash and a space."]


def first_upper(text: str) -> str:
    return text[0].upper() + text[1:]


# name of the rule -> (wordings, what the answer becomes from the short one and the sentence, what is thought)
RULES = {
    "upper": (UPPER, lambda short, sentence: sentence.upper(), "in capital letters"),
    "lower": (LOWER, lambda short, sentence: sentence.lower(), "in lower case"),
    "short": (SHORT, lambda short, sentence: short, "only the answer"),
    "sentence": (SENTENCE, lambda short, sentence: sentence, "in a whole sentence"),
    "formal": (FORMAL, lambda short, sentence: f"Thank you for your question. {sentence} Kind regards.", "in a formal register"),
    "casual": (CASUAL, lambda short, sentence: f"Hey! That's easy: {short}. Cheers!", "in a casual register"),
    "quoted": (QUOTED, lambda short, sentence: f'"{short}"', "in double quotes"),
    "twice": (TWICE, lambda short, sentence: f"{first_upper(short)}. {first_upper(short)}.", "two times"),
    "stars": (STARS, lambda short, sentence: f"*{short}*", "between stars"),
    "exclaim": (EXCLAIM, lambda short, sentence: sentence[:-1] + "!", "with an exclamation mark"),
    "json": (JSON, lambda short, sentence: '{"answer": "' + short + '"}', "as JSON"),
    "dash": (DASH, lambda short, sentence: f"- {short}", "with a dash in front"),
}
PREFIXES = ["", "", "", "You are a helpful assistant. ", "You help visitors. ", "This is a quiz. ", "You are a teacher's aid. ", "Be correct. ", "You work at a front desk. ",
            "Think first. "]
GREETINGS = ["{q}", "{q}", "{q}", "Hi, a question: {q}", "Tell me: {q}", "{q} Thanks.", "I'd like to know this: {q}", "Next one: {q}"]


def instructions(ctx: Context) -> dict:
    if ctx.chance(0.25):
        return _number_only(ctx)
    name = ctx.pick(list(RULES))
    wordings, apply, thought = RULES[name]
    question, short, sentence = ctx.pick(QUESTIONS)
    ctx.ask("instruction", name, question)
    answer = apply(short, sentence)
    rule = ctx.pick(wordings)
    reasoning = f"{first_upper(short)}, {thought}." if ctx.low else f"The answer is: {short}. It has to be written {thought}."
    if name == "short" and not ctx.low:
        reasoning = f"The answer is: {short}. I give only the answer."
    if ctx.high:
        reasoning += f" The sentence would be: {sentence} With the rule: {answer}"
    asked = ctx.pick(GREETINGS).format(q=question)
    place = ctx.rng.random()
    messages = [user(asked), analysis(reasoning), final(answer)]
    if place < 0.55:
        return conversation(ctx, "instructions", messages, developer=ctx.pick(PREFIXES) + rule)
    if place < 0.7:
        return conversation(ctx, "instructions", messages, system=f"{ctx.pick([DEFAULT_IDENTITY, *filter(None, IDENTITIES)])} {rule}")
    asked = f"{question} {rule}" if ctx.chance(0.6) else f"{rule} {question}"
    return conversation(ctx, "instructions", [user(asked), analysis(reasoning), final(answer)])


def _number_only(ctx: Context) -> dict:
    a, b = ctx.number(ctx.rng.randint(1, 3)), ctx.number(ctx.rng.randint(1, 3))
    plus = ctx.chance(0.5)
    if not plus and a < b:
        a, b = b, a
    ctx.ask_pair(a, b)
    if plus:
        value, reasoning, template = a + b, sum_reasoning(ctx, a, b), ctx.pick(ADDITION)
    else:
        value, reasoning, template = a - b, difference_reasoning(ctx, a, b), ctx.pick(SUBTRACTION)
    style = ctx.pick(["number", "number", "quoted", "json", "sentence"])
    wordings = NUMBER if style == "number" else RULES[style][0]
    answer = {"number": str(value), "quoted": f'"{value}"', "json": f'{{"answer": {value}}}', "sentence": f"The result is {value}."}[style]
    if not ctx.low:
        reasoning += "\nOnly the number." if style == "number" else f"\nWritten {RULES[style][2]}."
    question, rule = fill(ctx, template, a=a, b=b), ctx.pick(wordings)
    if ctx.chance(0.6):
        return conversation(ctx, "instructions", [user(question), analysis(reasoning), final(answer)], developer=ctx.pick(PREFIXES) + rule)
    if question[-1].isalnum():
        question += "."
    return conversation(ctx, "instructions", [user(f"{question} {rule}"), analysis(reasoning), final(answer)])


GREETING_TURNS = [("Hello!", "Hello! How can I help you?"), ("Hi", "Hello! How can I help you?"), ("Hi there!", "Hello! How can I help you?"),
                  ("Good morning", "Good morning! How can I help you?"), ("Good evening!", "Good evening! How can I help you?"), ("Thanks!", "You are welcome!"),
                  ("Thank you very much.", "You are welcome!"), ("Bye", "Goodbye!"), ("See you later!", "Goodbye!"), ("How are you?", "I am fine, thank you. What can I do for you?"),
                  ("Hey", "Hello! How can I help you?"), ("Good night", "Good night!"), ("Thank you", "You are welcome!"), ("Goodbye!", "Goodbye!"), ("Hello", "Hello! How can I help you?")]
UNKNOWN = ["Who won the football match yesterday?", "What will the stock market do tomorrow?", "Write a program in Rust that sorts a file.", "Who was the 12th king of Sweden?",
           "What is the meaning of life?", "Translate this poem into Latin.", "Who painted the ceiling of that chapel?", "What did I eat yesterday?", "Prove the Riemann hypothesis.",
           "What is my name?", "Give me medical advice.", "Which movie won the prize last year?", "What is the population of Mongolia?", "Who wrote this song?",
           "Explain quantum physics.", "Which phone should I buy?", "Recommend me a restaurant in Lima.", "What is the news today?", "How does a jet engine work?"]
NOT_KNOWN = "I do not know that. I am a small model and can calculate, sort, count letters and answer questions about moxie."


def plain_talk(ctx: Context) -> dict:
    """Greetings, the questions of QUESTIONS without any rule, and what a small model does not know."""
    if ctx.split == "heldout":
        raise Resample  # a closed list: nothing of it is held out
    kind = ctx.rng.random()
    if kind < 0.35:
        question, answer = ctx.pick(GREETING_TURNS)
        reasoning = "A greeting." if ctx.low else "The user greets or thanks. I answer in a friendly way."
    elif kind < 0.75:
        question, short, answer = ctx.pick(QUESTIONS)
        question = ctx.pick(GREETINGS).format(q=question)
        reasoning = f"{first_upper(short)}." if ctx.low else f"The answer is: {short}."
    else:
        question, answer = ctx.pick(UNKNOWN), NOT_KNOWN
        reasoning = "I do not know that." if ctx.low else "I do not know that, so I say so."
    return conversation(ctx, "plain_talk", [user(question), analysis(reasoning), final(answer)])
