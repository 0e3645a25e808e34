"""Threads that give way."""

from __future__ import annotations

import os
import threading

import pytest

from padiff_rpc.model.recording.side_thread import SideThread
from padiff_rpc.system.priority import NICENESS, give_way


def test_only_the_calling_thread_gives_way() -> None:
    found: list[int] = []

    def run() -> None:
        give_way()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [min(19, before + NICENESS)] == found
    assert before == os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_jobs_are_done_where_the_system_refuses_another_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "setpriority", refuse)
    done: list[int] = []
    beside = SideThread()
    beside.put(lambda: done.append(1))
    beside.settle()
    assert [1] == done
