"""Each kind of Matrix event as MIMI content, from bodies a real homeserver sent."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.matrix.attachments import media_of
from bridges.matrix.content import (
    HTML,
    MESSAGE_TYPE,
    REPLACES_EVENT,
    REPLY_TO_EVENT,
    Known,
    NotBridged,
    ToMimi,
    without_fallback,
)
from bridges.matrix.names import Names
from linearized.mimi.content import (
    MARKDOWN,
    Disposition,
    ExternalPart,
    MimiContent,
    MultiPart,
    NullPart,
    Part,
    SinglePart,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "synapse-appservice"
NAMES = Names(domain="hs.test", prefix="_mimi_")
ALICE = "mimi://hs.test/u/alice"
ROOM = "mimi://a.example/r/cap"
ID = bytes([1]) + b"i" * 31
ROOT = bytes([1]) + b"t" * 31


def pushed(kind: str, index: int = 0) -> dict[str, Any]:
    """The first event of a captured transaction."""
    vector = json.loads((VECTORS / f"{kind}.json").read_text())
    event: dict[str, Any] = vector["requests"][index]["body"]["events"][0]
    return event


class Known1:
    """A lookup that knows every Matrix event, as ``known`` has it."""

    def __init__(self, message_id: bytes | None = ID, in_reply_to: bytes | None = None) -> None:
        self._message_id = message_id
        self._in_reply_to = in_reply_to

    def by_matrix(self, event_id: str) -> Known | None:
        return Known(
            matrix_event_id=event_id,
            log_event_id="$log",
            message_id=self._message_id,
            sender="@alice:hs.test",
            in_reply_to=self._in_reply_to,
        )

    def by_message(self, message_id: bytes) -> Known | None:
        return None

    def by_log(self, event_id: str) -> Known | None:
        return None


class Nothing(Known1):
    """A lookup that knows no event."""

    def by_matrix(self, event_id: str) -> Known | None:
        return None


def convert(event: dict[str, Any], lookup: Known1 | None = None, part: Part | None = None) -> MimiContent:
    mapping = ToMimi(names=NAMES, lookup=lookup or Known1(), sender_uri=ALICE, room_uri=ROOM, salt=b"s" * 16)
    content = mapping.convert(event, part)
    assert MimiContent.decode(content.encode()) == content
    assert (content.sender_uri, content.room_uri) == (ALICE, ROOM)
    return content


def test_a_plain_message_is_plain_text() -> None:
    part = convert({"type": "m.room.message", "content": {"msgtype": "m.text", "body": "hello"}}).part
    assert part == SinglePart(content_type="text/plain;charset=utf-8", content=b"hello")


def test_a_formatted_message_of_a_real_client_keeps_its_format() -> None:
    part = convert(pushed("message")).part
    assert isinstance(part, MultiPart)
    assert [getattr(one, "text", "") for one in part.parts] == ["**hello** bridge", "<b>hello</b> bridge"]


def formatted(html: str, **content: Any) -> dict[str, Any]:
    body = {"msgtype": "m.text", "body": "plain", "format": "org.matrix.custom.html", "formatted_body": html}
    return {"type": "m.room.message", "content": {**body, **content}}


def test_a_formatted_message_offers_markdown_and_safe_html() -> None:
    part = convert(formatted("<b>big</b> <script>evil()</script><i>news</i>")).part
    assert isinstance(part, MultiPart)
    markdown, html = part.parts
    assert isinstance(markdown, SinglePart)
    assert isinstance(html, SinglePart)
    assert (markdown.content_type, markdown.text) == (MARKDOWN, "**big** _news_")
    assert (html.content_type, html.text) == (HTML, "<b>big</b> <i>news</i>")


def test_a_mention_links_to_the_users_uri() -> None:
    html = '<a href="https://matrix.to/#/@_mimi_b.example_bob:hs.test">Bob</a>'
    part = convert(formatted(html)).part
    assert isinstance(part, MultiPart)
    assert [getattr(one, "text", "") for one in part.parts] == [
        "[Bob](<mimi://b.example/u/bob>)",
        '<a href="mimi://b.example/u/bob">Bob</a>',
    ]


@pytest.mark.parametrize("kind", ["m.notice", "m.emote"])
def test_notices_and_emotes_keep_their_kind(kind: str) -> None:
    content = convert({"type": "m.room.message", "content": {"msgtype": kind, "body": "x"}})
    assert content.extensions[MESSAGE_TYPE] == kind


def test_a_reply_names_the_message_it_answers() -> None:
    content = convert(pushed("reply"))
    assert content.in_reply_to == ID
    assert isinstance(content.part, SinglePart)
    assert content.part.text == "a reply"


def test_a_reply_to_imported_history_names_the_entry_in_the_log() -> None:
    content = convert(pushed("reply"), Known1(message_id=None))
    assert content.in_reply_to is None
    assert content.extensions[REPLY_TO_EVENT] == "$log"


def test_a_reply_to_something_unknown_is_a_message() -> None:
    content = convert(pushed("reply"), Nothing())
    assert content.in_reply_to is None
    assert REPLY_TO_EVENT not in content.extensions


def test_a_message_in_a_thread_has_its_root_as_topic_and_no_reply() -> None:
    content = convert(pushed("thread"))
    assert content.topic_id == ID
    assert content.in_reply_to is None


def test_an_edit_replaces_the_first_version_with_the_new_content() -> None:
    content = convert(pushed("edit"), Known1(in_reply_to=ROOT))
    assert content.replaces == ID
    assert content.in_reply_to == ROOT
    assert isinstance(content.part, SinglePart)
    assert content.part.text == "edited"


def test_an_edit_of_imported_history_names_the_entry_in_the_log() -> None:
    content = convert(pushed("edit"), Known1(message_id=None))
    assert content.replaces is None
    assert content.extensions[REPLACES_EVENT] == "$log"


def test_a_reaction_is_one_to_the_message() -> None:
    event = pushed("reaction")
    content = convert(event)
    assert content.in_reply_to == ID
    assert content.part.disposition == Disposition.REACTION
    assert isinstance(content.part, SinglePart)
    assert content.part.text == event["content"]["m.relates_to"]["key"]


@pytest.mark.parametrize("kind", ["redaction", "redaction_of_reaction"])
def test_a_redaction_deletes_the_message_or_the_reaction(kind: str) -> None:
    content = convert(pushed(kind))
    assert content.replaces == ID
    assert isinstance(content.part, NullPart)


def test_a_picture_is_the_part_that_was_uploaded_and_keeps_its_size() -> None:
    event = pushed("media_message")
    media = media_of(event["content"])
    assert media is not None
    assert (media.url, media.content_type, media.filename, media.inline) == (
        "mxc://hs.test/jexgmvXtPevrGVdtYhUtYAcU",
        "image/png",
        "a.png",
        True,
    )
    part = ExternalPart(content_type="image/png", url="https://a.example/x", filename="a.png")
    content = convert(event, part=part)
    assert content.part == part
    assert content.extensions["dev.linearized.info"] == {"w": 1, "h": 1}


@pytest.mark.parametrize(
    ("event", "lookup"),
    [
        (pushed("reaction"), Nothing()),
        (pushed("redaction"), Nothing()),
        ({"type": "m.room.message", "content": {}}, Known1()),
        ({"type": "m.room.message"}, Known1()),
        ({"type": "m.reaction", "content": {"m.relates_to": "no object"}}, Known1()),
        ({"type": "m.call.candidates", "content": {"call_id": "x"}}, Known1()),
        ({"type": 7, "content": {"body": "x"}}, Known1()),
    ],
)
def test_what_has_no_form_on_the_other_side_says_so(event: dict[str, Any], lookup: Known1) -> None:
    with pytest.raises(NotBridged):
        convert(event, lookup)


@pytest.mark.parametrize(
    "content",
    [
        {"msgtype": "m.image", "body": "x"},
        {"msgtype": "m.file", "body": "x", "url": "https://evil.example/x"},
        {"msgtype": "m.file", "body": "x", "url": "mxc://../whoami"},
        {"msgtype": "m.file", "body": "x", "url": "mxc://a.example/.."},
        {"msgtype": "m.file", "body": "x", "url": "mxc://a.example/../../x"},
        {"msgtype": "m.file", "body": "x", "url": "mxc://a.example/x%2f..%2fy"},
        {"msgtype": "m.file", "body": "x", "url": "mxc://a.example/x?user_id=@admin:a"},
        {"msgtype": "m.file", "body": "x", "url": "mxc://a.example"},
        {"msgtype": "m.file", "body": "x", "file": {"url": "mxc://../whoami"}},
        {"msgtype": "m.file", "body": "x", "file": {}, "url": "mxc://a/b"},
    ],
)
def test_a_file_we_cannot_fetch_is_not_bridged(content: dict[str, Any]) -> None:
    with pytest.raises(NotBridged):
        media_of(content)


def test_an_encrypted_file_is_named_by_what_decrypts_it() -> None:
    file = {"url": "mxc://a.example/b", "v": "v2"}
    media = media_of({"msgtype": "m.file", "body": "x", "file": file})
    assert media is not None
    assert (media.url, media.encrypted) == (file["url"], file)


def test_the_quotation_in_front_of_a_reply_is_left_out_and_quotations_of_ones_own_are_kept() -> None:
    assert without_fallback("> <@a:b> said\n> more\n\nanswer\nhere") == "answer\nhere"
    assert without_fallback("> a quotation\n\nmy text") == "> a quotation\n\nmy text"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMED = st.fixed_dictionaries(
    {},
    optional={
        "msgtype": st.sampled_from(["m.text", "m.emote", "m.image", "m.x"]) | JSON,
        "body": st.text(max_size=20) | JSON,
        "format": st.just("org.matrix.custom.html") | JSON,
        "formatted_body": st.text(max_size=30) | JSON,
        "url": st.just("mxc://a/b") | JSON,
        "info": st.dictionaries(st.sampled_from(["w", "h", "duration", "mimetype"]), JSON) | JSON,
        "redacts": JSON,
        "m.new_content": JSON,
        "m.relates_to": st.fixed_dictionaries(
            {},
            optional={
                "rel_type": st.sampled_from(["m.replace", "m.thread", "m.annotation"]) | JSON,
                "event_id": st.just("$e") | JSON,
                "key": st.text(max_size=5) | JSON,
                "m.in_reply_to": st.just({"event_id": "$e"}) | JSON,
            },
        )
        | JSON,
    },
)


@given(
    st.sampled_from(["m.room.message", "m.reaction", "m.room.redaction", "m.x"]),
    NAMED | JSON,
    st.sampled_from([Known1(), Known1(message_id=None), Nothing()]),
)
def test_any_event_becomes_a_message_or_a_reason(kind: str, content: Any, lookup: Known1) -> None:
    event = {"type": kind, "content": content}
    with suppress(NotBridged):
        media_of(content if isinstance(content, dict) else {})
        assert convert(event, lookup).salt == b"s" * 16
