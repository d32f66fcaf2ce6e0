"""A training state on disk: a folder with checkpoint.json and pieces of at most 16 MiB.

The pieces are one run of bytes cut at a size; checkpoint.json says where in it each tensor lies. How much is kept:

    full      float32 weights and optimizer state: goes on exactly where it stopped
    compact   bfloat16 weights, moments in 8 bits, variances in 4 bits (an octave apart: AdamW's steps are off by up to 19 %
              until the variances are new, some 50 steps): goes on without a warm-up
    weights   bfloat16 weights: a fresh optimizer needs a warm-up
"""

import json
import pathlib

import numpy as np
import torch

PIECE_BYTES = 16 << 20
KEEP = ("full", "compact", "weights")
GROUP = 64  # neighbours in an 8-bit or 4-bit tensor that share a scale
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8, "uint8": torch.uint8}


def to_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def grouped(tensor: torch.Tensor) -> torch.Tensor:
    """float32 [groups, GROUP], zeros behind the last element."""
    flat = tensor.detach().float().cpu().flatten()
    return torch.nn.functional.pad(flat, (0, -flat.numel() % GROUP)).view(-1, GROUP)


def to_int8(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values from -127 to 127 and their scales (bfloat16, one for GROUP values of the flattened tensor)."""
    groups = grouped(tensor)
    scales = (groups.abs().amax(dim=1) / 127).bfloat16()
    values = groups / scales.float().clamp(min=1e-38)[:, None]
    return values.round().clamp(-127, 127).to(torch.int8), scales


def to_int4(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positive numbers as octaves below their group's largest: two in a byte, and the largest (float32).

    What is 15 octaves below or deeper, also 0, comes back as 15 octaves below: a variance is better too large than too small.
    """
    groups = grouped(tensor)
    largest = groups.amax(dim=1)
    below = torch.log2(largest.clamp(min=1e-38))[:, None] - torch.log2(groups.clamp(min=1e-38))
    octaves = below.round().clamp(0, 15).to(torch.uint8)
    return octaves[:, 0::2] | (octaves[:, 1::2] << 4), largest


def from_int4(octaves: torch.Tensor, largest: torch.Tensor, shape: list[int]) -> torch.Tensor:
    pairs = torch.stack([octaves & 15, octaves >> 4], dim=-1).flatten(-2)
    return (largest[:, None] * torch.exp2(-pairs.float())).flatten()[: int(np.prod(shape))].view(shape)


def from_int8(values: torch.Tensor, scales: torch.Tensor, shape: list[int]) -> torch.Tensor:
    count = int(np.prod(shape))
    return (values.view(-1, GROUP).float() * scales.float()[:, None]).flatten()[:count].view(shape)


def save(folder: pathlib.Path, keep: str, facts: dict, weights: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> int:
    """Writes the folder anew and returns its bytes. `facts` is JSON; `state` is Optimizer.state()."""
    if keep not in KEEP:
        raise ValueError(f"what to keep is one of {', '.join(KEEP)}, got {keep!r}")
    folder.mkdir(parents=True, exist_ok=True)
    pieces: list[bytes] = []
    tensors: dict[str, dict] = {}
    at = 0

    def put(tensor: torch.Tensor) -> dict:
        nonlocal at
        data = to_bytes(tensor)
        entry = {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape), "at": at}
        pieces.append(data)
        at += len(data)
        return entry

    for name, tensor in weights.items():
        tensors["weight." + name] = put(tensor.float() if keep == "full" else tensor.bfloat16())
    for name, tensor in state.items() if keep != "weights" else ():
        if keep == "full":
            tensors[name] = put(tensor.float())
        else:
            values, scales = (to_int8 if name.startswith("moment.") else to_int4)(tensor)
            tensors[name] = {"values": put(values), "scales": put(scales), "shape": list(tensor.shape)}
    stream = b"".join(pieces)
    for old in folder.glob("piece-*"):
        old.unlink()
    starts = range(0, len(stream), PIECE_BYTES)
    for number, start in enumerate(starts):
        (folder / f"piece-{number:02}").write_bytes(stream[start : start + PIECE_BYTES])
    index = {"keep": keep, "pieces": len(starts), "bytes": len(stream), "facts": facts, "tensors": tensors}
    (folder / "checkpoint.json").write_text(json.dumps(index) + "\n")
    return len(stream) + (folder / "checkpoint.json").stat().st_size


def load(folder: pathlib.Path) -> tuple[str, dict, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """keep, facts, weights and state (empty for "weights"), tensors in float32."""
    index = json.loads((folder / "checkpoint.json").read_text())
    stream = b"".join((folder / f"piece-{number:02}").read_bytes() for number in range(index["pieces"]))
    if len(stream) != index["bytes"]:
        raise ValueError(f"{folder}: {len(stream)} bytes in {index['pieces']} pieces, expected {index['bytes']}; a piece is cut short")

    def get(entry: dict) -> torch.Tensor:
        dtype = DTYPES[entry["dtype"]]
        size = int(np.prod(entry["shape"])) * dtype.itemsize
        raw = torch.frombuffer(bytearray(stream[entry["at"] : entry["at"] + size]), dtype=torch.uint8)
        return raw.view(dtype).view(entry["shape"])

    weights, state = {}, {}
    for name, entry in index["tensors"].items():
        if name.startswith("weight."):
            weights[name.removeprefix("weight.")] = get(entry).float()
        elif "values" in entry:
            values = get(entry["values"])
            unpack = from_int8 if values.dtype == torch.int8 else from_int4
            state[name] = unpack(values, get(entry["scales"]), entry["shape"])
        else:
            state[name] = get(entry).float()
    return index["keep"], index["facts"], weights, state
