"""Find a framework's backend, importing a framework only when it is asked for by name or already imported."""

from __future__ import annotations

import importlib
import importlib.util
import sys

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.backend import Backend

_CLASSES = {"torch": "TorchBackend", "paddle": "PaddleBackend", "numpy": "NumpyBackend"}
_PIP = {
    "torch": ("padiff-rpc[torch]", "torch"),
    "paddle": ("padiff-rpc[paddle]", "paddlepaddle"),
    "numpy": ("padiff-rpc", "numpy"),
}


def load_backend(name: str) -> Backend:
    """Import a framework (`torch`, `paddle` or `numpy`) and return its backend.

    Raises:
        PadiffError: FRAMEWORK_MISSING where this Python has no such framework, or where its import fails. BAD_SPEC for
            any other name.
    """
    if name not in _CLASSES:
        raise PadiffError(
            f"no backend for {name!r}", reason=Reason.BAD_SPEC, hint=f"the frameworks are {', '.join(_CLASSES)}"
        )
    if name not in sys.modules and importlib.util.find_spec(name) is None:
        raise _missing(name, f"{sys.executable} has no {name}")
    try:
        module = importlib.import_module(f"padiff_rpc.model.backends.{name}.backend")
    except (ImportError, OSError) as err:  # OSError: a shared library of the framework that is missing
        raise _missing(name, f"{name} is installed for {sys.executable} but does not import: {err}") from err
    return getattr(module, _CLASSES[name])()


def detect_backend(model: object) -> Backend:
    """Return the backend of the framework that a model belongs to.

    Only frameworks that are imported already are tried: a model of another framework could not exist.

    Raises:
        PadiffError: BAD_CONFIG for an object that is no model of a known framework.
    """
    for name in _CLASSES:
        if name in sys.modules:
            backend = load_backend(name)
            if backend.is_model(model):
                return backend
    kind = type(model)
    raise PadiffError(
        f"a {kind.__module__}.{kind.__qualname__} is no model of a known framework",
        reason=Reason.BAD_CONFIG,
        hint="pass a torch.nn.Module or a paddle.nn.Layer, or what launch(SPEC) or connect(ADDRESS) returns",
    )


def _missing(name: str, what: str) -> PadiffError:
    ours, theirs = _PIP[name]
    return PadiffError(
        what,
        reason=Reason.FRAMEWORK_MISSING,
        hint=f"install it there: {sys.executable} -m pip install '{ours}', or only the framework: pip install {theirs}",
        metadata={"framework": name, "python": sys.executable},
    )
