"""MXFP4 in PyTorch, bit for bit what src/mxfp4 and `moxie quantize` make, and its straight-through estimator.

32 consecutive elements along the last dimension share a scale 2^(byte - 127); an element is one of
0, 0.5, 1, 1.5, 2, 3, 4, 6 with a sign, rounded to the nearest, of two equally near to the even code, above 6 to 6.
A tensor [..., k] has codes [..., k/32, 16] (two to a byte, even element in the low nibble) and scales [..., k/32].

The arithmetic is powers of two and integers on float32's bits, so that compiled code on a GPU gives the same bits:
there is no division whose last place could differ.
"""

import torch

BLOCK = 32  # elements
SCALE_RULES = ("round_up", "floor", "even")
MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def scale_bytes(amax: torch.Tensor, rule: str) -> torch.Tensor:
    """The scale bytes, int32, of blocks whose largest magnitudes are `amax` (float32, finite).

    round_up  2^ceil(log2(amax / 6)): nothing is clipped
    floor     2^(floor(log2 amax) - 2): clips amax above 6 times the scale
    even      amax rounded to one mantissa bit, then as floor
    """
    if rule == "floor":
        return (amax * 0.25).view(torch.int32) >> 23
    bits = amax.view(torch.int32)
    if rule == "even":
        return ((bits + 0x00200000) >> 23).clamp(min=2) - 2
    if rule != "round_up":
        raise ValueError(f"a scale rule is one of {', '.join(SCALE_RULES)}, got {rule!r}")
    # amax / 6 passes a power of two where amax passes 1.5 times one: a mantissa above 0x400000 carries. Quotients below
    # 2^-126 have scale 2^-126, but those that float32 rounds to 0 (amax <= 3 * 2^-149) have byte 0.
    return torch.where(bits > 3, (((bits + 0x003FFFFF) >> 23) - 2).clamp(min=1), 0)


def split(weight: torch.Tensor, rule: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """float32 [..., k] to magnitudes [..., k/32, 32] in units of the scales, float32, and scale bytes [..., k/32].

    The third is the weights in blocks [..., k/32, 32].
    """
    if weight.dtype != torch.float32 or weight.shape[-1] % BLOCK != 0:
        raise ValueError(f"expected float32 [..., k] with k a multiple of {BLOCK}, got {weight.dtype} {tuple(weight.shape)}")
    blocks = weight.unflatten(-1, (-1, BLOCK))
    magnitudes = blocks.abs()
    scales = scale_bytes(magnitudes.amax(dim=-1), rule)
    factor = ((254 - scales) << 23).view(torch.float32)  # 2^(127 - scale)
    if rule != "even":
        factor = torch.where(scales > 0, factor, 0.0)  # such blocks are flushed to zero
    scaled = (magnitudes * factor[..., None]).clamp(max=6.0)
    # torch.round() takes the even one of two: 2.5 steps of 2 (5) become 2 (4), whose code is even; so everywhere.
    steps = torch.where(scaled < 2, 2.0, torch.where(scaled < 4, 1.0, 0.5))  # in 1
    values = torch.round(scaled * steps) * torch.where(scaled < 2, 0.5, torch.where(scaled < 4, 1.0, 2.0))
    return values, scales, blocks


def quantize(weight: torch.Tensor, rule: str) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 [..., k] to codes uint8 [..., k/32, 16] and scales uint8 [..., k/32]."""
    if not torch.isfinite(weight).all():
        raise ValueError("a weight is not finite; MXFP4 has neither infinity nor NaN")
    values, scales, blocks = split(weight, rule)
    codes = torch.where(values < 2, 2 * values, torch.where(values < 4, values + 2, values / 2 + 4)).to(torch.uint8)
    codes = codes | (torch.signbit(blocks).to(torch.uint8) << 3)
    return codes[..., 0::2] | (codes[..., 1::2] << 4), scales.to(torch.uint8)


def dequantize(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """codes uint8 [..., k/32, 16] and scales uint8 [..., k/32] (below 253) to float32 [..., k]."""
    table = torch.tensor(MAGNITUDES + tuple(-value for value in MAGNITUDES), device=codes.device)
    pairs = torch.stack([codes & 15, codes >> 4], dim=-1).flatten(-2)
    return torch.ldexp(table[pairs.int()], scales.int()[..., None] - 127).flatten(-2)


def round_trip(weight: torch.Tensor, rule: str) -> torch.Tensor:
    """What is left of float32 [..., k] after quantize() and dequantize(): float32 [..., k]."""
    values, scales, blocks = split(weight, rule)
    scale = torch.where(scales > 0, scales << 23, 0x00400000).view(torch.float32)  # byte 0 is 2^-127
    return torch.copysign(values * scale[..., None], blocks).flatten(-2)


def straight_through(weight: torch.Tensor, rule: str, active: torch.Tensor | bool = True) -> torch.Tensor:
    """round_trip() whose gradient is the identity; where `active` (a bool scalar) is false, the weight itself."""
    plain = weight.detach()
    active = torch.as_tensor(active, device=weight.device)
    # Added this way the sum is exactly the quantised value; w + (q - w) would be rounded.
    return torch.where(active, round_trip(plain, rule), plain) + (weight - plain)
