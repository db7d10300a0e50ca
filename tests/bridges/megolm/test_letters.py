from __future__ import annotations

from typing import Any

import pytest
import vodozemac

from bridges.matrix.megolm.errors import (
    EncryptionError,
    ForgedSender,
    MalformedKeyMessage,
    MissingKey,
    NotForUs,
    TooLarge,
    Undecryptable,
    UnknownAlgorithm,
    UnknownDevice,
)
from bridges.matrix.megolm.letters import PAUSE_MS
from bridges.matrix.megolm.olm import MAX_CIPHERTEXT
from tests.bridges.encrypting_client import EncryptingClient, JsonObject
from tests.bridges.megolm.rig import ROOM, Rig
from tests.bridges.megolm.support import client_of
from tests.bridges.support import ALICE, BOB, BOT
from tests.client.test_kills import Killed


async def test_a_key_of_a_device_that_its_sender_does_not_have_is_refused() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    sealed = await alice.olm(rig.bot_keys, "m.room_key", alice.room_key(ROOM))
    with pytest.raises(UnknownDevice):
        await rig.letters.handle(rig.letter(sealed, BOB))
    with pytest.raises(MissingKey):
        rig.decryption.decrypt(rig.event(alice))


async def test_a_key_of_a_stranger_whose_device_nobody_published_is_refused() -> None:
    rig = Rig()
    await rig.bot()
    stranger = client_of(rig.homeserver, ALICE, "STRANGER")
    with pytest.raises(UnknownDevice):
        await rig.give_key(stranger)
    # Each such message must not make us ask again.
    rig.homeserver.requests.clear()
    for _ in range(5):
        with pytest.raises(UnknownDevice):
            await rig.give_key(stranger)
    assert not any("keys/query" in request for request in rig.homeserver.requests)


async def test_a_key_is_not_lost_by_a_kill_between_its_decryption_and_its_keeping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(*_: Any) -> None:
        raise Killed

    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    letter = rig.letter(await alice.olm(rig.bot_keys, "m.room_key", alice.room_key(ROOM)))
    with monkeypatch.context() as patch:
        patch.setattr(rig.held, "key_came", killed)
        with pytest.raises(Killed):
            await rig.letters.handle(letter)
    await rig.letters.handle(letter)
    assert rig.decryption.decrypt(rig.event(alice))["sender"] == ALICE


async def test_a_new_device_the_homeserver_did_not_tell_of_is_asked_for() -> None:
    rig = Rig()
    await rig.bot()
    await rig.give_key(await rig.client())
    tablet = await rig.client(device="TABLET")
    await rig.give_key(tablet)
    assert rig.decryption.decrypt(rig.event(tablet))["sender"] == ALICE


@pytest.mark.parametrize(
    ("forged", "error"),
    [
        ({"sender": BOB}, ForgedSender),
        ({"keys": {"ed25519": "A" * 43}}, ForgedSender),
        ({"keys": None}, ForgedSender),
        ({"recipient": BOB}, NotForUs),
        ({"recipient_keys": {"ed25519": "A" * 43}}, NotForUs),
        ({"recipient_keys": []}, NotForUs),
        ({"content": "text"}, MalformedKeyMessage),
        ({"type": 7}, MalformedKeyMessage),
    ],
)
async def test_a_message_that_says_something_else_inside_is_refused_and_changes_nothing(
    forged: dict[str, Any], error: type[EncryptionError]
) -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    before = rig.database.one("SELECT account FROM crypto_accounts")["account"]
    with pytest.raises(error):
        await rig.give_key(alice, **forged)
    assert rig.database.one("SELECT account FROM crypto_accounts")["account"] == before
    assert rig.database.first("SELECT 1 FROM olm_sessions") is None
    assert rig.database.first("SELECT 1 FROM megolm_inbound") is None


def part(content: JsonObject, rig: Rig) -> JsonObject:
    found: JsonObject = content["ciphertext"][rig.bot_keys["keys"][f"curve25519:{rig.bot_keys['device_id']}"]]
    return found


