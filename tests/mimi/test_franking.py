"""Franks: made by the hub, checked by receivers, recognised in abuse reports."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import nacl.exceptions
import nacl.signing
import pytest

from linearized.exceptions import MimiDecodeError, SignatureError
from linearized.mimi.abuse import AbuseReport, AbusiveMessage
from linearized.mimi.app_data import SafeAAD, SafeAADItem
from linearized.mimi.content import ROOM_URI, SENDER_URI, sender_extensions, text
from linearized.mimi.franking import (
    Claims,
    FrankAAD,
    FrankingAgentData,
    ServerFrankingContext,
    agent_uri,
    franking_components,
    franking_tag,
    is_franked,
    make_frank,
    tag_in,
    verify_frank,
    verify_franking_tag,
    verify_server_frank,
)
from linearized.mimi.key_material import basic_credential
from tests.mimi.support import BASIC, X509, vec

SALT = bytes(range(16))
ALICE, ROOM = "mimi://a.example/u/alice", "mimi://a.example/r/clubhouse"
MESSAGE = text("hi", salt=SALT, extensions=sender_extensions(sender_uri=ALICE, room_uri=ROOM)).encode()
TAG = franking_tag(salt=SALT, application_data=MESSAGE)
CONTEXT = ServerFrankingContext(sender_uri=ALICE, room_uri=ROOM, accepted_timestamp=5)
HUB_KEY = b"k" * 32
SIGNING_KEY = nacl.signing.SigningKey(b"s" * 32)


def signed(label: str, content: bytes) -> bytes:
    """``SignContent`` of RFC 9420, Section 5.1.2."""
    return vec(b"MLS 1.0 " + label.encode()) + vec(content)


def sign(*, label: str, content: bytes) -> bytes:
    return SIGNING_KEY.sign(signed(label, content)).signature


def verify(*, label: str, content: bytes, signature: bytes) -> None:
    try:
        SIGNING_KEY.verify_key.verify(signed(label, content), signature)
    except nacl.exceptions.BadSignatureError as error:
        raise SignatureError("wrong") from error


FRANK = make_frank(hub_key=HUB_KEY, tag=TAG, context=CONTEXT, cipher_suite=1, sign=sign)


def test_the_tag_commits_to_the_message() -> None:
    assert hmac.new(SALT, MESSAGE, hashlib.sha256).digest() == TAG
    verify_franking_tag(TAG, salt=SALT, application_data=MESSAGE)
    for salt, data in ((bytes(16), MESSAGE), (SALT, MESSAGE + b"!")):
        with pytest.raises(SignatureError, match="not for this message"):
            verify_franking_tag(TAG, salt=salt, application_data=data)


def test_the_hub_recognises_its_own_stamp() -> None:
    context = b"\x18" + ALICE.encode() + b"\x1c" + ROOM.encode() + b"\x00" * 7 + b"\x05"
    assert CONTEXT.encode() == context
    assert FRANK.server_frank == hmac.new(HUB_KEY, TAG + context, hashlib.sha256).digest()
    verify_server_frank(FRANK.server_frank, hub_key=HUB_KEY, tag=TAG, context=CONTEXT)
    with pytest.raises(SignatureError, match="not this hub's"):
        verify_server_frank(
            FRANK.server_frank, hub_key=HUB_KEY, tag=TAG, context=replace(CONTEXT, accepted_timestamp=6)
        )


def test_the_hub_signs_its_stamp_and_the_context() -> None:
    tbs = FRANK.server_frank + b"\x00\x01" + CONTEXT.encode()
    verify(label="FrankingIntegrityTBS", content=tbs, signature=FRANK.franking_integrity_signature)


def test_a_receiver_checks_sender_room_and_time() -> None:
    verify_frank(FRANK, context=CONTEXT, cipher_suite=1, verify=verify)
    for changed in (
        replace(CONTEXT, sender_uri="mimi://a.example/u/mallory"),
        replace(CONTEXT, room_uri="mimi://a.example/r/other"),
        replace(CONTEXT, accepted_timestamp=6),
    ):
        with pytest.raises(SignatureError, match="wrong"):
            verify_frank(FRANK, context=changed, cipher_suite=1, verify=verify)
    with pytest.raises(SignatureError, match="wrong"):
        verify_frank(replace(FRANK, server_frank=bytes(32)), context=CONTEXT, cipher_suite=1, verify=verify)
    with pytest.raises(SignatureError, match="another cipher suite"):
        verify_frank(FRANK, context=CONTEXT, cipher_suite=2, verify=verify)


def test_components_carry_tag_and_agent() -> None:
    assert FrankAAD(franking_tag=TAG).encode() == TAG
    agent = FrankingAgentData(franking_signature_key=b"key", credential=BASIC)
    assert agent.encode() == b"\x03key" + BASIC


def test_a_report_brings_the_message_and_its_frank() -> None:
    report = AbuseReport(
        alleged_abuser_uri=ALICE,
        note="spam",
        messages=(AbusiveMessage(message_content=MESSAGE, frank=FRANK, accepted_timestamp=5),),
    )
    assert report.encode().startswith(b"\x00\x18" + ALICE.encode() + b"\x00\x04spam\x40")
    assert AbuseReport.decode(report.encode()) == report


def test_a_groups_components_frame_the_authenticated_data_and_name_the_hubs_key() -> None:
    agent = FrankingAgentData(franking_signature_key=b"key", credential=BASIC).encode()
    components = franking_components(agent)
    assert components == {0x0002: b"\0", 0x0021: agent}
    assert is_franked(components, agent)
    assert not is_franked(components, b"another")
    assert not is_franked(components, None)
    assert not is_franked({}, agent)


def test_the_tag_is_read_from_a_messages_authenticated_data() -> None:
    item = SafeAADItem(component_id=0x0020, aad_item_data=FrankAAD(franking_tag=TAG).encode())
    assert tag_in(SafeAAD(aad_items=(item,)).encode()) == TAG
    assert tag_in(SafeAAD().encode()) is None


@pytest.mark.parametrize("data", [b"", b"\x02\x00", vec(b"\x00\x20" + vec(TAG[:31])), vec(b"") + b"\0"])
def test_authenticated_data_of_another_shape_is_refused(data: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        tag_in(data)


def test_the_claims_of_a_message_are_its_salt_sender_and_room() -> None:
    assert Claims.of(MESSAGE) == Claims(salt=SALT, sender_uri=ALICE, room_uri=ROOM)


@pytest.mark.parametrize("missing", [SENDER_URI, ROOM_URI])
def test_a_message_that_does_not_name_its_sender_and_room_makes_no_claims(missing: int) -> None:
    extensions = sender_extensions(sender_uri=ALICE, room_uri=ROOM)
    del extensions[missing]
    with pytest.raises(MimiDecodeError):
        Claims.of(text("hi", salt=SALT, extensions=extensions).encode())
    with pytest.raises(MimiDecodeError):
        Claims.of(b"no content")


def test_an_agent_is_called_by_the_uri_in_its_credential() -> None:
    def agent(credential: bytes) -> bytes:
        return FrankingAgentData(franking_signature_key=b"key", credential=credential).encode()

    assert agent_uri(agent(basic_credential(b"mimi://a.example"))) == "mimi://a.example"
    for unreadable in (b"", agent(X509), agent(basic_credential(b"\xff"))):
        with pytest.raises(MimiDecodeError):
            agent_uri(unreadable)
