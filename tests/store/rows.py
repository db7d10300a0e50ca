"""Short ways to make rows for tests."""

from __future__ import annotations

import base64
import hashlib
import json

from linearized.store.base import (
    EntryRow,
    GroupRow,
    KeyPackageRow,
    NewToDevice,
    Role,
    RoomAppend,
    RoomRow,
)

ROOM = "!clubhouse:a.example"
OTHER_ROOM = "!lounge:a.example"
ALICE = "@alice:a.example"
BOB = "@bob:b.example"
SUITE = 1
OTHER_SUITE = 3


def room(room_id: str = ROOM, *, role: Role = Role.HUB, hub: str = "a.example") -> RoomRow:
    return RoomRow(room_id=room_id, version="dev.linearized.1", role=role, hub=hub, head_seq=0, epoch=None)


def event_id(room_id: str, seq: int, salt: str = "") -> str:
    digest = hashlib.sha256(f"{room_id} {seq} {salt}".encode()).digest()
    return "$" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def entry(
    seq: int,
    *,
    room_id: str = ROOM,
    kind: str = "m.room.encrypted",
    state_key: str | None = None,
    epoch: int | None = None,
    content: object = None,
    salt: str = "",
) -> EntryRow:
    return EntryRow(
        room_id=room_id,
        seq=seq,
        event_id=event_id(room_id, seq, salt),
        type=kind,
        state_key=state_key,
        sender=ALICE,
        origin_server_ts=1_700_000_000_000 + seq,
        epoch=epoch,
        pdu=json.dumps({"content": content or {}, "n": seq, "é": "\N{SNOWMAN}"}).encode(),
    )


def member(seq: int, user_id: str, membership: str, *, room_id: str = ROOM) -> EntryRow:
    return entry(
        seq, room_id=room_id, kind="m.room.member", state_key=user_id, content={"membership": membership}
    )


def message(seq: int, room_id: str = ROOM, salt: str = "") -> RoomAppend:
    return RoomAppend(room_id=room_id, entries=(entry(seq, room_id=room_id, salt=salt),))


def new_room(*entries: EntryRow, room_id: str = ROOM) -> RoomAppend:
    return RoomAppend(room_id=room_id, room=room(room_id), entries=entries)


def group(epoch: int, room_id: str = ROOM) -> GroupRow:
    return GroupRow(
        room_id=room_id,
        epoch=epoch,
        snapshot=b"snapshot\x00%d" % epoch,
        group_info=b"info\xff%d" % epoch,
        ratchet_tree=b"tree%d" % epoch,
        commit_event_id=event_id(room_id, epoch),
    )


def key_package(
    n: int,
    *,
    user_id: str = BOB,
    device_id: str = "PHONE",
    ciphersuite: int = SUITE,
    last_resort: bool = False,
    not_after: int = 2_000,
) -> KeyPackageRow:
    return KeyPackageRow(
        reference=hashlib.sha256(b"reference %d" % n).digest(),
        user_id=user_id,
        device_id=device_id,
        client_uri="mimi://b.example/d/bob/PHONE",
        key_package=b"key package %d" % n,
        ciphersuite=ciphersuite,
        last_resort=last_resort,
        not_after=not_after,
    )


def to_device(n: int, *, device_id: str = "PHONE", user_id: str = BOB) -> NewToDevice:
    return NewToDevice(
        user_id=user_id, device_id=device_id, type="m.room.encrypted", sender=ALICE, content=b'{"n":%d}' % n
    )
