"""Calling a declared function with arguments from the question, using its result, and declining when none fits.

A kind of tool is one entry of KINDS: names, descriptions and parameter names to choose from, values for the parameters,
questions, what the tool gives back and the answer that this makes. Names and schemas vary from conversation to conversation,
so that they have to be read, not remembered.
"""

import dataclasses
from collections.abc import Callable

from . import split
from .arithmetic import NAMES, sum_reasoning
from .calendar_units import DAYS, UNITS
from .context import Context, analysis, call, conversation, final, result, user
from .words import fill_words

CITIES = ["Paris", "Rome", "Berlin", "Madrid", "Tokyo", "Cairo", "Oslo", "Vienna", "Athens", "Lisbon", "London", "Lima", "Dublin", "Prague", "Boston", "Chicago", "Denver", "Sydney",
          "Mumbai", "Seoul", "Hanoi", "Nairobi", "Toronto", "Quito", "Havana", "Zurich", "Munich", "Milan", "Geneva", "Bergen", "Porto", "Kyoto", "Delhi", "Lagos", "Accra"]
SKIES = ["sunny", "cloudy", "rainy", "windy", "foggy", "snowy", "clear"]
TOPICS = ["solar panels", "green tea", "old maps", "chess openings", "bread recipes", "river fish", "stone bridges", "jazz music", "wild flowers", "space travel", "garden tools",
          "steam engines", "winter sports", "paper planes", "coral reefs", "city parks", "coffee beans", "mountain huts", "folk dances", "bird songs", "night trains", "sea shells"]
EVENTS = ["dentist", "team meeting", "piano lesson", "lunch with Anna", "yoga class", "book club", "car service", "football training", "haircut", "parents' evening", "choir", "job interview"]
TASKS = ["buy milk", "call Peter", "water the plants", "pay the rent", "feed the cat", "send the report", "book a table", "clean the oven", "fix the bike", "pack the bag", "wash the car"]
LANGUAGES = ["French", "German", "Spanish", "Italian", "Greek", "Polish", "Dutch", "Danish", "Finnish", "Turkish"]
PHRASES = ["good morning", "thank you", "see you soon", "where is the station", "the soup is hot", "I like this book", "the train is late", "a glass of water", "happy birthday"]
CURRENCIES = ["euros", "dollars", "pounds", "francs", "yen", "pesos", "rupees", "kroner"]
COMPANIES = ["Acme", "Globex", "Initech", "Umbra", "Stark", "Wayne", "Soylent", "Hooli", "Vandelay", "Cyber"]
ROOMS = ["kitchen", "bedroom", "bathroom", "office", "hallway", "garage", "garden", "living room"]
SONGS = ["Blue Moon", "River Song", "Night Train", "Golden Days", "Silver Rain", "Open Road", "Quiet Sea", "Paper Boat", "Red Sky", "Old Friend"]


@dataclasses.dataclass
class Parameter:
    """One argument: names to choose from, its schema, and how a value is drawn."""

    names: list[str]
    schema: dict
    draw: Callable[[Context], object]
    optional: bool = False


@dataclasses.dataclass
class Kind:
    names: list[str]
    descriptions: list[str]
    parameters: list[Parameter]  # in the questions {0}, {1}, ... stand for their values
    questions: list[str]
    gives: Callable[[Context, list], dict]  # the tool's result
    answer: Callable[[list, dict], str]
    action: str  # "look up the weather": what is thought, and what is declined
    topic: str  # "the weather"


def text(description: str = "", **more) -> dict:
    return {"type": "string", **({"description": description} if description else {}), **more}


def whole(description: str = "", **more) -> dict:
    return {"type": "integer", **({"description": description} if description else {}), **more}


def number(description: str = "") -> dict:
    return {"type": "number", **({"description": description} if description else {})}


def from_list(values: list) -> Callable[[Context], object]:
    return lambda ctx: ctx.pick(values)


def from_names(values: list, patterns: list[str]) -> Callable[[Context], str]:
    """One of the values, or a pattern filled with words, so that a name nobody has heard is copied and not recalled."""

    def draw(ctx: Context) -> str:
        if ctx.chance(0.6):
            return ctx.pick(values)
        return fill_words(ctx, ctx.pick(patterns))

    return draw


