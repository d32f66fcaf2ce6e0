"""Makes a gpt-oss checkpoint that says what a test wants it to say.

The model has one layer whose weights are all zero, so that nothing but the last token matters:
embeddings are one-hot, and the unembedding's row of each token points at the token it follows.
What is generated is therefore a chain: `chain[a] = b` means that b follows a. Only the Python
standard library is needed.
"""

import json
import os
import struct

SPECIAL = ["<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>",
           "<|start|>", "<|end|>", "<|message|>", "<|call|>"]
HIDDEN = 512
INNER = 32
EXPERTS = 4
HEADS = 2
HEAD_DIM = 32


def byte_level():
    """How tokenizer.json spells the 256 bytes."""
    kept = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    spelled = {b: chr(b) for b in kept}
    for byte in range(256):
        spelled.setdefault(byte, chr(0x100 + len(spelled) - len(kept)))
    return spelled


SPELLED = byte_level()


def spell(data):
    return "".join(SPELLED[b] for b in data)


class Vocabulary:
    """Bytes first (token id = byte), then `words`, then the control tokens."""

    def __init__(self, words):
        self.tokens = [bytes([b]) for b in range(256)]
        self.words = list(words)
        self.tokens += [w.encode() if isinstance(w, str) else w for w in self.words]
        self.special = {name: len(self.tokens) + i for i, name in enumerate(SPECIAL)}
        self.size = len(self.tokens) + len(SPECIAL)
        assert self.size <= HIDDEN

    def id(self, token):
        if isinstance(token, str) and token in self.special:
            return self.special[token]
        data = token.encode() if isinstance(token, str) else token
        return self.tokens.index(data)

    def tokenizer_json(self):
        return json.dumps({
            "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
            "added_tokens": [
                {"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": True} for name, i in self.special.items()],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False,
                              "trim_offsets": False, "use_regex": False},
            "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                        "use_regex": False},
            "model": {"type": "BPE", "dropout": None, "unk_token": None,
                      "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                      "vocab": {spell(t): i for i, t in enumerate(self.tokens)}, "merges": []},
        })


def config_json(vocab_size, max_position):
    return {
        "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "attention_bias": True,
        "num_hidden_layers": 1, "num_local_experts": EXPERTS, "num_experts_per_tok": 2,
        "experts_per_token": 2, "hidden_size": HIDDEN, "intermediate_size": INNER,
        "vocab_size": vocab_size, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
        "head_dim": HEAD_DIM, "sliding_window": 16, "layer_types": ["full_attention"],
        "max_position_embeddings": max_position, "initial_context_length": 4096,
        "rope_theta": 150000, "rms_norm_eps": 1e-5, "swiglu_limit": 7.0,
        "tie_word_embeddings": False, "hidden_act": "silu",
        "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0,
                         "original_max_position_embeddings": 4096, "rope_type": "yarn",
                         "truncate": False},
        "quantization_config": {"quant_method": "mxfp4"},
    }


def bf16(value):
    return struct.pack("<f", value)[2:]


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, payload) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(payload)]}
        data += payload
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def make_model(folder, chain, words=(), max_position=4096):
    """Writes the model. `chain` maps tokens (names of control tokens, words, bytes) to successors."""
    vocabulary = Vocabulary(words)
    size = vocabulary.size
    zero, one, strong = bf16(0), bf16(1), bf16(2)

    def one_hot_rows(position_of_row, value):
        rows = []
        for row in range(size):
            line = bytearray(zero * HIDDEN)
            for position in position_of_row.get(row, ()):
                line[2 * position:2 * position + 2] = value
            rows.append(bytes(line))
        return b"".join(rows)

    follows = {}
    for token, successor in chain.items():
        follows.setdefault(vocabulary.id(successor), []).append(vocabulary.id(token))
    width = HEADS * HEAD_DIM
    layer = "model.layers.0."

    def zeros(*shape):
        count = 1
        for extent in shape:
            count *= extent
        return ("BF16", list(shape), zero * count)

    def blocks(*shape):
        count = 1
        for extent in shape:
            count *= extent
        return ("U8", list(shape), bytes(count))

    def scales(*shape):
        count = 1
        for extent in shape:
            count *= extent
        return ("U8", list(shape), bytes([127]) * count)

    tensors = {
        "model.embed_tokens.weight":
            ("BF16", [size, HIDDEN], one_hot_rows({i: [i] for i in range(size)}, one)),
        "lm_head.weight": ("BF16", [size, HIDDEN], one_hot_rows(follows, strong)),
        "model.norm.weight": ("BF16", [HIDDEN], one * HIDDEN),
        layer + "input_layernorm.weight": ("BF16", [HIDDEN], one * HIDDEN),
        layer + "post_attention_layernorm.weight": ("BF16", [HIDDEN], one * HIDDEN),
        layer + "self_attn.q_proj.weight": zeros(width, HIDDEN),
        layer + "self_attn.k_proj.weight": zeros(width, HIDDEN),
        layer + "self_attn.v_proj.weight": zeros(width, HIDDEN),
        layer + "self_attn.q_proj.bias": zeros(width),
        layer + "self_attn.k_proj.bias": zeros(width),
        layer + "self_attn.v_proj.bias": zeros(width),
        layer + "self_attn.o_proj.weight": zeros(HIDDEN, width),
        layer + "self_attn.o_proj.bias": zeros(HIDDEN),
        layer + "self_attn.sinks": zeros(HEADS),
        layer + "mlp.router.weight": zeros(EXPERTS, HIDDEN),
        layer + "mlp.router.bias": zeros(EXPERTS),
        layer + "mlp.experts.gate_up_proj_blocks": blocks(EXPERTS, 2 * INNER, HIDDEN // 32, 16),
        layer + "mlp.experts.gate_up_proj_scales": scales(EXPERTS, 2 * INNER, HIDDEN // 32),
        layer + "mlp.experts.gate_up_proj_bias": zeros(EXPERTS, 2 * INNER),
        layer + "mlp.experts.down_proj_blocks": blocks(EXPERTS, HIDDEN, INNER // 32, 16),
        layer + "mlp.experts.down_proj_scales": scales(EXPERTS, HIDDEN, INNER // 32),
        layer + "mlp.experts.down_proj_bias": zeros(EXPERTS, HIDDEN),
    }
    os.makedirs(folder)
    write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config_json(size, max_position), file)
    with open(os.path.join(folder, "tokenizer.json"), "w") as file:
        file.write(vocabulary.tokenizer_json())
    return vocabulary


def chain_of(tokens):
    """Each token follows the one before it; the tokens must differ."""
    assert len(set(tokens)) == len(tokens), "a token cannot have two successors"
    return dict(zip(tokens, tokens[1:]))
