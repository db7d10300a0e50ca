"""Archives in minimal metadata rooms: a pseudonym's next device, and what others learn of it: nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from linearized.client import (
    ArchivedMessage,
    ArchiveRequested,
    ArchiveShared,
    DecryptedMessage,
    IdentitiesShared,
    MemoryStorage,
    OwnMessage,
    PseudonymousSession,
    Session,
    UntrustedIdentity,
    new_pseudonym,
)
from tests.client.archive.support import read
from tests.client.support import message
from tests.client.test_real_server import Club, drain_until, open_club
from tests.server.support import Server

# Names that turn up nowhere by chance.
ALICE, BOB = "alicendrina", "bobolinkus"


@dataclass
class Masquerade:
    """Alice writes in a room of hers to Bob of another provider, whose old device keeps what it reads."""

    club: Club
    hub: Server
    home: Server
    alice: PseudonymousSession
    old: PseudonymousSession
    room_id: str

    async def say(self, text: str) -> None:
        await self.alice.send(self.room_id, message(text))
        await drain_until(self.old, DecryptedMessage)

    async def new_device(self) -> PseudonymousSession:
        """Bob's laptop finds the pseudonym in the account's list; his phone adds it, and takes its code."""
        account = await self.club.device(self.home, BOB, "LAPTOP")
        (listed,) = await account.api.pseudonyms()
        new = await new_pseudonym(account, MemoryStorage(), of=str(listed["user_id"]))
        await self.old.add(self.room_id, [new.handle])
        for session in (self.old, new):
            await drain_until(session, IdentitiesShared)
        code = await new.archive.ask()
        items = await drain_until(self.old, ArchiveRequested)
        (asked,) = [item for item in items if isinstance(item, ArchiveRequested)]
        await self.old.archive.approve(asked, code)
        await drain_until(new, ArchiveShared)
        return new


@asynccontextmanager
async def masquerade(directory: Path) -> AsyncIterator[Masquerade]:
    async with open_club(directory) as club:
        hub, home = await club.server("a.example"), await club.server("b.example")
        alice = await new_pseudonym(await club.device(hub, ALICE), MemoryStorage())
        old = await new_pseudonym(await club.device(home, BOB), MemoryStorage())
        room_id = await alice.create_minimal_room(handles=[old.handle])
        await drain_until(old, IdentitiesShared)
        old.archive.enable()
        yield Masquerade(club, hub, home, alice, old, room_id)


async def archived(session: Session, room_id: str) -> list[ArchivedMessage]:
    async with aclosing(session.archive.read(room_id)) as found:
        return [one async for one in found if isinstance(one, ArchivedMessage)]


async def test_a_pseudonyms_new_device_reads_the_past_and_learns_who_spoke_also_of_who_has_left(
    tmp_path: Path,
) -> None:
    async with masquerade(tmp_path) as ball:
        await ball.say("farewell")
        await ball.old.send(ball.room_id, message("my own"))
        await drain_until(ball.old, OwnMessage)
        await ball.alice.groups.leave(ball.room_id)
        new = await ball.new_device()
        assert await read(new, ball.room_id) == ["farewell", "my own"]
        farewell, own = await archived(new, ball.room_id)
        assert farewell.sender_uri == ball.alice.device.owner.user_uri
        assert ball.alice.device.owner.client_uri not in new.device.state.link_keys
        assert (await new.sender_of(farewell)).user_id == f"@{ALICE}:a.example"
        assert (await new.sender_of(own)).user_id == f"@{BOB}:b.example"


async def test_no_server_but_the_users_own_has_a_trace_of_it(tmp_path: Path) -> None:
    async with masquerade(tmp_path) as ball:
        await ball.say("a most private remark")
        new = await ball.new_device()
        assert len(await archived(new, ball.room_id)) == 1
        name, archive = ball.old.device.owner.user_id, ball.old.device.state.archive.own[ball.room_id].name
        at_home, at_hub = ball.home.node.store, ball.hub.node.store
        assert [row.archive for row in at_home.archives(name)] == [archive]
        assert at_home.archives(f"@{BOB}:b.example") == []
        assert at_hub.archives(name) == []
        # What the user's own provider keeps does not name the sender, nor give the key of her link.
        (record,) = at_home.archive_records(name, archive, after=0, limit=9, now_ms=0)
        alice = ball.alice.device.owner.client_uri
        assert record.sealed is not None
        assert alice.encode() not in record.sealed
        assert ball.old.device.state.link_keys[alice] not in record.sealed


async def test_an_introduction_that_does_not_hold_is_not_believed_and_one_that_came_late_counts(
    tmp_path: Path,
) -> None:
    async with masquerade(tmp_path) as ball:
        state, alice = ball.old.device.state, ball.alice.device.owner.client_uri
        key = state.link_keys.pop(alice)
        await ball.say("who am I?")
        await ball.alice.share(ball.room_id)
        await drain_until(ball.old, IdentitiesShared)
        await ball.say("it is me")
        unknown, known = await archived(ball.old, ball.room_id)
        for message_ in (unknown, known):
            assert (await ball.old.sender_of(message_)).user_id == f"@{ALICE}:a.example"
        del state.link_keys[alice]
        assert (await ball.old.sender_of(known)).user_id == f"@{ALICE}:a.example"
        for one in (unknown, replace(known, introduction=None)):
            with pytest.raises(UntrustedIdentity, match="nobody has told"):
                await ball.old.sender_of(one)
        assert known.introduction is not None
        assert known.introduction.key == key
        with pytest.raises(UntrustedIdentity, match="link"):
            await ball.old.sender_of(
                replace(known, introduction=replace(known.introduction, key=bytes(len(key))))
            )
