"""What a hub vouches for, held to the handshakes: honest logs pass, and each kind of lie is named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from linearized.mimi.participants import PARTICIPANT_LIST, ParticipantListUpdate, UserIndexRolePair
from linearized.mimi.policy.presets import PRESETS
from linearized.protocol.base64 import encode_base64url
from linearized.protocol.build import build_event
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.identifiers import user_uri
from linearized.protocol.versions import get_version
from linearized.room.admission import COMMIT_PART, ENCRYPTED
from linearized.room.participation import StateChange
from linearized.room.submissions import Reason, Rejected
from linearized.room.vouching import (
    FalselyVouched,
    Said,
    VouchWalk,
    check_carried,
    named_handshake,
    said_by_commit,
    said_by_proposals,
)
from linearized.room_check_group import GroupWalk
from tests.room.party import Party, commit_pending, leave
from tests.room.policy_rooms import leaf_of, move
from tests.room.policy_support import ADMIN, BANNED, USER
from tests.room.recording import Entries, lying, member_change, recorded
from tests.room.support import ALICE, ANNA, BOB, MLS, NOW, ROOM, A, Member, participant_list
from tests.room.support import handshake as bundle_of

CAROL, DORA = "@carol:c.example", "@dora:b.example"
VERSION = get_version("dev.linearized.1")
ZEROS = encode_base64url(hashlib.sha256(bytes(3)).digest())
"""Names the message ``AAAA``, in base64."""
NAME, OTHER = "A" * 43, "B" * 42 + "A"


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> Entries:
    return recorded(monkeypatch)


def walk(entries: Entries) -> GroupWalk:
    """Go along a log as a checker of it does."""
    group = GroupWalk(ROOM, MLS)
    state: dict[tuple[str, str], Event] = {}
    for event, epoch in entries:
        group.step(event, epoch, state)
        if event.state_key is not None:
            state[event.type, event.state_key] = event
    return group


def vouched(entries: Entries) -> list[tuple[str, str | None]]:
    return [(event.type, event.sender) for event, _ in entries if event.provenance is not None]


def change(sender: str, kind: str, content: JsonObject, state_key: str = "") -> StateChange:
    return StateChange(sender=sender, type=kind, state_key=state_key, content=content)


def lie(entries: Entries) -> FalselyVouched:
    with pytest.raises(FalselyVouched) as raised:
        walk(entries)
    assert raised.value.code is Reason.FORBIDDEN
    return raised.value


def role(sender: Member, user_id: str, index: int) -> ParticipantListUpdate:
    place = sender.participants().index_of(user_uri(user_id))
    assert place is not None
    return ParticipantListUpdate(changed=(UserIndexRolePair(user_index=place, role_index=index),))


# --- what an honest hub writes ---


def test_what_the_commits_of_another_providers_users_bring_about_is_borne_out(entries: Entries) -> None:
    bob, carol, dora = Member(BOB), Member(CAROL), Member(DORA)
    party = Party(bob, carol, role=2)
    party.submit(bob.add(dora), by=bob)
    party.submit(bob.change(role(bob, CAROL, 1)), by=bob)
    party.submit(carol.message())
    assert walk(entries).epoch == 4
    found = vouched(entries)
    assert ("m.room.power_levels", BOB) in found
    assert found.count(("m.room.member", BOB)) == 2, "Bob joined, and invited Dora"
    assert ("m.room.member", DORA) in found


def test_whom_a_proposal_takes_out_at_once_is_borne_out_by_it(entries: Entries) -> None:
    bob, carol = Member(BOB), Member(CAROL)
    party = Party(bob, carol)
    party.submit(leave(bob), by=bob)
    party.submit(commit_pending(carol), by=carol)
    assert walk(entries).epoch == 3
    assert vouched(entries)[-3:] == [
        ("m.mls.proposal", BOB),
        ("m.room.member", BOB),
        ("m.mls.commit", CAROL),
    ]


def test_in_a_room_with_a_policy_a_ban_is_borne_out(entries: Entries) -> None:
    bob, carol = Member(BOB), Member(CAROL)
    policy = PRESETS["open"]
    listed = {PARTICIPANT_LIST: participant_list((ALICE, policy.creator_role))}
    party = Party(bob, carol, app_data={**listed, **policy.components()}, initial=(), role=USER)
    party.submit(move(party.alice, BOB, ADMIN), by=party.alice)
    party.submit(move(bob, CAROL, BANNED, remove=(leaf_of(bob, carol),)), by=bob)
    assert walk(entries).epoch == 4
    assert vouched(entries)[-2:] == [("m.room.member", BOB), ("m.mls.commit", BOB)]


def test_who_comes_by_a_joining_code_is_invited_by_another_providers_user(entries: Entries) -> None:
    bob, carol = Member(BOB), Member(CAROL)
    party = Party(bob, role=2)
    joins = replace(party.join(carol), invited_by=BOB)
    party.submit(joins, by=carol)
    assert walk(entries).epoch == 3
    assert vouched(entries)[-3:] == [
        ("m.room.member", BOB),
        ("m.room.member", CAROL),
        ("m.mls.commit", CAROL),
    ]


# --- lies about commits ---


def test_a_power_level_that_a_commit_does_not_give_is_found(
    entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = Member(BOB)
    party = Party(bob, role=2)
    levels = {"users": {ALICE: 100, BOB: 100, CAROL: 50}}
    with monkeypatch.context() as hub:
        lying(hub, change(BOB, "m.room.power_levels", levels))
        party.submit(bundle_of(bob, bob.joined().commit()), by=bob)
    found = lie(entries)
    assert found.event_id == entries[-2][0].event_id
    assert "does not say" in str(found)


def test_a_level_other_than_the_one_a_commit_gives_is_found(
    entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob, carol = Member(BOB), Member(CAROL)
    party = Party(bob, carol, role=2)
    with monkeypatch.context() as hub:
        hub.setattr("linearized.room.participation.power_level_of_role", lambda _: 7)
        party.submit(bob.change(role(bob, CAROL, 1)), by=bob)
    assert lie(entries).event_id == entries[-2][0].event_id


@pytest.mark.parametrize(
    "made_up",
    [
        member_change(BOB, CAROL, "leave"),
        member_change(BOB, DORA, "invite"),
        change(BOB, "m.room.join_rules", {"join_rule": "invite"}),
    ],
)
def test_a_membership_or_rule_that_a_commit_does_not_say_is_found(
    entries: Entries, monkeypatch: pytest.MonkeyPatch, made_up: StateChange
) -> None:
    bob, carol = Member(BOB), Member(CAROL)
    party = Party(bob, role=2)
    party.submit(bob.add(carol), by=bob)
    monkeypatch.setattr("linearized.room.handshakes.check_tie", lambda *_, **__: None)
    monkeypatch.setattr("linearized.room_check_group.check_agreement", lambda *_: None)
    with monkeypatch.context() as hub:
        lying(hub, made_up)
        party.submit(bundle_of(bob, bob.joined().commit()), by=bob)
    assert lie(entries).event_id == entries[-2][0].event_id


def test_a_commit_that_adds_one_user_does_not_let_in_another(
    entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob, dora = Member(BOB), Member(DORA)
    party = Party(bob, role=2)
    with monkeypatch.context() as hub:
        lying(hub, member_change(BOB, CAROL, "invite"), member_change(CAROL, CAROL, "join"))
        hub.setattr("linearized.room.handshakes.check_tie", lambda *_, **__: None)
        party.submit(bob.add(dora), by=bob)
    assert lie(entries).event_id in {event.event_id for event, _ in entries if event.state_key == CAROL}


def test_the_hubs_own_users_stand_for_themselves_in_between(
    entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob, dora = Member(BOB), Member(DORA)
    party = Party(bob, role=2)
    original = "linearized.room.handshakes.join_rule_changes"
    with monkeypatch.context() as hub:
        hub.setattr(original, lambda *_, **__: [member_change(ALICE, ANNA, "invite")])
        party.submit(bob.add(dora), by=bob)
    assert walk(entries).epoch == 3


def test_a_commit_whose_hub_lists_nobody_brings_nothing_about() -> None:
    bob = Member(BOB)
    bob.group = bob.client.create_group(group_id=b"other", app_data={})
    group_info, tree = bob.joined().group_info()
    group = MLS.observe(group_info=group_info, ratchet_tree=tree)
    bundle = bob.joined().commit()
    staged = group.stage_commit(bundle.commit, now=NOW // 1000)
    said = said_by_commit(group, staged, present={BOB}, hub="a.example")
    assert (said.acts, said.committer, said.external) == ((), BOB, False)
    assert said_by_proposals(group, [], sender=BOB, state={}) == []


# --- lies about what is there ---


def event(
    kind: str = "m.room.member",
    content: JsonObject | None = None,
    *,
    sender: str = BOB,
    state_key: str | None = BOB,
    named: str | None = NAME,
) -> Event:
    return build_event(
        identity=A,
        version=VERSION,
        room_id=ROOM,
        type=kind,
        sender=sender,
        content={"membership": "leave"} if content is None else content,
        origin_server_ts=NOW,
        auth_events=[],
        prev_events=["$before"],
        state_key=state_key,
        provenance=None if named is None else {"protocol": "mimi", "provider": "b.example", "mls": named},
    )


MATRIX = {"protocol": "matrix", "provider": "b.example", "event_id": "$there"}


def refused(take: Callable[[VouchWalk], object], *before: Event) -> FalselyVouched:
    """What is taken last is refused, or one before it is."""
    going = VouchWalk()
    for each in before:
        going.event(each, {})
    with pytest.raises(FalselyVouched) as raised:
        take(going)
    return raised.value


def nothing() -> Said:
    raise AssertionError("nobody asks what a handshake says that nothing follows from")


def commit(named: str | None = None, message: str = "AAAA", sender: str = ALICE) -> Event:
    return event("m.mls.commit", {"message": message}, sender=sender, state_key=None, named=named)


def test_a_type_that_follows_from_no_handshake_is_refused() -> None:
    topic = event("m.room.topic", {}, state_key="")
    assert "follows from no handshake" in str(refused(lambda going: going.event(topic, {})))


def test_what_is_behind_has_to_be_the_handshake() -> None:
    first = event()
    name = event("m.room.name", {}, sender=ALICE, state_key="", named=None)
    for behind in (
        lambda going: going.event(name, {}),
        lambda going: going.event(event(named=OTHER), {}),
        lambda going: going.event(replace(event(), provenance=None), {}),
        lambda going: going.event(replace(event(), provenance=MATRIX), {}),
        lambda going: going.proposals(commit(), list),
        lambda going: going.commit(commit(), {"message": "AAAA"}, nothing),
    ):
        found = refused(behind, first)
        assert found.event_id == first.event_id
        assert "is not behind it" in str(found)


def test_a_log_may_not_end_before_the_handshake() -> None:
    going = VouchWalk()
    going.event(event(), {})
    going.event(event(sender=ALICE, named=None), {})
    assert going.waiting == 2


def test_parts_of_a_commit_name_what_it_names() -> None:
    part = event(COMMIT_PART, {"piece": "x"}, state_key=None)
    going = VouchWalk()
    going.event(event(COMMIT_PART, {"piece": "x"}, sender=ALICE, state_key=None, named=None), {})
    assert not going.waiting, "a part of the hub's own user stands for itself"
    going.event(part, {})
    assert refused(lambda other: other.commit(commit(), {"message": "AAAA"}, nothing), part)
    honest = VouchWalk()
    honest.event(event(COMMIT_PART, {"piece": "x"}, state_key=None, named=ZEROS), {})
    honest.commit(commit(ZEROS, sender=BOB), {"message": "AAAA"}, nothing)
    assert not honest.waiting


def test_a_message_in_an_event_is_the_one_it_names() -> None:
    told = event(ENCRYPTED, {"ciphertext": "AAAA"}, state_key=None)
    assert "another message than is in it" in str(refused(lambda going: going.event(told, {})))
    for take in (
        lambda going: going.commit(commit(NAME, sender=BOB), {"message": "AAAA"}, nothing),
        lambda going: going.proposals(commit(NAME, sender=BOB), list),
    ):
        refused(take)
    with pytest.raises(Rejected, match="missing") as raised:
        check_carried(event(ENCRYPTED, {}, state_key=None), {})
    assert raised.value.code is Reason.MALFORMED


def test_proposals_that_nobody_vouches_for_are_not_looked_into() -> None:
    VouchWalk().proposals(commit(), lambda: pytest.fail("looked into"))


def test_behind_proposals_stands_what_they_say_and_no_more() -> None:
    made = event("m.mls.proposal", {"message": "AAAA"}, state_key=None, named=ZEROS)
    leaves = event(named=ZEROS)

    def going(*changes: StateChange) -> VouchWalk:
        found = VouchWalk()
        found.proposals(made, lambda: changes)
        return found

    honest = going(member_change(BOB, BOB, "leave"))
    honest.event(leaves, {})
    with pytest.raises(FalselyVouched, match="do not say"):
        honest.event(leaves, {})
    with pytest.raises(FalselyVouched, match="do not say"):
        going(member_change(BOB, CAROL, "leave")).event(leaves, {})
    late = going(member_change(BOB, BOB, "leave"))
    late.event(event("m.room.name", {}, sender=ALICE, state_key="", named=None), {})
    late.event(leaves, {})
    assert late.waiting, "something came in between: it may only be of a commit now"


def test_only_what_the_hub_says_of_an_mls_message_names_one() -> None:
    assert named_handshake(event()) == NAME
    assert named_handshake(event(named=None, sender=ALICE)) is None
    assert named_handshake(replace(event(), provenance=MATRIX)) is None


def blurred(entry: Event) -> Event:
    return replace(entry, redacted=True)


def test_what_is_shown_without_its_content_is_not_looked_into_where_that_may_be() -> None:
    first = event(named=ZEROS)
    VouchWalk().event(blurred(event(ENCRYPTED, {}, state_key=None)), {})
    VouchWalk().proposals(blurred(event("m.mls.proposal", {}, state_key=None)), list)
    hidden = VouchWalk(hides=lambda state: state == {})
    hidden.event(first, {})
    hidden.commit(blurred(commit(ZEROS, sender=BOB)), {}, nothing)
    hidden.event(blurred(first), {})
    hidden.commit(commit(ZEROS, sender=BOB), {"message": "AAAA"}, nothing)
    assert not hidden.waiting
    blind = "without what it says"
    assert blind in str(
        refused(lambda going: going.commit(blurred(commit(ZEROS, sender=BOB)), {}, nothing), first)
    )
    other = blurred(commit(NAME, sender=BOB))
    assert "is not behind it" in str(refused(lambda going: going.commit(other, {}, nothing), first))


def test_of_proposals_that_cannot_be_resolved_only_their_sender_takes_somebody_out() -> None:
    made = event("m.mls.proposal", {"message": "AAAA"}, state_key=None, named=ZEROS)

    def take(*, content: JsonObject | None = None, sender: str = BOB, kind: str = "m.room.member") -> None:
        going = VouchWalk()
        going.proposals(made, lambda: None)
        going.event(event(kind, content, sender=sender, state_key=BOB, named=ZEROS), {})

    def refuse(take: Callable[[], None]) -> None:
        with pytest.raises(FalselyVouched, match="do not say"):
            take()

    take()
    take(content={"membership": "ban"})
    refuse(lambda: take(content={"membership": "join"}))
    refuse(lambda: take(sender=DORA))
    refuse(lambda: take(kind="m.room.join_rules"))


def test_a_commit_that_does_not_hold_bears_nothing_out() -> None:
    def malformed() -> Said:
        raise Rejected(Reason.MALFORMED, "it is malformed")

    first, made = event(named=ZEROS), commit(ZEROS, sender=BOB)
    found = refused(lambda going: going.commit(made, {"message": "AAAA"}, malformed), first)
    assert "does not hold: it is malformed" in str(found)
    unknown = VouchWalk()
    unknown.event(first, {})
    unknown.commit(made, {"message": "AAAA"}, lambda: None)
    assert not unknown.waiting
