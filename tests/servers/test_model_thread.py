"""The queue of work for the model thread."""

from __future__ import annotations

import threading

import pytest
from padiff_servers.model_thread import ModelThread

from padiff_rpc.errors import PadiffError, Reason
from tests.servers.harness import DEADLINE_S


class Signal(BaseException):
    pass


def test_jobs_run_in_order_in_the_thread_that_runs() -> None:
    model_thread = ModelThread()
    futures = [model_thread.submit(lambda index=index: (index, threading.get_ident())) for index in range(3)]
    model_thread.stop()
    model_thread.run()
    assert [(index, threading.get_ident()) for index in range(3)] == [future.result(DEADLINE_S) for future in futures]


def test_a_failure_belongs_to_its_job_alone() -> None:
    model_thread = ModelThread()
    failing = model_thread.submit(lambda: 1 // 0)
    fine = model_thread.submit(lambda: 1)
    model_thread.stop()
    model_thread.run()
    assert isinstance(failing.exception(DEADLINE_S), ZeroDivisionError)
    assert 1 == fine.result(DEADLINE_S)


def test_a_signal_ends_it_and_nobody_waits_for_ever() -> None:
    model_thread = ModelThread()

    def interrupted() -> None:
        raise Signal

    futures = [model_thread.submit(interrupted), model_thread.submit(lambda: None)]
    with pytest.raises(Signal):
        model_thread.run()
    futures.append(model_thread.submit(lambda: None))
    for future in futures:
        error = future.exception(DEADLINE_S)
        assert isinstance(error, PadiffError)
        assert Reason.WORKER_UNREACHABLE is error.reason
