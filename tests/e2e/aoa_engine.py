"""Run in paddle's environment: load weights through Paddle's own AOA engine. Usage: aoa_engine.py JOB.json BASE.npz RAW.npz"""

from __future__ import annotations

import ast
import json
import sys

import numpy as np
from paddle.distributed.flex_checkpoint.aoa.aoa_engine import AOAEngine
from paddle.distributed.flex_checkpoint.dcp.sharded_weight import ShardedWeightDesc


def whole(name: str, shape: list[int], dtype: str) -> ShardedWeightDesc:
    return ShardedWeightDesc(name, tuple(shape), tuple(shape), (0,) * len(shape), dtype)


def part(desc: ShardedWeightDesc) -> tuple[slice, ...]:
    return tuple(slice(at, at + size) for at, size in zip(desc.global_offset, desc.local_shape, strict=True))


def main() -> None:
    with open(sys.argv[1]) as file:
        job = json.load(file)
    base = dict(np.load(sys.argv[2]))
    targets = {name: whole(name, shape, dtype) for name, (shape, dtype) in job["raw"].items()}
    sources = {name: [whole(name, list(array.shape), str(array.dtype))] for name, array in base.items()}
    engine = AOAEngine(
        {"aoa_statements": job["statements"]}, sources, {name: [target] for name, target in targets.items()}
    )
    made = {}
    for name, target in targets.items():
        array = np.full(target.global_shape, np.nan, target.dtype)
        for entry in engine.find_shard_sources(target):
            value = base[entry.source_slice.key][part(entry.source_slice)]
            for step in entry.postprocess_list or []:
                value = value.transpose(ast.literal_eval(step)) if step.startswith("[") else value.astype(step)
            array[part(entry.target_slice)] = value
        made[name] = array
    np.savez(sys.argv[3], **made)


main()
