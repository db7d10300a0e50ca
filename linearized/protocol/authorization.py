"""Whether an event may be appended to a room (draft, Authorization Rules).

One function per group of rules, in the draft's order, with the draft's sentence above each check. Rules 1 and
2 (signatures) are ``verify_event``'s. Rules L1 to L8 are those ``dev.linearized.1`` adds, H1 and H2 are
MSC3995's, M1 and M2 those of Matrix that the draft left out; room version data turns them on. Every refusal
is an ``AuthorizationError`` that carries the rule's number.
"""

from __future__ import annotations

from collections.abc import Mapping

from linearized.exceptions import AuthorizationError
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.hub_rules import check_transfer, is_takeover
from linearized.protocol.identifiers import hub_user, is_user_id, room_domain, user_domain
from linearized.protocol.membership_rules import check_member_shape, check_membership
from linearized.protocol.power_level_rules import check_power_levels, check_power_levels_shape
from linearized.protocol.power_levels import level_to_send, user_level
from linearized.protocol.state import (
    AUTHORISED,
    CREATE,
    HUB,
    JOIN_RULES,
    POWER_LEVELS,
    StateMap,
    algorithm_of,
    create_event,
    encryption_algorithm,
    hub_of,
    membership,
)
from linearized.protocol.versions import RoomVersion

COMMIT = "m.mls.commit"
COMMIT_PART = "dev.linearized.mls.commit_part"
PROPOSAL = "m.mls.proposal"
SEALED_TYPES = frozenset({COMMIT, COMMIT_PART, PROPOSAL, "m.room.encrypted"})
"""The only non-state events of an encrypted ``dev.linearized.1`` room once it has a group."""


def select_auth_events(
    *,
    type: str,  # noqa: A002 - as on the wire
    state_key: str | None,
    sender: str,
    content: JsonObject,
    state: StateMap,
    version: RoomVersion,
) -> list[str]:
    """Give the IDs of the state events that show a sender may send an event (draft, Auth Events Selection).

    Empty for a create event; otherwise the create event comes first.
    """
    keys = _selection(type=type, state_key=state_key, sender=sender, content=content, version=version)
    return [state[key].event_id for key in keys if key in state]


def authorize(
    event: Event,
    state: StateMap,
    *,
    version: RoomVersion,
    first_commit_seen: bool = False,
    auth_events: Mapping[str, Event] | None = None,
) -> None:
    """Check an event against the state of the room before it.

    ``first_commit_seen`` says whether the log already holds an ``m.mls.commit``. ``auth_events`` resolves
    event IDs that are no longer current state (a peer may refer to a superseded event); without it, such an
    ID is refused.

    Raises:
        AuthorizationError: the event is not allowed.
    """
    if event.type == "m.room.create":
        _check_create(event, state, version)
        return
    _check_auth_events(event, state, auth_events or {}, version)
    # A takeover is the one event that does not come through the hub, which is gone: L6 is its rule.
    if version.single_hub and not (version.hub_transfers and is_takeover(event)):
        _check_hub(event, state)
    if version.hub_transfers and event.type == "m.room.hub":
        check_transfer(event, state)
    if version.hub_rules:
        _check_hub_server(event, state)
    if version.federate_rule:
        _check_federate(event, state)
    if event.imported:
        _check_imported(event, version, first_commit_seen=first_commit_seen)
        return
    if version.sealed_messages:
        _check_sealed(event, state, first_commit_seen=first_commit_seen)
    if event.type == "m.room.member":
        check_membership(event, state, version)
        return
    # L5. Allow a proposal that the room's hub makes itself, as an external sender of the group (MIMI
    # protocol, Authenticating proposals). It moves no membership; what it proposes follows from the state.
    if (
        version.standalone_proposals
        and event.type == PROPOSAL
        and not event.is_state
        and event.sender == hub_user(hub_of(state))
    ):
        return
    _check_sender(event, state, version)
    # 9. If the event's type is m.room.power_levels:
    if event.type == "m.room.power_levels":
        check_power_levels(event, state, version)
    # 10. Otherwise, allow the event.


