"""What README and docs print is true: their commands are run as a reader would run them, and their tables are held against code.

Every `sh` and `python` block stands right below a comment, which a rendered page does not show:

    <!-- file: NAME -->     a file that the reader makes
    <!-- run: exit N -->    commands to run; N is the exit status of the last one
    <!-- background -->     a command that goes on; it is waited for until it says that it is ready
    <!-- shown: WHY -->     not run here, and why

and a `text` block below `<!-- output -->` is what the commands above it printed: each line must appear, in order. Numbers
count as equal, a line `...` stands for any lines, and `...` at the end of a line for its rest.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from padiff_rpc.compare import tolerances
from padiff_rpc.result import STAGES
from padiff_rpc.tensors.tensor import DType
from tests.e2e.workers import ROOT, python_of

pytestmark = pytest.mark.e2e

PLAYED = ("README.md", "docs/padiff.md", "docs/python-api.md", "docs/running.md")
READ = (
    *PLAYED,
    "CONTRIBUTING.md",
    "docs/cli.md",
    "docs/README.md",
    "docs/comparison.md",
    "docs/frameworks.md",
    "docs/performance.md",
    "examples/README.md",
)
ROLES = ("file", "run", "background", "shown", "output")
PORTS = ("50051", "50052")
"""Stand in the documents; here they become ports that are free."""
RUN_TIMEOUT_S = 300.0

_COMMENT = re.compile(r"<!-- (\w+)(?:: (.*))? -->")
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,.]*(?:e[+-]?\d+|dev\d+,?)?(?!\w)")


@dataclass(frozen=True)
class Block:
    """A fenced block. `role` and `argument` are from the comment above it, "" without one; `line` is its first."""

    line: int
    language: str
    role: str
    argument: str
    text: str


def blocks_of(document: str) -> list[Block]:
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    blocks: list[Block] = []
    start = None
    for at, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = at
            continue
        comment = _COMMENT.fullmatch(lines[start - 1])
        role, argument = (comment[1], comment[2] or "") if comment else ("", "")
        text = "\n".join(lines[start + 1 : at]) + "\n"
        blocks.append(Block(start + 1, lines[start].removeprefix("```"), role, argument, text))
        start = None
    assert start is None, f"{document}: the block at line {start} does not end"
    return blocks


@pytest.mark.parametrize("document", READ)
def test_every_command_is_run_or_says_why_not(document: str) -> None:
    for block in blocks_of(document):
        if block.language in ("sh", "python"):
            assert block.role in ROLES, f"{document}:{block.line}: say above this block what a test makes of it"
            assert document in PLAYED or block.role == "shown", f"{document}:{block.line}: nobody runs this"
            assert block.role != "shown" or block.argument, f"{document}:{block.line}: say why it is not run"


@pytest.mark.parametrize("document", READ)
def test_every_link_leads_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    missing = []
    for target in targets:
        name, _, anchor = target.partition("#")
        file = (ROOT / document).parent / name if name else ROOT / document
        if not file.exists() or (anchor and anchor not in anchors_of(file)):
            missing.append(target)
    assert missing == []


def anchors_of(file: Path) -> set[str]:
    """Return what a page's headings are linked by."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", PLAYED)
def test_commands_do_what_the_document_says(document: str, tmp_path: Path) -> None:
    ports = {port: free_port() for port in PORTS}
    for framework in ("torch", "paddle"):
        (tmp_path / f"{framework}-env").symlink_to(python_of(framework).parents[1])
    if document != "README.md":  # the others go on with README's pair
        for block in blocks_of("README.md"):
            if block.role == "file" or "np.savez" in block.text:
                play(block, tmp_path, "")
    said = ""
    with background(tmp_path) as start:
        for block in blocks_of(document):
            text = re.sub("|".join(PORTS), lambda port: ports[port[0]], block.text)
            if block.role == "background":
                start(text)
            elif block.role == "output":
                assert_said(text, said, f"{document}:{block.line}")
            else:
                said = play(block, tmp_path, said, text)


def play(block: Block, folder: Path, said: str, text: str | None = None) -> str:
    """Write the file, or run the commands and return what they said on both streams; else return `said`."""
    text = block.text if text is None else text
    if block.role == "file":
        (folder / block.argument).write_text(text, encoding="utf-8")
    if block.role != "run":
        return said
    done = subprocess.run(
        command(block.language, text),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert f"exit {done.returncode}" == block.argument, f"line {block.line}:\n{text}\n{done.stdout}"
    return done.stdout


@contextmanager
def background(folder: Path) -> Iterator[Callable[[str], None]]:
    """Yield a function that starts a command and returns when it is ready; end them all at the end."""
    processes: list[subprocess.Popen[str]] = []

    def start(text: str) -> None:
        with (folder / "background.log").open("a") as log:
            process = subprocess.Popen(
                command("sh", text),
                cwd=folder,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "ready at" in line, f"{text}\n{line}{(folder / 'background.log').read_text()}"

    try:
        yield start
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def command(language: str, text: str) -> list[str]:
    return [sys.executable, "-c", text] if language == "python" else ["bash", "-e", "-c", text]


def environment() -> dict[str, str]:
    """Return the reader's: the coordinator's environment is active."""
    path = f"{python_of('coordinator').parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "COLUMNS": "120"}


def assert_said(printed: str, said: str, where: str) -> None:
    actual = iter([masked(line) for line in said.splitlines()])
    for line in printed.splitlines():
        wanted = masked(line)
        if wanted in ("", "..."):
            continue
        assert finds(wanted, actual), f"{where}: nothing (more) of this was printed: {line!r}, in\n{said}"


def finds(wanted: str, lines: Iterator[str]) -> bool:
    if wanted.endswith("..."):
        return any(line.startswith(wanted.removesuffix("...").rstrip()) for line in lines)
    return any(line == wanted for line in lines)


def masked(line: str) -> str:
    """Return a line with numbers and the width of columns taken out."""
    return " ".join(_NUMBER.sub("#", line).split())


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_the_table_of_tolerances_is_that_of_the_code() -> None:
    text = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    tables: dict[bool, dict[str, list[float]]] = {False: {}, True: {}}
    for single_step, heading in ((False, "#### Whole run"), (True, "#### Single step")):
        for line in text.partition(heading)[2].partition("\n#")[0].splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if cells[0] in {dtype.value for dtype in tolerances.EPSILON}:
                tables[single_step][cells[0]] = [float(cell) for cell in cells[1:]]
    measured = [dtype for dtype in tolerances.EPSILON if not dtype.is_complex]

    def row(dtype: DType, single_step: bool) -> list[float]:
        return [tolerances.tolerance(dtype, dtype, stage, single_step).rtol for stage in STAGES]

    for single_step, table in tables.items():
        assert table == {dtype.value: row(dtype, single_step) for dtype in measured}
