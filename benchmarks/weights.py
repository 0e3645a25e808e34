"""How fast weights are assigned."""

from __future__ import annotations

from statistics import median

from benchmarks.figures import Figure, Tell
from benchmarks.memcpy import memcpy_s
from benchmarks.processes import Running

_AT_LEAST = 1.0
_LARGE_BYTES = 1e9
"""The target holds for models of this size and more; small tensors cost a message each, not bytes."""


def measure_weights(run: Running, rounds: int, tell: Tell) -> list[Figure]:
    """Assign base's weights to raw, layouts transposed where they differ, beside a memcpy of 64 MiB."""
    speeds, copies, size_bytes = [], [], 0
    for _ in range(rounds):
        done = run.coordinator.ask(do="assign")
        size_bytes = done["size_bytes"]
        speeds.append(size_bytes / done["wall_s"] / 1e9)
        copies.append((64 << 20) / memcpy_s(64 << 20) / 1e9)
    tell(f"{run.case.name}: weights done")
    note = f"{size_bytes / 1e6:.0f} MB; a warm memcpy beside it {median(copies):.1f} GB/s"
    at_least = _AT_LEAST if size_bytes >= _LARGE_BYTES else None
    samples = {"gb_per_s": speeds, "memcpy_gb_per_s": copies}
    return [
        Figure(
            "weights",
            run.case.name,
            "assignment",
            median(speeds),
            "GB/s",
            at_least=at_least,
            note=note,
            samples=samples,
        )
    ]
