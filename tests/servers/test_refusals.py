"""What the worker program refuses, and how it says so; its main() runs in this process."""

from __future__ import annotations

import faulthandler
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from padiff_servers.__main__ import main

from tests.servers.harness import numpy_spec

FACTORIES = """
def broken():
    return helper()

def helper():
    raise ValueError("no weights here")

def not_a_model():
    return 3
"""

Refused = Callable[..., tuple[int, str]]


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Refused]:
    """Return a function: arguments -> exit status and stderr of a program that says nothing on stdout."""
    monkeypatch.setattr(faulthandler, "enable", lambda: None)  # it would go on writing to this test's stderr
    monkeypatch.setattr("padiff_servers.__main__._take_stdout", lambda: 1)  # this test's descriptor, that is
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def run(*arguments: str) -> tuple[int, str]:
        try:
            status = main(arguments)
        except SystemExit as ended:  # argparse
            status = ended.code
        captured = capfd.readouterr()
        assert "" == captured.out
        assert isinstance(status, int)
        return status, captured.err

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("factory", "status", "texts"),
    [
        ("broken", 2, ["'broken' of", "ValueError: no weights here", "in helper", "my_factories.py"]),
        ("not_a_model", 2, ["builtins.int"]),
        ("absent", 2, ["has no function 'absent'", "broken, helper, not_a_model"]),
    ],
)
def test_a_users_error_shows_the_users_frames_and_none_of_ours(
    refused: Refused, tmp_path: Path, factory: str, status: int, texts: list[str]
) -> None:
    (tmp_path / "my_factories.py").write_text(FACTORIES)
    found, err = refused(f"numpy@{tmp_path}/my_factories.py:{factory}")
    assert status == found
    for text in texts:
        assert text in err
    assert "padiff_rpc/" not in err
    assert "padiff_servers/" not in err


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--listen", "0.0.0.0:0"], 2, "TLS and a token is missing"),
        (["--listen", "nowhere"], 2, "is no address"),
        (["--listen", "192.0.2.1:0", "--insecure"], 3, "cannot listen at grpc://192.0.2.1:0"),
        (["--listen", "unix:/no/such/folder/w"], 3, "there is no folder '/no/such/folder'"),
        (["--model-arg", "bogus=1"], 2, "bogus"),
        (["--dtype", "int4"], 2, "int4"),
        (["--threads", "many"], 2, "--threads"),
        (["--token-file", "/no/such/file"], 2, "cannot read the token file"),
        (["--loss", "mine=tests/absent.py:loss"], 2, "tests/absent.py"),
    ],
)
def test_what_it_cannot_do_it_says(refused: Refused, arguments: list[str], status: int, text: str) -> None:
    found, err = refused(numpy_spec("mlp"), *arguments)
    assert (status, True) == (found, text in err), err
    assert "Traceback" not in err


def test_a_missing_framework_names_the_pip_line(refused: Refused) -> None:
    status, err = refused("torch@anything.py:build")
    assert 2 == status
    assert "-m pip install" in err


def test_a_tcp_address_in_use_is_said_before_the_model_is_loaded(refused: Refused) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, err = refused("numpy@no_such_file.py:build", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert 3 == status
    assert "already in use" in err


def test_a_file_that_is_no_socket_is_left_alone(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("precious")
    status, err = refused(numpy_spec("mlp"), "--listen", f"unix:{path}")
    assert (3, True) == (status, "no socket" in err)
    assert "precious" == path.read_text()
