"""The entry point `padiff-rpc`: starts the command line, or says how to install what it needs."""

from __future__ import annotations

import sys
import traceback

_NEEDED = ("click", "rich", "pydantic", "pydantic_core", "tomli")


def main() -> int:
    """Run the command that the arguments name and return its exit status: 2 if a dependency is missing, 3 for a bug."""
    try:
        from padiff_clients.commands import commands
        from padiff_rpc.system.malloc import keep_freed_memory
    except Exception as err:  # noqa: BLE001 - Python's own exit status 1 would mean that the models differ
        package = (err.name or "").partition(".")[0] if isinstance(err, ModuleNotFoundError) else ""
        if package in _NEEDED:
            sys.stderr.write(
                f"error: the command line needs {package}, which this Python lacks\n"
                f"hint: {sys.executable} -m pip install 'padiff-rpc[cli]'\n"
            )
            return 2
        traceback.print_exc()
        return 3
    keep_freed_memory()
    commands(prog_name="padiff-rpc")
    return 0
