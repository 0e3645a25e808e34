"""Map another process's store on the same host, so that its records are read in place and nothing is sent."""

from __future__ import annotations

import logging
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import StorePlace
from padiff_rpc.model.store.arena import FIRST_OFFSET, GENERATION_OFFSET, MEMFD_NAME, Offer
from padiff_rpc.system import memfd
from padiff_rpc.tensors.tensor import Tensor, TensorStream, chunks_of

log: logging.Logger = logging.getLogger(__name__)

_RESIDENT_BYTES = 8 << 20
"""After so many bytes were read, their pages are given back to the system."""
_LEAST_BYTES = 64 << 10
"""About how much becomes resident when a page is touched that another process has made.

The page's neighbours come with it.
"""


class SharedStore:
    """The memory of another process's store, mapped to be read.

    Pages that were read count as this process's memory too, so it gives them back to the system from time to time.
    """

    def __init__(self, offer: Offer) -> None:
        """Map what a store offers.

        Raises:
            OSError: If the memory is not of this host, may not be opened by this user, does not hold the nonce, is not
                of the size that was told, or could shrink.
        """
        self.offer = offer
        descriptor = memfd.open_of(offer.pid, offer.descriptor, MEMFD_NAME, os.O_RDONLY)
        try:
            if not memfd.holds_nonce(descriptor, offer.nonce):
                raise OSError("the store does not hold the nonce that was told")
            if os.fstat(descriptor).st_size != offer.size_bytes or not memfd.has_fixed_size(descriptor):
                raise OSError(f"the store is not of the {offer.size_bytes} bytes that were told, or may shrink")
            self._mapping = mmap.mmap(descriptor, offer.size_bytes, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        self._memory = np.frombuffer(self._mapping, np.uint8)
        self._read_bytes = 0

    def holds(self, place: StorePlace) -> bool:
        """Tell whether the store has dropped no step since it told this place.

        If True, the bytes that were read at that place until now were the record's.
        """
        return (
            int.from_bytes(self._memory[GENERATION_OFFSET : GENERATION_OFFSET + 8].data, "little") == place.generation
        )

    def view(self, offset: int, size_bytes: int) -> memoryview:
        """Return a view of `size_bytes` bytes, at an offset in bytes from the front of the memory.

        Raises:
            PadiffError: DATA_LOSS if they do not lie within the store.
        """
        total = self.offer.size_bytes
        if not (FIRST_OFFSET <= offset <= total and 0 <= size_bytes <= total - offset):
            raise PadiffError(
                f"a record of {size_bytes} bytes at {offset} lies outside the store of {total} bytes",
                reason=Reason.DATA_LOSS,
            )
        return self._memory[offset : offset + size_bytes].data

    def chunks(self, offset: int, size_bytes: int) -> Iterator[memoryview]:
        """Yield the bytes that view() would return in pieces of CHUNK_BYTES, without a copy."""
        for chunk in chunks_of(self.view(offset, size_bytes)):
            yield chunk
            self.was_read(chunk.nbytes)

    def was_read(self, size_bytes: int) -> None:
        """Count bytes as read, and give pages back to the system when they are many.

        A page that was given back comes again when it is touched.
        """
        self._read_bytes += max(size_bytes, _LEAST_BYTES)
        if self._read_bytes > _RESIDENT_BYTES:
            self._read_bytes = 0
            self._mapping.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class PlacedTensor(Tensor):
    """A tensor in a shared store. Its bytes hold until its record is released, or its worker begins another step.

    Attributes:
        store: The store that `data` is a view of.
        place: Where in the store the bytes begin, and for which generation.
    """

    store: SharedStore
    place: StorePlace

    def stream(self, name: str) -> TensorStream:
        """Stream the bytes in place, and give back the pages that were read."""
        return TensorStream(name, self.spec, self.store.chunks(self.place.offset, self.spec.size_bytes))


def shared_store(offer: Offer | None) -> SharedStore | None:
    """Map the store that is offered; return None if none is, or if it cannot be mapped."""
    if offer is None:
        return None
    try:
        return SharedStore(offer)
    except OSError as err:
        log.debug("no store is shared with process %d: %s", offer.pid, err)
        return None
