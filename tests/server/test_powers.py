"""Power levels for what is no event."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.powers import may_set_state
from tests.server.clients.conftest import server
from tests.server.clients.rows import append, entry
from tests.server.clients.support import Server

__all__ = ["server"]

ROOM = "!r:a.example"


@pytest.mark.parametrize(
    ("levels", "able"),
    [
        ({"users": {"@a:a.example": 50}}, True),
        ({"users": {"@a:a.example": 49}}, False),
        ({"users_default": 10, "state_default": 10}, True),
        ({"users_default": 10, "state_default": 10, "events": {"m.x": 20}}, False),
        ({"users_default": 10, "state_default": 99, "events": {"m.x": 10}}, True),
        ({"users_default": 50, "events": "none"}, True),
    ],
)
async def test_who_may_set_state(server: Server, levels: dict[str, Any], able: bool) -> None:
    await append(server.store, ROOM, entry(ROOM, 1, "m.room.power_levels", state_key="", content=levels))
    assert may_set_state(server.store, ROOM, "@a:a.example", "m.x", seq=1) is able
