"""The roster says what the group says, whatever commits do to it."""

from __future__ import annotations

import random
from collections import Counter

import openmls
import pytest

from linearized.room.credentials import ClientIdentity
from linearized.room.leaves import identify
from linearized.room.roster import Roster
from linearized.room.submissions import Reason, Rejected
from tests.room.support import ALICE, BOB, CAROL, MLS, Member


def tracked(member: Member) -> openmls.PublicGroup:
    group_info, tree = member.joined().group_info()
    return openmls.PublicGroup.observe(group_info=group_info, ratchet_tree=tree, now=MLS.now)


def agrees(roster: Roster, group: openmls.PublicGroup) -> None:
    clients = {member.leaf_index: identify(member) for member in group.members()}
    assert roster.clients == clients
    assert roster.users == Counter(client.user_id for client in clients.values())
    assert all(client in roster for client in clients.values())
    assert ClientIdentity("@nobody:a.example", "DEV") not in roster


@pytest.mark.parametrize("seed", range(5))
def test_a_roster_follows_its_group_over_any_commits(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - which commits a test makes
    alice = Member(ALICE)
    alice.create()
    alice.accept()
    group = tracked(alice)
    roster = Roster(group.members())
    devices = iter([Member(chance.choice((ALICE, BOB, CAROL)), f"D{number}") for number in range(40)])
    for _ in range(8):
        added = [next(devices) for _ in range(chance.randrange(4))]
        others = [leaf.leaf_index for leaf in group.members() if leaf.identity != alice.client.identity]
        gone = chance.sample(others, chance.randint(0, min(2, len(others))))
        bundle = alice.joined().commit(add=[device.key_package() for device in added], remove=gone)
        staged = group.stage_commit(bundle.commit, new_app_data={}, now=MLS.now)
        after = roster.users_after(staged)
        before = dict(roster.users)
        for device in added:
            client = ClientIdentity(device.user_id, device.device_id)
            assert client not in roster
            assert not roster.remains(client, staged)
        removed = {identify(member) for member in staged.removed}
        assert len(removed) == len(gone)
        assert all(
            roster.remains(client, staged) == (client not in removed) for client in roster.clients.values()
        )
        assert roster.users == before
        group.merge(staged)
        roster.merge(staged)
        alice.accept()
        agrees(roster, group)
        assert roster.users == after


def test_a_commit_without_members_coming_or_going_copies_nothing() -> None:
    alice = Member(ALICE)
    alice.create()
    alice.accept()
    group = tracked(alice)
    roster = Roster(group.members())
    staged = group.stage_commit(alice.joined().commit().commit, new_app_data={}, now=MLS.now)
    assert roster.users_after(staged) is roster.users


def test_a_credential_that_names_nobody_is_no_members() -> None:
    stranger = openmls.Client.create(identity=b"nobody")
    group = stranger.create_group(group_id=b"g", app_data={})
    with pytest.raises(Rejected) as refused:
        Roster(group.members())
    assert refused.value.code is Reason.INVALID_COMMIT
