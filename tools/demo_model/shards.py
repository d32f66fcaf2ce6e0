"""Reads the shards of make_shards.py: flat arrays of tokens, cut into conversations."""

import pathlib
import time
import zlib

import numpy as np

from .packing import Documents


def starts_of(ids: np.ndarray, special: dict[str, int]) -> np.ndarray:
    """Where conversations begin, and the end: int64 [conversations + 1].

    Each conversation begins with <|start|>system, and nothing but its beginning does.
    """
    system = ids[1] if len(ids) > 1 else -1
    if len(ids) and ids[0] != special["<|start|>"]:
        raise ValueError(f"expected a shard to begin with <|start|>, found token {ids[0]}")
    begins = np.flatnonzero((ids[:-1] == special["<|start|>"]) & (ids[1:] == system))
    return np.append(begins, len(ids)).astype(np.int64)


def all_in(folder: pathlib.Path) -> list[pathlib.Path]:
    paths = sorted(folder.glob("*ids*.npy"))
    if not paths:
        raise FileNotFoundError(f"{folder}: expected shards named *ids*.npy and *mask*.npy, found none")
    return paths


def numbered(folder: pathlib.Path, numbers: range, seconds: float) -> list[pathlib.Path]:
    """The shards of these numbers, as make_shards.py names them, waited for while they are being written; none if one does not come.

    Given up is when for so many seconds no more of them has come."""
    paths = [folder / f"train-ids-{number:05}.npy" for number in numbers]
    missing, since = len(paths) + 1, time.monotonic()
    while True:
        left = sum(not path.exists() for path in paths)
        if left == 0:
            return paths
        if left < missing:
            missing, since = left, time.monotonic()
        elif time.monotonic() - since > seconds:
            return []
        time.sleep(0.1)


def read(paths: list[pathlib.Path], longest: int, special: dict[str, int]) -> tuple[Documents, int]:
    """All conversations of at most `longest` tokens in these shards, in their order, and how many were longer."""
    lengths, ids, masks, dropped = [], [], [], 0
    for path in paths:
        shard, mask = np.load(path), np.load(path.with_name(path.name.replace("ids", "mask")))
        if shard.ndim != 1 or shard.shape != mask.shape:
            raise ValueError(f"{path}: expected flat ids and as many mask, found {shard.shape} and {mask.shape}")
        starts = starts_of(shard, special)
        sizes = np.diff(starts)
        fits = sizes <= longest
        dropped += int((~fits).sum())
        keep = np.repeat(fits, sizes)
        lengths.append(sizes[fits])
        ids.append(shard[keep].astype(np.uint16))
        masks.append(mask[keep].astype(np.uint8))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return Documents(np.concatenate(ids), np.concatenate(masks), starts), dropped


def fingerprint(documents: Documents) -> list:
    """Conversations, tokens and a checksum: equal for equal data."""
    return [len(documents), len(documents.ids), zlib.crc32(documents.ids.tobytes())]
