"""Room versions as data, each built on its predecessor (draft, Room Versions)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from linearized.exceptions import EventFormatError


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomVersion:
    """What one room version's algorithms need to know.

    Attributes:
        name: the string in ``m.room.create``'s ``content.room_version``.
        kept_fields: top-level fields that survive redaction.
        kept_content: fields of ``content`` that survive redaction, by event type; None keeps all of them.
        invite_join_rules: join rules under which an invited user may join.
        knock_join_rules: join rules under which a user may knock.
        vouched_events: whether a hub may stand in for a sender's server, saying so in ``provenance``.
        single_hub: whether every event must come through the room's hub.
        sealed_messages: whether an encrypted room takes no plaintext messages.
        hub_transfers: whether an ``m.room.hub`` event makes another server the room's hub (rule L4).
    """

    name: str
    kept_fields: frozenset[str]
    kept_content: Mapping[str, frozenset[str] | None] = field(hash=False)
    invite_join_rules: frozenset[str]
    knock_join_rules: frozenset[str]
    vouched_events: bool = False
    single_hub: bool = False
    sealed_messages: bool = False
    hub_transfers: bool = False


# Draft, Event Redactions.
_I_1 = RoomVersion(
    name="I.1",
    kept_fields=frozenset(
        {
            "type",
            "room_id",
            "sender",
            "state_key",
            "content",
            "origin_server_ts",
            "hashes",
            "signatures",
            "prev_events",
            "auth_events",
            "hub_server",
        }
    ),
    kept_content=MappingProxyType(
        {
            "m.room.create": None,
            "m.room.member": frozenset({"membership"}),
            "m.room.join_rules": frozenset({"join_rule"}),
            "m.room.power_levels": frozenset(
                {
                    "ban",
                    "events",
                    "events_default",
                    "kick",
                    "redact",
                    "state_default",
                    "users",
                    "users_default",
                    "invite",
                }
            ),
            "m.room.history_visibility": frozenset({"history_visibility"}),
        }
    ),
    invite_join_rules=frozenset({"invite", "knock"}),
    knock_join_rules=frozenset({"knock"}),
)

# "Currently I.1 is not a real thing. Use org.matrix.i-d.ralston-mimi-linearized-matrix.02 when testing
# against other Linearized Matrix implementations."
_I_1_TESTING = replace(_I_1, name="org.matrix.i-d.ralston-mimi-linearized-matrix.02")

_DEV_1 = replace(
    _I_1,
    name="dev.linearized.1",
    kept_fields=_I_1.kept_fields | {"provenance"},
    # Rule L4 reads it, and a redacted transfer is one all the same.
    kept_content=MappingProxyType({**_I_1.kept_content, "m.room.hub": frozenset({"after"})}),
    # Bridged rooms have these rules; who was invited may join under them, as in Matrix room versions 8 to 11.
    invite_join_rules=_I_1.invite_join_rules | {"restricted", "knock_restricted"},
    knock_join_rules=_I_1.knock_join_rules | {"knock_restricted"},
    vouched_events=True,
    single_hub=True,
    sealed_messages=True,
    hub_transfers=True,
)

ROOM_VERSIONS: Mapping[str, RoomVersion] = MappingProxyType(
    {version.name: version for version in (_I_1, _I_1_TESTING, _DEV_1)}
)
DEFAULT_ROOM_VERSION = _DEV_1.name


def get_version(name: object) -> RoomVersion:
    """Look up a room version by the name an ``m.room.create`` event gives.

    Raises:
        EventFormatError: the name is no string or not one we know.
    """
    version = ROOM_VERSIONS.get(name) if isinstance(name, str) else None
    if version is None:
        raise EventFormatError("unknown room version")
    return version
