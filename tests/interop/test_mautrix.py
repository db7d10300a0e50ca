"""Two unmodified mautrix clients, in an environment of their own, do what people and bots do with them."""

from __future__ import annotations

from pathlib import Path

from tests.interop.programs import environment, run_with_two_users

SCRIPT = Path(__file__).with_name("mautrix_peer.py")


async def test_mautrix_finds_what_it_asks_for(tmp_path: Path) -> None:
    python = environment("LINEARIZED_MAUTRIX_PYTHON", "mautrix")
    seen = await run_with_two_users(tmp_path, [python, str(SCRIPT)])
    assert seen == {
        "versions": True,
        "whoami": "@bob:a.example",
        "profile": ["Alice", True],
        "file": True,
        "invited": True,
        "joined": True,
        "members": {"@alice:a.example": "Alice", "@bob:a.example": ""},
        "state": [
            "m.room.create",
            "m.room.guest_access",
            "m.room.history_visibility",
            "m.room.join_rules",
            "m.room.member",
            "m.room.name",
            "m.room.power_levels",
            "m.room.topic",
        ],
        "heard": [True, "first", "<b>first</b>"],
        "reaction": [True, "\N{ANCHOR}"],
        "edit": [True, "better"],
        "answer": True,
        "redaction": [True, True, "too soon"],
        "redacted": {},
        "typing": ["@bob:a.example"],
        "receipts": [[True, "m.read", ["@bob:a.example"]]],
        "markers": ["m.fully_read", "m.tag"],
        "account_data": {"colour": "blue"},
        "tags": {"tags": {"m.favourite": {"order": 0.5}}},
        "limited": [True, 5],
        "paged": [3, True, "m.room.create"],
        "context": ["read this", 2, 2],
        "left": [True, "@bob:a.example", "leave", "enough"],
        "after_logout": ["M_UNKNOWN_TOKEN", True],
        "still_in": "@alice:a.example",
        "unparsed": [],
    }
