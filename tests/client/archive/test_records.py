"""Sealing records: bound to their place, and nothing opens elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cbor2
import pytest

from linearized.client import UntrustedAnswer
from linearized.client.archive.records import ArchiveKey, Content, Introduction, Place
from linearized.exceptions import InvalidInput
from linearized.mimi.pseudonyms import PseudonymousCredential

NAME = "9b2f0a4e-36c5-4d1e-8f57-0123456789ab"
KEY = ArchiveKey(bytes(32))
PLACE = Place(
    user_id="@bob:a.example",
    room_id="!club:a.example",
    archive=bytes(16),
    number=1,
    seq=7,
    event_id="$event",
    digest=bytes(32),
    tag=bytes(16),
    expires_ts=None,
)
CONTENT = Content(
    timestamp=5,
    client_uri="mimi://a.example/d/alice/DEV",
    epoch=3,
    payload=b"payload",
    frank=b"frank",
)


def test_the_introduction_of_a_pseudonym_is_its_own() -> None:
    client, user = (f"mimi://a.example/{path}" for path in (f"d/{NAME}/{NAME}", f"u/{NAME}"))
    credential = PseudonymousCredential(
        client_pseudonym=client,
        user_pseudonym=user,
        signature_public_key=b"key",
        identity_link_ciphertext=b"link",
    )
    introduction = Introduction(credential=credential.encode(), key=b"")
    named = replace(CONTENT, client_uri=client, introduction=introduction)
    assert KEY.open(PLACE, KEY.seal(PLACE, named, random=bytes)) == named
    assert (named.sender_uri, CONTENT.sender_uri) == (user, "mimi://a.example/u/alice")
    for wrong in (
        replace(named, client_uri="mimi://a.example/d/alice/DEV"),
        replace(named, introduction=replace(introduction, credential=b"none")),
        replace(named, introduction=None),
    ):
        with pytest.raises(InvalidInput):
            _ = wrong.sender_uri
    for more in ([b"credential"], [b"credential", "key"], [b"credential", b"key", b"more"]):
        with pytest.raises(UntrustedAnswer):
            Content.decode(cbor2.dumps([*cbor2.loads(CONTENT.encode()), *more]))


def test_what_was_sealed_opens_in_its_place() -> None:
    assert KEY.open(PLACE, KEY.seal(PLACE, CONTENT, random=bytes)) == CONTENT
    gap = Content(timestamp=5, reason="too old")
    assert KEY.open(PLACE, KEY.seal(PLACE, gap, random=bytes)) == gap
    KEY.check_stub(PLACE, KEY.stub(PLACE))


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": "@carol:a.example"},
        {"room_id": "!other:a.example"},
        {"archive": bytes(15) + b"\x01"},
        {"number": 2},
        {"seq": 8},
        {"event_id": "$other"},
        {"digest": bytes(31) + b"\x01"},
        {"tag": bytes(15) + b"\x01"},
        {"expires_ts": 0},
    ],
)
def test_nothing_opens_in_another_place(change: dict[str, Any]) -> None:
    elsewhere = replace(PLACE, **change)
    with pytest.raises(UntrustedAnswer):
        KEY.open(elsewhere, KEY.seal(PLACE, CONTENT, random=bytes))
    with pytest.raises(UntrustedAnswer):
        KEY.check_stub(elsewhere, KEY.stub(PLACE))


def test_nothing_opens_with_another_key_or_changed() -> None:
    sealed = KEY.seal(PLACE, CONTENT, random=bytes)
    other = ArchiveKey(bytes(31) + b"\x01")
    with pytest.raises(UntrustedAnswer):
        other.open(PLACE, sealed)
    for at in range(len(sealed)):
        with pytest.raises(UntrustedAnswer):
            KEY.open(PLACE, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])
        with pytest.raises(UntrustedAnswer):
            KEY.open(PLACE, sealed[:at])
    with pytest.raises(UntrustedAnswer):
        other.check_release(b"tag", KEY.release(b"tag"))
    KEY.check_release(b"tag", KEY.release(b"tag"))
    with pytest.raises(ValueError, match="32 bytes"):
        ArchiveKey(bytes(31))


def test_a_tag_is_of_one_message_by_one_sender() -> None:
    assert len({KEY.tag(name, sender_uri=sender) for name in (b"1", b"2") for sender in ("a", "b")}) == 4
    assert KEY.tag(b"1", sender_uri="a") == KEY.tag(b"1", sender_uri="a")


@pytest.mark.parametrize(
    "inside",
    [b"", b"\xff", cbor2.dumps(7), cbor2.dumps([1, 2]), cbor2.dumps(["now", "", 0, b"", None, None])],
)
def test_what_is_no_record_is_refused(inside: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Content, "encode", lambda _: inside)
    with pytest.raises(UntrustedAnswer, match="something else"):
        KEY.open(PLACE, KEY.seal(PLACE, CONTENT, random=bytes))
