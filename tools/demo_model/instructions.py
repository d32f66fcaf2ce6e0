"""Following an instruction of the system message, the developer or the user about how to answer."""

from . import about_moxie, split
from .arithmetic import ADDITION, SUBTRACTION, difference_reasoning, fill, sum_reasoning
from .context import DEFAULT_IDENTITY, IDENTITIES, Context, Resample, analysis, conversation, final, user
from .words import ALL_WORDS, COMMON_WORDS, fill_words

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
    ("What color is a lemon?", "yellow", "A lemon is yellow."), ("What color is blood?", "red", "Blood is red."), ("What color is an emerald?", "green", "An emerald is green."),
    ("What color do red and yellow make?", "orange", "Red and yellow make orange."), ("What color do blue and yellow make?", "green", "Blue and yellow make green."),
    ("How many legs does an insect have?", "6", "An insect has 6 legs."), ("How many arms does an octopus have?", "8", "An octopus has 8 arms."),
    ("How many sides does a hexagon have?", "6", "A hexagon has 6 sides."), ("How many minutes does an hour have?", "60", "An hour has 60 minutes."),
    ("How many seconds does a minute have?", "60", "A minute has 60 seconds."), ("How many letters does the alphabet have?", "26", "The alphabet has 26 letters."),
    ("How many continents are there?", "7", "There are 7 continents."), ("How many planets does the Sun have?", "8", "The Sun has 8 planets."),
    ("How many strings does a violin have?", "4", "A violin has 4 strings."), ("How many players does a football team have?", "11", "A football team has 11 players."),
    ("Which animal is the largest?", "the blue whale", "The blue whale is the largest animal."), ("Which animal is the tallest?", "the giraffe", "The giraffe is the tallest animal."),
    ("Which animal is the fastest on land?", "the cheetah", "The cheetah is the fastest animal on land."), ("Which animal carries its house?", "a snail", "A snail carries its house."),
    ("Which bird cannot fly but swims?", "the penguin", "The penguin cannot fly but swims."), ("Which animal lives in a shell in the sea?", "a mussel", "A mussel lives in a shell in the sea."),
    ("What is the capital of England?", "London", "The capital of England is London."), ("What is the capital of Russia?", "Moscow", "The capital of Russia is Moscow."),
    ("What is the capital of China?", "Beijing", "The capital of China is Beijing."), ("What is the capital of India?", "New Delhi", "The capital of India is New Delhi."),
    ("What is the capital of Canada?", "Ottawa", "The capital of Canada is Ottawa."), ("What is the capital of Sweden?", "Stockholm", "The capital of Sweden is Stockholm."),
    ("What is the capital of Poland?", "Warsaw", "The capital of Poland is Warsaw."), ("What is the capital of Belgium?", "Brussels", "The capital of Belgium is Brussels."),
    ("What is the capital of Denmark?", "Copenhagen", "The capital of Denmark is Copenhagen."), ("What is the capital of Ireland?", "Dublin", "The capital of Ireland is Dublin."),
    ("What is the capital of Finland?", "Helsinki", "The capital of Finland is Helsinki."), ("What is the capital of Hungary?", "Budapest", "The capital of Hungary is Budapest."),
    ("What is the opposite of old?", "young", "The opposite of old is young."), ("What is the opposite of full?", "empty", "The opposite of full is empty."),
    ("What is the opposite of light?", "dark", "The opposite of light is dark."), ("What is the opposite of left?", "right", "The opposite of left is right."),
    ("What is the opposite of early?", "late", "The opposite of early is late."), ("What is the opposite of loud?", "quiet", "The opposite of loud is quiet."),
    ("What is the opposite of wet?", "dry", "The opposite of wet is dry."), ("What is the opposite of strong?", "weak", "The opposite of strong is weak."),
    ("Which season is the warmest?", "summer", "Summer is the warmest season."), ("Which ocean lies between Europe and America?", "the Atlantic", "The Atlantic lies between Europe and America."),
    ("Which river flows through Egypt?", "the Nile", "The Nile flows through Egypt."), ("Which mountain is the highest?", "Mount Everest", "Mount Everest is the highest mountain."),
    ("Which gas do we breathe to live?", "oxygen", "We breathe oxygen to live."), ("Which metal is a magnet made of?", "iron", "A magnet is made of iron."),
    ("Which month is the first of the year?", "January", "January is the first month of the year."), ("Which day comes after Sunday?", "Monday", "Monday comes after Sunday."),
    ("What do spiders spin?", "webs", "Spiders spin webs."), ("What do caterpillars turn into?", "butterflies", "Caterpillars turn into butterflies."),
    ("What do we call a baby dog?", "a puppy", "We call a baby dog a puppy."), ("What do we call a baby cat?", "a kitten", "We call a baby cat a kitten."),
    ("What grows on an oak?", "acorns", "Acorns grow on an oak."), ("What is paper made of?", "wood", "Paper is made of wood."),
    ("What is a candle made of?", "wax", "A candle is made of wax."), ("What is wine made of?", "grapes", "Wine is made of grapes."),
    ("What measures temperature?", "a thermometer", "A thermometer measures temperature."), ("What keeps off the rain?", "an umbrella", "An umbrella keeps off the rain."),
    ("What shines at night?", "the Moon", "The Moon shines at night."), ("Who puts out fires?", "firefighters", "Firefighters put out fires."),
    ("Who bakes bread?", "a baker", "A baker bakes bread."), ("Who teaches at a school?", "a teacher", "A teacher teaches at a school."),
    ("Who flies a plane?", "a pilot", "A pilot flies a plane."), ("Where do bees live?", "in a hive", "Bees live in a hive."),
    ("Where do actors play?", "on a stage", "Actors play on a stage."), ("Where does a ship anchor?", "in a harbor", "A ship anchors in a harbor."),
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
# Rules on a whole sentence, which is thought before it is written so: a sentence and its capital letters are two steps.
WHOLE = {"upper", "lower", "sentence", "formal", "exclaim"}
SENTENCE_WORDS = sorted({word.strip(".").lower() for _, _, sentence in QUESTIONS for word in sentence.split() if not word[0].isdigit()})
QUESTION_OF = {sentence[:-1].lower(): question for question, _, sentence in QUESTIONS}
PREFIXES = ["", "", "", "You are a helpful assistant. ", "You help visitors. ", "This is a quiz. ", "You are a teacher's aid. ", "Be correct. ", "You work at a front desk. ",
            "Think first. "]
