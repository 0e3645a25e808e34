"""A planted bug as plain data: where it sits, and what the tool should say of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from benchmarks.bugs.pairs import Run
from padiff_rpc.result import Stage

Half = Literal["first", "second"]


@dataclass(frozen=True)
class Bug:
    """One change of raw.

    Attributes:
        run: The pair with the bug in it.
        name: The bug's own name.
        half: Whether it was written before the rules that are to find it, or after.
        exact: The routes in raw any of which names the place; empty where the stage alone does (loss, optimiser).
        stages: The stages of the step any of which is right.
        words: The first cause is right where it has one of these words.
    """

    run: Run
    name: str
    half: Half
    exact: frozenset[str]
    stages: frozenset[Stage]
    words: tuple[str, ...]

    @property
    def title(self) -> str:
        """The name that the command line takes: unique among all bugs."""
        return f"{self.run.name}:{self.name}"

    def is_place(self, stage: str, route: str) -> bool:
        """Tell whether a stage and a layer of raw are where the bug sits."""
        return stage in self.stages and (not self.exact or route in self.exact)

    def is_cause(self, text: str) -> bool:
        """Tell whether a cause, in words, is the right one; names in quotes are those of layers and tensors."""
        said = re.sub(r"(?<!\w)'[^']*'", "", text.lower())
        return any(re.search(rf"(?<!\w){re.escape(word)}", said) for word in self.words)


@dataclass(frozen=True)
class Found:
    """What the tool said of a run.

    Attributes:
        verdict: "aligned", "differs", "refused", or "crashed" where it failed itself.
        stage: Where it first differs.
        route: The layer that it names, in raw.
        why: What it says of the first difference; where it refused or failed, why.
        cause: Its first likely cause; `why` where it gives none.
        worst: The largest of measured / allowed over all comparisons.
        worst_at: Where that is.
        ratio: The largest of relative L2 error / floor, where the result has floors.
        ratio_at: Where that is.
    """

    verdict: str
    stage: str = ""
    route: str = ""
    why: str = ""
    cause: str = ""
    worst: float = 0.0
    worst_at: str = ""
    ratio: float = 0.0
    ratio_at: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of one bug with one seed.

    Attributes:
        title: The bug's.
        seed: Draws weights and inputs.
        tools: Tolerance -> what the tool said with it; "" is the tool's default.
        testing: Whether torch.testing's tolerances on the outputs find a difference.
        took_s: How long all of it took.
    """

    title: str
    seed: int
    tools: Mapping[str, Found]
    testing: bool
    took_s: float
