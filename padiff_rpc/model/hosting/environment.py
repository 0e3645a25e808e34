"""Report where a hosted model runs: framework, device, packages, host."""

from __future__ import annotations

import os
import platform
import socket
from importlib import metadata
from typing import Any

from padiff_rpc.model.backends.backend import Backend
from padiff_rpc.model.model import ModelInfo
from padiff_rpc.version import __version__

_PACKAGES = ("torch", "paddlepaddle", "paddlepaddle-gpu", "numpy", "grpcio", "protobuf", "transformers")


def model_info(
    backend: Backend,
    model: Any,
    *,
    losses: tuple[str, ...],
    optimizers: tuple[str, ...],
    store_memory_bytes: int,
    store_disk_bytes: int,
) -> ModelInfo:
    """Return a ModelInfo of this process and its model.

    `packages` lists the installed packages whose version can change numbers or the connection.
    """
    return ModelInfo(
        framework=backend.name,
        framework_version=backend.version(),
        device=backend.device(model),
        python_version=platform.python_version(),
        packages={name: version for name in _PACKAGES if (version := _version(name))},
        padiff_version=__version__,
        host=socket.gethostname(),
        pid=os.getpid(),
        losses=losses,
        optimizers=optimizers,
        store_memory_bytes=store_memory_bytes,
        store_disk_bytes=store_disk_bytes,
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
