"""MIMI content, against the examples of the draft and its rules one by one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import cbor2
import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi import _cbor, content
from linearized.mimi.content import (
    MARKDOWN,
    MAX_EXPIRY_MS,
    MAX_PARTS,
    MAX_TOPIC_ID_BYTES,
    PLAIN,
    Disposition,
    Expiration,
    ExternalPart,
    MimiContent,
    MultiPart,
    NullPart,
    Part,
    PartSemantics,
    SinglePart,
    message_id,
)
from linearized.mimi.tls import UnknownValue
from tests.mimi.support import VECTORS

SALT = bytes(range(16))
MESSAGE_ID = b"\x01" + bytes(31)
MESSAGE_IDS: dict[str, str] = json.loads((VECTORS / "mimi-content" / "message-ids.json").read_text())[
    "message_ids"
]


def example(name: str) -> bytes:
    return (VECTORS / "mimi-content" / f"{name}.cbor").read_bytes()


def items(**changes: Any) -> bytes:
    """A good message as CBOR items, some of them changed."""
    fields: dict[str, Any] = {
        "salt": SALT,
        "replaces": None,
        "topic_id": b"",
        "expires": None,
        "in_reply_to": None,
        "extensions": {},
        "part": (1, "", 0),
    }
    return _cbor.dumps(tuple((fields | changes).values()))


@pytest.mark.parametrize("name", sorted(MESSAGE_IDS))
def test_the_drafts_examples_round_trip_and_have_the_message_ids_it_gives(name: str) -> None:
    message = MimiContent.decode(example(name))
    assert message.encode() == example(name)
    assert message.sender_uri is not None
    assert message.room_uri is not None
    found = message_id(message, sender_uri=message.sender_uri, room_uri=message.room_uri)
    assert found.hex() == MESSAGE_IDS[name]


def extensions_of(name: str) -> dict[int | str, Any]:
    user = {"cathy": "cathy-washington", "bob": "bob-jones", "alice": "alice-smith"}[name]
    return content.sender_extensions(
        sender_uri=f"mimi://example.com/u/{user}", room_uri="mimi://example.com/r/engineering_team"
    )


def test_the_builders_make_the_drafts_examples() -> None:
    original, first_reply = (bytes.fromhex(MESSAGE_IDS[name]) for name in ("original", "reply"))
    built = {
        "original": content.text(
            "Hi everyone, we just shipped release 2.0. __Good  work__!",
            salt=bytes.fromhex("5eed9406c2545547ab6f09f20a18b003"),
            markdown=True,
            extensions=extensions_of("alice"),
        ),
        "reply": content.reply(
            original,
            "Right on! _Congratulations_ 'all!",
            salt=bytes.fromhex("11a458c73b8dd2cf404db4b378b8fe4d"),
            markdown=True,
            extensions=extensions_of("bob"),
        ),
        "edit": content.edit(
            first_reply,
            "Right on! _Congratulations_ y'all!",
            salt=bytes.fromhex("b8c2e6d8800ecf45df39be6c45f4c042"),
            markdown=True,
            extensions=extensions_of("bob"),
            in_reply_to=original,
        ),
        "reaction": content.reaction(
            original,
            "\u2764",
            salt=bytes.fromhex("d37bc0e6a8b4f04e9e6382375f587bf6"),
            extensions=extensions_of("cathy"),
        ),
        "attachment": content.attachment(
            ExternalPart(
                language="en",
                content_type="video/mp4",
                url="https://example.com/storage/8ksB4bSrrRE.mp4",
                size=708234961,
                enc_alg=content.AES_128_GCM,
                key=bytes.fromhex("21399320958a6f4c745dde670d95e0d8"),
                nonce=bytes.fromhex("c86cf2c33f21527d1dd76f5b"),
                content_hash=bytes.fromhex(
                    "9ab17a8cf0890baaae7ee016c7312fcc080ba46498389458ee44f0276e783163"
                ),
                description="2 hours of key signing video",
                filename="bigfile.mp4",
            ),
            salt=bytes.fromhex("18fac6371e4e53f1aeaf8a013155c166"),
            extensions=extensions_of("bob"),
        ),
    }
    for name, message in built.items():
        assert message.encode() == example(name), name


def test_a_multipart_message_is_read_part_by_part() -> None:
    body = MimiContent.decode(example("multipart-1")).part
    assert isinstance(body, MultiPart)
    assert body.semantics is PartSemantics.CHOOSE_ONE
    first, second = body.parts
    assert isinstance(first, SinglePart)
    assert (first.content_type, first.text) == (MARKDOWN, "# Welcome!")
    assert isinstance(second, SinglePart)
    with pytest.raises(MimiDecodeError, match="not UTF-8"):
        _ = second.text


def test_deleting_replaces_a_message_with_nothing() -> None:
    message = content.delete(MESSAGE_ID, salt=SALT)
    assert message == MimiContent(salt=SALT, replaces=MESSAGE_ID, part=NullPart())
    assert message.encode() == items(replaces=MESSAGE_ID)
    assert (message.sender_uri, message.room_uri) == (None, None)


def test_plain_text_is_the_default() -> None:
    part = content.text("hi", salt=SALT).part
    assert part == SinglePart(content_type=PLAIN, content=b"hi")


def test_a_captioned_attachment_has_two_parts() -> None:
    file = ExternalPart(content_type="image/png", url="https://a.example/f")
    body = content.attachment(file, salt=SALT, caption="look").part
    assert body == MultiPart(
        semantics=PartSemantics.PROCESS_ALL, parts=(SinglePart(content_type=PLAIN, content=b"look"), file)
    )


@pytest.mark.parametrize(
    "expires", [Expiration(relative=True, time=60), Expiration(relative=False, time=2**32 - 1)]
)
def test_a_message_may_expire(expires: Expiration) -> None:
    message = replace(content.text("hi", salt=SALT), expires=expires, topic_id=b"topic")
    assert MimiContent.decode(message.encode()) == message


def test_the_bounds_are_the_drafts_and_what_lies_within_is_taken() -> None:
    assert (MAX_PARTS, MAX_TOPIC_ID_BYTES, content.MAX_PART_DEPTH) == (1024, 4096, 4)
    message = replace(content.text("hi", salt=SALT), topic_id=bytes(MAX_TOPIC_ID_BYTES))
    assert MimiContent.decode(message.encode()) == message


@pytest.mark.parametrize(
    ("relative", "seconds"),
    [(True, MAX_EXPIRY_MS // 1000), (False, 2 * MAX_EXPIRY_MS // 1000), (False, 0)],
)
def test_a_message_ends_within_a_year_of_when_it_was_accepted(relative: bool, seconds: int) -> None:
    def ends(time: int) -> MimiContent:
        return replace(content.text("hi", salt=SALT), expires=Expiration(relative=relative, time=time))

    content.check_expiry(ends(seconds), accepted_ms=MAX_EXPIRY_MS)
    content.check_expiry(content.text("hi", salt=SALT), accepted_ms=MAX_EXPIRY_MS)
    later = 1000 if seconds == 0 else 0
    with pytest.raises(MimiDecodeError, match="more than a year"):
        content.check_expiry(ends(seconds + (0 if later else 1)), accepted_ms=MAX_EXPIRY_MS + later)


def test_extensions_may_hold_any_cbor() -> None:
    extensions: dict[int | str, Any] = {
        3: (b"\x01", {"nested": (None, True, 1.5)}),
        -1: cbor2.CBORTag(32, "http://example.com"),
        "private": cbor2.undefined,
        "ü" * 127: 0,
    }
    message = replace(content.text("hi", salt=SALT), extensions=extensions)
    assert MimiContent.decode(message.encode()) == message


def test_a_disposition_from_the_future_is_kept() -> None:
    message = MimiContent.decode(items(part=(200, "", 0)))
    assert message.part.disposition == UnknownValue(200)
    assert message.encode() == items(part=(200, "", 0))


def nest(levels: int) -> Part:
    part: Part = NullPart()
    for _ in range(levels - 1):
        part = MultiPart(semantics=PartSemantics.PROCESS_ALL, parts=(part, NullPart()))
    return part


def test_parts_nest_four_levels_and_not_five() -> None:
    message = MimiContent(salt=SALT, part=nest(4))
    assert MimiContent.decode(message.encode()) == message
    with pytest.raises(ValueError, match="nest"):
        replace(message, part=nest(5)).encode()


def test_parts_are_counted_over_all_levels() -> None:
    half = MultiPart(semantics=PartSemantics.SINGLE_UNIT, parts=(NullPart(),) * (MAX_PARTS // 2 - 1))
    message = MimiContent(
        salt=SALT, part=MultiPart(semantics=PartSemantics.SINGLE_UNIT, parts=(half, *half.parts))
    )
    assert MimiContent.decode(message.encode()) == message
    more = MultiPart(semantics=PartSemantics.SINGLE_UNIT, parts=(half, *half.parts, NullPart()))
    with pytest.raises(ValueError, match=f"more than {MAX_PARTS}"):
        replace(message, part=more).encode()


EXTERNAL = (6, "", 2, "video/mp4", "https://a.example/f", 0, 0, 0, b"", b"", b"", 1, b"", "", "")


def external(index: int, value: object) -> tuple[object, ...]:
    return (*EXTERNAL[:index], value, *EXTERNAL[index + 1 :])


@pytest.mark.parametrize(
    "changes",
    [
        {"salt": bytes(15)},
        {"salt": "0123456789abcdef"},
        {"replaces": bytes(31)},
        {"replaces": b""},
        {"replaces": b"\x02" + bytes(31)},  # the draft's "unknown hash algorithm"
        {"in_reply_to": 1},
        {"in_reply_to": bytes(32)},
        {"topic_id": None},
        {"topic_id": bytes(MAX_TOPIC_ID_BYTES + 1)},
        {"expires": 5},
        {"expires": (True,)},
        {"expires": (1, 5)},
        {"expires": (True, -1)},
        {"expires": (True, 2**32)},
        {"expires": (True, True)},
        {"expires": (True, 5, 5)},
        {"extensions": None},
        {"extensions": {1: b"mimi://a.example/u/alice"}},
        {"extensions": {2: None}},
        {"extensions": {b"key": 1}},
        {"extensions": {"": 1}},
        {"extensions": {"x" * 256: 1}},
        {"extensions": {3: ((((),),),)}},
        {"extensions": {3: {1: {1: {1: cbor2.CBORTag(32, "")}}}}},
        {"part": None},
        {"part": ()},
        {"part": (1, "")},
        {"part": (256, "", 0)},
        {"part": (-1, "", 0)},
        {"part": (True, "", 0)},
        {"part": (1, b"", 0)},
        {"part": (1, "", 4)},
        {"part": (1, "", 0, "")},
        {"part": (1, "", 1, "text/plain")},
        {"part": (1, "", 1, "text/plain", "text")},
        {"part": (1, "", 3, 0, ())},
        {"part": (1, "", 3, 0, ((1, "", 0),))},
        {"part": (1, "", 3, 0, b"ab")},
        {"part": (1, "", 3, 3, ((1, "", 0), (1, "", 0)))},
        {"part": external(3, b"video/mp4")},
        {"part": external(5, 2**32)},
        {"part": external(6, -1)},
        {"part": external(7, 2**16)},
        {"part": external(8, None)},
        {"part": external(11, 256)},
        {"part": EXTERNAL[:-1]},
        {"more": None},
    ],
)
def test_what_the_schema_does_not_allow_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MimiDecodeError):
        MimiContent.decode(items(**changes))


def test_a_message_is_an_array_of_seven() -> None:
    for data in (_cbor.dumps({}), _cbor.dumps((SALT,)), b"", items()[:-1], items() + b"\x00"):
        with pytest.raises(MimiDecodeError):
            MimiContent.decode(data)


def test_four_levels_of_extension_are_allowed() -> None:
    # The draft's own example of four levels.
    nested = {256: ((b"\x124", cbor2.CBORTag(32, "http://example.com")), (b"4V", 5771))}
    assert MimiContent.decode(items(extensions=nested)).extensions == nested


def test_a_message_out_of_bounds_cannot_be_written() -> None:
    good = content.text("hi", salt=SALT)
    for bad in (
        replace(good, salt=b"short"),
        replace(good, replaces=b"short"),
        replace(good, extensions={1: 5}),
        replace(good, extensions={3: object()}),
    ):
        with pytest.raises(ValueError, match=r"."):
            bad.encode()


def test_a_message_id_needs_uris_that_fit_their_length() -> None:
    message = content.text("hi", salt=SALT)
    assert len(message_id(message, sender_uri="m" * 65535, room_uri="")) == 32
    for uri in ("m" * 65536, "mimi://ü"):
        with pytest.raises(ValueError, match=r"too long|ascii"):
            message_id(message, sender_uri="", room_uri=uri)


def test_reactions_have_their_disposition() -> None:
    assert content.reaction(MESSAGE_ID, "x", salt=SALT).part.disposition is Disposition.REACTION
