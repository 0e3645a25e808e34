"""A bare process: one model and its framework, without padiff_rpc. It steps, or clears its gradients, at each command.

Run as `python -I benchmarks/bare.py FRAMEWORK FILE.py:FACTORY ARGUMENTS_JSON INPUTS.npz`. It answers in JSON lines as
child.py does, which it does not import: nothing of ours may be in this process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def main() -> None:
    framework, place, arguments, inputs = sys.argv[1:]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints must not get between the answers
    model = _factory(place)(**json.loads(arguments))
    step, clear = STEP_MAKERS[framework](model, dict(np.load(inputs)))
    _say(out, {"pid": os.getpid()})
    for line in sys.stdin:
        begun = time.monotonic()
        if json.loads(line)["do"] == "clear":
            clear()
            _say(out, {})
        else:
            loss = step()
            _say(out, {"wall_s": time.monotonic() - begun, "loss": loss, "peak_bytes": _peak_bytes()})


def _torch_step(model: Any, arrays: dict[str, np.ndarray]) -> tuple[Callable[[], float], Callable[[], None]]:
    import torch

    inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
    model.train()
    weights: list[Any] = []

    def step() -> float:
        output = model(**inputs)
        if not weights:
            weights.append(torch.from_numpy(_weights(tuple(output.shape))))
        loss = (output * weights[0]).sum() / output.numel() ** 0.5
        loss.backward()
        return float(loss)

    return step, lambda: model.zero_grad(set_to_none=True)


def _paddle_step(model: Any, arrays: dict[str, np.ndarray]) -> tuple[Callable[[], float], Callable[[], None]]:
    import paddle

    inputs = {name: paddle.to_tensor(array) for name, array in arrays.items()}
    model.train()
    weights: list[Any] = []

    def step() -> float:
        output = model(**inputs)
        if not weights:
            weights.append(paddle.to_tensor(_weights(tuple(output.shape))))
        loss = (output * weights[0]).sum() / output.size**0.5
        loss.backward()
        return float(loss)

    def clear() -> None:
        for parameter in model.parameters():
            parameter.clear_gradient(False)  # False: not to zeros

    return step, clear


STEP_MAKERS = {"torch": _torch_step, "paddle": _paddle_step}


def _weights(shape: tuple[int, ...]) -> np.ndarray:
    """The fixed tensor of the loss, made once: sum(output * it) / sqrt(n) reaches every output."""
    return np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)


def _factory(place: str) -> Callable[..., Any]:
    file, _, name = place.rpartition(":")
    spec = importlib.util.spec_from_file_location("bare_model", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return getattr(module, name)


def _peak_bytes() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))


def _say(out: Any, answer: dict[str, Any]) -> None:
    out.write(json.dumps(answer) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
