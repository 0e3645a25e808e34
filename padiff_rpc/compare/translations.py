"""The hyper-parameters that one framework names in a sense of its own, and what they are in the other's.

Checked with torch 2.13, and with paddle 2.6.2 and 3.3.1, where each means the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_SMALLEST_STEP = 1.1920928955078125e-07
"""The epsilon of float32, which torch's RMSNorm takes where it is given none."""


@dataclass(frozen=True)
class Translation:
    """What a hyper-parameter of one framework is called, and comes to, in the common terms (torch's).

    Attributes:
        name: is the common name.
        change: makes the common value; it returns a value that it does not know as it is.
    """

    name: str
    change: Callable[[Any], Any]


def _negated(value: Any) -> Any:
    return not value if isinstance(value, bool) else value


def _share_of_the_new(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return 1 - value if number else value


TRANSLATIONS: Mapping[tuple[str, str], Translation] = {
    ("paddle", "momentum"): Translation("momentum", _share_of_the_new),
    ("paddle", "exclusive"): Translation("count_include_pad", _negated),
    ("paddle", "time_major"): Translation("batch_first", _negated),
    ("paddle", "num_directions"): Translation("bidirectional", lambda value: value == 2 if value in (1, 2) else value),
    ("paddle", "align_corners"): Translation("align_corners", bool),
    ("torch", "align_corners"): Translation("align_corners", bool),
    ("torch", "eps"): Translation("eps", lambda value: _SMALLEST_STEP if value is None else value),
}
"""(framework, its name) -> what it is in the common terms. An optimiser's momentum is no hyper-parameter of a layer."""


def as_common(framework: str, name: str, value: Any) -> tuple[str, Any]:
    """Return the common name and value of a hyper-parameter; both as they are where the frameworks mean the same."""
    translation = TRANSLATIONS.get((framework, name))
    return (name, value) if translation is None else (translation.name, translation.change(value))
