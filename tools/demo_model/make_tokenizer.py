"""Trains the demo model's tokenizer: python3 -m tools.demo_model.make_tokenizer OUT_FOLDER

Byte-level BPE over all 256 bytes with the o200k splitter, 4087 tokens and the nine special tokens of harmony behind them
(4096 ids). The corpus is the generators' own text, so its words are the words of the tasks. Tasks over any words
(spelling, sorting, made-up tools) stay out, so that those words keep being made of several pieces, as a made-up word is.
Digits are split one by one while training, so no merge has one and each digit is a token. Needs PyPI's tokenizers.
"""

import argparse
import collections
import json
import os
import pathlib
import random

from . import instructions, letters, made_up_tools, mixed, ordering
from .conversations import WEIGHTS, draw
from .rendering import whole_messages
from .tokenizer import SPECIAL_TOKENS

NUM_IDS = 4096
EXCLUDED = {letters.count_letters, letters.spelling, ordering.sort_words, ordering.sort_alike_words, instructions.rewriting, made_up_tools.made_up_tools, mixed.mixed_turns}
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K_SPLIT = "|".join([
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_CONTRACTION}",
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_CONTRACTION}",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
])


def corpus(count: int, seed: int) -> list[str]:
    """Texts as a renderer passes them to the tokenizer: contents, and the words of headers."""
    rng = random.Random(seed)
    generators = [generator for generator in WEIGHTS if generator not in EXCLUDED]
    shares = [WEIGHTS[generator] for generator in generators]
    texts: list[str] = []
    for _ in range(count):
        generator = rng.choices(generators, shares)[0]
        for message in whole_messages(draw(generator, rng, "train")):
            texts += [message["role"], message["content"]]
            texts += [message["channel"]] if message.get("channel") else []
            texts += [" to=" + message["recipient"]] if message.get("recipient") else []
            texts += [message["content_type"].removeprefix("<|constrain|>")] if message.get("content_type") else []
    return texts


def added_token(content: str, index: int) -> dict:
    return {"id": index, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def train(texts: list[str], num_ids: int = NUM_IDS) -> dict:
    """The tokenizer.json as a document."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(O200K_SPLIT), "isolated"), pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=num_ids - len(SPECIAL_TOKENS), min_frequency=1, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    # Equal texts often come thousands of times (the system message): more than a few add nothing.
    counts = collections.Counter(texts)
    tokenizer.train_from_iterator((text for text, n in counts.items() for _ in range(min(n, 50))), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab, merges = model["vocab"], [tuple(merge) for merge in model["merges"]]
    if len(vocab) + len(SPECIAL_TOKENS) != num_ids:
        raise ValueError(f"expected {num_ids} ids, found {len(vocab)} tokens: the corpus is too small for more")
    assert all(sum(c.isdigit() for c in token) <= 1 and (len(token) == 1 or not any(c.isdigit() for c in token)) for token in vocab)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added_token(name, len(vocab) + i) for i, name in enumerate(SPECIAL_TOKENS)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": O200K_SPLIT}, "behavior": "Isolated", "invert": False}, byte_level]},
        "post_processor": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                  "vocab": dict(sorted(vocab.items(), key=lambda item: item[1])), "merges": [list(merge) for merge in merges]},
    }


def tokenizer_config(document: dict) -> dict:
    tokens = {str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in document["added_tokens"]}
    return {"added_tokens_decoder": tokens, "bos_token": "<|startoftext|>", "clean_up_tokenization_spaces": False, "eos_token": "<|return|>",
            "extra_special_tokens": {}, "model_input_names": ["input_ids", "attention_mask"], "model_max_length": 4096,
            "pad_token": "<|endoftext|>", "padding_side": "left", "tokenizer_class": "PreTrainedTokenizerFast"}


def write_json(path: pathlib.Path, document: dict) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, help="folder to write tokenizer.json and tokenizer_config.json into")
    parser.add_argument("--count", type=int, default=60000, help="conversations to train on")
    parser.add_argument("--seed", type=int, default=20)
    arguments = parser.parse_args()
    document = train(corpus(arguments.count, arguments.seed))
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / "tokenizer.json", document)
    write_json(arguments.out / "tokenizer_config.json", tokenizer_config(document))
    print(f"{arguments.out / 'tokenizer.json'}: {len(document['model']['vocab'])} tokens, {len(document['model']['merges'])} merges, "
          f"{len(document['added_tokens'])} special tokens")


if __name__ == "__main__":
    main()
