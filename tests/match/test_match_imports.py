"""Matching needs neither alignment nor a connection: it loads no code of them."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.processes
def test_match_loads_no_code_of_align_and_no_grpc() -> None:
    code = (
        "import importlib, pkgutil, sys, padiff_rpc.match\n"
        "for module in pkgutil.iter_modules(padiff_rpc.match.__path__):\n"
        "    importlib.import_module('padiff_rpc.match.' + module.name)\n"
        "assert 'padiff_rpc.match.scope' in sys.modules\n"
        "print([name for name in ('padiff_rpc.align', 'padiff_rpc.remote', 'grpc') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]\n" == done.stdout
