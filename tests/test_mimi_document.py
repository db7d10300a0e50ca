"""The tables of ``docs/mimi.md`` and the tests they name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from enum import IntEnum

import pytest

import linearized.mimi
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.components import POLICY_COMPONENTS
from linearized.mimi.tls import Struct
from linearized.server.providers import ENDPOINTS
from linearized.server.providers.client import (
    DELIVERY_SERVICE,
    FANOUT_REQUEST,
    FANOUT_TOKENS,
    FOLLOW,
    GATEWAY,
    GATEWAY_KEYS,
    METADATA_POLICY,
)
from tests.test_conformance import EXISTING, REASONS, TESTS

DOCUMENT = (TESTS.parent / "docs" / "mimi.md").read_text(encoding="utf-8")
HEADER = re.compile(r"^\|(.*)\|\n\|[-|]+\|\n((?:\|.*\|\n)+)", re.MULTILINE)
ELSEWHERE = "see below"
"""What a row may say instead, because other rows of the document do."""


def tables() -> dict[str, list[list[str]]]:
    """The cells of each row of each table, by the section the table is in."""
    found: dict[str, list[list[str]]] = {}
    for section in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        rows = [row for table in HEADER.finditer(text) for row in table[2].splitlines()]
        found[title] = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return found


TABLES = tables()
ROWS = [row for rows in TABLES.values() for row in rows]


def mimi_classes() -> list[type]:
    """Every class that a module of the package defines, but for those of room policy in a package below."""
    found: list[type] = []
    for module in pkgutil.iter_modules(linearized.mimi.__path__):
        loaded = importlib.import_module(f"linearized.mimi.{module.name}")
        found += [
            kind
            for kind in vars(loaded).values()
            if inspect.isclass(kind) and kind.__module__ == loaded.__name__
        ]
    return found


STRUCTS = sorted(
    {kind.__name__ for kind in mimi_classes() if issubclass(kind, Struct) and kind is not Struct}
)
CODES = [
    f"{kind.__name__}.{member.name}"
    for kind in mimi_classes()
    if issubclass(kind, IntEnum) and kind.__name__.endswith("Code")
    for member in kind
]


def test_there_are_tables_structures_and_codes_to_check() -> None:
    assert {title for title, rows in TABLES.items() if rows} >= {
        "Transport",
        "Endpoints: directory, key material, rooms",
        "HTTP status codes",
        "Status codes in responses",
        "Structures",
        "Delivery service operations",
    }
    assert len(STRUCTS) > 50
    assert len(CODES) > 30


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_row_names_tests_that_exist_or_says_why_not(row: list[str]) -> None:
    named = re.findall(r"`(test_\w+)`", row[-1])
    assert set(named) <= EXISTING
    assert named or REASONS.search(row[-1]) or row[-1] == ELSEWHERE, row


@pytest.mark.parametrize("name", STRUCTS)
def test_each_structure_has_one_row(name: str) -> None:
    assert sum(f"`{name}`" in row[0] for row in ROWS) == 1


@pytest.mark.parametrize("name", CODES)
def test_each_status_code_has_one_row(name: str) -> None:
    assert sum(row[0] == f"`{name}`" for row in TABLES["Status codes in responses"]) == 1


def test_each_status_code_in_the_table_is_there() -> None:
    assert [
        row[0].strip("`") for row in TABLES["Status codes in responses"] if row[0].strip("`") not in CODES
    ] == []


@pytest.mark.parametrize(
    "name",
    [
        *ENDPOINTS,
        FOLLOW,
        DELIVERY_SERVICE,
        FANOUT_REQUEST,
        FANOUT_TOKENS,
        GATEWAY,
        GATEWAY_KEYS,
        METADATA_POLICY,
    ],
)
def test_each_endpoint_of_the_directory_is_named(name: str) -> None:
    assert f"`{name}`" in DOCUMENT


@pytest.mark.parametrize("name", [capability.label for capability in Capability])
def test_each_capability_has_one_row(name: str) -> None:
    assert sum(f"`{name}`" in row[0] for row in TABLES["Room policy"]) == 1


@pytest.mark.parametrize("component", POLICY_COMPONENTS)
def test_each_policy_component_has_a_row(component: int) -> None:
    assert any(f"0x{component:04X}" in row[0] for row in TABLES["Room policy"])
