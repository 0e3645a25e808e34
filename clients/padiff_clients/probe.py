"""The program that `doctor` runs in another Python. It needs only the standard library, and prints one line of JSON."""

import json
import sys

sys.path[:] = [entry for entry in sys.path if entry]  # what lies in the current folder is not installed

NEEDED = ("padiff-rpc", "grpcio", "protobuf", "numpy", "tenacity", "xxhash")
FRAMEWORKS: "dict[str, tuple[str, ...]]" = {"torch": ("torch",), "paddle": ("paddlepaddle", "paddlepaddle-gpu")}


def main(what: str) -> None:
    """Print the packages of this Python, or import one framework and print its version and devices."""
    print(json.dumps({"packages": packages, "torch": torch, "paddle": paddle}[what]()))  # noqa: T201 - its only output


def packages() -> "dict[str, object]":
    """Return the version of this Python and of the packages that a worker needs, and which frameworks are installed."""
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "packages": {name: version(name) for name in NEEDED},
        "installed": {name: any(map(version, names)) for name, names in FRAMEWORKS.items()},
    }


def version(package: str) -> "str | None":
    """Return the version of an installed package, None where it is missing."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def torch() -> "dict[str, object]":
    """Import torch, and return its version and devices."""
    import torch

    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [f"cuda:{at} ({torch.cuda.get_device_name(at)})" for at in range(torch.cuda.device_count())]
    return {"version": torch.__version__, "devices": devices}


def paddle() -> "dict[str, object]":
    """Import paddle, and return its version and devices."""
    import zlib  # noqa: F401 - before paddle, whose own copy is older

    import paddle

    devices = ["cpu"]
    if paddle.device.is_compiled_with_cuda():
        devices += [f"gpu:{at}" for at in range(paddle.device.cuda.device_count())]
    return {"version": paddle.__version__, "devices": devices}


if __name__ == "__main__":
    main(sys.argv[1])
