#!/usr/bin/env python3
"""Makes tests/golden/mxfp4_vectors.txt: blocks of 32 numbers with what quantising them must give.

    tests/golden/make_mxfp4_vectors.py        needs torch

Written without a look at src/mxfp4: scales come from frexp instead of integer additions, codes from a
search for the nearest value in float64. A line is

    32 x float32 bits | round_up: scale codes | floor: scale codes | even: scale codes

in hexadecimal; the codes are packed, even element in the low nibble.
"""

import math
import pathlib

import torch

VALUES = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=torch.float64)


def nearest_code(value: torch.Tensor, exponent: int | None) -> torch.Tensor:
    """Codes of float32 values divided by 2^exponent; None stands for a division that gives zeros."""
    scaled = value.abs().double() * (0.0 if exponent is None else 2.0**-exponent)
    distance = (scaled[:, None] - VALUES[None, :]).abs()
    best = distance.min(dim=1).values
    candidates = distance == best[:, None]
    codes = torch.zeros(len(value), dtype=torch.int64)
    for row in range(len(value)):
        ties = [code for code in range(8) if candidates[row, code]]
        codes[row] = next((code for code in ties if code % 2 == 0), ties[0])
    return codes + 8 * torch.signbit(value).long()


def exponent_round_up(amax: torch.Tensor) -> int | None:
    """The power of two at or above amax / 6 (in float32, as the quotient is); subnormal ones become 2^-126."""
    quotient = (amax / torch.tensor(6.0, dtype=torch.float32)).item()
    if quotient == 0:
        return None
    mantissa, exponent = math.frexp(quotient)  # mantissa in [0.5, 1)
    return max(exponent - 1 if mantissa == 0.5 else exponent, -126)


def exponent_floor(amax: torch.Tensor) -> int | None:
    """The power of two at or below amax, divided by 4; what would be below 2^-126 is flushed."""
    quotient = (amax / torch.tensor(4.0, dtype=torch.float32)).item()
    if quotient < 2.0**-126:
        return None
    return math.frexp(quotient)[1] - 1


def exponent_even(amax: torch.Tensor) -> int:
    """amax to the nearest of 1, 1.5 and 2 times a power of two (half up), then as floor, never below 2^-127."""
    mantissa, exponent = math.frexp(amax.item())
    if amax.item() < 2.0**-126:  # subnormal: float32's fields have no hidden bit
        return -127
    return max(exponent - 1 - 2 + (1 if 2 * mantissa >= 1.75 else 0), -127)


def quantise(values: torch.Tensor, rule) -> str:
    exponent = rule(values.abs().max())
    codes = nearest_code(values, exponent)
    packed = codes[0::2] + 16 * codes[1::2]
    scale = 0 if exponent is None else exponent + 127
    return f"{scale:02x} " + "".join(f"{byte:02x}" for byte in packed.tolist())


def blocks() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(20250805)

    def normal() -> torch.Tensor:
        return torch.randn(32, generator=generator)

    result = []
    for power in torch.linspace(-120, 120, 41).tolist():  # Gaussian over the whole range
        result.append(normal() * 2.0**power)
    for _ in range(24):  # what a checkpoint holds
        result.append((normal() * 0.02).bfloat16().float())
    for _ in range(12):  # heavy tails: most codes are 0
        result.append(normal() * torch.exp(3 * normal()))
    thresholds = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0])
    for power in (-100, -3, 0, 1, 90):  # every threshold, the float32 below and the one above, both signs
        edge = thresholds * 2.0**power
        below, above = torch.nextafter(edge, torch.tensor(0.0)), torch.nextafter(edge, torch.tensor(math.inf))
        signs = torch.where(torch.rand(8, generator=generator) < 0.5, -1.0, 1.0)
        result.append(torch.cat([edge, below[:7] * signs[:7], above[:7] * signs[:7], -edge, torch.zeros(2)]))
    for mantissa in (1.0, 1.25, 1.5, 1.5 + 2**-7, 1.5 + 2**-23, 1.75 - 2**-23, 1.75, 2 - 2**-23):  # where rules part
        for power in (-126, -125, -124, -123, -2, 0, 5, 127):
            block = normal() * 2.0 ** (power - 3)
            block[block.abs() > 2.0**power] = 0
            block[7] = -mantissa * 2.0**power
            result.append(block)
    for power in (-149, -140, -130, -127, -126):  # subnormals
        block = torch.randint(-3, 4, (32,), generator=generator).float() * 2.0**power
        result.append(block)
    result.append(torch.zeros(32))
    result.append(-torch.zeros(32))
    return result


def main() -> None:
    lines = []
    for block in blocks():
        assert block.dtype == torch.float32 and len(block) == 32 and torch.isfinite(block).all()
        bits = " ".join(f"{bits & 0xFFFFFFFF:x}" for bits in block.view(torch.int32).tolist())
        rules = (exponent_round_up, exponent_floor, exponent_even)
        lines.append(" | ".join([bits] + [quantise(block, rule) for rule in rules]))
    path = pathlib.Path(__file__).with_name("mxfp4_vectors.txt")
    path.write_text("".join(line + "\n" for line in lines))
    print(f"{path}: {len(lines)} blocks")


if __name__ == "__main__":
    main()
