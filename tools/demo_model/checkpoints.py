"""A training state on disk: a folder with checkpoint.json and pieces of at most 16 MiB.

The pieces are one run of bytes cut at a size; checkpoint.json says where in it each tensor lies. How much is kept:

    full      float32 weights and optimizer state: goes on exactly where it stopped
    compact   bfloat16 weights, moments in 8 bits, variances in bfloat16: goes on, rounded
    weights   bfloat16 weights: a fresh optimizer needs a warm-up
"""

import json
import pathlib

import numpy as np
import torch

PIECE_BYTES = 16 << 20
KEEP = ("full", "compact", "weights")
GROUP = 64  # neighbours in an 8-bit tensor that share a bfloat16 scale
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}


def to_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def to_int8(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values from -127 to 127 and their scales (bfloat16, one for GROUP values of the flattened tensor)."""
    flat = tensor.detach().float().cpu().flatten()
    flat = torch.nn.functional.pad(flat, (0, -flat.numel() % GROUP)).view(-1, GROUP)
    scales = (flat.abs().amax(dim=1) / 127).bfloat16()
    values = flat / scales.float().clamp(min=1e-38)[:, None]
    return values.round().clamp(-127, 127).to(torch.int8), scales


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
        elif name.startswith("moment."):
            values, scales = to_int8(tensor)
            tensors[name] = {"values": put(values), "scales": put(scales), "shape": list(tensor.shape)}
        else:
            tensors[name] = put(tensor.bfloat16())
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
            state[name] = from_int8(get(entry["values"]), get(entry["scales"]), entry["shape"])
        else:
            state[name] = get(entry).float()
    return index["keep"], index["facts"], weights, state
