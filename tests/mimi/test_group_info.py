"""Requests for GroupInfo and their answers."""

from __future__ import annotations

from dataclasses import replace

import openmls
import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.group_info import (
    ExternalSender,
    GroupInfoCode,
    GroupInfoRatchetTreeTBE,
    GroupInfoRequest,
    GroupInfoRequestTBS,
    GroupInfoResponse,
    GroupInfoResponseTBS,
    HPKECiphertext,
    PendingProposal,
    app_data_of,
    cipher_suite_of,
)
from linearized.mimi.handshake import RatchetTreeOption
from linearized.mimi.tls import UnknownValue
from tests.mimi.support import BASIC, GROUP_INFO, PROPOSAL, RATCHET_TREE, vec

ROOM = "mimi://a.example/r/clubhouse"
REQUEST = GroupInfoRequest(
    cipher_suite=1,
    signature_key=b"key",
    credential=BASIC,
    group_info_public_key=b"hpke",
    signature=b"sig",
)
RESPONSE = GroupInfoResponse(
    room_id=ROOM,
    status=GroupInfoCode.SUCCESS,
    cipher_suite=1,
    hub_sender=ExternalSender(signature_key=b"key", credential=BASIC),
    encrypted_groupinfo_and_tree=HPKECiphertext(kem_output=b"kem", ciphertext=b"text"),
    signature=b"sig",
)
RESPONSE_FIELDS = b"\x01" + vec(ROOM.encode()) + b"\x01\x00\x01\x03key" + BASIC + b"\x03kem\x04text"


@pytest.mark.parametrize(("code", "wire"), [(None, b"\x00"), (b"", b"\x01\x00"), (b"code", b"\x01\x04code")])
def test_a_request_may_have_a_joining_code(code: bytes | None, wire: bytes) -> None:
    request = replace(REQUEST, joining_code=code)
    fields = b"\x01\x00\x01\x03key" + BASIC + b"\x04hpke" + wire
    assert request.encode() == fields + b"\x03sig"
    assert GroupInfoRequest.decode(request.encode()) == request
    assert request.tbs() == fields == GroupInfoRequestTBS.decode(fields).encode()


def test_a_successful_answer_is_signed_by_the_hub() -> None:
    assert RESPONSE.encode() == RESPONSE_FIELDS + b"\x03sig"
    assert GroupInfoResponse.decode(RESPONSE.encode()) == RESPONSE
    assert RESPONSE.tbs() == RESPONSE_FIELDS == GroupInfoResponseTBS.decode(RESPONSE_FIELDS).encode()


@pytest.mark.parametrize(
    "status", [GroupInfoCode.NOT_AUTHORIZED, GroupInfoCode.NO_SUCH_ROOM, UnknownValue(77)]
)
def test_any_other_answer_ends_with_its_status(status: GroupInfoCode | UnknownValue) -> None:
    response = GroupInfoResponse(room_id=ROOM, status=status)
    assert response.encode() == b"\x01" + vec(ROOM.encode()) + bytes([status])
    assert GroupInfoResponse.decode(response.encode()) == response
    with pytest.raises(ValueError, match="only a successful response"):
        response.tbs()


def test_the_reserved_status_is_refused() -> None:
    with pytest.raises(MimiDecodeError, match="0 is not a GroupInfoCode"):
        GroupInfoResponse.decode(b"\x01\x00\x00")


def test_what_is_encrypted_is_all_an_external_commit_needs() -> None:
    value = GroupInfoRatchetTreeTBE(
        group_info=GROUP_INFO,
        ratchet_tree=RatchetTreeOption.full(RATCHET_TREE),
        pending_proposals=(PendingProposal(proposal=PROPOSAL, hub_accepted_time=5),),
    )
    assert value.encode() == GROUP_INFO + b"\x01" + RATCHET_TREE + vec(PROPOSAL + b"\x00" * 7 + b"\x05")
    assert GroupInfoRatchetTreeTBE.decode(value.encode()) == value


def test_the_application_data_of_a_group_is_in_its_group_info() -> None:
    client = openmls.Client.create(identity=b"bob")
    info, _ = client.create_group(group_id=b"g", app_data={1: b"one", 2: b""}).group_info()
    assert app_data_of(info) == openmls.group_info_details(info).app_data == {1: b"one", 2: b""}
    bare, _ = client.create_group(group_id=b"h").group_info()
    assert app_data_of(bare) == {}
    assert cipher_suite_of(info) == openmls.CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519
    assert app_data_of(GROUP_INFO) == {}  # without extensions
    with pytest.raises(MimiDecodeError):
        app_data_of(info[:-1][:40])
