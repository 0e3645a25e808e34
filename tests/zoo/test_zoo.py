"""What can be held of the zoo without its environments, in which `make zoo` runs it."""

from __future__ import annotations

import re
from collections import Counter

from tests.zoo.document import DOCUMENT, pinned
from tests.zoo.faults import FAULTS
from tests.zoo.pairs import ENVIRONMENTS, PAIRS


def test_the_document_has_a_row_for_each_pair() -> None:
    rows = re.findall(r"^\| (\w+) \| \w+ `", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert list(PAIRS) == rows


def test_the_document_names_the_versions_that_are_pinned() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    named = {library: re.findall(rf"^- {library} (\S+), with", text, re.MULTILINE) for library in ENVIRONMENTS}
    assert {library: [pinned(library)] for library in ENVIRONMENTS} == named


def test_each_pair_gets_two_faults_whose_files_have_names_of_their_own() -> None:
    assert dict.fromkeys(PAIRS, 2) == Counter(fault.pair for fault in FAULTS)
    assert len(FAULTS) == len({fault.name for fault in FAULTS})
