"""Writes a random checkpoint of any family at any size, as the hub would have
it. Memory stays at tens of MiB and the disk sets the pace, so that loading and
memory can be measured on many GB without a real model.

    python3 tests/testdata/make_checkpoint --family mixtral --out FOLDER
    python3 tests/testdata/make_checkpoint --family mixtral --released --layers 2 --out FOLDER
    python3 tests/testdata/make_checkpoint --list

The values are random, of the size that keeps a forward pass finite, and the
same for the same seed. Needs numpy.
"""

import argparse
import dataclasses
import sys
import time

import families
import tensors
import writer

DTYPES = {"f32": "F32", "bf16": "BF16", "f16": "F16"}


def dimensions():
    """Fields of Size that an argument may set."""
    return [field.name for field in dataclasses.fields(families.Size)
            if field.type is int or field.type == "int"]


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="make_checkpoint", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=sorted(families.FAMILIES))
    parser.add_argument("--out", help="folder to write; its files are replaced")
    parser.add_argument("--list", action="store_true",
                        help="list families with the bytes of their released size")
    parser.add_argument("--released", action="store_true",
                        help="start from the released model's dimensions, not from tiny ones")
    parser.add_argument("--dtype", choices=[*DTYPES, "fp8", "mxfp4"], default="bf16",
                        help="fp8: deepseek_v3; mxfp4: gpt_oss (default: bf16)")
    parser.add_argument("--fused", action="store_true",
                        help="one tensor for all experts, as transformers 5 saves them")
    parser.add_argument("--shard-bytes", type=int, default=5_000_000_000,
                        help="largest file (default: 5000000000)")
    parser.add_argument("--seed", type=int, default=1)
    group = parser.add_argument_group("dimensions")
    for name in dimensions():
        group.add_argument("--" + name.replace("_", "-"), type=int, metavar="N")
    return parser, parser.parse_args()


def make_size(parser, arguments):
    family = families.FAMILIES[arguments.family]
    size = families.Size(**(family.released if arguments.released else family.small))
    for name in dimensions():
        value = getattr(arguments, name)
        if value is not None:
            setattr(size, name, value)
    size.quantised = arguments.dtype not in DTYPES
    if size.quantised and arguments.dtype != family.quantisation:
        parser.error(f"--dtype {arguments.dtype}: {arguments.family} has no such checkpoints")
    size.dtype = DTYPES.get(arguments.dtype, "BF16")
    size.fused = arguments.fused
    if size.fused and not family.can_fuse:
        parser.error(f"--fused: {arguments.family} has one layout only")
    return size


def list_families():
    for name, family in sorted(families.FAMILIES.items()):
        size = families.Size(**family.released)
        _, plan = family.make(size)
        total = sum(tensors.size_bytes(tensor) for tensor in plan.tensors)
        print(f"{name:12} {total / 1e9:8.1f} GB in bf16, {size.layers} layers, "
              f"{len(plan.tensors)} tensors")


def main():
    parser, arguments = parse_arguments()
    if arguments.list:
        list_families()
        return
    if not arguments.family or not arguments.out:
        parser.error("--family and --out are required")
    started = time.monotonic()
    size = make_size(parser, arguments)
    try:
        config, plan = families.FAMILIES[arguments.family].make(size)
    except ValueError as error:
        parser.error(str(error))
    total = 0
    for name, written in writer.write_checkpoint(
            arguments.out, config, plan, arguments.seed, arguments.shard_bytes):
        total += written
        print(f"{name}: {written} bytes", flush=True)
    print(f"{len(plan.tensors)} tensors, {total} bytes in "
          f"{time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
