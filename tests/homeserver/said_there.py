"""What is said at b.example in the day, of every kind, and what Matrix has to see of it: the table in
``docs/bridge.md`` against programs that know nothing of it.
"""

from __future__ import annotations

from dataclasses import replace

from linearized.mimi.content import (
    MARKDOWN,
    PLAIN,
    Disposition,
    Expiration,
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
from tests.homeserver.scene import Writes
from tests.homeserver.shapes import (
    FILES,
    HTML,
    HTML_FORMAT,
    INFO,
    MENTIONS,
    MSGTYPE,
    TO,
    VOICE,
    WAVE,
    WHERE,
    message,
    replacement,
    salt,
    sealed,
    shared,
    single,
    to,
)

DAY_S = 86_400

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
            extensions={VOICE: True, WAVE: (9, 8), INFO: {"duration": 700}},
        ),
        seen=[
            {
                "content": shared(
                    "memo.ogg",
                    "m.audio",
                    info={"duration": 700},
                    voice={"duration": 700, "waveform": [9, 8]},
                )
            }
        ],
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

END_THERE = Writes(
    name="over",
    make=lambda room: text("All of it", salt=salt(room, "over")),
    seen=[{"content": message("All of it")}],
)
