from __future__ import annotations

import json

import pytest

from bridges.matrix.megolm.rooms import MAX_ROTATION_MESSAGES, MIN_ROTATION_MS, settings_of
from tests.bridges.megolm.rig import ROOM, WEEK, Rig
from tests.bridges.megolm.support import client_of
from tests.bridges.support import ALICE, BOB, BOT, GHOST_BOB


async def test_everybodys_devices_get_the_key_and_our_own_do_not() -> None:
    rig = Rig()
    await rig.bot()
    await rig.publishing.device(GHOST_BOB)
    phone, tablet, bob = await rig.client(), await rig.client(device="TABLET"), await rig.client(BOB)
    rig.members = [ALICE, BOB, BOT, GHOST_BOB]
    sealed = await rig.seal()
    for client in (phone, bob):
        assert len(rig.received(client)) == 1
    opened = bob.decrypt({"type": "m.room.encrypted", "room_id": ROOM, "content": sealed})
    assert opened["content"]["body"] == "hello"
    assert rig.homeserver.keys.inboxes[GHOST_BOB, "LIN"] == []
    # The tablet's identity replaced the phone's; both are devices all the same.
    assert len(rig.received(tablet)) == 1
    await rig.seal()
    assert rig.received(bob) == []


async def test_a_session_ends_after_its_messages_its_time_and_when_a_reader_goes() -> None:
    rig = Rig()
    await rig.bot()
    await rig.client()
    await rig.client(BOB)
    rig.members = [ALICE, BOB]
    three = settings_of({"rotation_period_msgs": 3})
    sessions = [(await rig.seal(three))["session_id"] for _ in range(4)]
    assert [sessions.count(one) for one in dict.fromkeys(sessions)] == [3, 1]
    rig.now += WEEK.rotation_ms - 1
    assert (await rig.seal())["session_id"] == sessions[-1]
    rig.now += 1
    after_a_week = (await rig.seal())["session_id"]
    assert after_a_week != sessions[-1]
    rig.members = [ALICE]
    without_bob = (await rig.seal())["session_id"]
    assert without_bob != after_a_week
    # A device that is gone; one that comes does not end the session.
    await rig.client(device="TABLET")
    rig.lists.changed([ALICE])
    assert (await rig.seal())["session_id"] == without_bob
    del rig.homeserver.keys.devices[ALICE, "TABLET"]
    rig.lists.changed([ALICE])
    assert (await rig.seal())["session_id"] != without_bob


async def test_a_device_without_keys_left_is_told_and_does_not_stop_the_others() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    await client_of(rig.homeserver, BOB).publish(one_time_keys=0)
    rig.members = [ALICE, BOB]
    await rig.seal()
    (withheld,) = rig.homeserver.keys.inboxes[BOB, "PHONE"]
    assert (withheld["type"], withheld["content"]["code"]) == ("m.room_key.withheld", "m.no_olm")
    assert "session_key" not in json.dumps(withheld)
    assert len(rig.received(alice)) == 1
    # Told once for each session.
    await rig.seal()
    assert len(rig.homeserver.keys.inboxes[BOB, "PHONE"]) == 1


async def test_a_claimed_key_that_its_device_has_not_signed_is_not_used() -> None:
    rig = Rig()
    await rig.bot()
    await rig.client(BOB)
    for key in rig.homeserver.keys.one_time[BOB, "PHONE"].values():
        key["key"] = "A" * 43
    rig.members = [BOB]
    await rig.seal()
    (message,) = rig.homeserver.keys.inboxes[BOB, "PHONE"]
    assert message["type"] == "m.room_key.withheld"


@pytest.mark.parametrize(
    ("content", "ms", "messages"),
    [
        ({}, WEEK.rotation_ms, 100),
        ({"rotation_period_ms": 1, "rotation_period_msgs": 0}, MIN_ROTATION_MS, 1),
        ({"rotation_period_ms": "x", "rotation_period_msgs": True}, WEEK.rotation_ms, 100),
        (
            {"rotation_period_ms": 2**60, "rotation_period_msgs": 2**60},
            WEEK.rotation_ms,
            MAX_ROTATION_MESSAGES,
        ),
    ],
)
def test_what_a_room_asks_for_is_kept_within_reason(
    content: dict[str, object], ms: int, messages: int
) -> None:
    settings = settings_of(content)
    assert (settings.rotation_ms, settings.rotation_messages) == (ms, messages)