def from_range(low: int, high: int) -> Callable[[Context], int]:
    return lambda ctx: ctx.rng.randint(low, high)


def draw_time(ctx: Context) -> str:
    return f"{ctx.rng.randint(6, 22):02}:{ctx.pick(['00', '15', '30', '45'])}"


def draw_date(ctx: Context) -> str:
    return f"{ctx.rng.randint(2025, 2031)}-{ctx.rng.randint(1, 12):02}-{ctx.rng.randint(1, 28):02}"


SIGNS = {"add": "+", "subtract": "-", "multiply": "*"}
VERBS = {"add": "plus", "subtract": "minus", "multiply": "times"}

KINDS = [
    Kind(["get_weather", "weather", "get_current_weather", "lookup_weather", "weather_now"],
         ["Gets the weather of a city.", "Current weather in a city.", "Looks up the weather.", "Returns temperature and sky for a place."],
         [Parameter(["city", "location", "place", "town"], text("Name of the city"), from_names(CITIES, ["{W}", "{W}ton", "New {W}"]))],
         ["What is the weather in {0}?", "How is the weather in {0} now?", "Is it warm in {0}?", "Weather in {0}, please.", "Do I need a coat in {0} today?", "Tell me the weather in {0}.",
          "I am going to {0}. How is the weather there?", "{0}: sun or rain?", "What is it like outside in {0}?", "Check the weather for {0}."],
         lambda ctx, v: {"temperature": ctx.rng.randint(-9, 38), "sky": ctx.pick(SKIES)},
         lambda v, r: f"In {v[0]} it is {r['sky']} with {r['temperature']} degrees.", "look up the weather", "the weather"),
    Kind(["get_forecast", "forecast", "weather_forecast", "predict_weather"],
         ["Weather forecast for some days.", "Forecasts the weather of a city.", "Gets the forecast."],
         [Parameter(["city", "location", "where"], text("City"), from_names(CITIES, ["{W}", "{W}ton", "New {W}"])), Parameter(["days", "num_days", "horizon"], whole("How many days ahead"), from_range(2, 14))],
         ["What will the weather be in {0} in {1} days?", "Forecast for {0}, {1} days ahead, please.", "How will the weather in {0} be {1} days from now?", "I need the {1} day forecast for {0}.",
          "Give me a forecast of {1} days for {0}."],
         lambda ctx, v: {"high": ctx.rng.randint(5, 38), "sky": ctx.pick(SKIES)},
         lambda v, r: f"In {v[0]} it will be {r['sky']} with up to {r['high']} degrees.", "get a forecast", "the forecast"),
    Kind(["calculate", "calculator", "compute", "do_math"], ["Calculates with two numbers.", "A calculator.", "Computes a result exactly."],
         [Parameter(["operation", "op", "operator"], text("", enum=["add", "subtract", "multiply"]), from_list(["add", "subtract", "multiply"])),
          Parameter(["a", "x", "left", "first"], number(), from_range(1000, 99999)), Parameter(["b", "y", "right", "second"], number(), from_range(1000, 99999))],
         ["Use the calculator: {1} {verb} {2}.", "What is {1} {verb} {2}? Use the tool.", "Compute {1} {sign} {2} with the calculator.", "Calculate {1} {sign} {2} with your tool.",
          "Let the tool find {1} {verb} {2}."],
         lambda ctx, v: {"result": {"add": v[1] + v[2], "subtract": v[1] - v[2], "multiply": v[1] * v[2]}[v[0]]},
         lambda v, r: f"The result is {r['result']}.", "calculate that", "calculations"),
    Kind(["set_timer", "start_timer", "timer", "new_timer"], ["Starts a timer.", "Sets a kitchen timer.", "Starts a timer that rings."],
         [Parameter(["minutes", "duration_minutes", "length", "time_minutes"], whole("Length in minutes"), from_range(1, 120))],
         ["Set a timer for {0} minutes.", "Start a timer of {0} minutes.", "Timer, {0} minutes, please.", "Wake me in {0} minutes.", "I need a timer: {0} minutes.", "Tell me when {0} minutes are over.",
          "The eggs need {0} minutes, set a timer."],
         lambda ctx, v: {"status": "started", "id": ctx.rng.randint(1, 99)},
         lambda v, r: f"The timer for {v[0]} minutes is running.", "set a timer", "timers"),
    Kind(["convert_units", "unit_converter", "convert", "convert_measure"], ["Converts units.", "Converts a value from one unit to another."],
         [Parameter(["value", "amount", "quantity"], number("What to convert"), from_range(2, 999)),
          Parameter(["from_unit", "source", "from"], text("Unit of the value"), lambda ctx: ctx.pick(UNITS)[0]),
          Parameter(["to_unit", "target", "to"], text("Unit wanted"), lambda ctx: "")],
         ["Convert {0} {1} to {2} with the tool.", "How many {2} are {0} {1}? Use the converter.", "Please convert {0} {1} into {2} using your tool.", "Use the tool to turn {0} {1} into {2}."],
         lambda ctx, v: {"result": v[0] * next(f for one, two, f in UNITS if (one, two) == (v[1], v[2]))},
         lambda v, r: f"{v[0]} {v[1]} are {r['result']} {v[2]}.", "convert units", "units"),
    Kind(["search", "web_search", "search_web", "find_pages"], ["Searches the web.", "Finds pages about something.", "Full text search."],
         [Parameter(["query", "q", "text", "terms"], text("What to search for"), from_names(TOPICS, ["{w}", "{w} {w}", "{w} and {w}"])), Parameter(["limit", "max_results", "count"], whole("How many results"), from_range(2, 20))],
         ["Search for {0}, {1} results.", "Find {1} pages about {0}.", "Look up {0} and give me {1} results.", "I want {1} results about {0}.", "Search the web for {0}; {1} hits are enough.",
          "Show me {1} links on {0}."],
         lambda ctx, v: {"found": ctx.rng.randint(20, 9999), "best": ctx.pick(["A guide to ", "All about ", "The world of ", "News on "]) + v[0]},
         lambda v, r: f"I found {r['found']} pages. The best one is \"{r['best']}\".", "search the web", "searching"),
    Kind(["create_event", "add_event", "calendar_add", "new_appointment"], ["Adds an event to the calendar.", "Creates an appointment.", "Puts something into the calendar."],
         [Parameter(["title", "name", "what"], text("What it is"), from_names(EVENTS, ["{w} class", "{w} with Anna", "{w}"])), Parameter(["date", "day", "on"], text("YYYY-MM-DD"), draw_date),
          Parameter(["time", "start", "at"], text("HH:MM"), draw_time)],
         ["Put {0} into my calendar on {1} at {2}.", "Add {0} on {1}, {2}.", "I have {0} on {1} at {2}, please note it.", "Create an event: {0}, {1}, {2}.", "Schedule {0} for {1} at {2}.",
          "Calendar: {0} at {2} on {1}."],
         lambda ctx, v: {"status": "created"}, lambda v, r: f"{v[0][0].upper() + v[0][1:]} is in your calendar on {v[1]} at {v[2]}.", "add an event", "the calendar"),
    Kind(["add_reminder", "remind", "create_reminder", "set_reminder"], ["Reminds the user.", "Creates a reminder.", "Sets a reminder for a weekday."],
         [Parameter(["task", "text", "about", "note"], text("What to remind of"), from_names(TASKS, ["bring the {w}", "buy the {w}"])), Parameter(["weekday", "day", "when"], text("", enum=DAYS), from_list(DAYS))],
         ["Remind me to {0} on {1}.", "On {1} I have to {0}, remind me.", "Set a reminder for {1}: {0}.", "Please remind me on {1} to {0}.", "Don't let me forget to {0} on {1}.", "Reminder for {1}: {0}"],
         lambda ctx, v: {"ok": True}, lambda v, r: f"I will remind you on {v[1]} to {v[0]}.", "set a reminder", "reminders"),
    Kind(["translate", "translate_text", "translator", "to_language"], ["Translates text.", "Translates English into another language."],
         [Parameter(["text", "phrase", "sentence"], text("English text"), from_list(PHRASES)), Parameter(["language", "target", "to"], text("Language wanted"), from_list(LANGUAGES))],
         ["Translate \"{0}\" into {1}.", "How do I say \"{0}\" in {1}?", "What is \"{0}\" in {1}?", "Say \"{0}\" in {1}, please.", "I need \"{0}\" in {1}."],
         lambda ctx, v: {"translation": "".join(ctx.pick(["ba", "lo", "ki", "ra", "ne", "su", "to", "mi"]) for _ in range(ctx.rng.randint(2, 4)))},
         lambda v, r: f"In {v[1]} that is \"{r['translation']}\".", "translate", "translations"),
    Kind(["convert_currency", "exchange", "currency", "exchange_rate"], ["Converts money.", "Converts between currencies at today's rate."],
         [Parameter(["amount", "value", "sum"], number("How much"), from_range(2, 9999)), Parameter(["from_currency", "source", "have"], text(), from_list(CURRENCIES)),
          Parameter(["to_currency", "target", "want"], text(), from_list(CURRENCIES))],
         ["How much are {0} {1} in {2}?", "Change {0} {1} to {2}.", "What do I get in {2} for {0} {1}?", "I have {0} {1} and want {2}. How much?", "Exchange {0} {1} into {2}."],
         lambda ctx, v: {"amount": ctx.rng.randint(2, 99999)}, lambda v, r: f"{v[0]} {v[1]} are {r['amount']} {v[2]}.", "convert money", "currencies"),
    Kind(["get_stock_price", "stock_price", "quote", "share_price"], ["Price of a share.", "Gets the price of a stock."],
         [Parameter(["company", "symbol", "name"], text("Company"), from_names(COMPANIES, ["{W}", "{W}", "{W} {W}", "{W} Labs"]))],
         ["What is the share price of {0}?", "How much is a share of {0}?", "Stock price of {0}?", "Tell me what {0} trades at.", "Get me a quote for {0}.", "How is the {0} stock doing?"],
         lambda ctx, v: {"price": ctx.rng.randint(3, 900), "currency": ctx.pick(["USD", "EUR"])},
         lambda v, r: f"A share of {v[0]} costs {r['price']} {r['currency']}.", "get share prices", "shares"),
    Kind(["set_light", "light", "switch_light", "control_light"], ["Switches a light.", "Turns the light of a room on or off."],
         [Parameter(["room", "where", "location"], text("Room"), from_names(ROOMS, ["{w} room"])), Parameter(["state", "switch", "to"], text("", enum=["on", "off"]), from_list(["on", "off"]))],
         ["Turn {1} the light in the {0}.", "Light {1} in the {0}, please.", "Switch the {0} light {1}.", "Please turn the light in the {0} {1}.", "The light in the {0} should be {1}."],
         lambda ctx, v: {"done": True}, lambda v, r: f"The light in the {v[0]} is {v[1]} now.", "switch lights", "lights"),
    Kind(["set_temperature", "heating", "set_thermostat", "thermostat"], ["Sets the heating.", "Sets the temperature of a room."],
         [Parameter(["room", "zone", "where"], text("Room"), from_names(ROOMS, ["{w} room"])), Parameter(["degrees", "temperature", "celsius"], whole("Degrees Celsius"), from_range(10, 29))],
         ["Set the {0} to {1} degrees.", "Make it {1} degrees in the {0}.", "I want {1} degrees in the {0}.", "Heat the {0} to {1} degrees.", "Thermostat in the {0}: {1}, please."],
         lambda ctx, v: {"done": True}, lambda v, r: f"The {v[0]} is set to {v[1]} degrees.", "set the heating", "heating"),
    Kind(["play_song", "play", "play_music", "start_music"], ["Plays a song.", "Starts music.", "Plays a song at a volume."],
         [Parameter(["title", "song", "track"], text("Title"), from_names(SONGS, ["{W}", "{W} {W}", "The {W}"])), Parameter(["volume", "level", "loudness"], whole("0 to 100"), from_range(5, 100))],
         ["Play {0} at volume {1}.", "I want to hear {0}, volume {1}.", "Put on {0} with volume {1}.", "Volume {1}, and play {0}.", "Start {0} at {1} percent volume."],
         lambda ctx, v: {"playing": v[0]}, lambda v, r: f"Now playing {r['playing']}.", "play music", "music"),
    Kind(["send_message", "message", "send_text", "text_somebody"], ["Sends a message.", "Sends a text to a person."],
         [Parameter(["recipient", "person", "contact"], text("Who gets it"), from_list(NAMES)),
          Parameter(["message", "body", "content"], text("What to say"), from_list(["I am late", "see you at noon", "dinner is ready", "call me back", "happy birthday", "the door is open", "we won",
                                                                                  "meet me at the station", "thank you for the book", "the meeting moved", "I am home", "please bring bread"]))],
         ["Send {0} the message \"{1}\".", "Text {0}: \"{1}\".", "Tell {0} \"{1}\".", "Write to {0}: \"{1}\".", "Message {0} and say \"{1}\"."],
         lambda ctx, v: {"sent": True}, lambda v, r: f"I sent {v[0]} the message \"{v[1]}\".", "send a message", "messages"),
    Kind(["find_train", "trains", "next_train", "train_times"], ["Finds a train.", "Next train between two cities.", "Timetable of trains."],
         [Parameter(["origin", "from", "start"], text("Where it leaves"), from_names(CITIES, ["{W}", "{W}ton", "New {W}"])), Parameter(["destination", "to", "end"], text("Where it goes"), from_names(CITIES, ["{W}", "{W}ton", "New {W}"]))],
         ["When is the next train from {0} to {1}?", "I need a train from {0} to {1}.", "Train to {1} from {0}, please.", "How do I get from {0} to {1} by train?", "Find a train to {1}. I am in {0}."],
         lambda ctx, v: {"departure": draw_time(ctx), "platform": ctx.rng.randint(1, 24)},
         lambda v, r: f"The next train to {v[1]} leaves at {r['departure']} from platform {r['platform']}.", "find trains", "trains"),
    Kind(["roll_dice", "dice", "throw_dice", "roll"], ["Rolls dice.", "Throws some dice."],
         [Parameter(["count", "number", "dice"], whole("How many"), from_range(1, 30)), Parameter(["sides", "faces"], whole("Sides of a die"), from_list([4, 6, 8, 10, 12, 20, 30, 100]))],
         ["Roll {0} dice with {1} sides.", "Throw {0} dice of {1} sides each.", "Please roll {0} times a die with {1} sides.", "I need a roll of {0} dice, {1} sides."],
         lambda ctx, v: {"total": ctx.rng.randint(v[0], v[0] * v[1])}, lambda v, r: f"The total is {r['total']}.", "roll dice", "dice"),
    Kind(["get_user", "find_customer", "customer", "lookup_user"], ["Looks up a customer by number.", "Gets a user's data.", "Finds a user."],
         [Parameter(["id", "number", "user_id", "customer_id"], whole("Number of the customer"), from_range(1000, 99999))],
         ["Who is customer {0}?", "Look up customer number {0}.", "Find the user with the number {0}.", "Show me customer {0}.", "Which user has the number {0}?", "I need the name of customer {0}."],
         lambda ctx, v: {"name": ctx.pick(NAMES), "city": ctx.pick(CITIES)}, lambda v, r: f"Customer {v[0]} is {r['name']} from {r['city']}.", "look up customers", "customers"),
]


