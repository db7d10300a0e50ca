"""What is kept of the transfers by which a room came where it is, where we have no copy of its events.

A MIMI provider sees no events; it is shown these (``hub_chain``). Before one of its users is in the room only
this is there to say where the room is; then the last of them stands in its copy of the log, where clients
read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from linearized.protocol.canonical import canonical_json
from linearized.protocol.events import Event
from linearized.protocol.identifiers import user_domain
from linearized.store.base import EntryRow, Reply, Store

# Replies by room ID. Of one that none of our users is in: where it was shown to be, an encoded ``Shown``.
MOVED: Final = "hub of room"
# Of one that we follow: the event IDs of its transfers. It is not back where it has been because somebody
# shows that once more.
TRANSFERS: Final = "transfers of room"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Transfers of a room.

    Attributes:
        passed: the event IDs of all of them, the latest first.
        pdu: the latest, as canonical JSON.
    """

    passed: tuple[str, ...]
    pdu: str

    @classmethod
    def of(cls, transfers: Sequence[Event]) -> Shown:
        """What is kept of verified transfers, the latest first."""
        return cls(
            passed=tuple(event.event_id for event in transfers), pdu=canonical_json(transfers[0].pdu).decode()
        )

    @classmethod
    def stored(cls, store: Store, room_id: str) -> Shown | None:
        """What was shown last of a room that none of our users is in."""
        text = store.reply(MOVED, room_id)
        if text is None:
            return None
        passed, _, pdu = text.partition("\n")
        if not pdu:
            return None  # a hub's bare name, of an earlier version: that hub shows it again
        return cls(passed=tuple(passed.split()), pdu=pdu)

    @property
    def hub(self) -> str:
        """Who orders the room."""
        return user_domain(orjson.loads(self.pdu)["sender"])

    def entry(self, room_id: str, *, seq: int) -> EntryRow:
        """The latest as an entry: the one event of a followed room that has a signature, and the one of its
        state that we know.
        """
        pdu = orjson.loads(self.pdu)
        return EntryRow(
            room_id=room_id,
            seq=seq,
            event_id=self.passed[0],
            type=pdu["type"],
            state_key=pdu["state_key"],
            sender=pdu["sender"],
            origin_server_ts=pdu["origin_server_ts"],
            epoch=None,
            pdu=self.pdu.encode(),
        )

    def before(self, room_id: str) -> Reply:
        """How it is kept of a room that none of our users is in: for as long as replies are."""
        value = "\n".join((" ".join(self.passed), self.pdu))
        return Reply(scope=MOVED, key=room_id, value=value, replacing=True)

    def since(self, room_id: str) -> Reply:
        """What is kept of it beside ``entry`` of a room that we follow."""
        value = " ".join(self.passed)
        return Reply(scope=TRANSFERS, key=room_id, value=value, lasting=True, replacing=True)


def passed(store: Store, room_id: str, event_id: str) -> bool:
    """Whether a transfer is one by which a room that we follow came where it is, or was."""
    known = (store.reply(TRANSFERS, room_id) or "").split()
    return event_id in known or store.entry_by_id(event_id) is not None
