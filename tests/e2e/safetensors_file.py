"""Reads .safetensors files for a test: a header's length, a header, a buffer."""

import json

import numpy

DTYPES = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}


def read(path):
    """The arrays of a file by name."""
    with open(path, "rb") as file:
        data = file.read()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        first, last = (begin + offset for offset in entry["data_offsets"])
        arrays[name] = numpy.frombuffer(
            data[first:last], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return arrays
