"""Safetensors files, written as they are made."""

import json
import os
import struct

import tensors as values


def write_checkpoint(folder, config, plan, seed, shard_bytes):
    """Writes config.json and the weights: one model.safetensors, or shards with
    their index where they exceed `shard_bytes`. Yields (file, bytes)."""
    os.makedirs(folder, exist_ok=True)
    write_json(os.path.join(folder, "config.json"), config)
    shards = split(plan.tensors, shard_bytes)
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = "model.safetensors"
        if len(shards) > 1:
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        yield name, write_safetensors(os.path.join(folder, name), shard, seed)
        weight_map.update((tensor.name, name) for tensor in shard)
    if len(shards) > 1:
        total = sum(values.size_bytes(tensor) for tensor in plan.tensors)
        write_json(os.path.join(folder, "model.safetensors.index.json"),
                   {"metadata": {"total_size": total}, "weight_map": weight_map})


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as out:
        json.dump(value, out, indent=2)
        out.write("\n")


def split(tensors, shard_bytes):
    """Cuts the list where the next tensor would make a shard too large; a
    tensor larger than that has a shard of its own."""
    shards, used = [[]], 0
    for tensor in tensors:
        size = values.size_bytes(tensor)
        if shards[-1] and used + size > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(tensor)
        used += size
    return shards


def write_safetensors(path, tensors, seed):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for tensor in tensors:
        end = offset + values.size_bytes(tensor)
        header[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape,
                               "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data starts aligned
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            for piece in values.fill(tensor, seed):
                out.write(piece)
    return 8 + len(text) + offset