def declare(ctx: Context, kind: Kind) -> tuple[dict, list[str]]:
    """A tool as it is declared, and the names that its parameters got."""
    names: list[str] = []
    for parameter in kind.parameters:
        names.append(ctx.pick([name for name in parameter.names if name not in names]))
    properties = {}
    for name, parameter in zip(names, kind.parameters, strict=True):
        schema = dict(parameter.schema)
        if ctx.chance(0.5):
            schema.pop("description", None)
        properties[name] = schema
    tool = {"name": ctx.pick(kind.names), "description": ctx.pick(kind.descriptions),
            "parameters": {"type": "object", "properties": properties, "required": names}}
    return tool, names


def draw_values(ctx: Context, kind: Kind) -> list:
    values = [parameter.draw(ctx) for parameter in kind.parameters]
    if kind.topic == "units":
        values[1:] = ctx.pick(UNITS)[:2]
    if kind.topic in ("trains", "currencies"):
        first = len(values) - 2
        values[first:] = ctx.rng.sample(CITIES if kind.topic == "trains" else CURRENCIES, 2)
    return values


def ask_question(ctx: Context, kind: Kind, values: list) -> str:
    return ctx.pick(kind.questions).format(*values, verb=VERBS.get(values[0], ""), sign=SIGNS.get(values[0], ""))


