"""What a participant, which has no MLS tree, finds of what its hub vouches for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import openmls
import pytest

from linearized.mimi.group_info import app_data_of
from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ROOM_METADATA,
    ParticipantListUpdate,
    UserIndexRolePair,
)
from linearized.mimi.policy.presets import PRESETS
from linearized.protocol.base64 import decode_base64, encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_uri
from linearized.protocol.versions import get_version
from linearized.room.participation import StateChange
from linearized.room.proposals import messages_of
from linearized.room.replica import Replica
from linearized.room.seen_handshakes import said_by_seen_commit, said_by_seen_proposals
from linearized.room.submissions import Reason, Rejected
from linearized.room.vouching import FalselyVouched
from tests.room.party import Party, commit_pending, leave, offer, propose_update
from tests.room.policy_rooms import leaf_of, move
from tests.room.policy_support import ADMIN, BANNED, USER
from tests.room.recording import Entries, lying, member_change, recorded
from tests.room.support import ALICE, BOB, MLS, Member, handshake, participant_list

CAROL, DORA, ERIN = "@carol:c.example", "@dora:b.example", "@erin:e.example"
VERSION = get_version("dev.linearized.1")


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> Entries:
    return recorded(monkeypatch)


def taken(entries: Entries, *, since: int = 2) -> Replica:
    """A participant that came when there were ``since`` entries, and took the others."""
    state = {
        (event.type, event.state_key): event for event, _ in entries[:since] if event.state_key is not None
    }
    head = (since, entries[since - 1][0].event_id)
    replica = Replica(version=VERSION, hub="a.example", state=state, head=head, grouped=since > 2)
    for event, _ in entries[since:]:
        replica.receive(event)
    return replica


def commits(entries: Entries) -> list[int]:
    """How many entries there are up to each commit."""
    return [seq for seq, (event, _) in enumerate(entries, 1) if event.type == "m.mls.commit"]


def lie(entries: Entries, *, since: int = 2) -> FalselyVouched:
    with pytest.raises(FalselyVouched) as raised:
        taken(entries, since=since)
    assert raised.value.code is Reason.FORBIDDEN
    return raised.value


def role(sender: Member, user_id: str, index: int) -> ParticipantListUpdate:
    place = sender.participants().index_of(user_uri(user_id))
    assert place is not None
    return ParticipantListUpdate(changed=(UserIndexRolePair(user_index=place, role_index=index),))


def without(roles: Mapping[str, int], user_id: str) -> dict[str, int]:
    return {user: index for user, index in roles.items() if user != user_id}


def day() -> Party:
    """What users of other providers do in a room without a policy."""
    bob, carol, dora, erin = Member(BOB), Member(CAROL), Member(DORA), Member(ERIN)
    party = Party(bob, carol, role=2)
    dora.join(party.submit(bob.add(dora), by=bob))
    party.members.append(dora)
    party.submit(bob.change(role(bob, CAROL, 1)), by=bob)
    package = erin.key_package()
    introduced = [openmls.inspect_key_package(package, now=MLS.now).credential]
    adds = bob.joined().propose_add(package)
    party.submit(offer(bob, propose_update(bob, added=[ERIN]), adds, introduced=introduced), by=bob)
    party.submit(commit_pending(carol), by=carol)
    party.submit(leave(dora), by=dora)
    party.submit(commit_pending(carol), by=carol)
    party.submit(bob.message())
    return party


def test_all_that_an_honest_hub_vouches_for_is_taken_whenever_a_participant_comes(entries: Entries) -> None:
    day()
    kinds = [(event.type, event.sender) for event, _ in entries if event.provenance is not None]
    assert ("m.room.power_levels", BOB) in kinds
    assert ("m.room.member", ERIN) in kinds
    for since in (2, *commits(entries)[:-1]):
        assert taken(entries, since=since).waiting == 0
    assert taken(entries[: commits(entries)[1] - 1]).waiting > 0


def test_bans_in_a_room_with_a_policy_are_taken(entries: Entries) -> None:
    bob, carol = Member(BOB), Member(CAROL)
    policy = PRESETS["open"]
    listed = {PARTICIPANT_LIST: participant_list((ALICE, policy.creator_role))}
    party = Party(bob, carol, app_data={**listed, **policy.components()}, initial=(), role=USER)
    party.submit(move(party.alice, BOB, ADMIN), by=party.alice)
    party.submit(move(bob, CAROL, BANNED, remove=(leaf_of(bob, carol),)), by=bob)
    assert entries[-2][0].content == {"membership": "ban"}
    assert taken(entries).waiting == 0
    assert taken(entries, since=commits(entries)[-2]).waiting == 0


def test_who_comes_by_a_joining_code_is_invited_by_another_providers_user(entries: Entries) -> None:
    bob, carol = Member(BOB), Member(CAROL)
    party = Party(bob, role=2)
    party.submit(replace(party.join(carol), invited_by=BOB), by=carol)
    assert taken(entries).waiting == 0


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    "made_up",
    [
        member_change(BOB, DORA, "invite"),
        StateChange(sender=BOB, type="m.room.join_rules", state_key="", content={"join_rule": "invite"}),
        StateChange(
            sender=BOB, type="m.room.power_levels", state_key="", content={"users": {ALICE: 100, BOB: 100}}
        ),
    ],
)
def test_what_a_commit_does_not_say_is_found(
    entries: Entries, monkeypatch: pytest.MonkeyPatch, made_up: StateChange, fresh: bool
) -> None:
    party = Party(bob := Member(BOB), role=2)
    with monkeypatch.context() as hub:
        lying(hub, made_up)
        party.submit(handshake(bob, bob.joined().commit()), by=bob)
    found = lie(entries, since=commits(entries)[-2] if fresh else 2)
    assert found.event_id == entries[-2][0].event_id


def test_a_commit_that_adds_one_user_does_not_let_in_another(
    entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    party = Party(bob := Member(BOB), role=2)
    lying(monkeypatch, member_change(BOB, CAROL, "invite"), member_change(CAROL, CAROL, "join"))
    monkeypatch.setattr("linearized.room.handshakes.check_tie", lambda *_, **__: None)
    party.submit(bob.add(Member(DORA)), by=bob)
    assert lie(entries).event_id in {event.event_id for event, _ in entries if event.state_key == CAROL}


def test_whom_proposals_do_not_take_out_is_still_there(
    entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    party = Party(bob := Member(BOB), role=2)
    party.submit(bob.add(Member(CAROL)), by=bob)
    monkeypatch.setattr(
        "linearized.room.handshakes.departures",
        lambda acts: replace(acts[0], after=without(acts[0].before, CAROL)),
    )
    party.submit(offer(bob, propose_update(bob, added=[DORA])), by=bob)
    assert [(event.type, event.state_key) for event, _ in entries[-3:-1]] == [
        ("m.mls.proposal", None),
        ("m.room.member", CAROL),
    ]
    assert lie(entries).event_id == entries[-2][0].event_id


# --- what a hub shows of a commit, changed ---


def shown(entries: Entries, **changes: object) -> JsonObject:
    """The content of the last commit, with changes."""
    return {**entries[commits(entries)[-1] - 1][0].content, **changes}


def app_data(entries: Entries, number: int) -> dict[int, bytes]:
    content = entries[commits(entries)[number] - 1][0].content
    return app_data_of(decode_base64(content["public_group_state"]))


def refused(content: JsonObject, match: str | None, *, before: dict[int, bytes] | None = None) -> Rejected:
    with pytest.raises(Rejected, match=match) as raised:
        said_by_seen_commit(content, sender=BOB, before=before, pending=list)
    return raised.value


def test_a_group_info_that_is_not_of_what_the_commit_leads_to_is_refused(entries: Entries) -> None:
    party = Party(bob := Member(BOB), role=2)
    party.submit(bob.add(Member(CAROL)), by=bob)
    earlier = entries[commits(entries)[-2] - 1][0].content["public_group_state"]
    content = shown(entries, public_group_state=earlier)
    refusal = refused(content, "not of what the commit leads to", before=app_data(entries, -2))
    assert refusal.code is Reason.INVALID_COMMIT


def test_a_commit_of_proposals_that_are_not_in_the_log_is_refused_or_not_known(entries: Entries) -> None:
    party = Party(bob := Member(BOB), Member(CAROL), role=2)
    party.submit(leave(bob), by=bob)
    party.submit(commit_pending(party.alice), by=party.alice)
    refused(shown(entries), "not in the log", before=app_data(entries, -2))
    (offered,) = (event for event, _ in entries if event.type == "m.mls.proposal")
    pending = [(BOB, message) for message in messages_of(offered.content)]
    said = said_by_seen_commit(
        shown(entries), sender=ALICE, before=app_data(entries, -2), pending=lambda: pending
    )
    assert said is not None
    assert [(act.user_id, sorted(act.before.keys() - act.after.keys())) for act in said.acts] == [
        (BOB, [BOB]),
        (ALICE, []),
    ]
    assert said_by_seen_commit(shown(entries), sender=ALICE, before=None, pending=list) is None


def test_a_commit_that_cannot_be_read_is_malformed(entries: Entries) -> None:
    Party(Member(BOB))
    for content in (
        shown(entries, message="AAAA"),
        shown(entries, public_group_state="AAAA"),
    ):
        assert refused(content, None, before=app_data(entries, -2)).code is Reason.MALFORMED
    unhashed = shown(entries, public_group_state=encode_base64(b"\0\1\0\x63" + bytes(20)))
    with pytest.raises(Rejected) as raised:
        said_by_seen_commit(unhashed, sender=BOB, before=None, pending=lambda: [(BOB, b"no proposal")])
    assert raised.value.code is Reason.MALFORMED


def test_without_the_commit_before_it_only_additions_can_be_resolved(entries: Entries) -> None:
    party = Party(bob := Member(BOB), Member(CAROL), role=2)
    said = said_by_seen_commit(shown(entries), sender=ALICE, before=None, pending=list)
    assert said is not None
    assert said.present == {ALICE, BOB, CAROL}
    assert [sorted(act.added) for act in said.acts] == [[BOB, CAROL], []]
    party.submit(bob.change(role(bob, CAROL, 1)), by=bob)
    assert said_by_seen_commit(shown(entries), sender=BOB, before=None, pending=list) is None
    named = bob.joined().commit(app_data_updates={ROOM_METADATA: b"x"}, new_app_data={ROOM_METADATA: b"x"})
    content = {"message": encode_base64(named.commit), "public_group_state": encode_base64(named.group_info)}
    assert said_by_seen_commit(content, sender=BOB, before=None, pending=list) is None


def test_in_a_group_without_a_participant_list_nothing_follows() -> None:
    alice = Member(ALICE)
    alice.group = alice.client.create_group(group_id=b"g", app_data={7: b"x"})
    made = alice.group.commit()
    content = {"message": encode_base64(made.commit), "public_group_state": encode_base64(made.group_info)}
    for before in ({7: b"x"}, None):
        said = said_by_seen_commit(content, sender=ALICE, before=before, pending=list)
        assert said is not None
        assert (said.acts, said.present) == ((), set())
    assert said_by_seen_proposals({}, sender=ALICE, before={7: b"x"}, state={}) == []
    alice.accept()
    changed = alice.group.commit(app_data_updates={7: b"y"}, new_app_data={7: b"y"})
    content = {
        "message": encode_base64(changed.commit),
        "public_group_state": encode_base64(changed.group_info),
    }
    assert said_by_seen_commit(content, sender=ALICE, before=None, pending=list) is None


def test_proposals_that_cannot_be_read_are_malformed(entries: Entries) -> None:
    Party()
    before = app_data(entries, -1)
    with pytest.raises(Rejected) as raised:
        said_by_seen_proposals({"message": "AAAA"}, sender=ALICE, before=before, state={})
    assert raised.value.code is Reason.MALFORMED
    assert said_by_seen_proposals({"message": "AAAA"}, sender=ALICE, before=None, state={}) is None