async def test_what_is_no_message_for_this_device_is_refused() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()

    async def refused(error: type[EncryptionError], **change: Any) -> None:
        sealed = await alice.olm(rig.bot_keys, "m.room_key", alice.room_key(ROOM))
        top = {name: value for name, value in change.items() if name in ("algorithm", "sender_key")}
        part(sealed, rig).update({name: value for name, value in change.items() if name not in top})
        with pytest.raises(error):
            await rig.letters.handle(rig.letter({**sealed, **top}))

    await refused(UnknownAlgorithm, algorithm="m.olm.v9")
    await refused(MalformedKeyMessage, sender_key=5)
    await refused(MalformedKeyMessage, type="0")
    await refused(MalformedKeyMessage, type=True)
    await refused(MalformedKeyMessage, type=-1)
    await refused(MalformedKeyMessage, type=2**70)
    await refused(MalformedKeyMessage, body="?")
    await refused(TooLarge, body="A" * (MAX_CIPHERTEXT + 1))
    with pytest.raises(NotForUs):
        await rig.letters.handle(
            rig.letter({**await alice.olm(rig.bot_keys, "m.dummy", {}), "ciphertext": {}})
        )


async def test_a_message_for_a_device_that_is_not_ours_is_nothing() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    sealed = await alice.olm(rig.bot_keys, "m.room_key", alice.room_key(ROOM))
    letter = rig.letter(sealed)
    for place in ({"to_user": BOB}, {"to_device": "OTHER"}):
        await rig.letters.handle(type(letter)(**{**vars_of(letter), **place}))
    assert rig.database.first("SELECT 1 FROM megolm_inbound") is None


def vars_of(letter: Any) -> dict[str, Any]:
    return {name: getattr(letter, name) for name in letter.__slots__}


async def test_a_session_that_broke_is_mended_once_an_hour() -> None:
    rig = Rig()
    await rig.bot()
    alice = await rig.client()
    await rig.give_key(alice)
    for dummies in (1, 1):
        sealed = await alice.olm(rig.bot_keys, "m.room_key", alice.room_key(ROOM))
        part(sealed, rig).update(type=1, body="AwogAAAA")
        with pytest.raises((Undecryptable, MalformedKeyMessage)):
            await rig.letters.handle(rig.letter(sealed))
        garbled = await alice.olm(rig.bot_keys, "m.room_key", alice.room_key(ROOM))
        flip(part(garbled, rig))
        with pytest.raises(Undecryptable):
            await rig.letters.handle(rig.letter(garbled))
        rig.received(alice)
        assert alice.dummies == dummies
    rig.now += PAUSE_MS
    garbled = await alice.olm(rig.bot_keys, "m.room_key", alice.room_key(ROOM))
    flip(part(garbled, rig))
    with pytest.raises(Undecryptable):
        await rig.letters.handle(rig.letter(garbled))
    rig.received(alice)
    assert alice.dummies == 2
    # What comes with the new session is read.
    alice.outbound.clear()
    await rig.give_key(alice)
    assert rig.decryption.decrypt(rig.event(alice))["sender"] == ALICE


def flip(ciphertext: JsonObject) -> None:
    """Change the end of a message, which authenticates it."""
    body = ciphertext["body"]
    ciphertext["body"] = body[:-6] + ("AAAAAA" if body[-6:] != "AAAAAA" else "BBBBBA")


# --- keys that are forwarded or asked for ---


async def forwarded_key(rig: Rig) -> tuple[EncryptingClient, JsonObject]:
    """Alice, and the key of her session as somebody else would forward it."""
    own = await rig.bot()
    alice = await rig.client()
    await rig.publishing.refresh([ALICE], own)
    session = alice.session(ROOM)
    exported = alice.keys[ROOM, session.session_id].export_at(0)
    assert exported is not None
    return alice, {
        **alice.room_key(ROOM),
        "session_key": exported.to_base64(),
        "sender_key": alice.curve25519,
        "sender_claimed_ed25519_key": alice.ed25519,
        "forwarding_curve25519_key_chain": [],
    }


async def forward(rig: Rig, other: EncryptingClient, key: JsonObject) -> None:
    sealed = await other.olm(rig.bot_keys, "m.forwarded_room_key", key)
    await rig.letters.handle(rig.letter(sealed, other.user_id))


async def second_device(rig: Rig) -> EncryptingClient:
    """Another device of the bot's user, signed by the identity that we made."""
    own = await rig.bot()
    other = client_of(rig.homeserver, BOT, "OTHER")
    key = own.self_signing.ed25519_key.to_base64()
    rig.homeserver.keys.devices[BOT, "OTHER"] = other.sign(other.device_keys(), own.self_signing, key)
    return other


