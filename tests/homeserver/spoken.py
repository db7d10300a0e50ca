"""What is said in the day, of every kind and both ways, and what the other side has to see: the table in
``docs/bridge.md`` against programs that know nothing of it.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

from linearized.demo.existing_room import harbour
from linearized.mimi.content import (
    MARKDOWN,
    PLAIN,
    Disposition,
    Expiration,
    ExternalPart,
    MimiContent,
    MultiPart,
    PartSemantics,
    SinglePart,
    attachment,
    delete,
    edit,
    reaction,
    reply,
    text,
)
from linearized.protocol.identifiers import room_uri
from tests.homeserver.people import JsonObject
from tests.homeserver.scene import File, Room, Row, Says, Writes

HTML = "text/html;charset=utf-8"
MENTIONS, MSGTYPE, VOICE = "dev.linearized.mentions", "dev.linearized.msgtype", "dev.linearized.voice"
INFO, WHERE = "dev.linearized.info", "dev.linearized.geo_uri"
HTML_FORMAT = "org.matrix.custom.html"
TO = "https://matrix.to/#/"
BEA = "@_lin_b.example_bea:matrix.example"
DAY_S = 86_400

FILES = {
    "harbour.png": File(data=harbour(), type="image/png"),
    "report.pdf": File(data=b"%PDF-1.7 the report", type="application/pdf"),
    "voice.ogg": File(data=b"OggS a voice", type="audio/ogg"),
    "film.mp4": File(data=b"\0\0\0\x18ftyp a film", type="video/mp4"),
    "wave.webp": File(data=b"RIFF a wave WEBP", type="image/webp"),
    "sail.png": File(data=b"\x89PNG a sail", type="image/png"),
    "notes.txt": File(data=b"some notes", type="text/plain"),
    "memo.ogg": File(data=b"OggS a memo", type="audio/ogg"),
    "star.webp": File(data=b"RIFF a star WEBP", type="image/webp"),
    "held.bin": File(data=b"\x00\x01\xff", type="application/x-game"),
}


# --- Matrix ---


def message(body: str, **more: Any) -> JsonObject:
    return {"msgtype": "m.text", "body": body, **more}


def to(name: str) -> JsonObject:
    return {"m.in_reply_to": {"event_id": f"{{{name}}}"}}


def plain(body: str) -> list[str]:
    return [PLAIN, body]


def rich(markdown: str, html: str) -> JsonObject:
    return {"CHOOSE_ONE": [[MARKDOWN, markdown], [HTML, html]]}


def upload(name: str, msgtype: str, body: str = "", **info: Any) -> JsonObject:
    file = FILES[name]
    content: JsonObject = {
        "msgtype": msgtype,
        "body": body or name,
        "url": f"file:{name}",
        "info": {"mimetype": file.type, "size": len(file.data), **info},
    }
    return content | ({"filename": name} if body else {})


def file(name: str, disposition: str, description: str = "") -> JsonObject:
    known = FILES[name]
    return {
        "file": name,
        "type": known.type,
        "filename": name,
        "description": description,
        "disposition": disposition,
        "size": len(known.data),
    }


def replacement(name: str, new: JsonObject) -> JsonObject:
    relation = {"rel_type": "m.replace", "event_id": f"{{{name}}}"}
    return {**new, "body": f"* {new['body']}", "m.new_content": new, "m.relates_to": relation}


POLL = {
    "org.matrix.msc3381.poll.start": {
        "question": {"org.matrix.msc1767.text": "Tea?"},
        "kind": "org.matrix.msc3381.poll.disclosed",
        "max_selections": 1,
        "answers": [
            {"id": "y", "org.matrix.msc1767.text": "Yes"},
            {"id": "n", "org.matrix.msc1767.text": "No"},
        ],
    },
    "org.matrix.msc1767.text": "Tea? 1. Yes 2. No",
}
RELATED = {"rel_type": "m.reference", "event_id": "{poll}"}


MATRIX: tuple[Says, ...] = (
    Says(name="morning", content=message("Good morning"), seen={"part": plain("Good morning")}),
    Says(name="lines", content=message("Ünï 🐟\n two\tlines "), seen={"part": plain("Ünï 🐟\n two\tlines ")}),
    Says(
        name="emote",
        content={"msgtype": "m.emote", "body": "yawns"},
        seen={"part": plain("yawns"), "extensions": {MSGTYPE: "m.emote"}},
    ),
    Says(
        name="notice",
        content={"msgtype": "m.notice", "body": "It rains"},
        seen={"part": plain("It rains"), "extensions": {MSGTYPE: "m.notice"}},
    ),
    Says(
        name="html",
        content=message(
            "bold and a link",
            format=HTML_FORMAT,
            formatted_body=(
                '<p onclick="x()"><strong>bold</strong> &amp; <a href="https://x.example/">a link</a></p>'
            ),
        ),
        seen={
            "part": rich(
                "**bold** &amp; [a link](<https://x.example/>)",
                '<p><strong>bold</strong> &amp; <a href="https://x.example/">a link</a></p>',
            )
        },
    ),
    Says(
        name="reply",
        content=message(
            "> <@ann:matrix.example> Good morning\n\nTo you too", **{"m.relates_to": to("morning")}
        ),
        seen={"part": plain("To you too"), "re": "morning"},
    ),
    Says(
        name="answer",
        content=message("Hello, b", **{"m.relates_to": to("hello")}),
        seen={"part": plain("Hello, b"), "re": "hello"},
    ),
    Says(
        name="thread",
        content=message(
            "in a thread",
            **{
                "m.relates_to": {
                    "rel_type": "m.thread",
                    "event_id": "{morning}",
                    "is_falling_back": True,
                    **to("morning"),
                }
            },
        ),
        seen={"part": plain("in a thread"), "topic": "morning"},
    ),
    Says(
        name="within",
        content=message(
            "and to that",
            **{
                "m.relates_to": {
                    "rel_type": "m.thread",
                    "event_id": "{morning}",
                    "is_falling_back": False,
                    **to("thread"),
                }
            },
        ),
        seen={"part": plain("and to that"), "topic": "morning", "re": "thread"},
    ),
    Says(
        name="edit",
        by="morning",
        content=replacement("morning", message("Good day")),
        seen={"part": plain("Good day"), "replaces": "morning"},
    ),
    Says(
        name="again",
        by="reply",
        content=replacement("reply", message("To you as well")),
        seen={"part": plain("To you as well"), "replaces": "reply", "re": "morning"},
    ),
    Says(
        name="liked",
        type="m.reaction",
        content={"m.relates_to": {"rel_type": "m.annotation", "event_id": "{hello}", "key": "👍"}},
        seen={"part": [PLAIN, "👍", "REACTION"], "re": "hello"},
    ),
    Says(
        name="unliked",
        by="liked",
        type="m.room.redaction",
        content={"redacts": "{liked}"},
        seen={"part": None, "replaces": "liked"},
    ),
    Says(
        name="unsaid",
        by="lines",
        type="m.room.redaction",
        content={"redacts": "{lines}"},
        seen={"part": None, "replaces": "lines"},
    ),
    Says(
        name="mention",
        content=message(
            "bea: look",
            format=HTML_FORMAT,
            formatted_body=f'<a href="{TO}{BEA}">bea</a>: look',
            **{"m.mentions": {"user_ids": [BEA, "@ann:matrix.example"]}},
        ),
        seen={
            "part": rich(
                "[bea](<mimi://b.example/u/bea>): look", '<a href="mimi://b.example/u/bea">bea</a>: look'
            ),
            "extensions": {MENTIONS: ("mimi://b.example/u/bea", "mimi://matrix.example/u/ann")},
        },
    ),
    Says(
        name="everybody",
        content=message("@room lunch", **{"m.mentions": {"room": True}}),
        seen={"part": plain("@room lunch"), "extensions": {MENTIONS: ("ROOM",)}},
    ),
    Says(
        name="image",
        content=upload("harbour.png", "m.image", "The harbour", w=64, h=48),
        seen={
            "part": file("harbour.png", "INLINE", "The harbour"),
            "extensions": {INFO: {"w": 64, "h": 48}},
        },
    ),
    Says(
        name="file",
        content=upload("report.pdf", "m.file"),
        seen={"part": file("report.pdf", "ATTACHMENT")},
    ),
    Says(
        name="voice",
        content={**upload("voice.ogg", "m.audio", duration=900), "org.matrix.msc3245.voice": {}},
        seen={
            "part": file("voice.ogg", "ATTACHMENT"),
            "extensions": {INFO: {"duration": 900}, VOICE: True},
        },
    ),
    Says(
        name="video",
        content=upload("film.mp4", "m.video", w=640, h=480, duration=1500),
        seen={
            "part": file("film.mp4", "ATTACHMENT"),
            "extensions": {INFO: {"w": 640, "h": 480, "duration": 1500}},
        },
    ),
    Says(
        name="sticker",
        type="m.sticker",
        content={
            name: value for name, value in upload("wave.webp", "", w=256, h=256).items() if name != "msgtype"
        },
        seen={
            "part": file("wave.webp", "INLINE"),
            "extensions": {INFO: {"w": 256, "h": 256}, MSGTYPE: "m.sticker"},
        },
    ),
    Says(
        name="where",
        content={"msgtype": "m.location", "body": "Big Ben", "geo_uri": "geo:51.5008,0.1247;u=35"},
        seen={
            "part": plain("Big Ben\ngeo:51.5008,0.1247;u=35"),
            "extensions": {WHERE: "geo:51.5008,0.1247;u=35"},
        },
    ),
    Says(
        name="poll",
        type="org.matrix.msc3381.poll.start",
        content=POLL,
        seen={"part": plain("Poll: Tea?\n1. Yes\n2. No")},
    ),
    Says(
        name="vote",
        type="org.matrix.msc3381.poll.response",
        content={"org.matrix.msc3381.poll.response": {"answers": ["y"]}, "m.relates_to": RELATED},
        seen={"part": plain("Voted: Yes"), "re": "poll"},
    ),
    Says(
        name="counted",
        by="poll",
        type="org.matrix.msc3381.poll.end",
        content={
            "org.matrix.msc3381.poll.end": {},
            "org.matrix.msc1767.text": "Yes won",
            "m.relates_to": RELATED,
        },
        seen={"part": plain("Yes won"), "re": "poll"},
    ),
    Says(
        name="dance",
        content={"msgtype": "org.example.dance", "body": "dances"},
        seen={"part": plain("dances")},
    ),
    Says(name="move", type="org.example.move", content={"body": "e4"}, seen={"part": plain("e4")}),
    Says(
        name="odd",
        type="org.example.odd",
        content={"x": 1},
        seen={"part": plain("[an event of type org.example.odd, which has no form here]")},
    ),
    Says(
        name="call",
        type="m.call.invite",
        content={
            "call_id": "1",
            "party_id": "1",
            "version": "1",
            "lifetime": 60000,
            "offer": {"type": "offer", "sdp": ""},
        },
        seen={"part": plain("[calls in Matrix; the bridge carries no calls]")},
    ),
    Says(
        name="machinery",
        by="call",
        type="m.call.candidates",
        content={"call_id": "1", "version": "1", "candidates": []},
        seen=None,
    ),
    Says(name="night", content=message("Good night"), seen={"part": plain("Good night")}),
)


# --- b.example ---


def salt(room: Room, name: str) -> bytes:
    return sha256(f"{room.room_id} {name}".encode()).digest()[:16]


def sealed(room: Room, name: str, disposition: Disposition, description: str = "") -> ExternalPart:
    """A file that was uploaded (``scene.share``), as the part that refers to it."""
    known, up = FILES[name], room.uploads[name]
    return replace(
        up,
        disposition=disposition,
        content_type=known.type,
        size=len(known.data),
        description=description,
        filename=name,
    )


def shared(
    name: str, msgtype: str, body: str = "", *, info: JsonObject | None = None, voice: bool = False
) -> JsonObject:
    known = FILES[name]
    info = {"mimetype": known.type, "size": len(known.data), **(info or {})}
    return {
        "msgtype": msgtype,
        "body": body or name,
        "filename": name,
        "url": f"file:{name}",
        "info": info,
        **({"org.matrix.msc3245.voice": {}} if voice else {}),
    }


def single(content_type: str, content: str) -> SinglePart:
    return SinglePart(content_type=content_type, content=content.encode())


THERE: tuple[Writes, ...] = (
    Writes(
        name="hello",
        make=lambda room: text("Hello from b", salt=salt(room, "hello")),
        seen=[{"content": message("Hello from b")}],
    ),
    Writes(
        name="emphasis",
        make=lambda room: text(
            "**bold** <i>not</i> [x](https://x.example/)", salt=salt(room, "emphasis"), markdown=True
        ),
        seen=[
            {
                "content": message(
                    "**bold** <i>not</i> [x](https://x.example/)",
                    format=HTML_FORMAT,
                    formatted_body=(
                        "<p><strong>bold</strong> &lt;i&gt;not&lt;/i&gt; "
                        '<a href="https://x.example/">x</a></p>'
                    ),
                )
            }
        ],
    ),
    Writes(
        name="markup",
        make=lambda room: MimiContent(
            salt=salt(room, "markup"),
            part=single(HTML, '<p onclick="x()">hi <b>you</b><script>bad()</script></p>'),
        ),
        seen=[{"content": message("hi you", format=HTML_FORMAT, formatted_body="<p>hi <b>you</b></p>")}],
    ),
    Writes(
        name="waves",
        make=lambda room: text("waves", salt=salt(room, "waves"), extensions={MSGTYPE: "m.emote"}),
        seen=[{"content": {"msgtype": "m.emote", "body": "waves"}}],
    ),
    Writes(
        name="bot",
        make=lambda room: text("3 new", salt=salt(room, "bot"), extensions={MSGTYPE: "m.notice"}),
        seen=[{"content": {"msgtype": "m.notice", "body": "3 new"}}],
    ),
    Writes(
        name="greeting",
        make=lambda room: reply(room.messages["morning"], "Morning!", salt=salt(room, "greeting")),
        seen=[{"content": message("Morning!", **{"m.relates_to": to("morning")})}],
    ),
    Writes(
        name="topic",
        make=lambda room: replace(
            text("also in it", salt=salt(room, "topic")), topic_id=room.messages["morning"]
        ),
        seen=[
            {
                "content": message(
                    "also in it",
                    **{
                        "m.relates_to": {
                            "rel_type": "m.thread",
                            "event_id": "{morning}",
                            "is_falling_back": True,
                            **to("morning"),
                        }
                    },
                )
            }
        ],
    ),
    Writes(
        name="better",
        by="hello",
        make=lambda room: edit(room.messages["hello"], "Hello from B", salt=salt(room, "better")),
        seen=[{"content": replacement("hello", message("Hello from B"))}],
    ),
    Writes(
        name="heart",
        make=lambda room: reaction(room.messages["morning"], "❤", salt=salt(room, "heart")),
        seen=[
            {
                "type": "m.reaction",
                "content": {
                    "m.relates_to": {"rel_type": "m.annotation", "event_id": "{morning}", "key": "❤"}
                },
            }
        ],
    ),
    Writes(
        name="unheart",
        by="heart",
        make=lambda room: delete(room.seen("heart"), salt=salt(room, "unheart")),
        seen=[{"type": "m.room.redaction", "content": {"redacts": "{heart}"}}],
    ),
    Writes(
        name="gone",
        by="waves",
        make=lambda room: delete(room.seen("waves"), salt=salt(room, "gone")),
        seen=[{"type": "m.room.redaction", "content": {"redacts": "{waves}"}}],
    ),
    Writes(
        name="ann",
        make=lambda room: text(
            "[Ann](mimi://matrix.example/u/ann) look", salt=salt(room, "ann"), markdown=True
        ),
        seen=[
            {
                "content": message(
                    "[Ann](mimi://matrix.example/u/ann) look",
                    format=HTML_FORMAT,
                    formatted_body=f'<p><a href="{TO}@ann:matrix.example">Ann</a> look</p>',
                    **{"m.mentions": {"user_ids": ["@ann:matrix.example"]}},
                )
            }
        ],
    ),
    Writes(
        name="all",
        make=lambda room: text(
            "supper",
            salt=salt(room, "all"),
            extensions={MENTIONS: (room_uri(room.room_id),)},
        ),
        seen=[{"content": message("supper", **{"m.mentions": {"room": True}})}],
    ),
    Writes(
        name="picture",
        make=lambda room: attachment(
            sealed(room, "sail.png", Disposition.INLINE, "A sail"),
            salt=salt(room, "picture"),
            caption="See here",
            extensions={INFO: {"w": 2, "h": 3}},
        ),
        seen=[
            {"content": message("See here")},
            {"content": shared("sail.png", "m.image", "A sail", info={"w": 2, "h": 3})},
        ],
    ),
    Writes(
        name="notes",
        make=lambda room: attachment(
            sealed(room, "notes.txt", Disposition.ATTACHMENT), salt=salt(room, "notes")
        ),
        seen=[{"content": shared("notes.txt", "m.file")}],
    ),
    Writes(
        name="memo",
        make=lambda room: attachment(
            sealed(room, "memo.ogg", Disposition.ATTACHMENT),
            salt=salt(room, "memo"),
            extensions={VOICE: True, INFO: {"duration": 700}},
        ),
        seen=[{"content": shared("memo.ogg", "m.audio", info={"duration": 700}, voice=True)}],
    ),
    Writes(
        name="star",
        make=lambda room: attachment(
            sealed(room, "star.webp", Disposition.INLINE),
            salt=salt(room, "star"),
            extensions={MSGTYPE: "m.sticker"},
        ),
        seen=[
            {
                "type": "m.sticker",
                "content": {
                    name: value
                    for name, value in shared("star.webp", "").items()
                    if name not in ("msgtype", "filename")
                },
            }
        ],
    ),
    Writes(
        name="held",
        make=lambda room: MimiContent(
            salt=salt(room, "held"),
            part=SinglePart(content_type="application/x-game", content=FILES["held.bin"].data),
        ),
        seen=[
            {
                "content": {
                    **shared("held.bin", "m.file", "file"),
                    "filename": "file",
                    "info": {"mimetype": "application/x-game", "size": 3},
                }
            }
        ],
    ),
    Writes(
        name="here",
        make=lambda room: text(
            "At the pier\ngeo:1.5,2.5", salt=salt(room, "here"), extensions={WHERE: "geo:1.5,2.5"}
        ),
        seen=[
            {
                "content": {
                    "msgtype": "m.location",
                    "body": "At the pier\ngeo:1.5,2.5",
                    "geo_uri": "geo:1.5,2.5",
                }
            }
        ],
    ),
    Writes(
        name="verse",
        make=lambda room: MimiContent(
            salt=salt(room, "verse"), part=single("text/x-verse;charset=utf-8", "a\nb")
        ),
        seen=[{"content": message("a\nb")}],
    ),
    Writes(
        name="either",
        make=lambda room: MimiContent(
            salt=salt(room, "either"),
            part=MultiPart(
                semantics=PartSemantics.CHOOSE_ONE,
                parts=(single(PLAIN, "plain"), single(MARKDOWN, "_rich_")),
            ),
        ),
        seen=[{"content": message("_rich_", format=HTML_FORMAT, formatted_body="<p><em>rich</em></p>")}],
    ),
    Writes(
        name="soon",
        make=lambda room: replace(
            text("for a day", salt=salt(room, "soon")), expires=Expiration(relative=True, time=DAY_S)
        ),
        seen=[{"content": message("for a day")}],
    ),
    Writes(
        name="theft",
        make=lambda room: edit(room.messages["morning"], "Stolen", salt=salt(room, "theft")),
        seen=[],
    ),
    Writes(
        name="bye",
        make=lambda room: text("Bye from b", salt=salt(room, "bye")),
        seen=[{"content": message("Bye from b")}],
    ),
)


END_HERE = Says(name="end", content=message("That is all"), seen={"part": plain("That is all")})
END_THERE = Writes(
    name="over",
    make=lambda room: text("All of it", salt=salt(room, "over")),
    seen=[{"content": message("All of it")}],
)


def script() -> list[Row]:
    """Both tables, taken turns by, each in its order."""
    rows: list[Row] = []
    for number in range(max(len(MATRIX), len(THERE))):
        rows += [*MATRIX[number : number + 1], *THERE[number : number + 1]]
    return rows
