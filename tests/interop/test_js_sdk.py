"""Two unmodified matrix-js-sdk clients in one node process do what people do with them.

About 3 s of a process of its own: a client that follows every step in Matrix's other implementation language.
"""

from __future__ import annotations

from pathlib import Path

from tests.interop.programs import environment, run_with_two_users

SCRIPT = Path(__file__).with_name("js_sdk") / "peer.mjs"


async def test_matrix_js_sdk_finds_what_it_asks_for(tmp_path: Path) -> None:
    environment("LINEARIZED_JS_SDK", "matrix-js-sdk")
    seen = await run_with_two_users(tmp_path, ["node", str(SCRIPT)])
    later = [f"later {number}" for number in range(1, 25)]
    assert (
        seen
        == {
            "whoami": "@bob:a.example",
            "profile": {"displayname": "Alice", "avatar_url": "the picture"},
            "download": [200, "image/png", True],
            "thumbnail": [200, "image/png"],
            "uploadLimit": "number",
            "invitedTo": "Harbour",
            "nameOfAlice": "Alice",
            "answers": True,
            "reactions": [["\N{ANCHOR}", 1]],
            "fetchedEdit": True,
            "thread": 1,
            "related": [True],
            "redacted": {},
            "fetchedRedacted": {},
            "topic": "Boats",
            "members": ["@alice:a.example", "@bob:a.example"],
            "joinedRooms": 1,
            "unread": 1,
            "accountData": {"colour": "blue"},
            "tags": {"m.favourite": {"order": 0.5}},
            "muted": [[True, ["dont_notify"]]],
            "devices": 1,
            "found": ["@alice:a.example"],
            "firstTimeline": later[-5:],
            "pagedTo": "m.room.create",
            "laterInOrder": later,
            "everyEventOnce": True,
            "around": True,
            "unreadLater": 0,  # the room is muted
            "gap": later[-5:],
            "afterForgetting": True,
            "afterLogout": "M_UNKNOWN_TOKEN",
            "stillIn": "@bob:a.example",
            "refused": [],  # the SDK goes on where a request fails, so this says that none did
        }
    )
