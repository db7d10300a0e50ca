"""The tables of ``docs/clients.md`` that say which tests show what is asked for."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from linearized.server.clients import PRIVATE, PUBLIC
from linearized.server.clients.paths import CLIENT, MLS, V3
from tests.test_conformance import EXISTING, REASONS, TESTS

DOCUMENT = (TESTS.parent / "docs" / "clients.md").read_text(encoding="utf-8")
SECTION = DOCUMENT.partition("\n## What is asked for, and which tests show it\n")[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in SECTION.splitlines()
    if line.startswith("| ") and not line.startswith("| what |")
]
ENDPOINTS_OF_ROWS = [name for row in ROWS if len(row) == 3 for name in re.findall(r"`([^`]+)`", row[1])]


def short(pattern: str) -> str:
    """A route's pattern as the document writes it."""
    name = re.sub(r"{\w+}", "{}", pattern)
    for prefix, instead in ((f"{MLS}/", "…/"), (f"{V3}/", ""), (f"{CLIENT}/", "")):
        if name.startswith(prefix):
            return instead + name.removeprefix(prefix)
    return name


PATTERNS = sorted({short(pattern) for _, pattern, _ in (*PUBLIC, *PRIVATE)})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_row_names_tests_that_exist_or_says_why_not(row: list[str]) -> None:
    named = re.findall(r"`(test_\w+)`", row[-1])
    assert set(named) <= EXISTING
    assert named or REASONS.search(row[-1])


def test_each_endpoint_has_just_one_row() -> None:
    assert PATTERNS
    assert Counter(ENDPOINTS_OF_ROWS) == Counter(PATTERNS)
