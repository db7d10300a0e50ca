"""What may be kept, by the room's policy."""

from __future__ import annotations

import pytest

from linearized.client import MemoryStorage, MlsDevice, NotInGroup
from linearized.client.archive.keeping import Keeper, Permission, permission
from linearized.client.items import DecryptedMessage, Undecryptable
from linearized.mimi.participants import PARTICIPANT_LIST, ParticipantListData, UserRolePair
from linearized.mimi.policy.common import Optionality
from linearized.mimi.policy.components import CHAT_HISTORY_POLICY
from linearized.mimi.policy.retention import HistoryPolicy
from linearized.protocol.base64 import encode_base64
from linearized.protocol.identifiers import group_id, user_uri
from tests.client.support import BOB, ROOM, message

ROLE = 3
SHARED = HistoryPolicy(
    history_sharing=Optionality.OPTIONAL, roles_that_can_share=(ROLE,), max_time_period=60
).encode()
FORBIDDEN = HistoryPolicy(history_sharing=Optionality.FORBIDDEN).encode()


def in_room(policy: bytes | None, *, role: int | None = ROLE) -> MlsDevice:
    """A device in a room with that policy, whose user has that role."""
    device = MlsDevice.open(MemoryStorage(), user_id=BOB, device_id="DEV")
    users = () if role is None else (UserRolePair(user=user_uri(BOB), role_index=role),)
    components = {PARTICIPANT_LIST: ParticipantListData(participants=users).encode()}
    if policy is not None:
        components[CHAT_HISTORY_POLICY] = policy
    device.client.create_group(group_id=group_id(ROOM), app_data=components)
    device.state.archive.enabled = True
    return device


@pytest.mark.parametrize(
    ("policy", "role", "expected"),
    [
        (None, ROLE, Permission(allowed=True)),
        (SHARED, ROLE, Permission(allowed=True, seconds=60)),
        (SHARED, ROLE + 1, Permission(allowed=False, seconds=0)),
        (SHARED, None, Permission(allowed=False, seconds=0)),
        (FORBIDDEN, ROLE, Permission(allowed=False, seconds=0)),
        (b"no policy", ROLE, Permission(allowed=False)),
    ],
)
def test_the_policy_decides_for_whom_and_how_long(
    policy: bytes | None, role: int | None, expected: Permission
) -> None:
    assert permission(in_room(policy, role=role), ROOM) == expected


def test_outside_the_group_nobody_can_tell() -> None:
    device = MlsDevice.open(MemoryStorage(), user_id=BOB, device_id="DEV")
    with pytest.raises(NotInGroup):
        permission(device, ROOM)


def heard(timestamp: int = 1000) -> DecryptedMessage:
    return DecryptedMessage(
        room_id=ROOM,
        event_id="$event",
        timestamp=timestamp,
        sender_uri="mimi://a.example/u/alice",
        client_uri="mimi://a.example/d/alice/DEV",
        epoch=0,
        payload=message("hello").encode(),
    )


ENTRY = {"ciphertext": encode_base64(b"ciphertext")}


def kept(device: MlsDevice, *, seq: int | None = 1, entry: dict[str, str] | None = None) -> int:
    keeper = Keeper(device, random=bytes)
    keeper.keep(ROOM, seq, ENTRY if entry is None else entry, heard())
    return len(device.state.archive.waiting)


def test_a_record_ends_when_the_policy_says() -> None:
    device = in_room(SHARED)
    assert kept(device) == 1
    assert device.state.archive.waiting[0].expires_ts == 1000 + 60_000


def test_nothing_is_kept_of_what_has_no_place_or_no_message() -> None:
    assert kept(in_room(None), seq=None) == 0
    assert kept(in_room(None), entry={}) == 0
    assert kept(in_room(None), entry={"ciphertext": "???"}) == 0
    assert kept(in_room(FORBIDDEN)) == 0
    device = in_room(None)
    device.state.archive.full = True
    assert kept(device) == 0


def test_what_was_sent_before_this_device_came_is_no_gap() -> None:
    device = in_room(None)
    keeper = Keeper(device, random=bytes)
    early = Undecryptable(room_id=ROOM, sender="", reason="too early", expected=True)
    assert keeper.keep(ROOM, 1, ENTRY, early) == []
    assert device.state.archive.waiting == []