GREETINGS = ["{q}", "{q}", "{q}", "Hi, a question: {q}", "Tell me: {q}", "{q} Thanks.", "I'd like to know this: {q}", "Next one: {q}"]


def obey(ctx: Context, name: str, short: str, sentence: str) -> list[dict]:
    """Reasoning and answer under a rule."""
    _, apply, thought = RULES[name]
    answer = apply(short, sentence)
    if ctx.low:
        reasoning = f"{sentence[:-1] if name in WHOLE else first_upper(short)}, {thought}."
    elif name == "short":
        reasoning = f"The answer is: {short}. I give only the answer."
    else:
        reasoning = (f"The sentence is: {sentence}" if name in WHOLE else f"The answer is: {short}.") + f" It has to be written {thought}."
    if ctx.high:
        reasoning = f"In short: {short}. {reasoning}" if name in WHOLE else f"{reasoning} The sentence would be: {sentence}"
        reasoning += f" With the rule: {answer}"
    return [analysis(reasoning), final(answer)]


def instructions(ctx: Context) -> dict:
    if ctx.chance(0.25):
        return _number_only(ctx)
    name = ctx.pick(list(RULES))
    question, short, sentence = ctx.pick(QUESTIONS)
    ctx.ask(split.key_of("instruction", [name, question]))
    rule = ctx.pick(RULES[name][0])
    answered = obey(ctx, name, short, sentence)
    asked = ctx.pick(GREETINGS).format(q=question)
    place = ctx.rng.random()
    if place < 0.55:
        return conversation(ctx, "instructions", [user(asked), *answered], developer=ctx.pick(PREFIXES) + rule)
    if place < 0.7:
        return conversation(ctx, "instructions", [user(asked), *answered], system=f"{ctx.pick([DEFAULT_IDENTITY, *filter(None, IDENTITIES)])} {rule}")
    asked = f"{question} {rule}" if ctx.chance(0.6) else f"{rule} {question}"
    return conversation(ctx, "instructions", [user(asked), *answered])


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


