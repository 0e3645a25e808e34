# The type checker runs where neither framework is installed. Without this it would take the package of ours that
# bears the framework's name (padiff_rpc/model/backends/) for the framework.
from typing import Any

def __getattr__(name: str) -> Any: ...
