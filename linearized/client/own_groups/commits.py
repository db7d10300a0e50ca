"""Commits and proposals of a device: made, kept until the hub has decided, and merged or dropped."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from hashlib import sha256

import openmls

from linearized.client.app_data import new_app_data
from linearized.client.own_groups.looking import CIPHERSUITE, OwnGroups, group_ids
from linearized.client.pending import drop, is_leaving, leaving_leaves, propose_leave, references
from linearized.client.state import PendingCommit
from linearized.mimi.handshake import (
    GroupInfoOption,
    HandshakeBundle,
    PartialGroupInfo,
    RatchetTreeOption,
    RatchetTreePresence,
    RatchetTreeRepresentation,
    welcome_struct,
)
from linearized.protocol.identifiers import user_uri

# Makes a commit in the group as it is now, or finds nothing left to do.
Change = Callable[[openmls.Group], openmls.CommitBundle | None]


class OwnCommits(OwnGroups):
    """The changes of its groups that a device makes."""

    # --- proposals ---

    def propose_leave(self, room_id: str) -> bytes:
        """The bundle of proposals by which this device's user leaves the room; saved before it is returned,
        and made once in an epoch.

        Raises:
            NotInGroup: this device is in no group.
        """
        group, record = self.group(room_id), self.record(room_id)
        known = record.leaving
        if (
            known is None
            or openmls.inspect_message(HandshakeBundle.decode(known).message).epoch != group.epoch
        ):
            known = record.leaving = propose_leave(group, self.owner)
            self.save()
        return known

    def left(self, room_id: str) -> None:
        """The hub knows that this user leaves."""
        self.record(room_id).leaving = None
        self.save()

    def withdraw_leave(self, room_id: str) -> None:
        """The hub did not take the proposals by which this user leaves: forget them."""
        record = self.record(room_id)
        if record.leaving is not None and self.in_group(room_id):
            group, bundle = self.group(room_id), HandshakeBundle.decode(record.leaving)
            made = {
                openmls.proposal_reference(message, ciphersuite=CIPHERSUITE)
                for message in (bundle.message, *bundle.more_proposals)
            }
            for reference in made & references(group):
                group.remove_pending_proposal(reference)
        self.left(room_id)

    def pending(self, room_id: str) -> set[bytes]:
        """The references of the proposals pending in the room's group; none outside of it."""
        return references(self.group(room_id)) if self.in_group(room_id) else set()

    def must_tidy(self, room_id: str) -> bool:
        """Whether somebody is to be removed from the group, or the hub before to be replaced in it, and this
        device could do it.
        """
        if not self.in_group(room_id):
            return False
        group = self.group(room_id)
        due = bool(leaving_leaves(group)) or self.needs_agent(room_id) or self.needs_sender(room_id)
        return due and not is_leaving(group)

    def drop_proposals(self, room_id: str, named: Collection[bytes]) -> bool:
        """Forget proposals that the hub says are not valid any more; whether there were any."""
        if not self.in_group(room_id) or not drop(self.group(room_id), named):
            return False
        self.save()
        return True

    # --- commits ---

    def stage(
        self, room_id: str, change: Change, *, initial: tuple[bytes, bytes] | None = None
    ) -> PendingCommit | None:
        """Make a commit; it takes effect when the hub has accepted it. Saved before it is returned.

        ``None`` if ``change`` found nothing to do.
        """
        bundle = change(self.group(room_id))
        if bundle is None:
            return None
        return self._keep(room_id, bundle, external=False, initial=initial)

    def _keep(
        self,
        room_id: str,
        bundle: openmls.CommitBundle,
        *,
        external: bool,
        initial: tuple[bytes, bytes] | None,
    ) -> PendingCommit:
        handshake = HandshakeBundle(
            message=bundle.commit,
            welcome=None if bundle.welcome is None else welcome_struct(bundle.welcome),
            group_info=GroupInfoOption(partial=_partial(bundle.group_info)),
            ratchet_tree=RatchetTreeOption(representation=RatchetTreeRepresentation.DISTRIBUTION_SERVICE),
        )
        group_info, tree = initial or (None, None)
        pending = PendingCommit(
            digest=digest(bundle.commit),
            bundle=handshake.encode(),
            external=external,
            group_info=group_info,
            ratchet_tree=tree,
        )
        self.record(room_id).pending = pending
        self.save()
        return pending

    def commit_accepted(self, room_id: str, pending: PendingCommit, event_id: str | None) -> None:
        """The hub took the commit: make it the group's state. Learning it twice is learning it once."""
        if self.merge_if_own(room_id, pending.digest, event_id):
            self.save()

    def merge_if_own(self, room_id: str, commit_digest: bytes, event_id: str | None) -> bool:
        """Merge the pending commit if ``commit_digest`` is its SHA-256; whether it was. The caller saves."""
        record = self.record(room_id)
        if record.pending is None or record.pending.digest != commit_digest:
            return False
        for known in group_ids(room_id):
            if known in self.client.group_ids():
                group = self.client.group(known)
                group.merge_pending_commit()
                if record.pending.external:
                    record.joined_epoch = group.epoch
                    self.owe_link_keys(room_id)
        if not record.pending.external:
            # It removed whoever had left; who is listed all the same came back by it, and the entry that says
            # so may reach us only after our next commit.
            listed = self.participants(room_id)
            record.gone = [user for user in record.gone if listed.role_of(user_uri(user)) is None]
        record.pending, record.merged, record.lost = None, commit_digest, False
        record.commit_event_id = event_id
        return True

    def discard_commit(self, room_id: str, pending: PendingCommit) -> None:
        """The hub did not take the commit: forget it."""
        if self.drop_pending(room_id, pending.digest):
            self.save()

    def drop_pending(self, room_id: str, commit_digest: bytes | None = None) -> bool:
        """Clear the pending commit (only the one given, if one is); whether there was one. The caller
        saves.
        """
        record = self.record(room_id)
        pending = record.pending
        if pending is None or (commit_digest is not None and pending.digest != commit_digest):
            return False
        for known in group_ids(room_id):
            if known in self.client.group_ids():
                self.client.group(known).clear_pending_commit()
        record.pending = None
        return True

    def process(self, room_id: str, message: bytes, *, accepted_ms: int) -> openmls.Processed:
        """Process a handshake or application message by someone else. The caller saves.

        Args:
            accepted_ms: when the hub accepted it; key packages it adds have to have been valid then.

        Raises:
            NotInGroup, openmls.MlsError: nothing changed.
        """
        group = self.group(room_id)
        info = openmls.inspect_message(message)
        values: Mapping[int, bytes] = {}
        if info.content_type == "commit":
            values = new_app_data(group.app_data(), group.app_data_updates(message))
        return group.process(message, new_app_data=values, now=accepted_ms // 1000)

    def owe_link_keys(self, room_id: str) -> None:
        """In a minimal metadata room: remember to tell who is who, as somebody came who may not know it. The
        caller saves.
        """
        if self.owner.pseudonym is not None and room_id not in self.state.unshared:
            self.state.unshared.append(room_id)


def digest(message: bytes) -> bytes:
    """SHA-256, by which own messages are recognised in the log."""
    return sha256(message).digest()


def _partial(group_info: bytes) -> PartialGroupInfo:
    """What a hub cannot work out of a GroupInfo by the commit; the tree it works out too. Both grow with the
    group, so of a commit among a thousand they would be nearly all the bytes.
    """
    details = openmls.group_info_details(group_info)
    return PartialGroupInfo(
        ratchet_tree_presence=RatchetTreePresence.NO_RATCHET_TREE,
        group_info_extensions=details.extensions,
        signature=details.signature,
    )
