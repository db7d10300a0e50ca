"""Franking between real servers and clients: stamped by the hub, passed on, checked at the end."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import orjson
import pytest

from linearized.client import ApiError, DecryptedMessage, FrankError, Undecryptable
from linearized.client.franks import safe_aad
from linearized.client.own_groups import joining
from linearized.exceptions import SignatureError
from linearized.mimi.app_data import CONTENT_MEDIA_TYPES
from linearized.mimi.content import text
from linearized.mimi.franking import (
    Claims,
    FrankingAgentData,
    ServerFrankingContext,
    franking_components,
    franking_tag,
    verify_server_frank,
)
from linearized.mimi.media_types import MIMI_CONTENT, ApplicationFraming, MediaTypeList
from linearized.mimi.messages import Frank
from linearized.mimi.participants import FRANKING_AGENT
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import canonical_json
from linearized.protocol.identifiers import room_uri
from linearized.room.admission import ALGORITHM
from linearized.server import taking
from linearized.server.franking import FRANK, with_frank
from linearized.store.base import EntryRow
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import encrypted_room, received, say, shared_room, signed_in


@pytest.fixture
async def network() -> Network:
    return Network()


def last_message(server: Server, room_id: str) -> EntryRow:
    entries = server.node.store.entries_before(room_id, before=1 << 31, limit=5)
    return next(entry for entry in entries if entry.type == "m.room.encrypted")


def check_stamp(hub: Server, room_id: str, message: DecryptedMessage) -> None:
    """The stamp is the hub's, for this content, sender and time."""
    assert message.frank is not None
    claims = Claims.of(message.payload)
    context = ServerFrankingContext(
        sender_uri=message.sender_uri, room_uri=room_uri(room_id), accepted_timestamp=message.timestamp
    )
    verify_server_frank(
        Frank.decode(message.frank).server_frank,
        hub_key=hub.node.franking.keys.hub_key,
        tag=franking_tag(salt=claims.salt, application_data=message.payload),
        context=context,
    )


async def test_messages_of_both_providers_are_stamped_by_the_hub_and_verified_by_the_receivers(
    network: Network, tmp_path: Path
) -> None:
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        room_id = await shared_room(alice, bob)
        for sender, receiver in ((alice, bob), (bob, alice)):
            await say(sender, room_id, "Hello")
            (message,) = await received(receiver, DecryptedMessage)
            assert isinstance(message, DecryptedMessage)
            check_stamp(a, room_id, message)
            with pytest.raises(SignatureError):
                check_stamp(b, room_id, message)


