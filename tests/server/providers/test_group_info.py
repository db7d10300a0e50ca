"""Joining codes shown to a participant: of a room that has moved it says where, and only of such a room."""

from __future__ import annotations

from pathlib import Path

import openmls

from linearized.mimi.group_info import (
    GroupInfoCode,
    GroupInfoRequest,
    GroupInfoRequestTBS,
    GroupInfoResponse,
)
from linearized.server.providers import group_info
from tests.server.linearized_pair import hub_pair


def request(code: bytes) -> bytes:
    """What Eva of e.example sends, who has a joining code."""
    client = openmls.Client.create(identity=b"mimi://e.example/d/eva/PHONE")
    signed = GroupInfoRequestTBS(
        cipher_suite=1,
        signature_key=client.signature_key,
        credential=client.credential,
        group_info_public_key=openmls.HpkeKeyPair.generate().public_key,
        joining_code=code,
    )
    return GroupInfoRequest(
        cipher_suite=1,
        signature_key=signed.signature_key,
        credential=signed.credential,
        group_info_public_key=signed.group_info_public_key,
        joining_code=code,
        signature=client.sign_with_label(label="GroupInfoRequestTBS", content=signed.encode()),
    ).encode()


async def test_in_a_version_without_transfers_an_event_called_hub_moves_nothing(tmp_path: Path) -> None:
    async with hub_pair(tmp_path, version="I.1") as pair:
        await pair.join()
        await pair.arrived(await pair.state("m.room.hub", "", {"after": "$x"}))
        answer = await group_info.answer(pair.b.node, pair.room_id, request(b"a code"), domains={"e.example"})
        assert GroupInfoResponse.decode(answer).status is GroupInfoCode.NOT_AUTHORIZED
