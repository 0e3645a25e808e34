"""Pieces of pickles: the opcodes of protocols 2 and 4 that plain checkpoints are made of."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

BEGIN_DICT = pickle.EMPTY_DICT + pickle.MARK
"""A dictionary whose keys and values follow, up to END_DICT."""
END_DICT = pickle.SETITEMS
BEGIN_TUPLE = pickle.MARK
"""A tuple whose parts follow, up to END_TUPLE."""
END_TUPLE = pickle.TUPLE
CALL = pickle.REDUCE
"""Calls a name with the tuple after it."""
SET_STATE = pickle.BUILD
"""Gives an object the state after it."""
FALSE, TRUE, NONE = pickle.NEWFALSE, pickle.NEWTRUE, pickle.NONE
END = pickle.STOP


def begin(protocol: int) -> bytes:
    """Return how a pickle of a protocol begins."""
    return pickle.PROTO + bytes([protocol])


def text(value: str) -> bytes:
    """Return a text."""
    encoded = value.encode()
    return pickle.BINUNICODE + len(encoded).to_bytes(4, "little") + encoded


def whole_number(value: int) -> bytes:
    """Return a whole number of any size."""
    if -(2**31) <= value < 2**31:
        return pickle.BININT + value.to_bytes(4, "little", signed=True)
    encoded = pickle.encode_long(value)
    return pickle.LONG1 + bytes([len(encoded)]) + encoded


def bytes_head(size_bytes: int) -> bytes:
    """Return what goes before so many bytes; protocol 4 alone has it."""
    return pickle.BINBYTES8 + size_bytes.to_bytes(8, "little")


def name_in(module: str, name: str) -> bytes:
    """Return a reference to a name in a module."""
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def tuple_of(*parts: bytes) -> bytes:
    """Return a tuple."""
    return BEGIN_TUPLE + b"".join(parts) + END_TUPLE


def numbers(values: Sequence[int]) -> bytes:
    """Return a tuple of whole numbers."""
    return tuple_of(*map(whole_number, values))


def kept_elsewhere(reference: bytes) -> bytes:
    """Return an object that lies outside the pickle, by what refers to it there."""
    return reference + pickle.BINPERSID
