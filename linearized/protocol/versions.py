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
        stable: whether rooms of this version are for production.
        vouched_events: whether a hub may stand in for a sender's server, saying so in ``provenance``.
        single_hub: whether every event must come through the room's hub.
        sealed_messages: whether an encrypted room takes no plaintext messages.
        hub_transfers: whether an ``m.room.hub`` event makes another server the room's hub (rule L4).
        standalone_proposals: whether members, and the hub itself (rule L5), may propose to a group without
            committing.
        divided_commits: whether a commit larger than an event is divided over several (rule L7).
        parent_rooms: whether a room may depend on another one, and the hub take out who is not in that (rule
            L8).
        lpdu_hashes: whether a participant's part of an event has a content hash of its own, ``hashes.lpdu``.
        hub_server_always: whether a hub names itself in ``hub_server`` of its own users' events, too.
        hashes_unsigned: whether content hashes cover ``unsigned``.
        limits_in_bytes: whether the limits of fields count UTF-8 bytes (Matrix) instead of characters.
        code_point_order: whether canonical JSON sorts keys by code point (Matrix) instead of by UTF-16 code
            unit (RFC 8785).
        kept_inner: of fields of ``content`` that are kept, the fields inside that are, by event type and
            field; the others are kept whole.
        hub_rules: whether a ``hub_server`` must be the room's hub (rules H1 and H2).
        federate_rule: whether ``m.federate: false`` keeps other servers' users out (rule M1).
        authorised_join_rules: join rules under which a member's server may let in who is not invited (rule
            M2).
        level_maps: fields of ``m.room.power_levels`` that hold a level for each of their entries.
        protects_equals: whether a user of the sender's own level may not be lowered or removed (rule 9.8).
        state_level_without_event: the level state events need where nobody has set power levels.
    """

    name: str
    kept_fields: frozenset[str]
    kept_content: Mapping[str, frozenset[str] | None] = field(hash=False)
    invite_join_rules: frozenset[str]
    knock_join_rules: frozenset[str]
    stable: bool = False
    vouched_events: bool = False
    single_hub: bool = False
    sealed_messages: bool = False
    hub_transfers: bool = False
    standalone_proposals: bool = False
    divided_commits: bool = False
    parent_rooms: bool = False
    lpdu_hashes: bool = True
    hub_server_always: bool = False
    hashes_unsigned: bool = True
    limits_in_bytes: bool = False
    code_point_order: bool = False
    kept_inner: Mapping[tuple[str, str], frozenset[str]] = field(
        hash=False, default_factory=lambda: MappingProxyType({})
    )
    hub_rules: bool = False
    federate_rule: bool = False
    authorised_join_rules: frozenset[str] = frozenset()
    level_maps: tuple[str, ...] = ("events",)
    protects_equals: bool = False
    state_level_without_event: int = 50


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
    # "I.1 shall be considered stable." "org.matrix.i-d.ralston-mimi-linearized-matrix.02 is considered
    # unstable."
    stable=True,
)

# "Currently I.1 is not a real thing. Use org.matrix.i-d.ralston-mimi-linearized-matrix.02 when testing
# against other Linearized Matrix implementations."
_I_1_TESTING = replace(_I_1, name="org.matrix.i-d.ralston-mimi-linearized-matrix.02", stable=False)

# "org.matrix.i-d.ralston-mimi-linearized-matrix.00 also exists in the wild, defining a set of algorithms
# which exist in a prior version of this document (00 and 01)." What draft-ralston-mimi-linearized-matrix-01
# says otherwise: an LPDU has no hashes ("hashes - the hashes cover the above two fields"), so what a
# participant's signature covers of a content is what redaction keeps; "all events created within Linearized
# Matrix will have this field [hub_server] set"; "Remove any existing unsigned, signatures, and hashes fields"
# before hashing.
_I_D_00 = replace(
    _I_1,
    name="org.matrix.i-d.ralston-mimi-linearized-matrix.00",
    lpdu_hashes=False,
    hub_server_always=True,
    hashes_unsigned=False,
    stable=False,
)

# "implementations should use org.matrix.msc3995 as the room version, using room version 10 as a base", with
# MSC2174, MSC2175, MSC2176, MSC3821 and MSC3989 on top: the event format of the drafts 00 and 01, redaction
# as in Matrix room version 11 but for depth and hub_server, and Matrix's canonical JSON and rules.
_MSC3995 = replace(
    _I_D_00,
    name="org.matrix.msc3995",
    code_point_order=True,
    limits_in_bytes=True,
    kept_content=MappingProxyType(
        {
            **_I_1.kept_content,
            "m.room.member": frozenset(
                {"membership", "join_authorised_via_users_server", "third_party_invite"}
            ),
            "m.room.join_rules": frozenset({"join_rule", "allow"}),
            "m.room.redaction": frozenset({"redacts"}),
        }
    ),
    kept_inner=MappingProxyType({("m.room.member", "third_party_invite"): frozenset({"signed"})}),
    invite_join_rules=_I_1.invite_join_rules | {"restricted", "knock_restricted"},
    knock_join_rules=_I_1.knock_join_rules | {"knock_restricted"},
    hub_rules=True,
    federate_rule=True,
    authorised_join_rules=frozenset({"restricted", "knock_restricted"}),
    level_maps=("events", "notifications"),
    protects_equals=True,
    state_level_without_event=0,
)

_DEV_1 = replace(
    _I_1,
    name="dev.linearized.1",
    kept_fields=_I_1.kept_fields | {"provenance"},
    # Rules L4 and L6 read it, and a redacted transfer is one all the same.
    kept_content=MappingProxyType({**_I_1.kept_content, "m.room.hub": frozenset({"after", "takeover"})}),
    # Bridged rooms have these rules; who was invited may join under them, as in Matrix room versions 8 to 11.
    invite_join_rules=_I_1.invite_join_rules | {"restricted", "knock_restricted"},
    knock_join_rules=_I_1.knock_join_rules | {"knock_restricted"},
    vouched_events=True,
    single_hub=True,
    sealed_messages=True,
    hub_transfers=True,
    standalone_proposals=True,
    divided_commits=True,
    parent_rooms=True,
)

ROOM_VERSIONS: Mapping[str, RoomVersion] = MappingProxyType(
    {version.name: version for version in (_I_1, _I_1_TESTING, _I_D_00, _MSC3995, _DEV_1)}
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
