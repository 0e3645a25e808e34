"""The single exception type of the library, and the catalogue of its machine-readable reasons."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Reason(str, Enum):
    """Name the cause of a failure. Clients branch on the reason, never on text; the values travel on the wire."""

    # The caller asked for something that cannot be: exit status 2.
    BAD_SPEC = "BAD_SPEC"  # a SPEC that does not parse, or whose file or factory is missing
    FACTORY_FAILED = "FACTORY_FAILED"  # the user's factory raised, or did not return a model
    FRAMEWORK_MISSING = "FRAMEWORK_MISSING"  # the worker's environment lacks torch or paddle
    BAD_INPUTS = "BAD_INPUTS"  # inputs that cannot be read, or that the model refuses
    BAD_CONFIG = "BAD_CONFIG"  # a run file, option or setting that makes no sense
    MODELS_DO_NOT_MATCH = "MODELS_DO_NOT_MATCH"  # layers or parameters cannot be paired
    UNKNOWN_NAME = "UNKNOWN_NAME"  # a layer, parameter, record, loss or optimiser that the model lacks
    BAD_TENSOR = "BAD_TENSOR"  # shape, dtype or size differs from what its place demands
    MODEL_FAILED = "MODEL_FAILED"  # the user's model raised in forward, backward or step
    NOT_SUPPORTED = "NOT_SUPPORTED"  # this framework, version or device cannot do it
    OUT_OF_ORDER = "OUT_OF_ORDER"  # e.g. backward without a forward
    # A worker or its connection failed: exit status 3.
    WORKER_UNREACHABLE = "WORKER_UNREACHABLE"  # nobody listens, or the connection broke
    WORKER_BUSY = "WORKER_BUSY"  # another session holds the worker
    WORKER_DIED = "WORKER_DIED"  # a launched worker ended by itself
    SESSION_EXPIRED = "SESSION_EXPIRED"  # no such session, or its lease ran out
    VERSION_MISMATCH = "VERSION_MISMATCH"  # no protocol version in common
    ACCESS_DENIED = "ACCESS_DENIED"  # missing or wrong token
    STORE_FULL = "STORE_FULL"  # records exceed the memory and disk budgets
    DATA_LOSS = "DATA_LOSS"  # a tensor stream that is short, long or malformed
    TIMED_OUT = "TIMED_OUT"  # a deadline passed
    INTERNAL = "INTERNAL"  # our bug; the trace is in the worker's log


WORKER_REASONS = frozenset(
    {
        Reason.WORKER_UNREACHABLE,
        Reason.WORKER_BUSY,
        Reason.WORKER_DIED,
        Reason.SESSION_EXPIRED,
        Reason.VERSION_MISMATCH,
        Reason.ACCESS_DENIED,
        Reason.STORE_FULL,
        Reason.DATA_LOSS,
        Reason.TIMED_OUT,
        Reason.INTERNAL,
    }
)
"""The reasons for which the command line exits with 3 (a worker or its connection failed) rather than 2."""


class PadiffError(Exception):
    """A failure that this library reports; `str()` gives the message and, on the next line, the hint.

    Attributes:
        message: States what happened, with the values, and where.
        reason: Names the cause, for programs.
        hint: Tells the user what to do next; may be empty.
        metadata: Holds small machine-readable facts, such as a layer's route or a trimmed traceback.
    """

    def __init__(
        self, message: str, *, reason: Reason, hint: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.hint = hint
        self.metadata: dict[str, str] = dict(metadata or {})

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message