async def test_in_a_group_that_names_media_types_messages_are_framed_franked_and_reported(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def components(agent: bytes) -> dict[int, bytes]:
        types = MediaTypeList(media_type_list=(MIMI_CONTENT,)).encode()
        return {**franking_components(agent), CONTENT_MEDIA_TYPES: types}

    # As a client of another implementation may create its group.
    monkeypatch.setattr(joining, "franking_components", components)
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        room_id = await shared_room(alice, bob)
        for member in alice.device.group(room_id).members():
            assert CONTENT_MEDIA_TYPES in member.app_data
        for sender, receiver in ((alice, bob), (bob, alice)):
            await say(sender, room_id, "Hello")
            (message,) = await received(receiver, DecryptedMessage)
            assert isinstance(message, DecryptedMessage)
            # "the `application_data` includes the `media_type` in the `ApplicationFraming` struct"
            assert ApplicationFraming.decode(message.payload).media_type == MIMI_CONTENT
            check_stamp(a, room_id, message)
        assert isinstance(message, DecryptedMessage)
        await alice.report(message)
        (_,) = a.node.store.reports(closed=False, limit=5)
        # A message that is not framed is not believed.
        tagged = safe_aad(message.content.encode())
        group = alice.device.group(room_id)
        sealed = group.encrypt(message.content.encode(), safe_aad=tagged)
        body = {"algorithm": ALGORITHM, "ciphertext": encode_base64(sealed), "commit_event_id": ""}
        await alice.api.send_event(room_id, "m.room.encrypted", body, txn_id="bare")
        (refused,) = await received(bob, Undecryptable)
        assert isinstance(refused, Undecryptable)
        assert "framed" in refused.reason


async def test_a_stamp_survives_a_restart_of_the_hub(network: Network, tmp_path: Path) -> None:
    async with running_server("a.example", tmp_path, network) as a:
        async with signed_in(a, await a.user("alice")) as alice:
            room_id = await encrypted_room(alice)
            await say(alice, room_id, "Hello")
        before = a.node.franking.of_entry(last_message(a, room_id))
        assert before is not None
    async with running_server("a.example", tmp_path, network) as a:
        assert a.node.franking.of_entry(last_message(a, room_id)) == before


@pytest.mark.parametrize("part", ["server_frank", "timestamp"])
async def test_a_follower_that_changes_what_the_hub_stamped_is_found_out(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def forged(pdu: bytes, frank: Frank | None) -> bytes:
        event = orjson.loads(honest(pdu, frank))
        if frank is not None and part == "server_frank":
            event["unsigned"][FRANK] = event["unsigned"][FRANK].replace("A", "B", 1)
        return canonical_json(event)

    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        room_id = await shared_room(alice, bob)
        honest = with_frank
        monkeypatch.setattr(taking, "with_frank", forged)
        if part == "timestamp":
            entry_of = taking.entry_of

            def later(room: str, hub: str, *, timestamp: int, **rest: Any) -> tuple[str, str, bytes]:
                return entry_of(room, hub, timestamp=timestamp + 1, **rest)

            monkeypatch.setattr(taking, "entry_of", later)

            def row(*, origin_server_ts: int, **values: Any) -> EntryRow:
                return EntryRow(origin_server_ts=origin_server_ts + 1, **values)

            monkeypatch.setattr(taking, "EntryRow", row)
        await say(alice, room_id, "Hello")
        (item,) = await received(bob, Undecryptable)
        assert isinstance(item, Undecryptable)
        assert item.frank_fault in {"signature", "frank"}


async def test_the_hub_refuses_what_cannot_be_franked_in_a_franked_room(
    network: Network, tmp_path: Path
) -> None:
    async with (
        running_server("a.example", tmp_path, network) as a,
        signed_in(a, await a.user("alice")) as alice,
    ):
        room_id = await encrypted_room(alice)
        group = alice.device.group(room_id)
        assert FrankingAgentData.decode(group.app_data()[FRANKING_AGENT])
        body = {
            "algorithm": ALGORITHM,
            "ciphertext": encode_base64(group.encrypt(b"no tag")),
            "commit_event_id": alice.device.record(room_id).commit_event_id,
        }
        with pytest.raises(ApiError) as raised:
            await alice.api.send_event(room_id, "m.room.encrypted", body)
        assert raised.value.errcode == "M_FORBIDDEN"


async def test_a_room_whose_creator_wants_no_franking_has_none(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):

        async def none() -> dict[int, bytes]:
            return {}

        monkeypatch.setattr(alice.api, "franking_agents", none)
        room_id = await shared_room(alice, bob)
        await say(alice, room_id, "Hello")
        (message,) = await received(bob, DecryptedMessage)
        assert isinstance(message, DecryptedMessage)
        assert message.frank is None
        assert message.content.sender_uri is None
        assert a.node.franking.of_entry(last_message(a, room_id)) is None


async def test_a_client_takes_no_franking_agent_of_another_provider(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
    ):

        async def foreign() -> dict[int, bytes]:
            return dict(b.node.franking.agents)

        monkeypatch.setattr(alice.api, "franking_agents", foreign)
        with pytest.raises(FrankError):
            await encrypted_room(alice)


async def test_only_messages_of_rooms_we_order_are_stamped_by_us(network: Network, tmp_path: Path) -> None:
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        room_id = await shared_room(alice, bob)
        await bob.send(room_id, text("Hi", salt=secrets.token_bytes(16)))
        await received(alice, DecryptedMessage)
        await bob.catch_up()
        ours, theirs = last_message(a, room_id), last_message(b, room_id)
        assert a.node.franking.of_entry(ours) is not None
        assert b.node.franking.of_entry(theirs) is None
        commit = next(e for e in a.node.store.entries(room_id, after=0, limit=50) if e.type == "m.mls.commit")
        assert a.node.franking.of_entry(commit) is None
