"""Short stories from a grammar: a plan in the reasoning, then the story that follows it. Effort decides the length.

No story is the right one: an evaluation expects one about the hero asked for. What a question shows of kinds, places and wishes has so
few combinations that all are trained on; held out are heroes with a name that is not of their kind: a fox named Molly.
"""

from . import split
from .arithmetic import NAMES
from .context import Context, analysis, conversation, final, user

HEROES = {  # kind: names
    "fox": ["Rusty", "Ember", "Finn"], "mouse": ["Pip", "Molly", "Dot"], "bear": ["Bruno", "Honey", "Otto"], "rabbit": ["Clover", "Hazel", "Jack"],
    "cat": ["Luna", "Tiger", "Shadow"], "dog": ["Max", "Bella", "Rex"], "owl": ["Olga", "Sage", "Hoot"], "turtle": ["Tessa", "Shelly", "Tuck"],
    "robot": ["Bolt", "Chip", "Gear"], "dragon": ["Smoky", "Ash", "Flora"], "girl": ["Mia", "Lena", "Zoe"], "boy": ["Tom", "Leo", "Sam"],
    "baker": ["Paul", "Rosa", "Anna"], "sailor": ["Hugo", "Clara", "Omar"], "gardener": ["Iris", "Ben", "Nina"], "wizard": ["Merl", "Alma", "Quill"],
}
PLACES = {
    "forest": ["under a tall oak", "beside a mossy path"], "village": ["in a small red house", "near the old well"], "mountain": ["in a hut of stone", "close to the snow"],
    "island": ["by a white beach", "beside a lighthouse"], "city": ["above a busy street", "behind the market"], "valley": ["near a quiet river", "in a field of flowers"],
    "desert": ["in the shade of a rock", "at a small oasis"], "harbor": ["on an old boat", "next to the pier"],
}
# what is wanted, what is in the way, how it is solved with a helper, what is learned
QUESTS = [
    ("find a lost key", "the night was dark", "held up a lantern", "The key shone in the grass", "two pairs of eyes see more than one"),
    ("cross the river", "the bridge was broken", "brought a long rope", "Together they built a new bridge", "work is lighter when it is shared"),
    ("bake a big cake", "there was no flour left", "shared a sack of flour", "Soon the cake stood on the table", "a gift tastes best when it is shared"),
    ("see the sea", "the way was long", "knew a short path", "At sunset they saw the waves", "a long way gets short with a friend"),
    ("learn to sing", "every note came out wrong", "sang each line slowly", "In the evening the song was clear", "patience is a good teacher"),
    ("plant a garden", "the ground was too dry", "carried water from the well", "In spring the flowers opened", "good things need time"),
    ("fix the old clock", "a small wheel was missing", "found the wheel in a drawer", "The clock began to tick again", "small parts matter"),
    ("send a letter", "the wind blew it away", "caught it in the air", "The letter arrived the next day", "help can come from above"),
    ("win the race", "a stone hurt one foot", "cleaned and tied the foot", "They walked over the line side by side", "being together is better than being first"),
    ("count the stars", "clouds covered the sky", "told stories until the clouds were gone", "Then the stars came out, one by one", "waiting is easy in good company"),
    ("climb the tower", "the stairs were steep", "gave a hand at every step", "From the top they saw the whole land", "every tower is climbed step by step"),
    ("paint a picture", "all the colors were gone", "made colors from berries", "The picture was full of red and blue", "you can make much from little"),
    ("catch the wind in a kite", "the paper had a hole", "put a patch on the paper", "The kite rose high over the roofs", "what is broken can be mended"),
    ("find a warm place for winter", "snow fell early", "opened the door of a warm barn", "They slept well until spring", "a kind door is worth more than gold"),
]
MOODS = ["happy", "brave", "quiet", "curious", "shy", "clever", "gentle", "proud"]
TIMES = ["Once upon a time", "Long ago", "One day in spring", "On a cold morning", "One summer", "Many years ago", "Last autumn"]
SORRY = ["was sad", "sighed", "did not know what to do", "sat down and thought", "almost gave up"]
ASKS = ["Tell me a short story about a {hero}.", "Write a story about a {hero} in a {place}.", "Can you tell me a story with a {hero}?", "A story about a {hero}, please.",
        "I want to hear about a {hero} and a {helper}.", "Please write a short story about a {hero} who wants to {quest}.", "Make up a story about a {mood} {hero}.",
        "Tell a tale of a {hero} and a {helper} in the {place}.", "Invent a story: a {hero}, a {place}.", "Story time! Something about a {hero}.",
        "My child wants a story about a {hero}.", "Write about a {hero} named {name}.", "Tell me about a {mood} {hero} named {name}.",
        "Give me a small story in which a {hero} wants to {quest}."]
NAMED_ASKS = [template for template in ASKS if "{name}" in template]
ALL_NAMES = sorted({*NAMES, *(name for names in HEROES.values() for name in names)})


def hero_key(hero: str, name: str) -> split.Key:
    return None if name in HEROES[hero] else split.key_of("story", [hero, name])


def article(word: str) -> str:
    return ("an " if word[0] in "aeiou" else "a ") + word


def stories(ctx: Context) -> dict:
    hero, helper = ctx.rng.sample(list(HEROES), 2)
    place = ctx.pick(list(PLACES))
    quest, trouble, help_, end, moral = ctx.pick(QUESTS)
    template, mood, name = ctx.pick(NAMED_ASKS if ctx.chance(0.4) else ASKS), ctx.pick(MOODS), ctx.pick(HEROES[hero])
    if "{name}" in template and ctx.chance(0.7):
        name = ctx.pick(ALL_NAMES)
    ctx.ask(hero_key(hero, name))
    friend = ctx.pick([friend for friend in HEROES[helper] if friend != name])
    plan = f"Hero: {name}, {article(mood)} {hero}. Place: {place}. Wish: {quest}. Trouble: {trouble}. Helper: {friend}, {article(helper)}."
    story = [f"{ctx.pick(TIMES)} {article(mood)} {hero} named {name} lived in the {place}.", f"{name} wanted to {quest}, but {trouble}."]
    if not ctx.low:
        story[0] = story[0][:-1] + f", {ctx.pick(PLACES[place])}."
        story.append(f"{name} {ctx.pick(SORRY)}.")
    story += [f"Then {article(helper)} named {friend} came by and {help_}.", f"{end}."]
    if not ctx.low:
        story.append(f"{ctx.pick(['From that day on', 'Since then', 'Ever after'])} {name} and {friend} were friends.")
    if ctx.high:
        plan += f" End: {end[0].lower() + end[1:] if not end.startswith('The ') else end}. They learn that {moral}."
        story.append(f"And they learned that {moral}.")
    question = template.format(hero=hero, helper=helper, place=place, quest=quest, mood=mood, name=name)
    for word in (hero, helper, mood):
        question = question.replace(f" a {word}", " " + article(word))
    asked = [*([mood] if "{mood}" in template else []), hero, *(["named", name] if "{name}" in template else [])]
    return conversation(ctx, "stories", [user(question), analysis(plan), final(" ".join(story))],
                        expect={"final_pattern": f".* {' '.join(asked)} .*\\."})
