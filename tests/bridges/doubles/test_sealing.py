from __future__ import annotations

import itertools
from typing import Any

import pytest

from bridges.matrix.doubles.sealing import Sealing
from linearized.client import StateFileError

_counter = itertools.count(1)


def sealing(key: bytes = b"k" * 32) -> Sealing:
    return Sealing(key, lambda size: next(_counter).to_bytes(size, "big"))


def event(body: Any, event_id: str = "$1") -> dict[str, Any]:
    return {"event_id": event_id, "type": "m.room.message", "content": {"body": body, "formatted_body": body}}


@pytest.mark.parametrize("body", ["login secret", "!mimi login secret x", "  !mimi  LOGIN secret", "login"])
def test_what_may_hold_a_token_is_not_written_in_the_clear(body: str) -> None:
    concealed = sealing().conceal(event(body))
    assert "secret" not in repr(concealed)
    assert concealed["event_id"] == "$1"
    assert sealing().reveal(concealed) == event(body)


@pytest.mark.parametrize("body", ["log in", "!mimi help", "!mimi", "", "logins", 7, None])
def test_everything_else_is_written_as_it_is(body: Any) -> None:
    assert sealing().conceal(event(body)) == event(body)
    assert sealing().conceal({"event_id": "$1", "content": "text"}) == {"event_id": "$1", "content": "text"}


@pytest.mark.parametrize("concealed", ["AAAA", "not base64!", "", 7, {"a": 1}])
def test_what_only_looks_concealed_stays_what_it_is(concealed: Any) -> None:
    forged = {"event_id": "$1", "content": {"dev.linearized.concealed": concealed}}
    assert sealing().reveal(forged) == forged
    assert sealing().reveal({"event_id": "$1", "content": 7}) == {"event_id": "$1", "content": 7}


def test_what_was_concealed_opens_in_its_own_event_only() -> None:
    concealed = sealing().conceal(event("login secret"))
    assert "secret" not in repr(sealing().reveal({**concealed, "event_id": "$2"}))
    assert "secret" not in repr(sealing(b"x" * 32).reveal(concealed))


def test_a_token_opens_for_its_user_with_its_key_only() -> None:
    sealed = sealing().token("@alice:a", "secret")
    assert b"secret" not in sealed
    assert sealing().open_token("@alice:a", sealed) == "secret"
    for other, key in (("@bob:a", b"k" * 32), ("@alice:a", b"x" * 32)):
        with pytest.raises(StateFileError):
            sealing(key).open_token(other, sealed)
