"""Conversations as token ids, the same as moxie's renderer gives (src/harmony), with a mask of what is to be learned.

A conversation is rendered as at the moment of its last turn: what moxie's prompt holds then (analysis before the last
`final` of an earlier turn is gone), followed by what the assistant says in that turn.
"""

import json

DEFAULT_IDENTITY = "You are ChatGPT, a large language model trained by OpenAI."
DEFAULT_CUTOFF = "2024-06"
_CONSTRAIN = "<|constrain|>"
_SCHEMA_KEYS = {"type", "description", "enum", "default", "properties", "required", "items"}


def typescript_type(schema: dict, nested: bool = False) -> str:
    """A JSON Schema as the tools section shows it: flat objects of strings, numbers, booleans and arrays of these."""
    unknown = set(schema) - _SCHEMA_KEYS
    if unknown:
        raise ValueError(f"this renderer does not know the schema's {sorted(unknown)}")
    kind = schema["type"]
    if kind == "object":
        if nested or "description" in schema:
            raise ValueError("this renderer knows objects at the top only, and without a description")
        lines = ["{\n"]
        for name, value in schema.get("properties", {}).items():
            if "description" in value:
                lines.append(f"// {value['description']}\n")
            mark = "" if name in schema.get("required", []) else "?"
            lines.append(f"{name}{mark}: {typescript_type(value, nested=True)},")
            if "default" in value:
                lines[-1] += f" // default: {_default(value)}"
            lines[-1] += "\n"
        return "".join(lines) + "}"
    if kind == "string":
        return " | ".join(f'"{value}"' for value in schema.get("enum", [])) or "string"
    if kind in ("number", "integer"):
        return "number"
    if kind == "boolean":
        return "boolean"
    if kind == "array":
        return typescript_type(schema["items"], nested=True) + "[]"
    raise ValueError(f'this renderer does not know the type "{kind}"')


def _default(schema: dict) -> str:
    value = schema["default"]
    if isinstance(value, str):
        return value if schema.get("enum") else f'"{value}"'
    if not isinstance(value, (int, bool)):
        raise ValueError(f"this renderer knows whole numbers, booleans and strings as defaults, found {value!r}")
    return json.dumps(value)


def system_text(conversation: dict) -> str:
    identity = conversation.get("system", conversation.get("identity", DEFAULT_IDENTITY))
    cutoff, date = conversation.get("knowledge_cutoff", DEFAULT_CUTOFF), conversation.get("date", "")
    top = [identity] if identity else []
    if cutoff:
        top.append("Knowledge cutoff: " + cutoff)
    if date:
        top.append("Current date: " + date)
    sections = ["\n".join(top)] if top else []
    effort = conversation.get("effort", "medium")
    if effort != "none":
        sections.append("Reasoning: " + effort)
    sections.append("# Valid channels: analysis, commentary, final. Channel must be included for every message.")
    if conversation.get("tools"):
        sections[-1] += "\nCalls to these tools must go to the commentary channel: 'functions'."
    return "\n\n".join(sections)


def developer_text(conversation: dict) -> str:
    """Empty if the conversation has no developer message."""
    sections = []
    if conversation.get("developer"):
        sections += ["# Instructions", conversation["developer"]]
    if conversation.get("tools"):
        pieces = ["## functions\n", "namespace functions {\n"]
        for tool in conversation["tools"]:
            comment = "".join(f"// {line}\n" for line in tool.get("description", "").splitlines())
            schema = "_: " + typescript_type(tool["parameters"]) if tool.get("parameters") is not None else ""
            pieces.append(f"{comment}type {tool['name']} = ({schema}) => any;\n")
        pieces.append("} // namespace functions")
        sections += ["# Tools", "\n".join(pieces)]
    return "\n\n".join(sections)


def whole_messages(conversation: dict) -> list[dict]:
    """All messages, the system and developer message in front."""
    messages = [{"role": "system", "content": system_text(conversation)}]
    if developer := developer_text(conversation):
        messages.append({"role": "developer", "content": developer})
    return messages + conversation["messages"]


def last_turn(messages: list[dict]) -> int:
    """Where the last turn of the assistant begins; len(messages) if somebody else spoke last."""
    at = len(messages)
    while at > 0 and messages[at - 1]["role"] == "assistant":
        at -= 1
        if at > 0 and _is_call(messages[at - 1]):
            break  # a call ends a turn
    return at


def _is_call(message: dict) -> bool:
    return message["role"] == "assistant" and bool(message.get("recipient"))


def _message_ids(message: dict, tokenizer) -> tuple[list[int], int]:
    """The ids of one message, and how many of them stand for <|start|> and the author."""
    special = tokenizer.special
    author = message["role"]
    if author == "tool":
        author = message["name"]
    elif message.get("name"):
        ids = [special["<|start|>"], *tokenizer.encode(author), *tokenizer.encode(":" + message["name"])]
        author = ""
    if author:
        ids = [special["<|start|>"], *tokenizer.encode(author)]
    num_author = len(ids)
    if message.get("recipient") and message["recipient"] != "all":
        ids += tokenizer.encode(" to=" + message["recipient"])
    if message.get("channel"):
        ids += [special["<|channel|>"], *tokenizer.encode(message["channel"])]
    kind = message.get("content_type", "")
    if kind.startswith(_CONSTRAIN):
        ids += [*tokenizer.encode(" "), special[_CONSTRAIN], *tokenizer.encode(kind[len(_CONSTRAIN):])]
    elif kind:
        ids += tokenizer.encode(" " + kind)
    ids += [special["<|message|>"], *tokenizer.encode(message["content"])]
    ids.append(special["<|call|>" if _is_call(message) else "<|end|>"])
    return ids, num_author


def render(conversation: dict, tokenizer) -> tuple[list[int], list[int]]:
    """Token ids of the whole conversation, and as many 0 or 1: where the model must predict that token.

    1 from the assistant's header behind the prompt's <|start|>assistant up to and with the token that ends the message; of a
    message that follows another one in the same turn also <|start|>assistant, since the model writes it. Messages up to
    the last `final` of an earlier turn are 0: their reasoning is gone. Calls between that and the last turn are learned.
    """
    messages = whole_messages(conversation)
    turn = last_turn(messages)
    if turn == len(messages):
        raise ValueError("expected a conversation that ends with what the assistant says")
    past = max((i for i in range(turn) if messages[i]["role"] == "assistant" and messages[i].get("channel") == "final"), default=-1)
    ids: list[int] = []
    mask: list[int] = []
    for i, message in enumerate(messages):
        if i < past and message.get("channel") == "analysis" and not message.get("recipient"):
            continue
        piece, num_author = _message_ids(message, tokenizer)
        learned = message["role"] == "assistant" and i > past
        prompted = messages[i - 1]["role"] != "assistant" or _is_call(messages[i - 1])
        ids += piece
        mask += [int(learned and not (prompted and k < num_author)) for k in range(len(piece))]
    if not _is_call(messages[-1]):
        ids[-1] = tokenizer.special["<|return|>"]
    return ids, mask


def render_prompt(conversation: dict, tokenizer) -> list[int]:
    """What moxie gives the model when the assistant shall speak next."""
    messages = whole_messages(conversation)
    past = max((i for i, m in enumerate(messages) if m["role"] == "assistant" and m.get("channel") == "final"), default=-1)
    ids: list[int] = []
    for i, message in enumerate(messages):
        if i < past and message.get("channel") == "analysis" and not message.get("recipient"):
            continue
        ids += _message_ids(message, tokenizer)[0]
    return ids + [tokenizer.special["<|start|>"], *tokenizer.encode("assistant")]
