"""A hub that vouches for what no handshake says, and a participant that is sent its log bit by bit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from linearized.exceptions import InvalidInput
from linearized.protocol.authorization import select_auth_events
from linearized.protocol.build import build_event
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.versions import get_version
from linearized.room.admission import ALGORITHM
from linearized.room.submissions import Accepted, Submission
from linearized.server.loading import state_of
from tests.room.party import leave
from tests.room.support import ALICE, Member
from tests.server.linearized_pair import HubPair, hub_pair

VERSION = get_version("dev.linearized.1")
CAROL = "@carol:c.example"


@dataclass
class Told:
    """The hub, which orders a room with a group of Alice's, and what it shows ``b.example``."""

    pair: HubPair
    alice: Member
    accepted: Accepted

    @property
    def hub_log(self) -> list[JsonObject]:
        return [orjson.loads(entry.pdu) for entry in self.pair.log(self.pair.a)]

    async def submit(self, submission: Submission) -> list[JsonObject]:
        """What the hub appends for what Alice did."""
        before = len(self.hub_log)
        self.accepted = await self.pair.a.node.rooms.submit(self.pair.room_id, submission)
        self.alice.accept()
        return self.hub_log[before:]

    async def leave(self, member: Member) -> list[JsonObject]:
        """What the hub appends for somebody who proposes to leave."""
        before = len(self.hub_log)
        await self.pair.a.node.rooms.submit(self.pair.room_id, leave(member))
        return self.hub_log[before:]

    async def tell(self, *pdus: JsonObject) -> list[InvalidInput | None]:
        """What ``b.example`` says to events that it is sent in one transaction."""
        return await self.pair.b.node.rooms.participating.receive_all(self.pair.row(self.pair.b), pdus)

    def kept(self) -> list[str]:
        """The event IDs in the participant's copy."""
        return [entry.event_id for entry in self.pair.log(self.pair.b)]

    def forge(
        self, *made: tuple[str, str, str | None, JsonObject, str | None], after: str | None = None
    ) -> list[Event]:
        """Events that the hub signs, of (sender, type, state key, content, what it says the event follows
        from), as they would stand behind an entry, by default the last of its log.
        """
        store, room_id = self.pair.a.node.store, self.pair.room_id
        row = self.pair.row(self.pair.a)
        (entry,) = store.entries_before(room_id, before=row.head_seq + 1, limit=1)
        if after is not None and (named := store.entry_by_id(after)) is not None:
            entry = named
        state, last = state_of(store, row, entry.seq), entry.event_id
        found: list[Event] = []
        for sender, kind, state_key, content, mls in made:
            provider = sender.partition(":")[2]
            vouched = {"protocol": "mimi", "provider": provider, "mls": mls}
            event = build_event(
                identity=self.pair.a.node.identity,
                version=VERSION,
                room_id=room_id,
                type=kind,
                sender=sender,
                content=content,
                origin_server_ts=1,
                auth_events=select_auth_events(
                    type=kind,
                    state_key=state_key,
                    sender=sender,
                    content=content,
                    state=state,
                    version=VERSION,
                ),
                prev_events=[last],
                state_key=state_key,
                provenance=None if mls is None else vouched,
            )
            found.append(event)
            last = event.event_id
            if state_key is not None:
                state[kind, state_key] = event
        return found


@asynccontextmanager
async def told_room(directory: Path) -> AsyncIterator[Told]:
    """A public, encrypted room that Bob has joined; the participant has all of it, and is sent nothing by
    itself from now on.
    """
    encrypted: JsonObject = {"encryption": {"algorithm": ALGORITHM}}
    async with hub_pair(directory, version="dev.linearized.1", creation_content=encrypted) as pair:
        await pair.join()
        alice = Member(ALICE)
        accepted = await pair.a.node.rooms.submit(pair.room_id, alice.create(name=pair.room_id.encode()))
        alice.accept()
        await pair.arrived(accepted.event_id)
        pair.network.down.add("b.example")
        yield Told(pair, alice, accepted)
