"""Tensors by name, and random bits that are reasonable weights."""

import collections
import math
import zlib

import numpy

# What the values of a tensor are like; see fill().
WEIGHT, NORM, BIAS, SCALES = "weight", "norm", "bias", "scales"

# fan_in: how many products are summed by what uses the tensor, for the size of
# its values. quantise: whether a quantised checkpoint stores it so.
Tensor = collections.namedtuple("Tensor", "name shape dtype kind fan_in")

BYTES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "U8": 1}
# Bits of an element: mantissa, exponent bias, 1.0 (where norms start).
FORMATS = {
    "F32": ("<u4", 23, 127, 0x3F800000),
    "BF16": ("<u2", 7, 127, 0x3F80),
    "F16": ("<u2", 10, 15, 0x3C00),
    "F8_E4M3": ("u1", 3, 7, 0x38),
}
# Bytes made at a time: little memory, and long enough writes for the disk.
CHUNK = 16 << 20


def count(tensor):
    return math.prod(tensor.shape)


def size_bytes(tensor):
    return count(tensor) * BYTES[tensor.dtype]


def fill(tensor, seed):
    """Yields the bytes of `tensor` in pieces. They depend on the seed and on
    the tensor's name, not on the file it goes to."""
    bits = numpy.random.SFC64([seed, zlib.crc32(tensor.name.encode())])
    left = size_bytes(tensor)
    while left > 0:
        size = min(left, CHUNK)
        raw = bits.random_raw((size + 7) // 8).view("u1")[:size]
        yield _shape_bits(raw, tensor).tobytes()
        left -= size


def _shape_bits(raw, tensor):
    """Turns random bits into values by fixing some of them, which is several
    times faster than drawing from a distribution."""
    if tensor.dtype == "U8":
        # Scales of MXFP4: 2^(s - 127) from 1/16 to 1/2 of 1/sqrt(fan_in), since
        # its codes, which may be any, have deviation 2.9.
        if tensor.kind == SCALES:
            return (raw & 3) + numpy.uint8(123 - _log2(tensor.fan_in ** 0.5))
        return raw
    word, mantissa, bias, one = FORMATS[tensor.dtype]
    values = raw.view(word)
    kind = values.dtype.type
    if tensor.kind == NORM:  # 1 to 1.25
        return (values & kind((1 << (mantissa - 2)) - 1)) + kind(one)
    if tensor.kind == SCALES:  # of fp8 blocks, whose codes have deviation 3.5
        top = -2 - _log2(tensor.fan_in ** 0.5)
        return (values & kind((1 << mantissa) - 1)) + kind((top + bias) << mantissa)
    # Sign, mantissa and the exponent's two lowest bits are random: four octaves,
    # whose standard deviation is 0.88 of the highest one's lower end.
    if tensor.dtype == "F8_E4M3":
        top = 2
    elif tensor.kind == BIAS:
        top = -4
    else:
        top = -_log2(tensor.fan_in ** 0.5)
    low = max(top - 3 + bias, 1)
    sign = 1 << (8 * values.itemsize - 1)
    return (values & kind(sign | ((4 << mantissa) - 1))) + kind(low << mantissa)


def _log2(value):
    return round(math.log2(value))
