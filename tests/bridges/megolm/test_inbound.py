from __future__ import annotations

from typing import Any

import pytest

from bridges.matrix.megolm import inbound
from bridges.matrix.megolm.errors import (
    EncryptionError,
    ForgedSender,
    MalformedKeyMessage,
    MissingKey,
    Replayed,
    TooLarge,
    Undecryptable,
    UnknownAlgorithm,
    WrongRoom,
)
from bridges.matrix.megolm.inbound import MAX_CIPHERTEXT
from tests.bridges.megolm.rig import ROOM, Rig
from tests.bridges.support import BOB


async def test_an_event_is_what_it_was_before_it_was_encrypted() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    await rig.give_key(alice)
    event = rig.event(alice)
    event["content"]["m.relates_to"] = {"rel_type": "m.thread", "event_id": "$root"}
    opened = rig.decryption.decrypt(event)
    assert (opened["type"], opened["event_id"], opened["sender"]) == ("m.room.message", "$1", alice.user_id)
    assert opened["content"]["body"] == "hello"
    # What relates events stands outside of what is encrypted.
    assert opened["content"]["m.relates_to"]["event_id"] == "$root"
    # Looking at the same event again is no replay.
    assert rig.decryption.decrypt(event) == opened


async def test_the_same_ciphertext_in_another_event_is_refused() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    await rig.give_key(alice)
    event = rig.event(alice)
    rig.decryption.decrypt(event)
    with pytest.raises(Replayed):
        rig.decryption.decrypt({**event, "event_id": "$2"})


async def test_an_event_of_somebody_who_does_not_own_the_session_is_refused() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    await rig.give_key(alice)
    with pytest.raises(ForgedSender, match="another user"):
        rig.decryption.decrypt({**rig.event(alice), "sender": BOB})


async def test_an_event_that_names_another_device_than_that_of_its_session_is_refused() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    await rig.give_key(alice)
    event = rig.event(alice)
    event["content"]["sender_key"] = "A" * 43
    with pytest.raises(ForgedSender, match="another device"):
        rig.decryption.decrypt(event)
    del event["content"]["sender_key"]
    assert rig.decryption.decrypt(event)["type"] == "m.room.message"


async def test_an_event_moved_to_another_room_is_refused() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    await rig.give_key(alice)
    with pytest.raises(WrongRoom):
        rig.decryption.decrypt(rig.event(alice, room_id="!other:matrix.example"))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"algorithm": "m.megolm.v2"}, UnknownAlgorithm),
        ({"ciphertext": "A" * (MAX_CIPHERTEXT + 1)}, TooLarge),
        ({"ciphertext": 5}, MalformedKeyMessage),
        ({"ciphertext": "!!"}, MalformedKeyMessage),
        ({"session_id": None}, MalformedKeyMessage),
        ({"session_id": "x" * 256}, MalformedKeyMessage),
        ({"session_id": "unknown"}, MissingKey),
    ],
)
async def test_what_is_no_ciphertext_of_ours_is_refused(
    change: dict[str, Any], error: type[EncryptionError]
) -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    await rig.give_key(alice)
    event = rig.event(alice)
    event["content"].update(change)
    with pytest.raises(error):
        rig.decryption.decrypt(event)


async def test_a_ciphertext_of_another_session_does_not_decrypt() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    await rig.give_key(alice)
    event = rig.event(alice)
    other = await rig.client(device="TABLET")
    event["content"]["ciphertext"] = rig.event(other)["content"]["ciphertext"]
    with pytest.raises(Undecryptable):
        rig.decryption.decrypt(event)


@pytest.mark.parametrize(
    "forged", [{"type": 5}, {"content": "text"}, {"type": "m.room.encrypted"}, {"type": None}]
)
async def test_what_is_inside_has_to_be_an_event(forged: dict[str, Any]) -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    await rig.give_key(alice)
    with pytest.raises(MalformedKeyMessage):
        rig.decryption.decrypt(rig.event(alice, **forged))


async def test_what_was_said_before_the_key_begins_waits_for_a_better_key() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    early_key = alice.room_key(ROOM)
    early = rig.event(alice, "$early")
    await rig.give_key(alice)
    with pytest.raises(MissingKey):
        rig.decryption.decrypt(early)
    rig.decryption.add(early_key, (await device_of(rig)))
    assert rig.decryption.decrypt(early)["content"]["body"] == "hello"
    # A later key of the same session does not take the better one's place.
    rig.decryption.add(alice.room_key(ROOM), (await device_of(rig)))
    assert rig.decryption.decrypt(early)["content"]["body"] == "hello"


async def device_of(rig: Rig) -> Any:
    (device,) = rig.lists.of("@alice:matrix.example")
    return device


async def test_a_session_stays_that_of_the_device_its_key_came_from() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    await rig.give_key(alice)
    bob = await rig.client(BOB)
    bob.outbound[ROOM] = alice.session(ROOM)
    with pytest.raises(ForgedSender, match="another device's"):
        await rig.give_key(bob)
    assert rig.decryption.decrypt(rig.event(alice))["sender"] == alice.user_id


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"algorithm": "m.megolm.v2"}, UnknownAlgorithm),
        ({"session_key": "no key"}, MalformedKeyMessage),
        ({"session_id": "another"}, MalformedKeyMessage),
        ({"room_id": None}, MalformedKeyMessage),
        ({"room_id": "x" * 256}, MalformedKeyMessage),
    ],
)
async def test_a_room_key_that_is_none_is_refused(
    change: dict[str, Any], error: type[EncryptionError]
) -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    await rig.give_key(alice)
    with pytest.raises(error):
        rig.decryption.add({**alice.room_key(ROOM), **change}, await device_of(rig))


async def test_of_one_device_only_the_newest_sessions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "MAX_SESSIONS", 2)
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    events = []
    for number in range(3):
        alice.outbound.clear()
        await rig.give_key(alice)
        events.append(rig.event(alice, f"${number}"))
    with pytest.raises(MissingKey):
        rig.decryption.decrypt(events[0])
    assert [rig.decryption.decrypt(event)["event_id"] for event in events[1:]] == ["$1", "$2"]
