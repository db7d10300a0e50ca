"""What is said in Matrix in the day, of every kind, and what b.example has to see of it: the table in
``docs/bridge.md`` against programs that know nothing of it.
"""

from __future__ import annotations

from linearized.mimi.content import PLAIN
from tests.homeserver.scene import Says
from tests.homeserver.shapes import (
    HTML_FORMAT,
    INFO,
    MENTIONS,
    MSGTYPE,
    TO,
    VOICE,
    WAVE,
    WHERE,
    file,
    message,
    plain,
    replacement,
    rich,
    to,
    upload,
)

BEA = "@_lin_b.example_bea:matrix.example"

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
        content={
            **upload("voice.ogg", "m.audio", duration=900),
            "org.matrix.msc3245.voice": {},
            "org.matrix.msc1767.audio": {"duration": 900, "waveform": [0, 512, 1024]},
        },
        seen={
            "part": file("voice.ogg", "ATTACHMENT"),
            "extensions": {INFO: {"duration": 900}, VOICE: True, WAVE: (0, 512, 1024)},
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

END_HERE = Says(name="end", content=message("That is all"), seen={"part": plain("That is all")})
