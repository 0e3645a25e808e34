"""Who may use a worker."""

from __future__ import annotations

from pathlib import Path

import pytest
from padiff_servers.access import Access, read_access

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.wire.channel import parse_address
from tests.servers.harness import StubModel, raw_stub, serving

CERT, KEY, TOKEN = "cert.pem", "key.pem", "token"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (CERT, KEY, TOKEN):
        Path(name).write_text(f"{name} content\n")
    Path("empty").write_text("\n")
    return tmp_path


def access(address: str, **options: str | bool) -> Access:
    defaults = {"token_file": None, "tls_cert": None, "tls_key": None, "insecure": False}
    return read_access(parse_address(address), **{**defaults, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "[::1]:0", "unix:/tmp/w"])
def test_this_hosts_own_addresses_need_nothing(folder: Path, address: str) -> None:
    assert Access() == access(address)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "gpu.example:0"])
def test_other_addresses_need_both_tls_and_a_token(folder: Path, address: str) -> None:
    for options, missing in (
        ({}, "TLS and a token is missing"),
        ({"token_file": TOKEN}, "TLS is missing"),
        ({"tls_cert": CERT, "tls_key": KEY}, "a token is missing"),
    ):
        with pytest.raises(PadiffError, match=missing) as caught:
            access(address, **options)
        assert Reason.BAD_CONFIG is caught.value.reason
    both = access(address, token_file=TOKEN, tls_cert=CERT, tls_key=KEY)
    assert Access("token content", b"cert.pem content\n", b"key.pem content\n") == both


def test_insecure_is_explicit(folder: Path) -> None:
    assert Access() == access("0.0.0.0:0", insecure=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tls_cert": CERT}, "--tls-key go together"),
        ({"tls_key": KEY}, "--tls-key go together"),
        ({"token_file": "absent"}, "cannot read the token file 'absent'"),
        ({"token_file": "empty"}, "'empty' is empty"),
        ({"tls_cert": "absent", "tls_key": KEY}, "cannot read the certificate file"),
    ],
)
def test_half_a_configuration_is_refused(folder: Path, options: dict[str, str], text: str) -> None:
    with pytest.raises(PadiffError, match=text) as caught:
        access("127.0.0.1:0", **options)
    assert Reason.BAD_CONFIG is caught.value.reason


def test_every_call_without_the_token_is_refused() -> None:
    with serving(StubModel(), access=Access(token="secret")) as worker, raw_stub(worker.address) as stub:
        calls = [
            lambda: stub.GetServerInfo(pb.GetServerInfoRequest()),
            lambda: stub.OpenSession(pb.OpenSessionRequest(protocol_version=1)),
            lambda: stub.KeepAlive(pb.KeepAliveRequest()),
            lambda: stub.CloseSession(pb.CloseSessionRequest()),
            lambda: list(stub.DescribeModel(pb.DescribeModelRequest())),
            lambda: list(stub.ReadParameters(iter([pb.ReadParametersRequest()]))),
            lambda: list(stub.WriteParameters(iter([pb.WriteParametersRequest()]))),
            lambda: list(stub.DigestParameters(pb.DigestParametersRequest())),
            lambda: stub.ShareMemory(pb.ShareMemoryRequest()),
            lambda: stub.ReachStore(pb.ReachStoreRequest()),
            lambda: list(stub.Forward(iter([pb.ForwardRequest()]))),
            lambda: list(stub.Backward(iter([pb.BackwardRequest()]))),
            lambda: list(stub.MeasureFloor(iter([pb.MeasureFloorRequest()]))),
            lambda: list(stub.ReplayLayer(iter([pb.ReplayLayerRequest()]))),
            lambda: stub.WorkOnCopies(pb.WorkOnCopiesRequest()),
            lambda: list(stub.ReadActivations(iter([pb.ReadActivationsRequest()]))),
            lambda: stub.ReleaseActivations(pb.ReleaseActivationsRequest()),
            lambda: stub.GetStoreFigures(pb.GetStoreFiguresRequest()),
            lambda: stub.OptimizerStep(pb.OptimizerStepRequest()),
            lambda: stub.ResetModel(pb.ResetModelRequest()),
        ]
        assert len(pb.DESCRIPTOR.services_by_name["ModelWorkerService"].methods) == len(calls)
        for call in calls:
            with pytest.raises(Exception, match="UNAUTHENTICATED"):
                call()


@pytest.mark.parametrize("header", ["secret", "Bearer", "Bearer wrong", "Bearer secret2", "bearer secret"])
def test_a_token_must_be_right(header: str) -> None:
    with serving(StubModel(), access=Access(token="secret")) as worker, raw_stub(worker.address) as stub:
        with pytest.raises(Exception, match="UNAUTHENTICATED"):
            stub.GetServerInfo(pb.GetServerInfoRequest(), metadata=(("authorization", header),))
        stub.GetServerInfo(pb.GetServerInfoRequest(), metadata=(("authorization", "Bearer secret"),))
