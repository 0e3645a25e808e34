"""There is one version, and all that tell it agree; tests/e2e/test_wheel.py asks the built wheel."""

from __future__ import annotations

from click.testing import CliRunner
from padiff_clients.commands import commands

import padiff_rpc
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.version import __version__
from tests.servers.harness import numpy_model, raw_stub, serving


def test_the_package_the_command_line_and_a_worker_tell_one_version() -> None:
    with serving(numpy_model()) as worker, raw_stub(worker.address) as stub:
        info = stub.GetServerInfo(pb.GetServerInfoRequest()).info
    told = CliRunner().invoke(commands, ["--version"]).output
    assert f"padiff-rpc, version {__version__}\n" == told
    assert __version__ == info.padiff_version == padiff_rpc.__version__