def _selection(
    *,
    type: str,  # noqa: A002 - as on the wire
    state_key: str | None,
    sender: str,
    content: JsonObject,
    version: RoomVersion,
) -> list[tuple[str, str]]:
    # "The auth_events on an event MUST consist of the following state events, with the exception of an
    # m.room.create event which has no auth_events."
    if type == "m.room.create":
        return []
    # 1. The m.room.create state event. 2. The current m.room.power_levels state event, if any.
    # 3. The sender's current m.room.member state event, if any.
    keys = [CREATE, POWER_LEVELS, ("m.room.member", sender)]
    if type == "m.room.member":
        # 4.1. The target's (state_key) current m.room.member state event, if any.
        if state_key is not None and state_key != sender:
            keys.append(("m.room.member", state_key))
        # 4.2. If content.membership is join or invite, the current m.room.join_rules state event, if any.
        if content.get("membership") in ("join", "invite"):
            keys.append(JOIN_RULES)
        # Matrix, Auth events selection: "If membership is join, content.join_authorised_via_users_server is
        # present, and the room version supports restricted rooms, then the m.room.member event with state_key
        # set to content.join_authorised_via_users_server."
        authoriser = content.get(AUTHORISED)
        if version.authorised_join_rules and content.get("membership") == "join" and is_user_id(authoriser):
            member = ("m.room.member", str(authoriser))
            if member not in keys:
                keys.append(member)
    # MSC3995, Auth rule changes: an event "must reference the m.room.hub state event (if any)"; here the next
    # transfer alone, so that whoever is shown the last one can follow them back to the room's creator.
    if version.hub_transfers and type == "m.room.hub":
        keys.append(HUB)
    return keys


def _check_create(event: Event, state: StateMap, version: RoomVersion) -> None:
    # "The very first event in the room. It MUST NOT have any auth_events or prev_events … The state_key MUST
    # be an empty string." (m.room.create; the algorithm below leaves all but prev_events out.)
    if state:
        raise AuthorizationError("3", "the room has a create event already")
    if event.auth_events:
        raise AuthorizationError("3", "a create event has no auth events")
    if event.state_key != "":
        raise AuthorizationError("3", "a create event's state key is empty")
    # 3.1. If it has any prev_events, reject the event.
    if event.prev_events:
        raise AuthorizationError("3.1", "a create event has no previous event")
    # 3.2. If the domain of the room_id is not the same domain as the sender, reject the event.
    if room_domain(event.room_id) != user_domain(event.sender):
        raise AuthorizationError("3.2", "the room ID is in another server's namespace than the creator")
    # 3.3. If content.room_version is not I.1, reject the event.
    if event.content.get("room_version") != version.name:
        raise AuthorizationError("3.3", f"the room version is not {version.name}")
    # A room that is meant to be encrypted must not come out as one that is not.
    if version.sealed_messages and "encryption" in event.content and algorithm_of(event) is None:
        raise AuthorizationError("L3", "the create event names no encryption algorithm")
    # 3.4. Otherwise, allow the event.


def _check_auth_events(
    event: Event, state: StateMap, resolve: Mapping[str, Event], version: RoomVersion
) -> None:
    selected = _selection(
        type=event.type,
        state_key=event.state_key,
        sender=event.sender,
        content=event.content,
        version=version,
    )
    current = {state[key].event_id: key for key in selected if key in state}
    seen: set[tuple[str, str | None]] = set()
    for event_id in event.auth_events:
        key = current.get(event_id) or _resolved_key(event, resolve.get(event_id))
        # 4.1. If there are duplicate entries for a given type and state_key pair, reject the event.
        if key in seen:
            raise AuthorizationError("4.1", f"two auth events are {key[0]}")
        # 4.2. If there are entries whose type and state_key do not match those specified by the auth events
        # selection algorithm, reject the event.
        if key not in selected:
            raise AuthorizationError("4.2", f"{key[0]} does not belong among the auth events")
        seen.add(key)
    # 4.3. If there is no m.room.create event among the entries, reject.
    if CREATE not in seen:
        raise AuthorizationError("4.3", "the create event is not among the auth events")


