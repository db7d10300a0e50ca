"""What a device does with a sync answer that is wrong in some way: the room goes on, and nothing false is
believed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from linearized.client import (
    ALGORITHM,
    DecryptedMessage,
    GroupLost,
    MembershipChanged,
    MlsDevice,
    NotInGroup,
    RoomEvent,
    Session,
    Undecryptable,
)
from linearized.client.following import WELCOME_ALGORITHM
from linearized.client.identity import leaf_owner
from linearized.client.storage import MemoryStorage
from linearized.exceptions import IdentifierError
from linearized.mimi.content import MAX_EXPIRY_MS, Expiration, sender_extensions, text
from linearized.mimi.key_material import basic_credential
from linearized.mimi.tls import encode_vector
from linearized.protocol.base64 import encode_base64
from tests.client.fake_provider import FakeProvider, Room
from tests.client.support import ALICE, BOB, ROOM, connected, drain, message


@asynccontextmanager
async def two(provider: FakeProvider) -> AsyncIterator[tuple[Room, Session, Session]]:
    room = provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await bob.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.groups.invite(ROOM, [BOB])
        await drain(bob)
        yield room, alice, bob


def ciphertext(session: Session, payload: bytes) -> dict[str, Any]:
    sealed = session.device.group(ROOM).encrypt(payload)
    return {"algorithm": ALGORITHM, "ciphertext": encode_base64(sealed), "commit_event_id": ""}


async def test_a_message_is_not_believed_to_be_from_anyone_but_its_mls_sender() -> None:
    provider = FakeProvider()
    async with two(provider) as (room, alice, bob):
        provider.append(room, "@eve:a.example", "m.room.encrypted", ciphertext(alice, message("x").encode()))
        provider.append(
            room, "@_mimi:b.example", "m.room.encrypted", ciphertext(alice, message("y").encode())
        )
        refused, shown = await drain(bob)
        assert isinstance(refused, Undecryptable)
        assert "@eve:a.example" in refused.reason
        assert isinstance(shown, DecryptedMessage)
        assert shown.sender_uri == "mimi://a.example/u/alice"


@pytest.mark.parametrize(
    "payload",
    [
        b"not CBOR",
        text(
            "x",
            salt=b"s" * 16,
            extensions=sender_extensions(sender_uri="mimi://a.example/u/eve", room_uri=""),
        ).encode(),
        text(
            "x",
            salt=b"s" * 16,
            extensions=sender_extensions(
                sender_uri="mimi://a.example/u/alice", room_uri="mimi://a.example/r/x"
            ),
        ).encode(),
    ],
)
async def test_content_that_is_malformed_or_claims_another_sender_or_room_is_refused(payload: bytes) -> None:
    provider = FakeProvider()
    async with two(provider) as (room, alice, bob):
        provider.append(room, ALICE, "m.room.encrypted", ciphertext(alice, payload))
        await alice.send(ROOM, message("good"))
        refused, shown = await drain(bob)
        assert isinstance(refused, Undecryptable)
        assert not refused.expected
        assert isinstance(shown, DecryptedMessage)


async def test_a_message_that_ends_more_than_a_year_away_is_refused_and_cannot_be_sent() -> None:
    provider = FakeProvider()
    async with two(provider) as (room, alice, bob):
        for seconds in (MAX_EXPIRY_MS // 1000, MAX_EXPIRY_MS // 1000 + 1):
            content = replace(message("x"), expires=Expiration(relative=True, time=seconds))
            provider.append(room, ALICE, "m.room.encrypted", ciphertext(alice, content.encode()))
        shown, refused = await drain(bob)
        assert isinstance(shown, DecryptedMessage)
        assert isinstance(refused, Undecryptable)
        assert "more than a year" in refused.reason
        with pytest.raises(ValueError, match="more than a year"):
            await alice.send(ROOM, content)
        assert not alice.device.state.outbox


async def test_a_commit_that_does_not_verify_loses_the_group_and_rejoining_finds_it_again() -> None:
    provider = FakeProvider()
    async with two(provider) as (room, alice, bob):
        bundle = alice.device.group(ROOM).commit()
        broken = bundle.commit[:-1] + bytes([bundle.commit[-1] ^ 1])
        alice.device.group(ROOM).clear_pending_commit()
        provider.append(room, ALICE, "m.mls.commit", {"message": encode_base64(broken)})
        items = await drain(bob)
        assert [item.removed for item in items if isinstance(item, GroupLost)] == [False]
        await drain(alice)
        await alice.send(ROOM, message("hello again"))
        assert [item for item in await drain(bob) if isinstance(item, DecryptedMessage)]


async def test_false_welcomes_and_other_to_device_messages_change_nothing() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice:
        contents: list[dict[str, Any]] = [
            {"algorithm": WELCOME_ALGORITHM, "room_id": ROOM, "ciphertext": "AAAA"},
            {"algorithm": WELCOME_ALGORITHM, "room_id": ROOM, "ciphertext": "*"},
            {"algorithm": WELCOME_ALGORITHM, "room_id": 5},
            {"algorithm": "m.olm.v1"},
        ]
        for content in contents:
            provider.position += 1
            event = {"type": "m.room.encrypted", "content": content}
            address = alice.device.owner.client_uri
            provider.to_device.setdefault(address, []).append((provider.position, event))
        items = await drain(alice)
        assert [type(item) for item in items if isinstance(item, GroupLost)] == [GroupLost]
        assert not alice.device.in_group(ROOM)


@pytest.mark.parametrize("tree", [None, "", "of another epoch"])
async def test_who_cannot_use_a_welcome_for_want_of_its_tree_comes_in_by_itself(tree: str | None) -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await bob.upload_key_packages()
        await alice.groups.create(ROOM)
        if tree:
            tree = encode_base64(alice.device.group(ROOM).group_info()[1])
        await alice.groups.invite(ROOM, [BOB])
        ((_, event),) = provider.to_device[bob.device.owner.client_uri]
        event["content"] |= {"ratchet_tree": tree}
        items = await drain(bob)
        assert [item.removed for item in items if isinstance(item, GroupLost)] == [False]
        await drain(alice)
        await alice.send(ROOM, message("welcome"))
        assert [item for item in await drain(bob) if isinstance(item, DecryptedMessage)]
        assert not bob.device.record(ROOM).lost


async def test_a_welcome_that_leads_nowhere_is_forgotten_and_not_asked_about_for_ever() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await bob.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.groups.invite(ROOM, [BOB])
        ((_, event),) = provider.to_device[bob.device.owner.client_uri]
        event["content"] |= {"ratchet_tree": None, "room_id": "!nowhere:a.example"}
        await drain(bob)
        assert not bob.device.record("!nowhere:a.example").lost
        asked = [request for request in provider.requests if request.endswith("group_info")]
        assert len(asked) == 1
        await drain(bob)
        assert [request for request in provider.requests if request.endswith("group_info")] == asked


async def test_a_welcome_for_another_room_than_the_server_says_is_refused() -> None:
    provider = FakeProvider()
    provider.room(ROOM, ALICE)
    async with connected(provider, ALICE) as alice, connected(provider, BOB) as bob:
        await bob.upload_key_packages()
        await alice.groups.create(ROOM)
        await alice.groups.invite(ROOM, [BOB])
        for _, event in provider.to_device[bob.device.owner.client_uri]:
            event["content"]["room_id"] = "!other:a.example"
        items = await drain(bob)
        assert "another room" in next(item.reason for item in items if isinstance(item, GroupLost))
        assert bob.device.client.group_ids() == ()


async def test_plain_events_and_members_are_told_as_they_are() -> None:
    provider = FakeProvider()
    async with two(provider) as (room, _, bob):
        provider.append(room, ALICE, "m.room.topic", {"topic": "t"}, state_key="")
        provider.append(room, ALICE, "m.room.member", {"membership": "leave"}, state_key="@carol:a.example")
        provider.append(room, ALICE, "m.room.encrypted", {"algorithm": "m.megolm.v1.aes-sha2"})
        topic, member, other = await drain(bob)
        assert isinstance(topic, RoomEvent)
        assert topic.event["content"] == {"topic": "t"}
        assert isinstance(member, MembershipChanged)
        assert (member.user_id, member.membership) == ("@carol:a.example", "leave")
        assert isinstance(other, RoomEvent)
        assert bob.device.record(ROOM).gone == ["@carol:a.example"]


async def test_outside_a_group_there_is_nothing_to_do_in_it() -> None:
    device = MlsDevice.open(MemoryStorage(), user_id=ALICE, device_id="DEV")
    for act in (device.epoch, device.members, device.participants):
        with pytest.raises(NotInGroup):
            act(ROOM)
    assert device.state_epoch(ROOM) is None


def test_both_kinds_of_credential_name_a_client() -> None:
    uri = b"mimi://a.example/d/alice/DEV"
    structure = b"".join(encode_vector(part) for part in (b"@alice:a.example", b"DEV", b"key"))
    for identity in (uri, structure):
        owner = leaf_owner(basic_credential(identity))
        assert (owner.user_id, owner.device_id) == (ALICE, "DEV")
        assert owner.user_uri == "mimi://a.example/u/alice"
    for nobody in (b"", b"alice", b"mimi://a.example/u/alice", b"mimi://\xff", structure + b"x"):
        with pytest.raises(IdentifierError):
            leaf_owner(basic_credential(nobody))


async def test_items_that_nobody_wants_are_not_kept_and_what_they_change_is() -> None:
    provider = FakeProvider()
    async with two(provider) as (room, alice, bob):
        choosy = Session(bob.api, bob.device, wanted=lambda item: not isinstance(item, RoomEvent))
        topic = {"topic": "x"}
        provider.append(room, ALICE, "m.room.topic", topic, state_key="")
        await alice.send(ROOM, message("kept"))
        provider.append(room, ALICE, "m.room.topic", topic, state_key="")
        before = bob.device.state.since
        (kept,) = await drain(choosy)
        assert isinstance(kept, DecryptedMessage)
        assert bob.device.state.since != before
        assert not await drain(bob)
