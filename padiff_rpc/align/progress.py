"""What a running alignment tells whoever shows progress."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """`done` of `total` things of a stage are through; total 0 means that nobody knows. `detail` names the latest."""

    step: int
    stage: str
    done: int
    total: int
    detail: str
