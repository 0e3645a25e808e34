"""The healthy pairs: no difference but rounding, in many shapes, types and modes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.bugs.pairs import Framework, Precision, Run

_EAGER = {"eager": True}
_LAID_OUT = {"channels_last": True}


@dataclass(frozen=True)
class Healthy:
    """A pair that must be aligned, by a name that is unique among them."""

    title: str
    run: Run


def _across() -> Iterator[Run]:
    """Torch against paddle, in both modes."""
    for architecture in ("cnn", "vit", "encoder", "decoder", "moe", "lstm", "unet", "t5"):
        yield Run(architecture)
        if architecture != "lstm":  # paddle 3.3.1 has no backward of an RNN in eval mode
            yield Run(architecture, training=False)
    for architecture in ("cnn", "vit", "encoder", "decoder", "moe", "unet", "t5"):
        yield Run(architecture, dtype="float64")
    sizes: tuple[tuple[str, dict[str, int]], ...] = (
        ("cnn", {"depth": 24}),
        ("cnn", {"width": 64}),
        ("vit", {"depth": 24}),
        ("vit", {"width": 512, "depth": 2}),
        ("encoder", {"depth": 48}),
        ("encoder", {"width": 1024, "depth": 2, "heads": 16}),
        ("decoder", {"depth": 24}),
        ("decoder", {"depth": 96}),
        ("decoder", {"width": 512, "depth": 4, "heads": 8}),
        ("decoder", {"width": 2048, "depth": 2, "heads": 16}),
        ("moe", {"depth": 16}),
        ("moe", {"width": 256, "count": 8}),
        ("lstm", {"width": 128}),
        ("unet", {"width": 32}),
        ("t5", {"depth": 12}),
        ("t5", {"width": 256, "depth": 4, "heads": 8}),
    )
    for architecture, arguments in sizes:
        yield _sized(architecture, arguments, {}, "paddle", "float32", True)
    for loss in ("language", "accumulated"):
        yield Run("decoder", loss=loss, raw_loss=loss)
    for loss in ("smoothed", "weighted", "regression", "distilled"):
        yield Run("vit", loss=loss, raw_loss=loss)
    for optimizer in ("adamw", "sgd_clipped", "momentum", "scheduled"):
        yield Run("decoder", optimizer=optimizer, raw_optimizer=optimizer, steps=3)
    yield Run("moe", optimizer="adamw", raw_optimizer="adamw", steps=3)
    yield Run("cnn", optimizer="momentum", raw_optimizer="momentum", steps=3)


def _within() -> Iterator[Run]:
    """Torch against torch, written out in another way or laid out in another order, in low precision too."""
    dtypes: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
    for dtype in dtypes:
        for architecture in ("vit", "encoder", "decoder", "moe", "t5"):
            yield Run(architecture, "torch", dtype=dtype, raw_args=_EAGER)
        yield Run("cnn", "torch", dtype=dtype, raw_args=_LAID_OUT)
        yield Run("unet", "torch", dtype=dtype, raw_args=_LAID_OUT)
    for training in (True, False):
        yield _sized("decoder", {"depth": 24}, _EAGER, "torch", "bfloat16", training)
        yield _sized("encoder", {"depth": 24}, _EAGER, "torch", "bfloat16", training)
        yield _sized("cnn", {"depth": 16}, _LAID_OUT, "torch", "bfloat16", training)
    yield _sized("decoder", {"depth": 48}, _EAGER, "torch", "bfloat16", True)
    yield _sized("decoder", {"width": 1024, "depth": 2, "heads": 16}, _EAGER, "torch", "bfloat16", True)
    yield _sized("vit", {"width": 512, "depth": 4}, _EAGER, "torch", "bfloat16", True)
    yield _sized("moe", {"depth": 8}, _EAGER, "torch", "bfloat16", True)
    yield Run(
        "decoder", "torch", dtype="bfloat16", optimizer="master", raw_optimizer="master", steps=3, raw_args=_EAGER
    )


def _sized(
    architecture: str, sizes: dict[str, int], more: dict[str, Any], raw: Framework, dtype: Precision, training: bool
) -> Run:
    return Run(architecture, raw, sizes, {**sizes, **more}, dtype, training)


def _title(run: Run) -> str:
    sizes = (f"{name}={value}" for name, value in run.base_args.items())
    return " ".join(part for part in ("healthy", run.name, *sizes, run.loss, run.optimizer) if part)


HEALTHY: tuple[Healthy, ...] = tuple(Healthy(_title(run), run) for run in (*_across(), *_within()))
