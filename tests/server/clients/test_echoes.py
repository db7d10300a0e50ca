"""Whose transaction an entry came of."""

from __future__ import annotations

import pytest

from linearized.server.clients import echoes as echoes_module
from linearized.server.clients.echoes import Echoes
from tests.server.clients.rows import entry

ROOM = "!r:a.example"
CONTENT = {"body": "hello"}


def test_an_entry_is_recognised_while_its_send_is_on_its_way_and_after() -> None:
    echoes, row = Echoes(), entry(ROOM, 1, content=CONTENT)
    with echoes.sending("d", room_id=ROOM, event_type="m.room.message", content=CONTENT, transaction_id="t1"):
        assert echoes.transaction_of("d", row, CONTENT) == "t1"
        assert echoes.transaction_of("d", row, {"body": "other"}) is None
        assert echoes.transaction_of("other", row, CONTENT) is None
        assert echoes.transaction_of("d", entry("!other:a.example", 1), CONTENT) is None
    assert echoes.transaction_of("d", row, CONTENT) is None
    echoes.sent("d", row.event_id, "t1")
    assert echoes.transaction_of("d", row, CONTENT) == "t1"


def test_equal_messages_on_their_way_together_end_independently() -> None:
    echoes, row = Echoes(), entry(ROOM, 1, content=CONTENT)
    with echoes.sending("d", room_id=ROOM, event_type="m.room.message", content=CONTENT, transaction_id="t1"):
        with echoes.sending(
            "d", room_id=ROOM, event_type="m.room.message", content=CONTENT, transaction_id="t2"
        ):
            pass
        assert echoes.transaction_of("d", row, CONTENT) == "t1"


def test_sends_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echoes_module, "MAX_SENT", 2)
    echoes = Echoes()
    for seq in range(1, 4):
        echoes.sent("d", f"${seq}.{ROOM}", f"t{seq}")
    found = [echoes.transaction_of("d", entry(ROOM, seq), {}) for seq in range(1, 4)]
    assert found == [None, "t2", "t3"]
