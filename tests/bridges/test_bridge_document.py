"""The tables of ``docs/bridge.md`` on what the bridge has to do, and the tests they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_conformance import EXISTING, REASONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "bridge.md"
TITLE = "## What it has to do, and what shows it"
# A table for each of these; the rows of the third have a cell for each direction.
PARTS = ("Setting up", "Rooms", "What crosses", "Encryption", "When something goes wrong", "Bad input")
CROSSES = "What crosses"


def tables() -> dict[str, list[list[str]]]:
    """The rows of each table, by its title."""
    section = DOCUMENT.read_text(encoding="utf-8").partition(TITLE)[2].partition("\n## ")[0]
    found: dict[str, list[list[str]]] = {}
    for part in re.split(r"^\*\*", section, flags=re.MULTILINE)[1:]:
        title, _, text = part.partition("**")
        lines = [line for line in text.splitlines() if line.startswith("| ")]
        found[title] = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]
    return found


TABLES = tables()
ROWS = [(title, row) for title, rows in TABLES.items() for row in rows]


def test_there_is_a_table_for_each_part_and_no_row_is_there_twice() -> None:
    assert tuple(TABLES) == PARTS
    assert all(len(rows) >= 5 for rows in TABLES.values())
    assert len({(title, row[0]) for title, row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    ("title", "row"), ROWS, ids=lambda value: value if isinstance(value, str) else value[0]
)
def test_each_row_names_tests_that_exist_or_says_why_not(title: str, row: list[str]) -> None:
    assert len(row) == (3 if title == CROSSES else 2), row
    for cell in row[1:]:
        named = re.findall(r"`(\w+)`", cell)
        assert set(named) <= EXISTING, set(named) - EXISTING
        assert named or REASONS.match(cell), row