def declare_with_others(ctx: Context, kind: Kind | None) -> tuple[list[dict], dict | None, list[str]]:
    """Tools in any order: of `kind`, if given, and up to two others. Returns also the one of `kind` and its parameters' names."""
    others = ctx.rng.sample([other for other in KINDS if other is not kind], ctx.pick([0, 1, 1, 2]) if kind else ctx.pick([1, 1, 2]))
    tool, names = declare(ctx, kind) if kind else (None, [])
    tools = [tool] if tool else []
    for other in others:
        declared = declare(ctx, other)[0]
        if all(declared["name"] != present["name"] for present in tools):
            tools.append(declared)
    ctx.rng.shuffle(tools)
    return tools, tool, names


DEVELOPER = ["", "", "", "You help at home.", "Use the tools when they fit.", "You are a helpful assistant with tools.", "Call a tool if one fits."]


def step_numbers(ctx: Context, values: list, topic: str = "") -> None:
    """What the arguments are to other tasks: two whole numbers are a pair, a conversion is one of units."""
    if topic == "units":
        factor = next(factor for one, two, factor in UNITS if [one, two] == values[1:])
        ctx.step(split.conversion_key(*values, factor))
        ctx.step_pair(values[0], factor)
    numbers = [value for value in values if isinstance(value, int)]
    if len(numbers) == 2:
        ctx.step_pair(*numbers)