def _resolved_key(event: Event, found: Event | None) -> tuple[str, str | None]:
    if found is None:
        raise AuthorizationError("4.2", "an auth event is not known in this room's state")
    if found.room_id != event.room_id:
        raise AuthorizationError("4.2", "an auth event is of another room")
    return found.type, found.state_key


def _check_hub(event: Event, state: StateMap) -> None:
    # L1. Every event comes through the hub: its hub_server, or without one its sender's server, is the room's
    # hub. Without this any server could vouch for any user.
    hub = hub_of(state)
    if (event.hub_server or user_domain(event.sender)) != hub:
        raise AuthorizationError("L1", f"the event did not come through the room's hub, {hub}")


def _check_hub_server(event: Event, state: StateMap) -> None:
    # H1. MSC3995, Auth rule changes: "If the event contains a hub_server field and it is not the current room
    # hub origin, reject."
    hub = hub_of(state)
    if event.hub_server is not None and event.hub_server != hub:
        raise AuthorizationError("H1", f"the event came through another hub than the room's, {hub}")
    # H2. Hub transfers are not taken in MSC3995's room version: who of two servers would send and sign the
    # event is an open question there, and an event that only some servers count as a transfer splits the
    # room.
    if event.type == "m.room.hub":
        raise AuthorizationError("H2", "the hub of this room cannot be transferred")


def _check_federate(event: Event, state: StateMap) -> None:
    # M1. Matrix room version 10, rule 3: "If the content of the m.room.create event in the room state has the
    # property m.federate set to false, and the sender domain of the event does not match the sender domain of
    # the create event, reject."
    create = create_event(state)
    if create.content.get("m.federate") is False and user_domain(event.sender) != user_domain(create.sender):
        raise AuthorizationError("M1", "the room is for users of its creator's server")


def _check_imported(event: Event, version: RoomVersion, *, first_commit_seen: bool) -> None:
    # L2. Imported history stands before the room's first commit and is never a handshake. The homeserver it
    # comes from applied its own membership and power rules; what later rules will read must still have their
    # shape.
    if first_commit_seen:
        raise AuthorizationError("L2", "history cannot be imported after the first commit")
    if event.type.startswith("m.mls.") or event.type == COMMIT_PART:
        raise AuthorizationError("L2", "a handshake cannot be imported")
    if event.type == "m.room.member":
        check_member_shape(event)
    if event.type == "m.room.power_levels":
        check_power_levels_shape(event, version)


def _check_sealed(event: Event, state: StateMap, *, first_commit_seen: bool) -> None:
    # L3. In an encrypted room a non-state event is a handshake or an encrypted message; before the first
    # commit there is no group yet, so only that commit, and its parts before it.
    if event.is_state or encryption_algorithm(state) is None:
        return
    if event.type not in SEALED_TYPES:
        raise AuthorizationError("L3", "an encrypted room takes no plaintext messages")
    if not first_commit_seen and event.type not in {COMMIT, COMMIT_PART}:
        raise AuthorizationError("L3", "the room has no MLS group yet")


def _check_sender(event: Event, state: StateMap, version: RoomVersion) -> None:
    # 6. If the sender's current membership state is not join, reject the event.
    if membership(state, event.sender) != "join":
        raise AuthorizationError("6", "the sender is not joined to the room")
    # 7. If the event type's required power level to send it is greater than the sender's power level, reject
    # the event. L7. A part of a commit needs what the commit needs.
    part = version.divided_commits and event.type == COMMIT_PART
    needed = level_to_send(state, COMMIT if part else event.type, event.is_state, version)
    if needed > user_level(state, event.sender):
        raise AuthorizationError("7", f"the sender's power level does not suffice for {event.type}")
    # 8. If the event has a state_key which starts with an @ and does not match the sender, reject the event.
    if event.state_key is not None and event.state_key.startswith("@") and event.state_key != event.sender:
        raise AuthorizationError("8", "the state key is another user's")
