"""Each kind of content in each direction, as the loss table in ``docs/bridge.md`` promises; and that each row
of that table names a test that there is.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bridges.matrix.attachments import media_of
from bridges.matrix.content import LOCATION, MENTIONS, MESSAGE_TYPE, with_thumbnail
from bridges.matrix.rendering import SendEvent
from linearized.mimi.content import (
    PLAIN,
    Disposition,
    ExternalPart,
    MimiContent,
    MultiPart,
    SinglePart,
    text,
)
from tests.bridges.test_content import ID, ROOM, Nothing, convert
from tests.bridges.test_fallbacks import STABLE
from tests.bridges.test_rendering import SALT, acts, sent

DOCUMENT = Path(__file__).parents[2] / "docs" / "bridge.md"
MXC = "mxc://hs.test/file"


def part(content_type: str, **more: Any) -> ExternalPart:
    return ExternalPart(content_type=content_type, url="https://a.example/x", filename="f", **more)


def said(content: MimiContent) -> str:
    assert isinstance(content.part, SinglePart)
    return content.part.text


def message(**content: Any) -> dict[str, Any]:
    return {"type": "m.room.message", "content": {"msgtype": "m.text", "body": "x", **content}}


def test_a_sticker_is_a_picture_that_becomes_a_sticker_again() -> None:
    content = {"body": "wave", "url": MXC, "info": {"mimetype": "image/webp", "w": 256, "h": 256}}
    media = media_of(content, "m.sticker")
    assert media is not None
    assert (media.content_type, media.inline, media.filename) == ("image/webp", True, "wave")
    mimi = convert({"type": "m.sticker", "content": content}, part=part("image/webp"))
    assert mimi.extensions[MESSAGE_TYPE] == "m.sticker"
    (act,) = acts(mimi, uploads={"https://a.example/x": MXC})
    assert isinstance(act, SendEvent)
    assert act.type == "m.sticker"
    assert act.content["url"] == MXC
    assert act.content["info"] == {"mimetype": "image/webp", "w": 256, "h": 256}
    assert "msgtype" not in act.content


def test_a_location_is_a_text_with_its_uri_and_becomes_a_location_again() -> None:
    mimi = convert(message(msgtype="m.location", body="Big Ben", geo_uri="geo:51.5008,0.1247;u=35"))
    assert said(mimi) == "Big Ben\ngeo:51.5008,0.1247;u=35"
    assert sent(mimi) == {
        "msgtype": "m.location",
        "body": "Big Ben\ngeo:51.5008,0.1247;u=35",
        "geo_uri": "geo:51.5008,0.1247;u=35",
    }


@pytest.mark.parametrize("uri", ["javascript:alert(1)", "geo:1,2\nx", 7, None])
def test_a_location_that_is_no_geo_uri_is_its_text(uri: object) -> None:
    mimi = convert(message(msgtype="m.location", body="here", geo_uri=uri))
    assert said(mimi) == "here"
    assert LOCATION not in mimi.extensions
    forged = text("here", salt=SALT, extensions={LOCATION: uri})
    assert sent(forged) == {"msgtype": "m.text", "body": "here"}


def test_a_thumbnail_is_a_preview_beside_the_file_and_comes_back_with_its_size() -> None:
    info = {
        "mimetype": "video/mp4",
        "w": 800,
        "thumbnail_url": "mxc://hs.test/small",
        "thumbnail_info": {"mimetype": "image/jpeg", "w": 80, "h": 60, "size": -1, "duration": 3},
    }
    content = {"msgtype": "m.video", "body": "f", "url": MXC, "info": info}
    small = ExternalPart(content_type="image/jpeg", url="https://a.example/small", size=9)
    both = with_thumbnail(part("video/mp4"), small)
    mimi = convert({"type": "m.room.message", "content": content}, part=both)
    assert isinstance(mimi.part, MultiPart)
    assert [one.disposition for one in mimi.part.parts] == [Disposition.ATTACHMENT, Disposition.PREVIEW]
    back = sent(mimi, uploads={"https://a.example/x": MXC, "https://a.example/small": "mxc://hs.test/small"})
    assert (back["msgtype"], back["url"]) == ("m.video", MXC)
    assert back["info"] == {
        **{name: info[name] for name in ("mimetype", "w", "thumbnail_url")},
        "thumbnail_info": {"mimetype": "image/jpeg", "w": 80, "h": 60, "size": 9},
    }
    # Without it the file is shown all the same.
    alone = sent(mimi, uploads={"https://a.example/x": MXC})
    assert alone["info"] == {"mimetype": "video/mp4", "w": 800}
    file = {"url": "mxc://hs.test/sealed"}
    hidden = sent(mimi, uploads={"https://a.example/x": file, "https://a.example/small": file})
    assert (hidden["file"], hidden["info"]["thumbnail_file"]) == (file, file)
    assert "thumbnail_url" not in hidden["info"]


def test_mentions_cross_both_ways_with_or_without_links() -> None:
    users = ["@_mimi_b.example_bob:hs.test", "@carol:hs.test", "no user", 7, "@carol:hs.test"]
    mimi = convert(message(**{"m.mentions": {"user_ids": users}}))
    assert mimi.extensions[MENTIONS] == ("mimi://b.example/u/bob", "mimi://hs.test/u/carol")
    assert sent(mimi)["m.mentions"] == {"user_ids": ["@_mimi_b.example_bob:hs.test", "@carol:hs.test"]}


def test_a_mention_of_the_whole_room_is_one_on_the_other_side() -> None:
    mimi = convert(message(**{"m.mentions": {"room": True}}))
    assert mimi.extensions[MENTIONS] == (ROOM,)
    assert sent(mimi)["m.mentions"] == {"room": True}


@pytest.mark.parametrize("mentions", [{"user_ids": "x"}, "x", {"user_ids": [None]}, {"room": "yes"}])
def test_mentions_of_nobody_are_none(mentions: object) -> None:
    assert MENTIONS not in convert(message(**{"m.mentions": mentions})).extensions
    forged = text("x", salt=SALT, extensions={MENTIONS: ("https://evil.example", 7)})
    assert "m.mentions" not in sent(forged)
    assert "m.mentions" not in sent(text("x", salt=SALT, extensions={MENTIONS: "mimi://b.example/u/bob"}))


def test_a_poll_its_votes_and_its_end_are_texts_that_answer_the_poll() -> None:
    start = convert({"type": "m.poll.start", "content": STABLE})
    assert said(start) == "Poll: Tea?\n1. Yes\n2. No"
    relation = {"rel_type": "m.reference", "event_id": "$poll"}
    vote = convert({"type": "m.poll.response", "content": {"m.relates_to": relation, "m.selections": ["a"]}})
    assert (said(vote), vote.in_reply_to) == ("Voted", ID)
    end = convert(
        {"type": "m.poll.end", "content": {"m.relates_to": relation, "m.text": [{"body": "Yes won"}]}}
    )
    assert (said(end), end.in_reply_to) == ("Yes won", ID)


def test_an_encrypted_message_and_a_call_leave_a_trace() -> None:
    encrypted = convert({"type": "m.room.encrypted", "content": {"ciphertext": "AAAA"}})
    assert "cannot read" in said(encrypted)
    assert "calls" in said(convert({"type": "m.call.invite", "content": {"call_id": "1"}}))


def test_an_edit_of_a_message_that_never_came_is_a_message() -> None:
    relation = {"rel_type": "m.replace", "event_id": "$gone"}
    new = {"msgtype": "m.text", "body": "better"}
    mimi = convert(message(body="* better", **{"m.new_content": new, "m.relates_to": relation}), Nothing())
    assert (said(mimi), mimi.replaces) == ("better", None)
    broken = convert(message(body="* better", **{"m.new_content": 7, "m.relates_to": relation}), Nothing())
    assert said(broken) == "* better"


def test_an_unknown_kind_of_message_is_its_body_or_its_name() -> None:
    assert said(convert(message(msgtype="org.example.dance", body="dances"))) == "dances"
    named = said(convert(message(msgtype="org.example.dance", body="")))
    assert named == "[an event of type m.room.message (org.example.dance), which has no form here]"
    assert said(convert({"type": "org.example.move", "content": {"body": "e4"}})) == "e4"


def test_a_file_that_cannot_be_had_is_named() -> None:
    assert said(convert(message(msgtype="m.file", body="report.pdf"))) == (
        "[report.pdf: the file could not be fetched]"
    )


def test_a_picture_inside_a_message_is_uploaded_as_a_picture() -> None:
    held = SinglePart(content_type="image/png", disposition=Disposition.INLINE, content=b"\x89PNG")
    content = MimiContent(salt=SALT, part=held)
    assert sent(content)["msgtype"] == "m.notice"


def test_a_text_of_any_kind_is_shown() -> None:
    odd = SinglePart(content_type="text/x-verse;charset=utf-8", content=b"a\nb")
    assert sent(MimiContent(salt=SALT, part=odd))["body"] == "a\nb"
    assert sent(MimiContent(salt=SALT, part=SinglePart(content_type=PLAIN, content=b"x")))["body"] == "x"


def rows() -> list[list[str]]:
    table = DOCUMENT.read_text(encoding="utf-8").partition("## What crosses")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_row_of_the_loss_table_names_a_test_that_there_is() -> None:
    tests = {
        name
        for module in Path(__file__).parent.rglob("test_*.py")
        for name in re.findall(
            r"^(?:async )?def (test_\w+)", module.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    found = [row for row in rows() if row[0] not in ("Matrix", "MIMI")]
    assert len(found) > 25
    for row in found:
        assert len(row) == 4, row
        assert re.fullmatch(r"`test_\w+`", row[3]), row
        assert row[3].strip("`") in tests, row