def call_reasoning(ctx: Context, tool: dict, arguments: dict, kind: Kind) -> str:
    listed = ", ".join(f"{name} is {value}" for name, value in arguments.items())
    if ctx.low:
        return f"Call {tool['name']}: {listed}."
    lines = f"The user wants to {kind.action}. The tool {tool['name']} fits: {listed}."
    if ctx.high:
        lines += f" All {len(arguments)} of its parameters are known, so I call it." if len(arguments) > 1 else " Its parameter is known, so I call it."
    return lines


def tools(ctx: Context) -> dict:
    """One call; half of the training conversations go on to the answer that uses its result."""
    kind = ctx.pick(KINDS)
    values = draw_values(ctx, kind)
    ctx.ask(split.key_of("tool", [kind.topic, *values]))
    step_numbers(ctx, values, kind.topic)
    declared, tool, names = declare_with_others(ctx, kind)
    assert tool is not None
    arguments = dict(zip(names, values, strict=True))
    messages = [user(ask_question(ctx, kind, values)), analysis(call_reasoning(ctx, tool, arguments, kind)), call(tool["name"], arguments)]
    return conversation(ctx, "tools", messages, developer=ctx.pick(DEVELOPER), tools=declared,
                        expect={"call": {"name": tool["name"], "arguments": arguments}})


