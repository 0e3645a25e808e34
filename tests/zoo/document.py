"""Write docs/zoo.md: a row for each pair, with what differs in form, how it was matched, and what came out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache

from padiff_rpc.match.layer_map import Matching, ParameterLink
from padiff_rpc.result import Result
from tests.zoo.pairs import ENVIRONMENTS, Library, Twin, ZooPair
from tests.zoo.run_pair import ROOT, Outcome

DOCUMENT = ROOT / "docs" / "zoo.md"
_HEAD = """# The zoo: pairs that other people wrote

Written by `make zoo`, which aligns {count} pairs: one architecture as a torch library has it (base), and as a paddle library has
it (raw). The models are small and have random weights; base's are assigned to raw. Forward, loss, backward and the gradients of
all parameters are compared, in float32 on the CPU. `tests/zoo/pairs.py` has the configurations.

{libraries}

- *Layers* counts the pairs of layers, and how many of them were found by order alone.
- *Parameters* counts what correspond, by [layout rule](layers.md). A pack joins several tensors with one. Where names and shapes
  left a choice, it was decided by trying.
- *In another form* counts the tensors of layers' inputs and outputs that were compared in a common form, set aside or not
  compared, with the reason. [comparison.md](comparison.md#forms-of-one-tensor) explains the reasons.
- *Right* tells whether the verdict is the true one.

| pair | base | raw | layers | parameters | in another form | verdict | right |
|---|---|---|---|---|---|---|---|
"""


def write_document(outcomes: Mapping[str, tuple[ZooPair, Outcome]]) -> None:
    """Write the document anew."""
    DOCUMENT.write_text(document(outcomes), encoding="utf-8")


def document(outcomes: Mapping[str, tuple[ZooPair, Outcome]]) -> str:
    """Return the document's text. It holds no figure that differs from run to run."""
    versions = _versions(outcomes.values())
    head = _HEAD.format(
        count=len(outcomes),
        libraries="\n".join(
            f"- {library} {pinned(library)}, with {versions[environment]}"
            for library, environment in ENVIRONMENTS.items()
        ),
    )
    rows = [_row(pair, outcome) for pair, outcome in outcomes.values()]
    right = sum(outcome.right(pair.differs_at) for pair, outcome in outcomes.values())
    remarks = [f"- **{pair.name}**: {pair.remark}." for pair, _ in outcomes.values() if pair.remark]
    text = f"{head}{chr(10).join(rows)}\n\n{right} of {len(outcomes)} are right.\n"
    return text + (f"\n{chr(10).join(remarks)}\n" if remarks else "")


@cache
def pinned(library: Library) -> str:
    """Return the version that the library's environment is made with."""
    text = (ROOT / "requirements" / f"{ENVIRONMENTS[library]}.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{library}==(\S+)$", text, re.MULTILINE)
    assert found, f"requirements/{ENVIRONMENTS[library]}.txt does not pin {library}"
    return found[1]


def describe_layers(matching: Matching) -> str:
    """Say how many layers are paired, and how many of these by order."""
    by_order = sum(pair.how == "order" for pair in matching.layers)
    return f"{len(matching.layers)}" + (f", {by_order} by order" if by_order else "")


def describe_links(links: Iterable[ParameterLink]) -> str:
    """Count the links by rule, and those of a tensor that a layer beside the partner holds."""
    found = list(links)
    counts = Counter(link.rule for link in found)
    beside = sum(_beside(link) for link in found)
    said = [f"{count} {rule}" for rule, count in counts.most_common()]
    return ", ".join(said) + (f"; {beside} held by a layer beside the partner" if beside else "")


def describe_tried(result: Result | None) -> list[str]:
    """Say for how many links names and shapes left a choice, which was tried."""
    tried = result.figures.get("tried", []) if result else []
    return [f"{len(tried)} decided by trying"] if tried else []


def describe_forms(result: Result) -> str:
    """Count the tensors at layers' boundaries that were not simply compared, by reason."""
    reasons = Counter(
        re.split("[:;]", pair.why)[0]
        for pair in result.pairs
        if pair.stage in ("forward", "backward") and pair.status != "fail" and pair.why
    )
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return "; ".join(f"{count} × {_escaped(why)}" for why, count in ordered)


def _row(pair: ZooPair, outcome: Outcome) -> str:
    matching, result = outcome.matching, outcome.result
    cells = [
        pair.name,
        _shown(pair.base),
        _shown(pair.raw),
        describe_layers(matching) if matching else "",
        "; ".join((describe_links(matching.links), *describe_tried(result))) if matching else "",
        describe_forms(result) if result else "",
        outcome.verdict,
        "yes" if outcome.right(pair.differs_at) else "no",
    ]
    return f"| {' | '.join(cells)} |"


def _shown(twin: Twin) -> str:
    return f"{twin.library} `{twin.model}`"


def _beside(link: ParameterLink) -> bool:
    """Tell whether the two holders of one tensor are not the paired layers themselves."""
    if len(link.base) != 1 or len(link.raw) != 1:
        return False
    holders = link.base[0].rpartition(".")[0], link.raw[0].rpartition(".")[0]
    return holders != (link.base_route, link.raw_route)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _versions(outcomes: Iterable[tuple[ZooPair, Outcome]]) -> dict[str, str]:
    """Return each environment's framework and its version, as the workers told it."""
    found = dict.fromkeys(ENVIRONMENTS.values(), "a framework that did not run")
    for pair, outcome in outcomes:
        if outcome.result:
            for twin, side in zip((pair.base, pair.raw), outcome.result.environment.values(), strict=True):
                found[ENVIRONMENTS[twin.library]] = f"{side['framework']} {side['framework_version']}"
    return found
