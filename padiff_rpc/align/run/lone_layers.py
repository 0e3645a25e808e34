"""Take the boundaries of layers that one side alone has out of its run, and remember what these layers return."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from padiff_rpc.align.run.release_records import RecordReleases
from padiff_rpc.model.model import Boundary, LayerCall, Observer, Releasing
from padiff_rpc.tensors.tensor import Tensor


class LoneLayers:
    """An observer that keeps the boundaries of some layers to itself, and hands on all others as if these were not recorded.

    Args:
        observer: takes the other boundaries.
        routes: are the layers without a partner.
        releases: lets their records go at once, since nothing is compared with them.

    Attributes:
        returned: maps the hash of each tensor that such a layer returned to its route.
    """

    def __init__(self, observer: Observer, routes: Collection[str], releases: RecordReleases) -> None:
        self.returned: dict[bytes, str] = {}
        self._observer = observer
        self._routes = routes
        self._releases = releases
        self._callers: dict[LayerCall, LayerCall | None] = {}

    def await_room(self, releases: int) -> bool:
        """Wait for room in the side's store, as Releasing says."""
        return isinstance(self._observer, Releasing) and self._observer.await_room(releases)

    def observe(self, boundary: Boundary) -> None:
        """Keep the boundary of such a layer, and of a call in its code; hand on any other."""
        if not self._is_lone(boundary):
            self._observer.observe(self._as_if_alone(boundary))
            return
        if not boundary.api:
            self._callers[boundary.route, boundary.call] = boundary.caller
            if (boundary.phase, boundary.side) == ("forward", "output"):
                self.returned.update({record.digest.hash: boundary.route for record in boundary.records})
        self._releases.add(boundary)

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Replace nothing in such a layer."""
        return {} if self._is_lone(boundary) else self._observer.substitute(self._as_if_alone(boundary))

    def _is_lone(self, boundary: Boundary) -> bool:
        if boundary.api:
            return boundary.caller is not None and boundary.caller[0] in self._routes
        return boundary.route in self._routes

    def _as_if_alone(self, boundary: Boundary) -> Boundary:
        """Return the boundary of a layer that such a layer calls as one of the layer around both."""
        caller = boundary.caller
        while caller in self._callers:
            caller = self._callers[caller]
        return boundary if caller == boundary.caller else replace(boundary, caller=caller)