def tool_results(ctx: Context) -> dict:
    """The answer after the tool's result, sometimes with a second question behind it."""
    kind = ctx.pick(KINDS)
    values = draw_values(ctx, kind)
    ctx.ask(split.key_of("tool", [kind.topic, *values]))
    step_numbers(ctx, values, kind.topic)
    declared, tool, names = declare_with_others(ctx, kind)
    assert tool is not None
    arguments = dict(zip(names, values, strict=True))
    given = kind.gives(ctx, values)
    answer = kind.answer(values, given)
    shown = ", ".join(f"{name} {'yes' if value is True else value}" for name, value in given.items())
    thought = f"Result: {shown}." if ctx.low else f"The tool {tool['name']} says: {shown}. I answer with that."
    messages = [user(ask_question(ctx, kind, values)), analysis(call_reasoning(ctx, tool, arguments, kind)), call(tool["name"], arguments),
                result(tool["name"], given), analysis(thought), final(answer)]
    return conversation(ctx, "tool_results", messages, developer=ctx.pick(DEVELOPER), tools=declared)


def second_call(ctx: Context) -> dict:
    """A call after an earlier turn that used a tool."""
    kind = ctx.pick(KINDS)
    first, second = draw_values(ctx, kind), draw_values(ctx, kind)
    ctx.step(split.key_of("tool", [kind.topic, *first]))
    ctx.ask(split.key_of("tool", [kind.topic, *second]))
    step_numbers(ctx, first, kind.topic)
    step_numbers(ctx, second, kind.topic)
    declared, tool, names = declare_with_others(ctx, kind)
    assert tool is not None
    given = kind.gives(ctx, first)
    before, after = dict(zip(names, first, strict=True)), dict(zip(names, second, strict=True))
    messages = [user(ask_question(ctx, kind, first)), analysis(call_reasoning(ctx, tool, before, kind)), call(tool["name"], before),
                result(tool["name"], given), analysis("I answer with the result."), final(kind.answer(first, given)),
                user(ask_question(ctx, kind, second)), analysis(call_reasoning(ctx, tool, after, kind)), call(tool["name"], after)]
    return conversation(ctx, "tools", messages, developer=ctx.pick(DEVELOPER), tools=declared,
                        expect={"call": {"name": tool["name"], "arguments": after}})


