from __future__ import annotations

from typing import Any

import pytest

from bridges.matrix.megolm import requests
from bridges.matrix.megolm.errors import ForgedSender, MissingKey, UnknownDevice
from bridges.matrix.megolm.held import PATIENCE_MS
from bridges.matrix.megolm.requests import AGAIN_MS, ASK_AFTER_MS
from bridges.matrix.queue import Incoming
from tests.bridges.encrypting_client import EncryptingClient, JsonObject
from tests.bridges.megolm.rig import ROOM, Rig
from tests.bridges.support import ALICE, BOB


async def waiting(rig: Rig, client: EncryptingClient, event_id: str = "$1", **changed: Any) -> JsonObject:
    """An event of a client's that waits for its key."""
    event = rig.event(client, event_id)
    event["content"] |= changed
    rig.database.run("INSERT INTO incoming (room_id, event_id, event) VALUES (?, ?, '')", ROOM, event_id)
    incoming = Incoming(position=1, room_id=ROOM, event_id=event_id, event=event)
    assert rig.held.hold(incoming, event["content"]["session_id"])
    return event


def asked(rig: Rig, client: EncryptingClient) -> list[JsonObject]:
    """What a client was asked, and asked no longer."""
    client.requests.clear()
    rig.received(client)
    return [message["content"] for message in client.requests]


async def answer(rig: Rig, client: EncryptingClient, **forged: Any) -> None:
    """A client gives the bot the key of its session again."""
    key = client.forwarded_key(ROOM, client.session(ROOM).session_id, **forged)
    sealed = await client.olm(rig.bot_keys, "m.forwarded_room_key", key)
    await rig.letters.handle(rig.letter(sealed, client.user_id))


async def test_a_key_that_does_not_come_is_asked_for_and_the_answer_opens_what_waits() -> None:
    rig = Rig()
    own = await rig.bot()
    alice = await rig.client()
    tablet = await rig.client(device="TABLET")
    event = await waiting(rig, alice)
    assert rig.requests.patience() == ASK_AFTER_MS
    rig.now += ASK_AFTER_MS - 1
    await rig.requests.work()
    assert asked(rig, alice) == [], "it may still come by itself"
    rig.now += 1
    for _ in range(2):
        await rig.requests.work()
    (request,) = asked(rig, alice)
    assert asked(rig, tablet) == [], "the event names its device"
    assert (request["action"], request["requesting_device_id"]) == ("request", own.device_id)
    body = {"room_id": ROOM, "session_id": alice.session(ROOM).session_id, "sender_key": alice.curve25519}
    assert request["body"] == {"algorithm": "m.megolm.v1.aes-sha2", **body}
    assert rig.requests.patience() == AGAIN_MS[0]
    await answer(rig, alice)
    assert rig.decryption.decrypt(event)["content"]["body"] == "hello"
    await rig.requests.work()
    (taken_back,) = asked(rig, alice)
    assert (taken_back["action"], taken_back["request_id"]) == ("request_cancellation", request["request_id"])
    assert rig.database.all("SELECT * FROM key_requests") == []


async def test_a_key_is_asked_for_again_a_few_times_while_an_event_needs_it() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    event = await waiting(rig, alice)
    rig.now += ASK_AFTER_MS
    await rig.requests.work()
    (last,) = asked(rig, alice)
    for pause in AGAIN_MS:
        assert rig.requests.patience() == pause
        rig.now += pause - 1
        await rig.requests.work()
        assert asked(rig, alice) == []
        rig.now += 1
        await rig.requests.work()
        taken_back, request = asked(rig, alice)
        assert taken_back["action"] == "request_cancellation"
        assert taken_back["request_id"] == last["request_id"]
        assert (request["action"], request["body"]) == ("request", last["body"])
        assert request["request_id"] != last["request_id"]
        last = request
        rig.held.give_up()  # from then on the other side knows of it, and is told when the key comes
    assert rig.requests.patience() is None
    await answer(rig, alice)
    assert rig.decryption.decrypt(event)["content"]["body"] == "hello"