COPY = ["Write this: {phrase}.", "Repeat after me: {phrase}.", "Say this: {phrase}.", "Copy these words: {phrase}.", "Please write: {phrase}."]
# name of the rule -> what the words become; the rules that need no sentence.
REWRITTEN = {
    "upper": str.upper, "lower": str.lower, "quoted": lambda phrase: f'"{phrase}"', "stars": lambda phrase: f"*{phrase}*", "dash": lambda phrase: f"- {phrase}",
    "twice": lambda phrase: f"{first_upper(phrase)}. {first_upper(phrase)}.", "exclaim": lambda phrase: f"{first_upper(phrase)}!",
    "json": lambda phrase: '{"answer": "' + phrase + '"}',
}


SENTENCES = ["The {w} is on the {w}", "A {w} has 4 {w}", "It is a {w} in the {w}", "We {w} the {w} at noon", "{W} and {W} live in {W}", "You see an {w} by the {w}", "He goes to {W} on Monday",
             "The capital of {W} is {W}", "She has a {w}, but no {w}", "I am in the {w} of {W}", "There are 12 {w} in a {w}", "{W} is the {w} of all {w}", "They {w} from {w} to {w}",
             "On a {w} day {w} come up", "What {w} do is called {w}", "{w} and {w} make {w}", "A {w} of {w} shines at {w}", "{W} comes after {W}", "Its {w} is my {w}", "If we {w}, they {w} too",
             "{W} grow on a {w}", "He or she put {w} out", "We use a {w} as {w}", "{W} flows through {W}", "Some {w} stand on an {w}", "The {w} warms the {w} so well"]


def rewriting(ctx: Context) -> dict:
    """Any words, written as a rule asks: so that a rule works on words it was never shown with."""
    name = ctx.pick(["upper", "upper", "lower", "lower", "twice", *REWRITTEN])
    is_sentence = ctx.chance(0.6)
    if is_sentence:
        phrase = first_upper(fill_words(ctx, ctx.pick(SENTENCES), SENTENCE_WORDS if ctx.chance(0.6) else COMMON_WORDS))
        if phrase.lower() in QUESTION_OF:
            ctx.step(split.key_of("instruction", [name, QUESTION_OF[phrase.lower()]]))
    else:
        words = [ctx.pick(ALL_WORDS) for _ in range(ctx.rng.randint(1, 5))]
        for word in words:
            ctx.step(split.word_key(word))  # other pieces of a word, as upper case has them, tell of its letters
        phrase = " ".join(words)
    if name == "lower":
        phrase = phrase.upper() if ctx.chance(0.4) else phrase if is_sentence else phrase.title()
    ctx.ask(split.phrase_key(name, phrase))
    answer = REWRITTEN[name](phrase)
    wordings, _, thought = RULES[name]
    reasoning = f"{phrase}, {thought}." if ctx.low else f"The words are: {phrase}. They have to be written {thought}."
    if ctx.high:
        reasoning += f" With the rule: {answer}"
    question, rule = ctx.pick(COPY).format(phrase=phrase), ctx.pick(wordings)
    if ctx.chance(0.5):
        return conversation(ctx, "instructions", [user(question), analysis(reasoning), final(answer)], developer=ctx.pick(PREFIXES) + rule)
    question = f"{question} {rule}" if ctx.chance(0.6) else f"{rule} {question}"
    return conversation(ctx, "instructions", [user(question), analysis(reasoning), final(answer)])


GREETING_TURNS = [("Hello!", "Hello! How can I help you?"), ("Hi", "Hello! How can I help you?"), ("Hi there!", "Hello! How can I help you?"),
                  ("Good morning", "Good morning! How can I help you?"), ("Good evening!", "Good evening! How can I help you?"), ("Thanks!", "You are welcome!"),
                  ("Thank you very much.", "You are welcome!"), ("Bye", "Goodbye!"), ("See you later!", "Goodbye!"), ("How are you?", "I am fine, thank you. What can I do for you?"),
                  ("Hello moxie", "Hello! How can I help you?"), ("hi", "Hello! How can I help you?"), ("hello", "Hello! How can I help you?"), ("hey there", "Hello! How can I help you?"),
                  ("Yo", "Hello! How can I help you?"), ("Good afternoon", "Good afternoon! How can I help you?"), ("What's up?", "I am ready. What can I do for you?"),
                  ("How is it going?", "I am fine, thank you. What can I do for you?"), ("Nice to meet you.", "Nice to meet you too! How can I help you?"), ("ok", "All right. What else can I do for you?"),
                  ("Cool", "All right. What else can I do for you?"), ("Great!", "All right. What else can I do for you?"), ("Well done.", "Thank you! What else can I do for you?"),
                  ("You are right.", "Thank you! What else can I do for you?"), ("That is wrong.", "I am sorry. I am small and can be wrong. Please ask me again."),
                  ("Are you sure?", "I am small and can be wrong. Please ask me again."), ("thanks", "You are welcome!"), ("thx", "You are welcome!"), ("bye", "Goodbye!"),
                  ("Help", "I can calculate, sort, count letters, answer calendar and unit questions, follow instructions and call tools."),
                  ("test", "It works. What can I do for you?"), ("Are you there?", "I am here. What can I do for you?"), ("Can you hear me?", "I am here. What can I do for you?"),
                  ("Hey", "Hello! How can I help you?"), ("Good night", "Good night!"), ("Thank you", "You are welcome!"), ("Goodbye!", "Goodbye!"), ("Hello", "Hello! How can I help you?")]
