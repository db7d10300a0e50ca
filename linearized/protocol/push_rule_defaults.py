"""The predefined push rules (Client-Server API, Push Rules, Predefined Rules), as data."""

from __future__ import annotations

from typing import Any, Final

from linearized.protocol.canonical import JsonObject

KINDS: Final = ("override", "content", "room", "sender", "underride")
"""In the order in which a client tries them."""

_SOUND: Final = {"set_tweak": "sound", "value": "default"}
_RING: Final = {"set_tweak": "sound", "value": "ring"}
_HIGHLIGHT: Final = {"set_tweak": "highlight"}


def _match(key: str, pattern: str) -> JsonObject:
    return {"kind": "event_match", "key": key, "pattern": pattern}


def _rule(rule_id: str, conditions: list[JsonObject], *actions: Any, enabled: bool = True) -> JsonObject:
    return {
        "rule_id": rule_id,
        "default": True,
        "enabled": enabled,
        "conditions": conditions,
        "actions": list(actions),
    }


def default_rules(user_id: str) -> JsonObject:
    """What a user has who has changed nothing: rules by kind."""
    localpart = user_id[1:].partition(":")[0]
    two = {"kind": "room_member_count", "is": "2"}
    named = {"kind": "contains_display_name"}
    all_may = {"kind": "sender_notification_permission", "key": "room"}
    mentioned = {
        "kind": "event_property_contains",
        "key": r"content.m\.mentions.user_ids",
        "value": user_id,
    }
    everybody = {"kind": "event_property_is", "key": r"content.m\.mentions.room", "value": True}
    edited = {
        "kind": "event_property_is",
        "key": r"content.m\.relates_to.rel_type",
        "value": "m.replace",
    }
    invited = [
        _match("type", "m.room.member"),
        _match("content.membership", "invite"),
        _match("state_key", user_id),
    ]
    no_state = _match("state_key", "")
    return {
        "override": [
            _rule(".m.rule.master", [], enabled=False),
            _rule(".m.rule.suppress_notices", [_match("content.msgtype", "m.notice")]),
            _rule(".m.rule.invite_for_me", invited, "notify", _SOUND),
            _rule(".m.rule.member_event", [_match("type", "m.room.member")]),
            _rule(".m.rule.is_user_mention", [mentioned], "notify", _SOUND, _HIGHLIGHT),
            # Clients that know no mentions look for names; "deprecated", and still predefined.
            _rule(".m.rule.contains_display_name", [named], "notify", _SOUND, _HIGHLIGHT),
            _rule(".m.rule.is_room_mention", [everybody, all_may], "notify", _HIGHLIGHT),
            _rule(".m.rule.roomnotif", [_match("content.body", "@room"), all_may], "notify", _HIGHLIGHT),
            _rule(".m.rule.tombstone", [_match("type", "m.room.tombstone"), no_state], "notify", _HIGHLIGHT),
            _rule(".m.rule.reaction", [_match("type", "m.reaction")]),
            _rule(".m.rule.room.server_acl", [_match("type", "m.room.server_acl"), no_state]),
            _rule(".m.rule.suppress_edits", [edited]),
        ],
        "content": [
            {
                "rule_id": ".m.rule.contains_user_name",
                "default": True,
                "enabled": True,
                "pattern": localpart,
                "actions": ["notify", _SOUND, _HIGHLIGHT],
            }
        ],
        "room": [],
        "sender": [],
        "underride": [
            _rule(".m.rule.call", [_match("type", "m.call.invite")], "notify", _RING),
            _rule(
                ".m.rule.encrypted_room_one_to_one",
                [two, _match("type", "m.room.encrypted")],
                "notify",
                _SOUND,
            ),
            _rule(".m.rule.room_one_to_one", [two, _match("type", "m.room.message")], "notify", _SOUND),
            _rule(".m.rule.message", [_match("type", "m.room.message")], "notify"),
            _rule(".m.rule.encrypted", [_match("type", "m.room.encrypted")], "notify"),
        ],
    }
