"""Tokenised conversations packed into rows of one length, several to a row, none cut."""

import dataclasses
import queue
import threading
from collections.abc import Iterator

import numpy as np

OPEN_ROWS = 16  # how many unfinished rows a conversation may be put into


@dataclasses.dataclass
class Documents:
    """Conversations one behind the other; conversation i is ids[starts[i] : starts[i + 1]]."""

    ids: np.ndarray  # uint16 [tokens]
    mask: np.ndarray  # uint8 [tokens], 1 where the model must predict the token
    starts: np.ndarray  # int64 [documents + 1]

    def __post_init__(self) -> None:
        if self.ids.shape != self.mask.shape or self.starts[0] != 0 or self.starts[-1] != len(self.ids):
            raise ValueError(f"{self.ids.shape} ids, {self.mask.shape} mask, starts {self.starts[0]} to {self.starts[-1]}: "
                             "expected one length")

    def __len__(self) -> int:
        return len(self.starts) - 1

    @staticmethod
    def of(pairs: list[tuple[list[int], list[int]]]) -> "Documents":
        """Of (ids, mask) of each conversation."""
        lengths = [len(ids) for ids, _ in pairs]
        return Documents(np.array([i for ids, _ in pairs for i in ids], dtype=np.uint16),
                         np.array([m for _, mask in pairs for m in mask], dtype=np.uint8), np.cumsum([0, *lengths]))


@dataclasses.dataclass
class Batch:
    """Arrays [rows, length]. targets are the next tokens, mask is 1 where they are learned, documents is -1 in padding."""

    ids: np.ndarray  # int64
    targets: np.ndarray  # int64
    mask: np.ndarray  # uint8
    documents: np.ndarray  # int32, from 0 in each row
    positions: np.ndarray  # int64, from 0 in each document

    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.ids, self.targets, self.mask, self.documents, self.positions


def pack(lengths: np.ndarray, row_length: int) -> Iterator[list[int]]:
    """Indices of documents, row by row: each goes into the fullest of the open rows that has room for it."""
    rows: list[tuple[int, list[int]]] = []  # free places, documents; a new one in front
    for index, length in enumerate(lengths.tolist()):
        best = -1
        for at, (free, _) in enumerate(rows):
            if free >= length and (best < 0 or free < rows[best][0]):
                best = at
        if best >= 0:
            free, members = rows[best]
            rows[best] = (free - length, [*members, index])
            continue
        if len(rows) == OPEN_ROWS:
            fullest = min(range(len(rows)), key=lambda at: rows[at][0])
            yield rows.pop(fullest)[1]
        rows.append((row_length - length, [index]))
    for _, members in rows:
        yield members


def fill(documents: Documents, rows: list[list[int]], row_length: int, num_rows: int) -> Batch:
    """The batch of these rows of documents; rows that are missing are padding."""
    shape = (num_rows, row_length)
    ids, targets, positions = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    mask, numbers = np.zeros(shape, dtype=np.uint8), np.full(shape, -1, dtype=np.int32)
    for row, members in enumerate(rows):
        at = 0
        for number, index in enumerate(members):
            start, end = documents.starts[index], documents.starts[index + 1]
            stop = at + end - start
            ids[row, at:stop] = documents.ids[start:end]
            targets[row, at : stop - 1] = documents.ids[start + 1 : end]
            mask[row, at : stop - 1] = documents.mask[start + 1 : end]
            numbers[row, at:stop] = number
            positions[row, at:stop] = np.arange(stop - at)
            at = stop
    return Batch(ids, targets, mask, numbers, positions)


def batches(documents: Documents, row_length: int, num_rows: int, seed: int | None) -> Iterator[Batch]:
    """All documents once, shuffled by the seed (None: as they come, and the last batch padded instead of left out)."""
    lengths = np.diff(documents.starts)
    if lengths.max(initial=0) > row_length:
        raise ValueError(f"a conversation of {lengths.max()} tokens does not fit into rows of {row_length}")
    order = np.arange(len(lengths)) if seed is None else np.random.default_rng(seed).permutation(len(lengths))
    waiting: list[list[int]] = []
    for members in pack(lengths[order], row_length):
        waiting.append(order[members].tolist())
        if len(waiting) == num_rows:
            yield fill(documents, waiting, row_length, num_rows)
            waiting = []
    if waiting and seed is None:
        yield fill(documents, waiting, row_length, num_rows)


def ahead(items: Iterator, depth: int = 16) -> Iterator:
    """The items, made in a thread of their own up to `depth` before they are asked for."""
    line: queue.Queue = queue.Queue(depth)
    end = object()

    def work() -> None:
        try:
            for item in items:
                line.put((item, None))
            line.put((end, None))
        except BaseException as error:  # raised again where the items are used
            line.put((end, error))

    threading.Thread(target=work, daemon=True).start()
    while True:
        item, error = line.get()
        if error is not None:
            raise error
        if item is end:
            return
        yield item