UNKNOWN = ["Who won the football match yesterday?", "What will the stock market do tomorrow?", "Write a program in Rust that sorts a file.", "Who was the 12th king of Sweden?",
           "What is the meaning of life?", "Translate this poem into Latin.", "Who painted the ceiling of that chapel?", "What did I eat yesterday?", "Prove the Riemann hypothesis.",
           "What is my name?", "Give me medical advice.", "Which movie won the prize last year?", "What is the population of Mongolia?", "Who wrote this song?",
           "Explain quantum physics.", "Which phone should I buy?", "Recommend me a restaurant in Lima.", "What is the news today?", "How does a jet engine work?"]
# {w}: a word, {W}: a name, {n}: a number
UNKNOWN_ABOUT = ["Why is the {w} {w}?", "Why is {w} {w}?", "Why do people {w}?", "Who invented the {w}?", "Who wrote {W}?", "Who is {W} {W}?", "Who was {W}?", "When was {W} born?", "Where is {W}?",
                 "What is the population of {W}?", "How does a {w} work?", "How do I make {w}?", "How do I {w} a {w}?", "Write a poem about {w}.", "Write a haiku about {w}.", "Write a song.",
                 "Write a haiku.", "Write code that can {w}.", "Write an email to {W}.", "Give me a recipe for {w}.", "Explain {w} to me.", "What is {w}?", "What is a {w}?", "What does {w} mean?",
                 "What do you think about {w}?", "Can you draw a {w}?", "What is the best {w}?", "What is your favorite {w}?", "Do you like {w}?", "Tell me about {W}.", "Tell me a joke.",
                 "What is the capital of {W}?", "Which {w} is the {w}?", "Summarize the history of {W}.", "What happened in {n}?", "How old is {W}?", "How tall is {W}?", "Is {w} {w}?",
                 "Should I buy a {w}?", "Which color is a {w}?", "How many {w} are in a {w}?", "Do you know {W}?", "What is the price of {w}?", "Translate {w} into French.", "What rhymes with {w}?",
                 "Plan a trip to {W}.", "How far is it to {W}?", "What is the weather in {W}?", "What time is it?", "What is the date today?", "Where am I?", "Why?", "Who made the {w}?"]
NOT_KNOWN = "I do not know that. I am a small model and can calculate, sort, count letters and answer questions about moxie."


def plain_talk(ctx: Context) -> dict:
    """Greetings, the questions of QUESTIONS without any rule, and what a small model does not know."""
    if ctx.split == "heldout":
        raise Resample  # a closed list: nothing of it is held out
    kind = ctx.rng.random()
    if kind < 0.25:
        question, answer = ctx.pick(GREETING_TURNS)
        reasoning = "A greeting." if ctx.low else "The user greets or thanks. I answer in a friendly way."
    elif kind < 0.5:
        question, short, answer = ctx.pick(QUESTIONS)
        question = ctx.pick(GREETINGS).format(q=question)
        reasoning = f"{first_upper(short)}." if ctx.low else f"The answer is: {short}."
    else:
        question, answer = ctx.pick(UNKNOWN), NOT_KNOWN
        if ctx.chance(0.85):
            question = fill_words(ctx, ctx.pick(UNKNOWN_ABOUT)).replace("{n}", str(ctx.rng.randint(1200, 2030)))
            if ctx.chance(0.2):
                question = question[0].lower() + question[1:].rstrip("?.")
        if about_moxie.wording_of(question):
            raise Resample
        reasoning = "I do not know that." if ctx.low else "I do not know that, so I say so."
    return conversation(ctx, "plain_talk", [user(question), analysis(reasoning), final(answer)])