async def test_a_key_that_no_event_needs_any_more_is_not_asked_for_again() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    await waiting(rig, alice)
    rig.now += ASK_AFTER_MS
    await rig.requests.work()
    assert len(asked(rig, alice)) == 1
    rig.database.run("DELETE FROM undecrypted")
    assert rig.requests.patience() is None
    rig.now += AGAIN_MS[0]
    await rig.requests.work()
    assert asked(rig, alice) == []


async def test_an_event_that_names_no_device_makes_all_of_its_senders_asked() -> None:
    rig = Rig()
    await rig.bot()
    alice, tablet = await rig.client(), await rig.client(device="TABLET")
    await waiting(rig, alice, sender_key=7)
    rig.now += ASK_AFTER_MS
    await rig.requests.work()
    assert len(asked(rig, alice)) == len(asked(rig, tablet)) == 1


async def test_who_has_no_device_is_not_asked() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    event = await waiting(rig, alice)
    rig.database.run("UPDATE undecrypted SET event = json_set(event, '$.sender', ?)", BOB)
    rig.now += ASK_AFTER_MS
    rig.homeserver.requests.clear()
    await rig.requests.work()
    assert not any("sendToDevice" in request for request in rig.homeserver.requests)
    with pytest.raises(MissingKey):
        rig.decryption.decrypt(event)


async def test_a_forwarded_key_that_nobody_asked_for_or_of_another_device_is_refused() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    tablet = await rig.client(device="TABLET")
    with pytest.raises(UnknownDevice):
        await answer(rig, alice)
    event = await waiting(rig, alice)
    rig.now += ASK_AFTER_MS
    await rig.requests.work()
    # Alice's tablet says that the session is its own, or that it has it from her phone; or the key is named
    # wrongly.
    with pytest.raises(UnknownDevice):
        await answer(rig, tablet)
    tablet.keys[ROOM, tablet.session(ROOM).session_id] = alice.keys[ROOM, alice.session(ROOM).session_id]
    for forged in ({"sender_key": alice.curve25519}, {}):
        with pytest.raises(UnknownDevice):
            await answer(rig, tablet, **forged)
    with pytest.raises(ForgedSender):
        await answer(rig, alice, sender_claimed_ed25519_key=tablet.ed25519)
    with pytest.raises(MissingKey):
        rig.decryption.decrypt(event)


async def test_another_user_cannot_answer_for_the_one_who_was_asked() -> None:
    rig = Rig(members=[ALICE, BOB])
    await rig.bot()
    alice, bob = await rig.client(), await rig.client(user=BOB)
    event = await waiting(rig, alice)
    rig.now += ASK_AFTER_MS
    await rig.requests.work()
    session_id = alice.session(ROOM).session_id
    key = alice.forwarded_key(ROOM, session_id)
    forged = {**key, "sender_key": bob.curve25519, "sender_claimed_ed25519_key": bob.ed25519}
    sealed = await bob.olm(rig.bot_keys, "m.forwarded_room_key", forged)
    with pytest.raises(UnknownDevice):
        await rig.letters.handle(rig.letter(sealed, BOB))
    with pytest.raises(MissingKey):
        rig.decryption.decrypt(event)


async def test_a_key_that_will_not_come_is_not_asked_for() -> None:
    rig = Rig()
    await rig.bot()
    alice, bob = await rig.client(), await rig.client(user=BOB)
    await waiting(rig, alice)
    notice = {"room_id": ROOM, "session_id": alice.session(ROOM).session_id}
    # Nobody else can say so.
    await rig.letters.handle(rig.letter(notice, BOB, "m.room_key.withheld"))
    assert rig.requests.patience() is not None
    await rig.letters.handle(rig.letter(notice, ALICE, "m.room_key.withheld"))
    rig.now += PATIENCE_MS
    await rig.requests.work()
    assert asked(rig, alice) == asked(rig, bob) == []
    with pytest.raises(UnknownDevice):
        await answer(rig, alice)


async def test_requests_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_REQUESTS", 2)
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    for number in range(4):
        alice.outbound.clear()
        await waiting(rig, alice, f"${number}")
    rig.now += ASK_AFTER_MS
    await rig.requests.work()
    assert len(rig.database.all("SELECT * FROM key_requests")) == 2
