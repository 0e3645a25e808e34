"""Fail where a public name of padiff_rpc has no docstring, or is missing from reference.md, or reference.md has more."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[2]
_DIRECTIVE = re.compile(r"^::: (\S+)$", re.MULTILINE)


def main() -> int:
    """Check the reference; return the exit status."""
    package = griffe.load("padiff_rpc", search_paths=[ROOT], allow_inspection=False)
    # `padiff_rpc.align` is a package too, so reference.md names the function by the module that defines it.
    public = {f"{package.path}.{name}": name for name in package.exports or ()}
    public["padiff_rpc.align.align.align"] = public.pop("padiff_rpc.align")
    shown = _DIRECTIVE.findall((Path(__file__).parent / "reference.md").read_text())
    wrong = [
        *(f"{path} is not in reference.md" for path in sorted(public.keys() - set(shown))),
        *(f"{path} is in reference.md, and not public" for path in sorted(set(shown) - public.keys())),
        *(f"{path} has no docstring" for path in public if not package[path.partition(".")[2]].has_docstring),
    ]
    sys.stderr.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
