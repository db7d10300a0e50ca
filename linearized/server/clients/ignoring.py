"""Ignored people (Client-Server API, Ignoring Users), as clients keep them in the account data
``m.ignored_user_list``.

"The client will no longer receive events sent by that user, with the exception of state events"; nor
invitations. What they said stays where it is, and is there again once they are ignored no more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from linearized.protocol.canonical import JsonObject
from linearized.server.histories import MEMBER_TYPE
from linearized.store.account_data import GLOBAL
from linearized.store.base import EntryRow, Store

TYPE: Final = "m.ignored_user_list"


def ignored_by(store: Store, user_id: str) -> frozenset[str]:
    """Whom a user ignores; never themselves. A list of another shape names nobody."""
    stored = store.account_datum(user_id, GLOBAL, TYPE)
    users: Any = orjson.loads(stored).get("ignored_users") if stored is not None else None
    return frozenset(users) - {user_id} if isinstance(users, dict) else frozenset()


def is_unwanted(store: Store, face: Iterable[JsonObject], user_id: str) -> bool:
    """Whether an invitation, as the stripped state that the user is to see, is from somebody they ignore."""
    senders = {
        event.get("sender")
        for event in face
        if (event.get("type"), event.get("state_key")) == (MEMBER_TYPE, user_id)
    }
    return bool(senders & ignored_by(store, user_id))


def heard(entries: Iterable[EntryRow], ignored: frozenset[str]) -> list[EntryRow]:
    """Entries without what ignored people said: "servers must still send state events"."""
    return [entry for entry in entries if entry.state_key is not None or entry.sender not in ignored]