@pytest.mark.parametrize("by", [BOB, ALICE, BOT])
async def test_a_key_forwarded_by_others_or_by_a_device_we_have_not_signed_is_refused(by: str) -> None:
    rig = Rig()
    _, key = await forwarded_key(rig)
    # The identity that comes with it is one the homeserver, or whoever made the device, made up.
    other = await rig.client(by, "OTHER")
    with pytest.raises(UnknownDevice, match="not ours, or that we have not signed"):
        await forward(rig, other, key)
    assert rig.database.first("SELECT 1 FROM megolm_inbound") is None


async def test_a_key_forwarded_by_a_device_we_have_signed_is_used() -> None:
    rig = Rig()
    alice, key = await forwarded_key(rig)
    await forward(rig, await second_device(rig), key)
    assert rig.decryption.decrypt(rig.event(alice))["sender"] == ALICE


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"sender_key": "unknown"}, UnknownDevice),
        ({"sender_claimed_ed25519_key": "A" * 43}, ForgedSender),
        ({"session_key": "none"}, MalformedKeyMessage),
        ({"algorithm": "m.megolm.v9"}, UnknownAlgorithm),
    ],
)
async def test_a_forwarded_key_that_is_wrong_is_refused(
    change: dict[str, Any], error: type[EncryptionError]
) -> None:
    rig = Rig()
    _, key = await forwarded_key(rig)
    with pytest.raises(error):
        await forward(rig, await second_device(rig), {**key, **change})


def request(session_id: str, device: str, **change: Any) -> JsonObject:
    body = {"algorithm": "m.megolm.v1.aes-sha2", "room_id": ROOM, "session_id": session_id}
    content = {"action": "request", "body": body, "request_id": "r1", "requesting_device_id": device}
    return {**content, **change}


async def asks(rig: Rig, client: EncryptingClient, content: JsonObject) -> list[JsonObject]:
    """What a client was forwarded for its request."""
    await rig.letters.handle(rig.letter(content, client.user_id, "m.room_key_request"))
    client.forwarded.clear()
    rig.received(client)
    return list(client.forwarded)


async def test_a_verified_device_that_had_a_key_gets_it_again_from_where_it_had_it_and_once() -> None:
    rig = Rig()
    await rig.bot()
    await rig.client(BOB)
    rig.members = [BOB]
    await rig.seal()
    alice = await rig.client()
    rig.members = [BOB, ALICE]
    session_id = (await rig.seal())["session_id"]
    rig.received(alice)
    (key,) = await asks(rig, alice, request(session_id, "PHONE"))
    given = vodozemac.InboundGroupSession.import_session(vodozemac.ExportedSessionKey(key["session_key"]))
    # Alice was given the key when one message had been said.
    assert (given.session_id, given.first_known_index) == (session_id, 1)
    assert await asks(rig, alice, request(session_id, "PHONE")) == []
    assert await asks(rig, alice, request(session_id, "PHONE", action="request_cancellation")) == []


async def test_a_key_is_not_given_to_who_never_had_it_is_unverified_or_unknown() -> None:
    rig = Rig()
    await rig.bot()
    bob = await rig.client(BOB, verified=False)
    rig.members = [BOB]
    session_id = (await rig.seal())["session_id"]
    alice = await rig.client()
    with pytest.raises(UnknownDevice, match="never had it"):
        await asks(rig, alice, request(session_id, "PHONE"))
    with pytest.raises(UnknownDevice, match="has not verified"):
        await asks(rig, bob, request(session_id, "PHONE"))
    with pytest.raises(UnknownDevice, match="does not have"):
        await asks(rig, bob, request(session_id, "TABLET"))
    with pytest.raises(MalformedKeyMessage):
        await asks(rig, alice, request(session_id, "PHONE", body={"room_id": ROOM}))
    with pytest.raises(MalformedKeyMessage):
        await asks(rig, alice, request(session_id, "PHONE", body=None))
    # Of a session that is not ours, whoever owns it is to be asked.
    await rig.give_key(alice)
    assert await asks(rig, alice, request(alice.session(ROOM).session_id, "PHONE")) == []