def declining(ctx: Context) -> dict:
    """Tools are declared, and none of them fits: the answer says so, or, of what needs no tool, just answers."""
    asked = ctx.pick([kind for kind in KINDS if kind.topic not in ("calculations", "units")])
    values = draw_values(ctx, asked)
    ctx.ask(split.key_of("tool", [asked.topic, *values]))
    step_numbers(ctx, values, asked.topic)
    declared, _, _ = declare_with_others(ctx, None)
    topics = {kind.topic for kind in KINDS for tool in declared if tool["name"] in kind.names}
    near = [{"the weather", "the forecast"}, {"the calendar", "reminders", "timers"}, {"lights", "heating"}, {"translations", "messages"}]
    while asked.topic in topics or any(asked.topic in group and topics & group for group in near):
        declared, _, _ = declare_with_others(ctx, None)
        topics = {kind.topic for kind in KINDS for tool in declared if tool["name"] in kind.names}
    listed = " and ".join(tool["name"] for tool in declared)
    thought = f"{listed}: no tool for {asked.topic}."
    if not ctx.low:
        thought = f"The user wants to {asked.action}. The tools are {listed}. None of them can {asked.action}."
    if ctx.high:
        thought += " So I make no call and say it."
    answer = f"Sorry, I have no tool to {asked.action}."
    return conversation(ctx, "declining", [user(ask_question(ctx, asked, values)), analysis(thought), final(answer)], developer=ctx.pick(DEVELOPER), tools=declared)


def no_tool_needed(ctx: Context) -> dict:
    """Tools are declared, and the question needs none of them."""
    a, b = ctx.number(ctx.rng.randint(1, 3)), ctx.number(ctx.rng.randint(1, 3))
    ctx.ask_pair(a, b)
    declared, _, _ = declare_with_others(ctx, None)
    question = ctx.pick(["What is {a} + {b}?", "What is {a} plus {b}?", "Add {a} and {b}.", "Sum of {a} and {b}?", "Compute {a} + {b}.", "How much is {a} plus {b}?"]).format(a=a, b=b)
    head = "" if ctx.low else "No tool is needed.\n"
    return conversation(ctx, "declining", [user(question), analysis(head + sum_reasoning(ctx, a, b)), final(f"{a} + {b} = {a + b}")],
                        developer=ctx.pick(DEVELOPER), tools=declared)
