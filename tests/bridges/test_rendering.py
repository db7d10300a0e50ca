"""MIMI messages as what ghosts do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.matrix.content import (
    HTML,
    MESSAGE_TYPE,
    REPLACES_EVENT,
    REPLY_TO_EVENT,
    Known,
    NotBridged,
    ToMimi,
)
from bridges.matrix.leaves import MAX_EVENTS, file_key, files
from bridges.matrix.rendering import Act, RedactEvent, SendEvent, ToMatrix, Upload
from linearized.mimi.content import (
    PLAIN,
    Disposition,
    ExternalPart,
    MimiContent,
    MultiPart,
    NullPart,
    PartSemantics,
    SinglePart,
    delete,
    edit,
    reaction,
    reply,
    text,
)
from linearized.mimi.tls import UnknownValue
from tests.bridges.test_content import ALICE, ID, NAMES, ROOM, ROOT, convert, formatted

BOB = "@_mimi_b.example_bob:hs.test"
SALT = b"s" * 16


class Everything:
    """A lookup that knows every message, as one by ``sender``."""

    def __init__(self, sender: str = BOB) -> None:
        self._sender = sender

    def _known(self, name: str) -> Known:
        return Known(matrix_event_id=f"$of-{name}", log_event_id=None, message_id=None, sender=self._sender)

    def by_matrix(self, event_id: str) -> Known | None:
        return self._known(event_id)

    def by_message(self, message_id: bytes) -> Known | None:
        return self._known(message_id[1:2].decode())

    def by_log(self, event_id: str) -> Known | None:
        return self._known(event_id)


class Nothing(Everything):
    def by_message(self, message_id: bytes) -> Known | None:
        return None

    def by_log(self, event_id: str) -> Known | None:
        return None


def acts(
    content: MimiContent, lookup: Everything | None = None, uploads: Mapping[str, Upload] | None = None
) -> list[Act]:
    return ToMatrix(names=NAMES, lookup=lookup or Everything(), sender=BOB).convert(content, uploads)


def sent(
    content: MimiContent, lookup: Everything | None = None, uploads: Mapping[str, Upload] | None = None
) -> dict[str, Any]:
    (act,) = acts(content, lookup, uploads)
    assert isinstance(act, SendEvent)
    return act.content


def test_plain_text_is_a_message() -> None:
    assert sent(text("hi", salt=SALT)) == {"msgtype": "m.text", "body": "hi"}


def test_a_disposition_that_nobody_knows_yet_is_shown_like_any_other() -> None:
    part = SinglePart(disposition=UnknownValue(200), content_type=PLAIN, content=b"hi")
    assert sent(MimiContent(salt=SALT, part=part)) == {"msgtype": "m.text", "body": "hi"}


def test_markdown_is_shown_formatted_and_its_html_tags_as_text() -> None:
    content = sent(text("**bold** <b>not</b>", salt=SALT, markdown=True))
    assert content["formatted_body"] == "<p><strong>bold</strong> &lt;b&gt;not&lt;/b&gt;</p>"
    assert content["body"] == "**bold** <b>not</b>"


def test_markdown_without_marks_needs_no_html() -> None:
    assert "formatted_body" not in sent(text("just words", salt=SALT, markdown=True))


def test_html_from_elsewhere_is_made_safe() -> None:
    part = SinglePart(
        content_type=HTML, content=b'<p onclick="x()">hi<img src=x onerror=y></p><script>z</script>'
    )
    content = sent(MimiContent(salt=SALT, part=part))
    assert content == {"msgtype": "m.text", "body": "hi"}


def test_of_alternatives_the_richest_is_shown() -> None:
    parts = (
        SinglePart(content_type=PLAIN, content=b"plain"),
        SinglePart(content_type=HTML, content=b"<b>rich</b>"),
    )
    body = MultiPart(semantics=PartSemantics.CHOOSE_ONE, parts=parts)
    assert sent(MimiContent(salt=SALT, part=body))["formatted_body"] == "<b>rich</b>"


def test_parts_to_be_shown_one_by_one_are_messages_one_by_one() -> None:
    parts = tuple(SinglePart(content_type=PLAIN, content=word) for word in (b"one", b"two"))
    body = MultiPart(semantics=PartSemantics.PROCESS_ALL, parts=parts)
    found = acts(MimiContent(salt=SALT, part=body))
    assert [act.content["body"] for act in found if isinstance(act, SendEvent)] == ["one", "two"]


def test_a_mention_of_a_matrix_user_mentions_them() -> None:
    content = sent(text("[Alice](mimi://hs.test/u/alice) look", salt=SALT, markdown=True))
    assert content["m.mentions"] == {"user_ids": ["@alice:hs.test"]}
    assert 'href="https://matrix.to/#/@alice:hs.test"' in content["formatted_body"]


def test_emotes_and_notices_stay_what_they_are_and_nothing_else_is_believed() -> None:
    for kind, shown in (("m.emote", "m.emote"), ("m.notice", "m.notice"), ("m.evil", "m.text")):
        content = replace(text("x", salt=SALT), extensions={MESSAGE_TYPE: kind})
        assert sent(content)["msgtype"] == shown


def test_a_reply_names_the_matrix_event() -> None:
    relation = sent(reply(ID, "x", salt=SALT))["m.relates_to"]
    assert relation == {"m.in_reply_to": {"event_id": "$of-i"}}


def test_a_reply_to_an_entry_of_the_log_names_its_matrix_event() -> None:
    content = replace(text("x", salt=SALT), extensions={REPLY_TO_EVENT: "$log"})
    assert sent(content)["m.relates_to"] == {"m.in_reply_to": {"event_id": "$of-$log"}}


def test_a_reply_to_something_unknown_is_a_message() -> None:
    assert "m.relates_to" not in sent(reply(ID, "x", salt=SALT), Nothing())


def test_a_topic_is_a_thread() -> None:
    content = replace(text("x", salt=SALT), topic_id=ROOT)
    assert sent(content)["m.relates_to"] == {
        "rel_type": "m.thread",
        "event_id": "$of-t",
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": "$of-t"},
    }


def test_an_edit_replaces_the_matrix_event() -> None:
    content = sent(edit(ID, "new", salt=SALT))
    assert content["m.new_content"] == {"msgtype": "m.text", "body": "new"}
    assert content["body"] == "* new"
    assert content["m.relates_to"] == {"rel_type": "m.replace", "event_id": "$of-i"}


@pytest.mark.parametrize("make", [lambda: edit(ID, "x", salt=SALT), lambda: delete(ID, salt=SALT)])
def test_nobody_edits_or_deletes_the_messages_of_others(make: Any) -> None:
    with pytest.raises(NotBridged, match="may not change"):
        acts(make(), Everything(sender="@alice:hs.test"))


def test_of_a_message_that_never_came_an_edit_is_shown_and_a_deletion_is_nothing() -> None:
    assert sent(edit(ID, "new", salt=SALT), Nothing()) == {"msgtype": "m.text", "body": "new"}
    with pytest.raises(NotBridged, match="never bridged"):
        acts(delete(ID, salt=SALT), Nothing())


def test_a_flood_of_parts_is_cut_and_says_so() -> None:
    part = MultiPart(
        semantics=PartSemantics.PROCESS_ALL,
        parts=tuple(SinglePart(content_type=PLAIN, content=b"x") for _ in range(MAX_EVENTS + 2)),
    )
    made = acts(MimiContent(salt=SALT, part=part))
    assert len(made) == MAX_EVENTS + 1
    assert isinstance(made[-1], SendEvent)
    assert made[-1].content["body"] == "[2 more parts of this message were left out]"


def test_a_deletion_is_a_redaction() -> None:
    assert acts(delete(ID, salt=SALT)) == [RedactEvent("$of-i")]
    unlike = MimiContent(salt=SALT, extensions={REPLACES_EVENT: "$log"}, part=NullPart())
    assert acts(unlike) == [RedactEvent("$of-$log")]


def test_reactions_are_annotations() -> None:
    (act,) = acts(reaction(ID, "👍", salt=SALT))
    relation = {"rel_type": "m.annotation", "event_id": "$of-i", "key": "👍"}
    assert act == SendEvent("m.reaction", {"m.relates_to": relation})
    with pytest.raises(NotBridged):
        acts(reaction(ID, "👍", salt=SALT), Nothing())


def test_a_file_is_shown_from_where_it_was_uploaded() -> None:
    part = ExternalPart(
        disposition=Disposition.INLINE,
        content_type="image/png",
        url="https://b.example/f",
        size=9,
        filename="f.png",
    )
    message = MimiContent(salt=SALT, part=part, extensions={"dev.linearized.info": {"w": 2, "h": 3}})
    assert files(message) == [part]
    content = sent(message, uploads={"https://b.example/f": "mxc://hs.test/f"})
    assert content == {
        "msgtype": "m.image",
        "body": "f.png",
        "filename": "f.png",
        "url": "mxc://hs.test/f",
        "info": {"mimetype": "image/png", "size": 9, "w": 2, "h": 3},
    }
    assert sent(message)["msgtype"] == "m.notice"


def test_what_a_message_holds_becomes_a_file() -> None:
    part = SinglePart(content_type="application/x-game", content=b"\x00")
    message = MimiContent(salt=SALT, part=part)
    assert files(message) == [part]
    content = sent(message, uploads={file_key(part): "mxc://hs.test/game"})
    assert (content["msgtype"], content["url"]) == ("m.file", "mxc://hs.test/game")
    assert content["info"] == {"mimetype": "application/x-game", "size": 1}
    assert "could not be fetched" in sent(message)["body"]


def test_a_message_without_any_part_is_nothing_to_show() -> None:
    with pytest.raises(NotBridged):
        acts(MimiContent(salt=SALT, part=NullPart()))


@given(st.text(max_size=200).filter(str.strip))
def test_any_text_crosses_and_comes_back_unchanged(body: str) -> None:
    mapping = ToMimi(names=NAMES, lookup=Everything(), sender_uri=ALICE, room_uri=ROOM, salt=SALT)
    try:
        body.encode()
    except UnicodeEncodeError:
        return
    content = mapping.convert({"type": "m.room.message", "content": {"msgtype": "m.text", "body": body}})
    assert sent(content)["body"] == body


@given(st.text(alphabet="<>&/ab\"'=p*_`[]()#-\n ", max_size=80))
def test_html_from_anyone_comes_back_with_allowed_tags_only(html: str) -> None:
    try:
        content = sent(convert(formatted(html)))
    except NotBridged:
        return
    shown = content.get("formatted_body", "")
    assert "<script" not in shown
    assert "javascript:" not in shown
