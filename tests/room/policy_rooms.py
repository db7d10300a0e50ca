"""Rooms with a policy, and commits in them, for the tests of what a policy makes of a commit."""

from __future__ import annotations

from collections.abc import Mapping

from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ParticipantListUpdate,
    UserIndexRolePair,
)
from linearized.mimi.policy.operational import (
    AppMessagePolicy,
    ExtendedCapabilities,
    MinDefaultMaxTime,
    OperationalParameters,
    PendingProposalPolicy,
    PendingProposalStrategy,
)
from linearized.mimi.policy.presets import PRESETS, Preset
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_uri
from linearized.protocol.state import POWER_LEVELS
from linearized.room.room import Room
from linearized.room.submissions import Accepted, Handshake, LocalEvent
from tests.room.support import (
    ALICE,
    NOW,
    Member,
    handshake,
    new_room,
    participant_list,
)

OPEN = PRESETS["open"]


def found_room(
    preset: Preset = OPEN,
    *others: Member,
    role: int | None = None,
    initial: tuple[LocalEvent, ...] = (),
    more: Mapping[int, bytes] | None = None,
) -> tuple[Room, Member, Accepted]:
    """A room of a policy with a group of Alice and the others."""
    room, alice = new_room(initial=initial), Member(ALICE)
    data = {PARTICIPANT_LIST: participant_list((ALICE, preset.creator_role)), **preset.components()}
    accepted = room.submit(alice.create(app_data={**data, **(more or {})}), now=NOW)
    alice.accept()
    if others:
        accepted = room.submit(
            alice.add(*others, role=preset.roles.entry_role(preset.creator_role) if role is None else role),
            now=NOW,
        )
        alice.accept()
        for other in others:
            other.join(accepted)
    return room, alice, accepted


def component(sender: Member, number: int, update: bytes, data: bytes | None = None) -> Handshake:
    bundle = sender.joined().commit(
        app_data_updates={number: update}, new_app_data={number: update if data is None else data}
    )
    return handshake(sender, bundle)


def move(sender: Member, user_id: str, role: int, *, remove: tuple[int, ...] = ()) -> Handshake:
    index = sender.participants().index_of(user_uri(user_id))
    assert index is not None
    update = ParticipantListUpdate(changed=(UserIndexRolePair(user_index=index, role_index=role),))
    return sender.change(update, remove=remove)


def leaf_of(sender: Member, other: Member) -> int:
    return next(
        leaf.leaf_index for leaf in sender.joined().members() if leaf.identity == other.client.identity
    )


def written(accepted: Accepted) -> list[tuple[str, str | None, object]]:
    return [
        (entry.event.type, entry.event.state_key, entry.event.content.get("membership"))
        for entry in accepted.entries
    ]


def content(room: Room) -> JsonObject:
    return room.state[POWER_LEVELS].content


TIMES = MinDefaultMaxTime(minimum_time=0, default_time=0, maximum_time=0)


def operational(*, external_commits: bool, external_proposals: bool = True) -> bytes:
    return OperationalParameters(
        mandatory_capabilities=ExtendedCapabilities(),
        default_capabilities=ExtendedCapabilities(),
        forbidden_capabilities=ExtendedCapabilities(),
        handshake_formats=(1,),
        external_proposal_allowed=external_proposals,
        external_commit_allowed=external_commits,
        pending_proposal_policy=PendingProposalPolicy(
            pending_proposal_strategy=PendingProposalStrategy.UNSPECIFIED
        ),
        leaf_node_update_time=TIMES,
        app_message_policy=AppMessagePolicy(epoch_tolerance=0, pad_to_size=0, max_generations_skipahead=0),
        max_kp_lifetime=0,
        max_credential_lifetime=0,
        resumption_psk_lifetime=0,
        sender_nonce_keypair_lifetime=TIMES,
        max_keypairs=0,
        buffer_incoming_message_time=TIMES,
        max_buffered_messages=0,
    ).encode()
