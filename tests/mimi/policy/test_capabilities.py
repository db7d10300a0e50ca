"""The registry of capabilities against the draft's table."""

from __future__ import annotations

from linearized.mimi.policy.capabilities import RESERVED, Capability
from tests.mimi.support import VECTORS


def test_the_registry_is_the_drafts() -> None:
    lines = (VECTORS / "mimi-room-policy" / "capabilities.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    assert [(int(value, 16), name) for value, name, _ in rows] == [
        (int(capability), capability.label) for capability in Capability
    ]
    assert {name for _, name, note in rows if note} == {capability.label for capability in RESERVED}
