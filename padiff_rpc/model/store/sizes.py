"""Sizes as people write them: `512MB`, `2GiB`, `2G`."""

from __future__ import annotations

import re

from padiff_rpc.errors import PadiffError, Reason

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Read a size and return it in bytes.

    K, M, G and T stand for powers of 1000, Ki, Mi, Gi and Ti for powers of 1024, with or without a B, in any case. A number alone
    is a number of bytes.

    Raises:
        PadiffError: BAD_CONFIG where the text is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise PadiffError(
            f"{text!r} is no size", reason=Reason.BAD_CONFIG, hint="write 512MB, 2GiB or a number of bytes"
        )
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** " KMGT".index(unit.upper() or " "))
