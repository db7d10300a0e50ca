"""The groups of a device, to look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import openmls

from linearized.client.errors import NotInGroup
from linearized.client.identity import LeafOwner, leaf_owner
from linearized.client.state import RoomRecord, SavedState
from linearized.client.storage import StateStorage
from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.bridged import BridgedClient, bridged_client
from linearized.mimi.franking import agent_uri
from linearized.mimi.media_types import leaf_components
from linearized.mimi.participants import FRANKING_AGENT, PARTICIPANT_LIST, ParticipantListData
from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.common import Optionality
from linearized.mimi.policy.components import ROLES_LIST
from linearized.mimi.policy.roles import NO_ROLE, RoleData
from linearized.mimi.policy.status import read_receipts
from linearized.mimi.room_policy import ADMIN, REGULAR, role_of_power_level
from linearized.protocol.identifiers import group_id, room_domain, user_domain, user_uri

CIPHERSUITE = openmls.CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519
# Role indices of the participant list.
ROLE_REGULAR = REGULAR.index
ROLE_ADMIN = ADMIN.index
_WAYS_IN = (Capability.OPEN_JOIN, Capability.USE_JOIN_CODE)


class OwnGroups:
    """A device's MLS client and saved state, and what they say of each room."""

    def __init__(self, client: openmls.Client, state: SavedState, storage: StateStorage) -> None:
        self.client = client
        self.state = state
        self._storage = storage
        # What the leaves of this device say of it, by component ID; the same in each group.
        self.leaf_app_data: Mapping[int, bytes] = leaf_components()
        self.owner = leaf_owner(client.credential, signature_key=client.signature_key)

    def __repr__(self) -> str:
        return f"MlsDevice({self.owner.client_uri})"

    def save(self) -> None:
        """Write the whole state."""
        self.state.mls = self.client.save()
        self._storage.save(self.state.encode())

    def record(self, room_id: str) -> RoomRecord:
        """The room's record, made on first use."""
        return self.state.rooms.setdefault(room_id, RoomRecord())

    def group(self, room_id: str) -> openmls.Group:
        """The room's group.

        Raises:
            NotInGroup: this device is in none.
        """
        for candidate in group_ids(room_id):
            try:
                group = self.client.group(candidate)
                if group.is_active:
                    return group
            except openmls.UnknownGroup:  # try the other form of the ID
                continue
        raise NotInGroup(f"{self.owner.client_uri} is not in the group of {room_id}")

    def in_group(self, room_id: str) -> bool:
        """Whether this device can read and write in the room now."""
        try:
            self.group(room_id)
        except NotInGroup:  # that is the question
            return False
        return True

    def epoch(self, room_id: str) -> int:
        """The epoch of the room's group, as far as this device has followed it."""
        return self.group(room_id).epoch

    def state_epoch(self, room_id: str) -> int | None:
        """As ``epoch``, ``None`` outside the group."""
        return self.epoch(room_id) if self.in_group(room_id) else None

    def participants(self, room_id: str) -> ParticipantListData:
        """The room's participant list (user URIs and role indices)."""
        return ParticipantListData.decode(self.group(room_id).app_data()[PARTICIPANT_LIST])

    def sends_read_receipts(self, room_id: str, *, wanted: bool) -> bool:
        """Whether to report what one has read: as the room's policy says, and where it leaves that open, as
        its user wants.

        Raises:
            MimiDecodeError: the room's policy is malformed.
        """
        policy = read_receipts(self.group(room_id).app_data())
        return wanted if policy is Optionality.OPTIONAL else policy is Optionality.REQUIRED

    def entry_role(self, room_id: str) -> int:
        """The role of users whom this device adds without naming one."""
        data = self.group(room_id).app_data().get(ROLES_LIST)
        if data is None:
            return ROLE_REGULAR
        own = self.participants(room_id).role_of(user_uri(self.owner.user_id))
        return RoleData.decode(data).entry_role(NO_ROLE if own is None else own)

    def arrival_role(self, room_id: str) -> int:
        """The role of users who came by themselves: what the room gives to everybody, if it does."""
        data = self.group(room_id).app_data().get(ROLES_LIST)
        roles = None if data is None else RoleData.decode(data)
        lobby = None if roles is None else roles.role(NO_ROLE)
        if roles is None or lobby is None or not any(lobby.has(way) for way in _WAYS_IN):
            return self.entry_role(room_id)
        return roles.entry_role(NO_ROLE)

    def members(self, room_id: str) -> dict[int, LeafOwner]:
        """Who sits on which leaf; leaves with unreadable credentials are left out."""
        return owners_of(self.group(room_id).members())

    def bridged(self, room_id: str) -> dict[int, BridgedClient]:
        """The leaves of clients that a bridge runs, by what it says of them: their users' end of the
        encryption is the bridge's, not theirs.
        """
        said = {leaf.leaf_index: bridged_client(leaf.app_data) for leaf in self.group(room_id).members()}
        return {index: bridged for index, bridged in said.items() if bridged is not None}

    def hub(self, room_id: str) -> str:
        """The provider that orders the room, as far as the log has told."""
        return self.record(room_id).hub or room_domain(room_id)

    def needs_agent(self, room_id: str) -> bool:
        """Whether the room has moved to this device's provider, and its group names the franking agent of
        the hub before.
        """
        hub = self.record(room_id).hub
        if hub is None or hub != user_domain(self.owner.user_id) or not self.is_franked(room_id):
            return False
        try:
            return agent_uri(self.group(room_id).app_data()[FRANKING_AGENT]) != f"mimi://{hub}"
        except MimiDecodeError:
            return True  # whatever it is, it is not the hub's

    def needs_sender(self, room_id: str) -> bool:
        """Whether the room has moved to this device's provider, which is no external sender of its group."""
        hub = self.record(room_id).hub
        if hub != user_domain(self.owner.user_id) or PARTICIPANT_LIST not in self.group(room_id).app_data():
            return False
        name = f"mimi://{hub}".encode()
        return all(identity != name for _, identity in self.group(room_id).external_senders())

    def senders_with(self, room_id: str, hub: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """The external senders that a group is to have once its room has moved: the new hub (raw public key
        and content of its basic credential) in the place of those before.
        """
        record = self.record(room_id)
        hubs = {f"mimi://{name}".encode() for name in (record.hub, record.former_hub, room_domain(room_id))}
        others = [sender for sender in self.group(room_id).external_senders() if sender[1] not in hubs]
        return [hub, *others]

    def is_franked(self, room_id: str) -> bool:
        """Whether the hub stamps the room's messages, so that each commits to its content."""
        return self.in_group(room_id) and FRANKING_AGENT in self.group(room_id).app_data()


def role_index(power_level: int) -> int:
    """The role a user of that power level has in the participant list."""
    return role_of_power_level(power_level).index


def group_ids(room_id: str) -> tuple[bytes, bytes]:
    """The IDs that the group of a room may have."""
    return group_id(room_id), room_id.encode()


def owners_of(members: Iterable[openmls.Member]) -> dict[int, LeafOwner]:
    """Who sits on which leaf; leaves with unreadable credentials are left out."""
    owners: dict[int, LeafOwner] = {}
    for member in members:
        try:
            owners[member.leaf_index] = leaf_owner(member.credential, signature_key=member.signature_key)
        except IdentifierError:
            # Another implementation's credential, or somebody's pseudonym; a member all the same.
            continue
    return owners
