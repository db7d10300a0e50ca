"""A user with an old device that keeps an archive, and a new one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from linearized.client import (
    ALGORITHM,
    ArchivedMessage,
    ArchiveGap,
    ArchiveRequested,
    ArchiveShared,
    Item,
    Session,
)
from linearized.client.franks import safe_aad
from linearized.mimi.handshake import UpdateResponseCode, UpdateRoomResponse
from linearized.protocol.base64 import encode_base64
from tests.client.support import drain, message
from tests.client.test_real_server import Club, new_room, open_club
from tests.server.support import Server


@dataclass
class Household:
    """Alice writes to bob, whose old device keeps what it reads."""

    club: Club
    server: Server
    alice: Session
    old: Session
    room_id: str

    async def say(self, *bodies: str) -> list[Item]:
        """Alice says something; what bob's old device makes of it."""
        for body in bodies:
            await self.alice.send(self.room_id, message(body))
        return await drain(self.old)

    async def new_device(self, name: str = "LAPTOP") -> Session:
        """Another device of bob's, in the room's group; his old one and alice know it."""
        new = await self.club.device(self.server, "bob", name)
        await new.groups.join(self.room_id)
        await drain(new)
        await drain(self.old)
        await drain(self.alice)
        return new

    async def remove_device(self, device_id: str) -> None:
        """Bob's old device removes another of his from the group."""
        device = self.old.device
        (leaf,) = [
            leaf for leaf, owner in device.members(self.room_id).items() if owner.device_id == device_id
        ]
        pending = device.stage(self.room_id, lambda group: group.commit(remove=[leaf]))
        assert pending is not None
        answer, event_id = await self.old.api.update(self.room_id, pending.bundle)
        assert UpdateRoomResponse.decode(answer).code is UpdateResponseCode.SUCCESS
        device.commit_accepted(self.room_id, pending, event_id)
        await drain(self.alice)

    async def send_nonsense(self) -> None:
        """Alice encrypts what is no content."""
        device = self.alice.device
        aad = safe_aad(device.prepare(self.room_id, message("")).encode())
        body = {
            "algorithm": ALGORITHM,
            "ciphertext": encode_base64(device.group(self.room_id).encrypt(b"nonsense", safe_aad=aad)),
            "commit_event_id": device.record(self.room_id).commit_event_id,
        }
        await self.alice.api.send_event(self.room_id, "m.room.encrypted", body)

    async def hand_over(self, new: Session) -> None:
        """Bob types the new device's code into his old one."""
        code = await new.archive.ask()
        (asked,) = [item for item in await drain(self.old) if isinstance(item, ArchiveRequested)]
        await self.old.archive.approve(asked, code)
        items = await drain(new)
        assert [item.room_id for item in items if isinstance(item, ArchiveShared)] == [self.room_id]


@asynccontextmanager
async def household(directory: Path) -> AsyncIterator[Household]:
    async with open_club(directory) as club:
        server = await club.server("a.example")
        alice, old = await club.device(server, "alice"), await club.device(server, "bob")
        room_id = await new_room(alice)
        await alice.groups.invite(room_id, [old.device.owner.user_id])
        await drain(old)
        old.archive.enable()
        yield Household(club, server, alice, old, room_id)


def stored(directory: Path) -> bytes:
    """All that the server wrote."""
    return b"".join(path.read_bytes() for path in directory.rglob("*.sqlite3*"))


async def read(session: Session, room_id: str) -> list[str]:
    """What a device reads in the archives: the text of messages, and why others are not there."""
    found: list[str] = []
    async with aclosing(session.archive.read(room_id)) as archived:
        async for one in archived:
            if isinstance(one, ArchiveGap):
                found.append(f"{one.reason} {one.count}")
            else:
                assert isinstance(one, ArchivedMessage)
                found.append(getattr(one.content.part, "text", "nothing"))
    return found
