"""How a device comes into groups: its own, by a Welcome, by itself; and out of them."""

from __future__ import annotations

from collections.abc import Sequence

import openmls

from linearized.client.errors import UntrustedAnswer
from linearized.client.own_groups.commits import OwnCommits
from linearized.client.own_groups.looking import ROLE_ADMIN, group_ids, owners_of
from linearized.client.state import PendingCommit
from linearized.mimi.franking import franking_components
from linearized.mimi.participants import PARTICIPANT_LIST, ParticipantListData, UserRolePair
from linearized.mimi.policy.presets import Preset
from linearized.protocol.identifiers import group_id, user_uri


class Joining(OwnCommits):
    """The groups that a device is in."""

    def create_group(
        self,
        room_id: str,
        *,
        external_senders: Sequence[tuple[bytes, bytes]] = (),
        policy: Preset | None = None,
        franking_agent: bytes | None = None,
    ) -> tuple[bytes, bytes]:
        """Make the room's group with this device as its only member and its user as its only participant: an
        admin, or in the role that ``policy`` gives to who makes the room. With the hub's ``franking_agent``
        (encoded FrankingAgentData) its messages are franked.

        Returns the GroupInfo and ratchet tree of epoch 0, which go with the first commit.
        """
        role = ROLE_ADMIN if policy is None else policy.creator_role
        creator = UserRolePair(user=user_uri(self.owner.user_id), role_index=role)
        components = {} if policy is None else policy.components()
        franking = {} if franking_agent is None else franking_components(franking_agent)
        group = self.client.create_group(
            group_id=group_id(room_id),
            app_data={
                PARTICIPANT_LIST: ParticipantListData(participants=(creator,)).encode(),
                **components,
                **franking,
            },
            external_senders=external_senders,
            leaf_app_data=self.leaf_app_data,
        )
        self.record(room_id)
        self.save()
        return group.group_info()

    def join_welcome(
        self, room_id: str, *, welcome: bytes, ratchet_tree: bytes | None, commit_event_id: str | None
    ) -> int:
        """Join by Welcome (an MLSMessage); returns the epoch. The caller saves.

        Raises:
            UntrustedAnswer: the Welcome is for another room than the server says.
            openmls.MlsError: it is not for this device, or false.
        """
        lost = self.record(room_id).lost
        if lost or not self.in_group(room_id):
            self.drop_group(room_id)
        # A false Welcome must not keep us from rejoining what we lost.
        self.record(room_id).lost = lost
        group = self.client.join_welcome(welcome=welcome, ratchet_tree=ratchet_tree)
        if group.group_id not in group_ids(room_id):
            self.client.forget_group(group.group_id)
            raise UntrustedAnswer("the Welcome is for another room")
        record = self.record(room_id)
        record.commit_event_id, record.pending, record.lost = commit_event_id, None, False
        record.joined_epoch = group.epoch
        return group.epoch

    def join_external(
        self, room_id: str, *, group_info: bytes, ratchet_tree: bytes, proposals: Sequence[bytes], now: int
    ) -> PendingCommit:
        """Make the external commit that lets this device in, replacing a leaf it may have had; saved and
        pending.

        ``proposals`` are the pending proposals the hub listed; ``now`` is in seconds since the Unix epoch.

        Raises:
            UntrustedAnswer: the GroupInfo is of another room's group.
            openmls.MlsError: the GroupInfo or tree does not verify.
        """
        seen = openmls.PublicGroup.observe(group_info=group_info, ratchet_tree=ratchet_tree, now=now)
        if seen.group_id not in group_ids(room_id):
            raise UntrustedAnswer("the group information is of another room")
        own = [leaf for leaf, owner in owners_of(seen.members()).items() if owner.client == self.owner.client]
        _, bundle = self.client.join_external(
            group_info=group_info,
            ratchet_tree=ratchet_tree,
            replace_leaf=own[0] if own else None,
            proposals=_self_removes(seen, proposals, own),
            leaf_app_data=self.leaf_app_data,
        )
        return self._keep(room_id, bundle, external=True, initial=None)

    def forget(self, room_id: str) -> None:
        """Drop the room's group and whatever was pending in it."""
        self.drop_group(room_id)
        self.save()

    def drop_group(self, room_id: str) -> None:
        """As ``forget``. The caller saves."""
        for known in group_ids(room_id):
            if known in self.client.group_ids():
                self.client.forget_group(known)
        record = self.record(room_id)
        record.pending, record.lost, record.leaving = None, False, None


def _self_removes(group: openmls.PublicGroup, proposals: Sequence[bytes], own: Sequence[int]) -> list[bytes]:
    """The proposals an external commit may carry by reference: others have to wait for a member. Leaves of
    our ``own`` are replaced by value.
    """
    kept = []
    for proposal in proposals:
        try:
            found = group.stage_proposal(proposal)
            if found.kind == "self_remove" and found.removed_leaf not in own:
                kept.append(proposal)
        except openmls.MlsError:  # not valid in this epoch; the hub would refuse a commit that has it
            continue
    return kept
