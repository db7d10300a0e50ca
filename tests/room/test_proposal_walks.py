"""Random walks of proposals, commits, leaves, bans and joins: room, list and leaves agree, and so does
everybody about what is pending.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from linearized.client.pending import drop, is_leaving, leaving_leaves, list_changes
from linearized.mimi.participants import ParticipantListUpdate, UserRolePair, touched_users
from linearized.protocol.identifiers import user_id_from_uri, user_uri
from linearized.protocol.state import membership
from linearized.room.submissions import Accepted, Handshake, Reason, Rejected, Submission
from tests.room.party import Party, commit_pending, leave, offer, owner_of
from tests.room.support import ALICE, ANNA, BOB, NOW, Member, member, refusal

STEPS = 25
USERS = (ALICE, ANNA, BOB, "@bill:b.example", "@carl:a.example")


class Walk:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a test that can be repeated
        self.devices = [Member(user) for user in USERS[1:]]
        self.party = Party(*self.devices)
        self.devices.insert(0, self.party.alice)
        self.taken: list[Handshake] = []

    def step(self) -> None:
        acts: list[Callable[[], None]] = [
            self.leave_by_proposals,
            self.leave_by_event,
            self.ban,
            self.refresh,
            self.new_device,
            self.join_by_itself,
            self.come_back,
            self.commit,
            self.commit,
            self.replay,
        ]
        self.random.choice(acts)()
        self.party.check()

    def joined(self, user: str) -> bool:
        return membership(self.party.room.state, user) == "join"

    def active(self) -> list[Member]:
        """Members that may still send something."""
        return [
            each for each in self.party.members if self.joined(each.user_id) and not is_leaving(each.joined())
        ]

    def take(self, submission: Submission, by: Member | None = None) -> Accepted | None:
        try:
            accepted = self.party.submit(submission, by=by)
        except Rejected:
            return None
        if isinstance(submission, Handshake):
            self.taken.append(submission)
        return accepted

    def offer(self, by: Member, submission: Handshake) -> None:
        if self.take(submission, by) is None:
            self.forget(by)

    def forget(self, by: Member) -> None:
        """A refused sender has only what the hub has."""
        theirs = {found.reference for found in self.party.group_of_hub().proposals()}
        for found in by.joined().pending_proposals():
            if found.reference is not None and found.reference not in theirs:
                by.joined().remove_pending_proposal(found.reference)

    def leave_by_proposals(self) -> None:
        candidates = [each for each in self.active() if each.user_id != ALICE]
        if candidates:
            by = self.random.choice(candidates)
            gone = leaving_leaves(by.joined())
            others = [
                each
                for each in self.party.members
                if each is not by and each.user_id == by.user_id and not is_leaving(each.joined())
            ]
            if user_uri(by.user_id) not in {
                user for found in list_changes(by.joined()) for user in touched_users(found)
            }:
                assert by.joined().own_leaf_index not in gone
                self.offer(by, leave(by, *others))

    def leave_by_event(self) -> None:
        self.take(member(self.random.choice([ANNA, "@carl:a.example"]), "leave"))

    def ban(self) -> None:
        target, value = self.random.choice(USERS[1:]), self.random.choice(["ban", "leave"])
        self.take(member(target, value, sender=ALICE))

    def refresh(self) -> None:
        if candidates := self.active():
            by = self.random.choice(candidates)
            self.offer(by, offer(by, by.joined().propose_update()))

    def new_device(self) -> None:
        if candidates := self.active():
            by = self.random.choice(candidates)
            new = Member(by.user_id, f"D{len(self.devices)}")
            self.devices.append(new)
            self.offer(by, offer(by, by.joined().propose_add(new.key_package())))

    def join_by_itself(self) -> None:
        who = self.random.choice(self.devices)
        if who in self.party.members and is_leaving(who.joined()) and not self.joined(who.user_id):
            return
        old = who.client, who.group
        if self.take(self.party.join(who), who) is None:
            who.client, who.group = old

    def come_back(self) -> None:
        self.take(member(self.random.choice([ANNA, "@carl:a.example"]), "join"))

    def commit(self) -> None:
        if not (candidates := self.active()):
            return
        by = self.random.choice(candidates)
        for _ in range(30):
            submission, refused = self.everything(by), None
            try:
                accepted = self.party.submit(submission, by=by)
            except Rejected as error:
                refused = error
            if refused is None:
                self.taken.append(submission)
                self.welcome(accepted)
                self.party.agree()
                return
            assert refused.code is Reason.INVALID_PROPOSAL, refused
            by.joined().clear_pending_commit()
            assert drop(by.joined(), refused.invalid_proposals), refused
        raise AssertionError("no commit was good enough")

    def everything(self, by: Member) -> Handshake:
        group, state = by.joined(), self.party.room.state
        leaving = leaving_leaves(group)
        touched = {user for found in list_changes(group) for user in touched_users(found)}
        removed = tuple(
            index
            for index, pair in enumerate(by.participants().participants)
            if pair.user not in touched and not self.joined(user_id_from_uri(pair.user))
        )
        leaves = [
            leaf.leaf_index
            for leaf in group.members()
            if leaf.leaf_index not in leaving and membership(state, owner_of(leaf.identity)) != "join"
        ]
        present = {pair.user for pair in by.participants().participants}
        strangers = {user_uri(owner_of(leaf.identity)) for leaf in group.members()} - present - touched
        added = tuple(
            UserRolePair(user=user, role_index=1)
            for user in sorted(strangers)
            if self.joined(user_id_from_uri(user))
        )
        update = ParticipantListUpdate(removed=removed, added=added) if removed or added else None
        return commit_pending(by, update=update, remove=leaves)

    def welcome(self, accepted: Accepted) -> None:
        leaves = {leaf.identity for leaf in self.party.group_of_hub().members()}
        for each in self.devices:
            if accepted.welcomes and each not in self.party.members and each.client.identity in leaves:
                each.join(accepted)
                self.party.members.append(each)

    def replay(self) -> None:
        if self.taken:
            submission = self.random.choice(self.taken)
            with pytest.raises(Rejected) as refused:
                self.party.room.submit(submission, now=NOW)
            refusal(self.party.room, submission, refused.value.code)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_everybody_agrees(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(STEPS):
        walk.step()
    walk.commit()
    walk.party.check()
