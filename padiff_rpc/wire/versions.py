"""The protocol versions that this side speaks, and the version that two sides share."""

from __future__ import annotations

from collections.abc import Iterable

from padiff_rpc.errors import PadiffError, Reason

PROTOCOL_VERSIONS = (1,)
"""Versions within the proto package padiff_rpc.v1.

A coordinator and a worker use the highest version that both list.
"""


def common_version(worker_versions: Iterable[int], address: str) -> int:
    """Return the protocol version to speak with a worker: the highest that both sides list.

    Args:
        worker_versions: The versions that the worker lists.
        address: The worker's address, for the error.

    Raises:
        PadiffError: VERSION_MISMATCH if there is none. Its hint says which side to upgrade.
    """
    theirs = sorted(set(worker_versions))
    common = set(PROTOCOL_VERSIONS) & set(theirs)
    if common:
        return max(common)
    worker_is_older = not theirs or max(theirs) < min(PROTOCOL_VERSIONS)
    raise PadiffError(
        f"the worker at {address} speaks protocol version {_listed(theirs)}, "
        f"this coordinator {_listed(PROTOCOL_VERSIONS)}",
        reason=Reason.VERSION_MISMATCH,
        hint=f"upgrade padiff-rpc in the environment of {'the worker' if worker_is_older else 'this coordinator'}",
        metadata={"worker": address},
    )


def _listed(versions: Iterable[int]) -> str:
    return ", ".join(map(str, versions)) or "none"
