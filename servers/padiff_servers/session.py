"""Sessions: one coordinator at a time holds the worker, under a lease that it has to renew."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.wire.ring import OfferedRing, WorkerRing
from padiff_rpc.wire.shared_store import SharedStore
from padiff_servers.releases import ReleaseCounter

DEFAULT_LEASE_S = 60.0
"""For how long a coordinator that is silent keeps the worker."""


class Session:
    """One coordinator's hold on the worker. Threads that wait on its behalf hear of its end through on_end().

    Attributes:
        id: The secret by which calls name the session.
        client: Who holds it, for the message that another coordinator gets.
        lease_s: Seconds after its last call when it expires.
        opened_at: When it was opened, by time.monotonic().
        expires_at: When it expires unless a call comes, by time.monotonic().
        sync: Whether its last forward was synced, which its backward follows.
        shares: Whether its last forward took draws.
        releases: The releases of the phase that runs, or ran last.
        offered: The ring until its coordinator has shown that it shares it.
        ring: The ring afterwards; None if tensors travel in messages.
        reached: The store of the other worker, from which this one is fed in place; None if there is none.
    """

    def __init__(self, client: str, lease_s: float) -> None:
        self.id: str = secrets.token_hex(16)
        self.client = client
        self.lease_s = lease_s
        self.opened_at: float = time.monotonic()
        self.expires_at: float = self.opened_at + lease_s
        self.sync = False
        self.shares = False
        self.releases: ReleaseCounter = ReleaseCounter()
        self.offered: OfferedRing | None = None
        self.ring: WorkerRing | None = None
        self.reached: SharedStore | None = None
        self._lock = threading.Lock()
        self._ended: PadiffError | None = None
        self._callbacks: list[Callable[[PadiffError], None]] = []

    def check(self) -> None:
        """Raise the error with which this session ended, if it did."""
        if self._ended is not None:
            raise self._ended

    def on_end(self, callback: Callable[[PadiffError], None]) -> Callable[[], None]:
        """Have `callback` called once, with the error, when the session ends, or now if it has.

        Returns:
            A function that takes the callback away again.
        """
        with self._lock:
            self._callbacks.append(callback)
            ended = self._ended
        if ended is not None:
            callback(ended)
        return lambda: self._forget(callback)

    def end(self, error: PadiffError) -> None:
        """End the session with an error, and call its callbacks. Only the first call counts."""
        with self._lock:
            if self._ended is not None:
                return
            self._ended = error
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback(error)

    def _forget(self, callback: Callable[[PadiffError], None]) -> None:
        with self._lock:
            self._callbacks.remove(callback)


class Sessions:
    """The worker's session: one at most. Thread-safe.

    A thread ends the session when its lease runs out, whether or not anybody asks.

    Args:
        lease_s: The longest lease to grant, in seconds.
    """

    def __init__(self, lease_s: float = DEFAULT_LEASE_S) -> None:
        self._lease_s = lease_s
        self._current: Session | None = None
        self._changed = threading.Condition()
        self._stopped = False
        threading.Thread(target=self._watch, name="lease", daemon=True).start()

    def open(self, client: str, lease_s: float = 0.0) -> Session:
        """Open a session.

        Args:
            client: Who opens it.
            lease_s: The lease that is asked for; it counts if it is shorter than the worker's own. 0 asks for none.

        Raises:
            PadiffError: WORKER_BUSY, naming who holds it, if there is a session.
        """
        with self._changed:
            held = self._current
            if held is not None:
                raise _busy(held)
            granted_s = min(lease_s, self._lease_s) if lease_s > 0 else self._lease_s
            self._current = Session(client, granted_s)
            self._changed.notify_all()
            return self._current

    def get(self, session_id: str) -> Session:
        """Return the session of a call, and renew its lease.

        Raises:
            PadiffError: SESSION_EXPIRED if it is not the session that holds the worker.
        """
        with self._changed:
            session = self._current
            if session is None or not secrets.compare_digest(session.id.encode(), session_id.encode()):
                raise _expired()
            session.expires_at = time.monotonic() + session.lease_s
            return session

    def close(self, session_id: str) -> None:
        """End the session; nothing happens if it is gone already."""
        with self._changed:
            session = self._current
            if session is None or not secrets.compare_digest(session.id.encode(), session_id.encode()):
                return
            self._current = None
        session.end(PadiffError("the session was closed", reason=Reason.SESSION_EXPIRED))

    def stop(self, error: PadiffError) -> None:
        """End the session with an error, and stop watching leases: the worker ends."""
        with self._changed:
            session, self._current, self._stopped = self._current, None, True
            self._changed.notify_all()
        if session is not None:
            session.end(error)

    def _watch(self) -> None:
        while (session := self._next_expired()) is not None:
            session.end(_expired(session))

    def _next_expired(self) -> Session | None:
        """Wait for a lease to run out, and take that session from the worker; None once stopped."""
        with self._changed:
            while not self._stopped:
                session = self._current
                left_s = None if session is None else session.expires_at - time.monotonic()
                if session is not None and left_s is not None and left_s <= 0:
                    self._current = None
                    return session
                self._changed.wait(left_s)
            return None


def _busy(held: Session) -> PadiffError:
    now = time.monotonic()
    left_s = max(held.expires_at - now, 0.0)
    return PadiffError(
        f"the worker is taken: {held.client} has held it for {now - held.opened_at:.0f} s, and its lease runs for "
        f"{left_s:.0f} s more unless it is renewed",
        reason=Reason.WORKER_BUSY,
        hint="end that run, wait until it has ended, or start another worker",
        metadata={"holder": held.client, "lease_left_s": f"{left_s:.1f}"},
    )


def _expired(session: Session | None = None) -> PadiffError:
    what = "there is no such session" if session is None else f"the lease of {session.lease_s:g} s ran out"
    return PadiffError(
        f"{what}: the worker has dropped its records and may have been taken by another coordinator",
        reason=Reason.SESSION_EXPIRED,
        hint="connect again; a coordinator that is stopped (Ctrl-Z, a debugger) cannot renew its lease",
    )
