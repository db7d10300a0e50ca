"""From a HandshakeBundle to a verified, not yet merged commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from linearized.exceptions import IdentifierError, MimiDecodeError
from linearized.mimi.commit_parts import commit_parts
from linearized.mimi.handshake import GroupInfoOption, HandshakeBundle, RatchetTreePresence
from linearized.mls import MlsError, PublicGroup, StagedCommit
from linearized.room.credentials import ClientIdentity, client_of
from linearized.room.submissions import Reason, Rejected
from linearized.room.tie import check_identities_kept, check_proposals, resulting_app_data

# "Both the Welcome and GroupInfo omit the ratchet_tree" (MIMI protocol, Update Room State): there was none
# before and is none now, or the one there was before is left out now.
WITHOUT_TREE: Final = frozenset({RatchetTreePresence.NO_RATCHET_TREE, RatchetTreePresence.REMOVED})


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedCommit:
    """A commit that MLS accepts, with the GroupInfo that goes with it; membership rules are still to be
    checked.
    """

    staged: StagedCommit
    committer: ClientIdentity
    group_info: bytes


def mls_rejection(error: MlsError) -> Rejected:
    """Say an MLS error in the room's words."""
    code = Reason.INVALID_PROPOSAL if error.code == "invalidProposal" else Reason.INVALID_COMMIT
    return Rejected(Reason.MALFORMED if error.code == "malformed" else code, f"MLS: {error}")


def verify_commit(group: PublicGroup, bundle: HandshakeBundle, *, now: int) -> VerifiedCommit:
    """Stage the bundle's commit against the group, which is not changed.

    Checks, in this order: the epoch (a commit that lost a race is late, whatever its content has become), its
    signature, the proposals and what they do to the app data, tree and confirmation tag, then the GroupInfo
    of the new epoch. The bundle's ``ratchet_tree``, in whichever way it is conveyed, is not looked at: the
    tree that the commit leads to is worked out here, and no other is kept or handed on.

    Args:
        now: when the hub accepts it, milliseconds since the Unix epoch: the lifetimes of added key packages
            are held to this time, so that an old log verifies as it did when it was new.

    Raises:
        Rejected: ``WRONG_EPOCH`` with the current epoch, ``INVALID_PROPOSAL``, ``INVALID_COMMIT`` or
            ``MALFORMED``.
    """
    group_info = bundle.group_info
    if group_info is None:
        raise Rejected(Reason.MALFORMED, "A commit must bring the GroupInfo of its new epoch")
    try:
        epoch = commit_parts(bundle.message).epoch
        if epoch != group.epoch:
            raise Rejected(
                Reason.WRONG_EPOCH,
                f"The commit is for epoch {epoch}, the group is in {group.epoch}",
                current_epoch=group.epoch,
            )
        new_app_data = resulting_app_data(group.app_data(), group.app_data_updates(bundle.message))
        staged = group.stage_commit(bundle.message, new_app_data=new_app_data, now=now // 1000)
        check_proposals(staged)
        check_identities_kept(group, staged)
    except MimiDecodeError as error:
        raise Rejected(Reason.MALFORMED, str(error)) from error
    except MlsError as error:
        raise mls_rejection(error) from error
    try:
        full = _checked_group_info(group, staged, group_info)
        committer = client_of(staged.committer.credential, signature_key=staged.committer.signature_key)
    except (MlsError, IdentifierError) as error:
        # A GroupInfo of another epoch is a bad commit, not a commit for another epoch.
        raise Rejected(Reason.INVALID_COMMIT, str(error)) from error
    return VerifiedCommit(staged=staged, committer=committer, group_info=full)


def _checked_group_info(group: PublicGroup, staged: StagedCommit, option: GroupInfoOption) -> bytes:
    """The GroupInfo of the new epoch: the one that came, or the one that a partial one completes."""
    partial = option.partial
    if partial is None:
        assert option.full is not None  # noqa: S101 - an option is one of the two
        group.verify_group_info(staged=staged, group_info=option.full)
        return option.full
    # A tree would be among the signed extensions at a place that a partial GroupInfo does not tell.
    if partial.ratchet_tree_presence not in WITHOUT_TREE:
        raise Rejected(Reason.INVALID_COMMIT, "A partial GroupInfo is taken without a ratchet tree")
    return group.rebuild_group_info(
        staged=staged, extensions=partial.group_info_extensions, signature=partial.signature
    )
