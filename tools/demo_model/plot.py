"""A line chart as PNG, with nothing but the standard library: numbers and a few words in a font of 3 x 5 dots."""

import math
import pathlib
import struct
import zlib

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 480, 70, 20, 30, 40
COLOURS = ((47, 127, 196), (212, 118, 31), (76, 153, 80), (150, 90, 170))
DOTS = {  # rows from the top, three bits each
    "0": 0o75557, "1": 0o26227, "2": 0o71747, "3": 0o71717, "4": 0o55711, "5": 0o74717, "6": 0o74757, "7": 0o71111, "8": 0o75757,
    "9": 0o75717, ".": 0o00002, "-": 0o00700, "a": 0o25755, "b": 0o65656, "c": 0o34443, "d": 0o65556, "e": 0o74647, "f": 0o74644,
    "g": 0o34553, "h": 0o55755, "i": 0o72227, "j": 0o11152, "k": 0o55655, "l": 0o44447, "m": 0o57755, "n": 0o65555, "o": 0o25552,
    "p": 0o65644, "q": 0o25563, "r": 0o65655, "s": 0o34216, "t": 0o72222, "u": 0o55557, "v": 0o55552, "w": 0o55775, "x": 0o55255,
    "y": 0o55222, "z": 0o71247,
}


class Canvas:
    def __init__(self) -> None:
        self.pixels = bytearray(b"\xff" * (WIDTH * HEIGHT * 3))

    def dot(self, x: int, y: int, colour: tuple[int, int, int]) -> None:
        if 0 <= x < WIDTH and 0 <= y < HEIGHT:
            self.pixels[3 * (y * WIDTH + x) : 3 * (y * WIDTH + x) + 3] = bytes(colour)

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: tuple[int, int, int]) -> None:
        steps = max(1, math.ceil(max(abs(x1 - x0), abs(y1 - y0))))
        for step in range(steps + 1):
            self.dot(round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps), colour)

    def text(self, x: int, y: int, words: str, colour: tuple[int, int, int] = (60, 60, 60)) -> None:
        for letter in words.lower():
            rows = DOTS.get(letter, 0)
            for row in range(5):
                for column in range(3):
                    if rows >> (3 * (4 - row) + 2 - column) & 1:
                        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
                            self.dot(x + 2 * column + dx, y + 2 * row + dy, colour)
            x += 8

    def png(self) -> bytes:
        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        rows = b"".join(b"\0" + self.pixels[3 * WIDTH * y : 3 * WIDTH * (y + 1)] for y in range(HEIGHT))
        head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, four to ten of them."""
    raw = (high - low) / 8
    step = next(m * 10 ** math.floor(math.log10(raw)) for m in (1, 2, 5, 10) if m * 10 ** math.floor(math.log10(raw)) >= raw)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def chart(path: pathlib.Path, title: str, lines: dict[str, list[tuple[float, float]]]) -> None:
    """Lines of (step, value > 0) by name; the values on a logarithmic scale."""
    points = [(x, math.log10(y)) for line in lines.values() for x, y in line if y > 0]
    if not points:
        raise ValueError(f"{path}: there is nothing to draw")
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    right, high = max(right, left + 1), max(high, low + 0.1)

    def place(x: float, y: float) -> tuple[float, float]:
        return (LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM))

    canvas = Canvas()
    for x in ticks(left, right):
        at = place(x, low)[0]
        canvas.line(at, TOP, at, HEIGHT - BOTTOM, (230, 230, 230))
        canvas.text(round(at) - 12, HEIGHT - BOTTOM + 10, f"{x:g}")
    for y in ticks(low, high):
        at = place(left, y)[1]
        canvas.line(LEFT, at, WIDTH - RIGHT, at, (230, 230, 230))
        canvas.text(4, round(at) - 5, f"{10**y:.3g}")
    canvas.text(LEFT, 10, title)
    for (name, line), colour, number in zip(lines.items(), COLOURS, range(len(COLOURS))):
        canvas.text(WIDTH - RIGHT - 8 * len(name) - 10, TOP + 8 + 16 * number, name, colour)
        drawn = [place(x, math.log10(y)) for x, y in line if y > 0]
        for a, b in zip(drawn, drawn[1:]):
            canvas.line(*a, *b, colour)
    path.write_bytes(canvas.png())
