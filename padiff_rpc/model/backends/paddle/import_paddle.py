"""Import paddle; each module of this package that needs it takes it from here."""

from __future__ import annotations

# Paddle 2.6's libpaddle exports an old zlib: a library that is loaded after it and binds to that one (gRPC's core does)
# crashes the process. Loaded before paddle, both keep the zlib they were built for.
import zlib  # noqa: F401

import grpc  # noqa: F401
import paddle

__all__ = ["paddle"]
