"""Rooms as their users reach them: what each of our roles takes, and what a hub's odd answers become."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from linearized.mimi.group_info import GroupInfoRequest
from linearized.mimi.handshake import UpdateResponseCode, UpdateRoomResponse
from linearized.mimi.messages import SubmitMessageResponse, SubmitResponseCode
from linearized.protocol.base64 import encode_base64
from linearized.protocol.identifiers import group_id
from linearized.room.admission import ALGORITHM
from linearized.room.submissions import LocalEvent, Reason, Rejected
from linearized.server.providers.client import ProviderError
from linearized.store.base import Reply, Role, RoomAppend, RoomRow
from tests.mimi.support import BASIC
from tests.room.support import ALICE, BOB, Member, handshake
from tests.server.support import Network, Server, running_server

ROOM = "!clubhouse:b.example"


@dataclass
class Following:
    """a.example with a room of the MIMI hub b.example, whose answers the test gives."""

    server: Server
    alice: Member

    async def send(self, **content: Any) -> str:
        event = LocalEvent(sender=ALICE, type="m.room.encrypted", content={"algorithm": ALGORITHM, **content})
        return await self.server.node.rooms.send(
            ROOM, event, reply=Reply(scope="txn", key="1", value="sent {event_id}")
        )

    def ciphertext(self) -> str:
        return encode_base64(self.alice.joined().encrypt(b"hello"))


@asynccontextmanager
async def following(
    directory: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> AsyncIterator[Following]:
    async with running_server("a.example", directory, Network()) as server:
        row = RoomRow(
            room_id=ROOM, version="I.1", role=Role.FOLLOWER, hub="b.example", head_seq=0, epoch=None
        )
        await server.node.store.append(RoomAppend(room_id=ROOM, room=row))
        alice = Member(ALICE)
        alice.create(name=group_id(ROOM))
        alice.accept()

        async def exchange(provider: str, endpoint: str, target: str, body: bytes) -> bytes:
            assert provider == "b.example"
            return answer

        monkeypatch.setattr(server.node.providers, "exchange", exchange, raising=False)
        yield Following(server, alice)


def accepted(timestamp: int = 5) -> bytes:
    return SubmitMessageResponse(code=SubmitResponseCode.ACCEPTED, accepted_timestamp=timestamp).encode()


async def test_a_message_to_a_mimi_hub_has_the_id_its_echo_will_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(tmp_path, monkeypatch, accepted()) as f:
        event_id = await f.send(ciphertext=f.ciphertext())
        assert event_id.startswith("$")
        assert f.server.node.store.reply("txn", "1") == f"sent {event_id}"


@pytest.mark.parametrize(
    ("answer", "code", "epoch"),
    [
        (SubmitMessageResponse(code=SubmitResponseCode.NOT_ALLOWED), Reason.FORBIDDEN, None),
        (
            SubmitMessageResponse(code=SubmitResponseCode.EPOCH_TOO_OLD, current_epoch=7),
            Reason.WRONG_EPOCH,
            7,
        ),
    ],
)
async def test_what_a_mimi_hub_refuses_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: SubmitMessageResponse,
    code: Reason,
    epoch: int | None,
) -> None:
    async with following(tmp_path, monkeypatch, answer.encode()) as f:
        with pytest.raises(Rejected) as refused:
            await f.send(ciphertext=f.ciphertext())
        assert (refused.value.code, refused.value.current_epoch) == (code, epoch)
        assert f.server.node.store.reply("txn", "1") is None


@pytest.mark.parametrize("garbage", [b"", b"\0", accepted() + b"\0", b"<html>"])
async def test_what_a_mimi_hub_mumbles_is_its_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, garbage: bytes
) -> None:
    async with following(tmp_path, monkeypatch, garbage) as f:
        with pytest.raises(ProviderError):
            await f.send(ciphertext=f.ciphertext())


async def test_only_ciphertexts_can_be_sent_to_a_mimi_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(tmp_path, monkeypatch, accepted()) as f:
        plain = LocalEvent(sender=ALICE, type="m.room.message", content={"body": "hello"})
        with pytest.raises(Rejected):
            await f.server.node.rooms.send(ROOM, plain)
        commit = encode_base64(f.alice.joined().commit().commit)
        for content in ({}, {"ciphertext": 5}, {"ciphertext": commit}):
            with pytest.raises(Rejected):
                await f.send(**content)


async def test_bytes_that_are_no_bundle_are_malformed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(tmp_path, monkeypatch, b"") as f:
        with pytest.raises(Rejected) as refused:
            await f.server.node.rooms.update(ROOM, bundle=b"?", user_id=ALICE, initial_group=None)
        assert refused.value.code is Reason.MALFORMED


async def test_an_external_commit_in_another_users_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = UpdateRoomResponse(code=UpdateResponseCode.SUCCESS, accepted_timestamp=1).encode()
    async with following(tmp_path, monkeypatch, response) as f:
        info, tree = f.alice.joined().group_info()
        bob = Member(BOB)
        _, made = bob.client.join_external(group_info=info, ratchet_tree=tree)
        bundle = handshake(bob, made).bundle.encode()
        with pytest.raises(Rejected) as refused:
            await f.server.node.rooms.update(ROOM, bundle=bundle, user_id=ALICE, initial_group=None)
        assert refused.value.code is Reason.FORBIDDEN
        passed, _ = await f.server.node.rooms.update(ROOM, bundle=bundle, user_id=BOB, initial_group=None)
        assert passed == response


async def test_a_room_nobody_told_us_of_is_unknown_to_every_call(tmp_path: Path) -> None:
    async with running_server("a.example", tmp_path, Network()) as server:
        rooms = server.node.rooms
        event = LocalEvent(sender=ALICE, type="m.room.message", content={})
        request = GroupInfoRequest(
            cipher_suite=1,
            signature_key=b"key",
            credential=BASIC,
            group_info_public_key=b"hpke",
            signature=b"sig",
        )
        assert rooms.row(ROOM) is None
        for call in (
            lambda: rooms.send(ROOM, event),
            lambda: rooms.invite(ROOM, sender=ALICE, target=BOB),
            lambda: rooms.update(ROOM, bundle=b"", user_id=ALICE, initial_group=None),
            lambda: rooms.key_material(ROOM, request=b""),
            lambda: rooms.group_info(ROOM, request=request.encode()),
            lambda: rooms.receive_pdu(ROOM, {}, "b.example"),
            lambda: rooms.submit(ROOM, event),
        ):
            with pytest.raises(Rejected) as refused:
                await call()
            assert refused.value.code is Reason.UNKNOWN_ROOM
