"""The table of requirements in ``docs/linearized-matrix.md`` and the tests it names."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parent
DOCUMENT = TESTS.parent / "docs" / "linearized-matrix.md"
REQUIREMENTS: list[dict[str, Any]] = json.loads(
    (TESTS / "vectors" / "linearized-matrix-requirements.json").read_text(encoding="utf-8")
)
COUNTED = 176
"""Sentences with a BCP 14 keyword in the draft, without the one that introduces the keywords."""

KEYWORDS = {"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "REQUIRED", "SHALL", "SHALL NOT"}
REASONS = re.compile(r"not (done|tested|enforced|needed|used|ours): \S+")


def table() -> list[list[str]]:
    """The cells of each row of the table of requirements."""
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z0-9-]+-\d+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", text, re.MULTILINE)
    return [[cell.strip() for cell in row] for row in rows]


def existing_tests() -> set[str]:
    """The names of all test functions and methods."""
    found: set[str] = set()
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.add(node.name)
    return found


EXISTING = existing_tests()


def test_every_normative_sentence_is_listed_once() -> None:
    assert len(REQUIREMENTS) == COUNTED
    assert len({entry["id"] for entry in REQUIREMENTS}) == COUNTED
    for entry in REQUIREMENTS:
        assert set(entry["keyword"].split(", ")) <= KEYWORDS
        assert re.fullmatch(r"[0-9a-f]{12}", entry["hash"])
        assert entry["paraphrase"]


def test_the_sentences_of_a_section_are_numbered_without_gaps() -> None:
    numbers: Counter[str] = Counter()
    for entry in REQUIREMENTS:
        section, _, number = entry["id"].rpartition("-")
        numbers[section] += 1
        assert int(number) == numbers[section], entry["id"]


def test_the_table_has_a_row_for_each_requirement_in_their_order() -> None:
    rows = table()
    assert len(rows) == COUNTED
    for row, entry in zip(rows, REQUIREMENTS, strict=True):
        assert row[:3] == [entry["id"], entry["keyword"], entry["paraphrase"]]


@pytest.mark.parametrize("row", table(), ids=lambda row: row[0])
def test_each_row_names_tests_that_exist_or_says_why_not(row: list[str]) -> None:
    named = re.findall(r"`(test_\w+)`", row[3])
    assert set(named) <= EXISTING
    assert named or REASONS.search(row[3]), row[3]
