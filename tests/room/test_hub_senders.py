"""The external senders of a group whose room has another hub than before."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import openmls
import pytest

from linearized.mimi.group_info import ExternalSender, ExternalSenders
from linearized.mimi.key_material import basic_credential
from linearized.protocol.state import HUB
from linearized.room.hub_senders import check_new_senders
from linearized.room.proposers import external_senders
from linearized.room.standing import RoomState
from linearized.room.submissions import Handshake, Reason, Rejected
from tests.room.party import B_KEY, B_SENDER, HUB_KEY, HUB_SENDER, HUB_USER, Party, offer, references
from tests.room.support import ALICE, BOB, MLS, NOW, Member, handshake, member, refusal

C_KEY = openmls.SignatureKeyPair.generate()
C_SENDER = (C_KEY.public_key, b"mimi://c.example")
EXTERNAL_SENDERS = 5
Senders = Sequence[tuple[bytes, bytes]]


def moved(*others: Member, senders: Senders = (B_SENDER, C_SENDER), before: str = "b.example") -> Party:
    """A room that came to a.example from another hub, with a group from that time."""
    party = Party(*others, senders=senders)
    event: Any = SimpleNamespace(
        type=HUB[0], state_key="", sender=ALICE, hub_server=before, content={}, event_id="$moved"
    )
    party.room.log.state = RoomState({**party.room.state, HUB: event})
    return party


def change(party: Party, senders: Senders) -> Handshake:
    return handshake(party.alice, party.alice.joined().commit(external_senders=senders))


def test_the_new_hub_takes_the_place_of_those_before_and_proposes_from_then_on() -> None:
    bob = Member(BOB)
    party = moved(bob, senders=(B_SENDER, (HUB_KEY.public_key, b"mimi://a.example"), C_SENDER))
    party.submit(change(party, (HUB_SENDER, C_SENDER)), by=party.alice)
    listed = [(each.signature_key, each.credential) for each in external_senders(party.group_of_hub())]
    assert listed == [(key, basic_credential(name)) for key, name in (HUB_SENDER, C_SENDER)]
    assert party.alice.joined().external_senders() == (HUB_SENDER, C_SENDER)
    accepted = party.submit(member(BOB, "leave", sender=ALICE))
    assert [entry.event.sender for entry in accepted.entries] == [ALICE, HUB_USER]
    assert len(references(party.room)) == 2  # of the leaf, and from the participant list


def test_what_the_hub_before_proposes_after_that_is_refused() -> None:
    bob = Member(BOB)
    party = moved(bob)
    accepted = party.submit(change(party, (HUB_SENDER, C_SENDER)), by=party.alice)
    assert accepted.group is not None
    # A group of the same epoch in which it is listed still: an external sender signs no more of it.
    other = Party(Member(BOB), senders=(B_SENDER, C_SENDER))
    other.submit(handshake(other.alice, other.alice.joined().commit()), by=other.alice)
    stale = other.group_of_hub().propose_remove(signer=B_KEY, sender_index=0, leaf_index=1)
    assert "signature" in str(refusal(party.room, offer(bob, stale), Reason.INVALID_COMMIT))
    with pytest.raises(openmls.MlsError):
        party.group_of_hub().propose_remove(signer=B_KEY, sender_index=0, leaf_index=1)


def test_a_hub_of_long_ago_goes_with_the_last() -> None:
    # The room was made at a.example, where Alice is, and has been at c.example and b.example since.
    party = moved(senders=((C_KEY.public_key, b"mimi://a.example"), C_SENDER), before="c.example")
    for wrong in ((HUB_SENDER, C_SENDER), (HUB_SENDER, (C_KEY.public_key, b"mimi://a.example"))):
        refusal(party.room, change(party, wrong), Reason.INVALID_PROPOSAL)
        party.alice.joined().clear_pending_commit()
    party.submit(change(party, (HUB_SENDER,)), by=party.alice)


def wrong_lists() -> dict[str, Senders]:
    return {
        "nobody": (),
        "not the hub": (B_SENDER, C_SENDER),
        "another key": ((C_KEY.public_key, b"mimi://a.example"), C_SENDER),
        "the hub last": (C_SENDER, HUB_SENDER),
        "the old hub beside it": (HUB_SENDER, B_SENDER, C_SENDER),
        "without the others": (HUB_SENDER,),
        "one more": (HUB_SENDER, C_SENDER, (C_KEY.public_key, b"mimi://d.example")),
        "another key for the others": (HUB_SENDER, (B_KEY.public_key, b"mimi://c.example")),
        "twice": (HUB_SENDER, HUB_SENDER, C_SENDER),
    }


@pytest.mark.parametrize("case", wrong_lists())
def test_any_other_list_is_refused(case: str) -> None:
    party = moved()
    refusal(party.room, change(party, wrong_lists()[case]), Reason.INVALID_PROPOSAL)


def test_it_is_done_once() -> None:
    party = moved()
    party.submit(change(party, (HUB_SENDER, C_SENDER)), by=party.alice)
    error = refusal(party.room, change(party, (HUB_SENDER, C_SENDER)), Reason.INVALID_PROPOSAL)
    assert "already" in str(error)


def test_a_room_that_has_not_moved_keeps_its_extensions() -> None:
    party = Party(senders=(B_SENDER,))
    error = refusal(party.room, change(party, (HUB_SENDER,)), Reason.INVALID_PROPOSAL)
    assert "no other hub" in str(error)


def test_no_other_extension_changes_with_them() -> None:
    party = moved()
    required = openmls.RequiredCapabilities.create(extensions=[6], proposals=[8, 10], credentials=[1, 2])
    group = party.alice.joined()
    bundle = group.commit(external_senders=(HUB_SENDER, C_SENDER), required_capabilities=required)
    error = refusal(party.room, handshake(party.alice, bundle), Reason.INVALID_PROPOSAL)
    assert "no other extension" in str(error)
    group.clear_pending_commit()
    alone = handshake(party.alice, group.commit(required_capabilities=required))
    refusal(party.room, alone, Reason.INVALID_PROPOSAL)


def test_nobody_proposes_it_for_others_to_commit() -> None:
    party = moved(Member(BOB))
    message = (
        party.members[1].joined().propose_group_context_extensions(external_senders=[HUB_SENDER, C_SENDER])
    )
    refusal(party.room, offer(party.members[1], message), Reason.INVALID_PROPOSAL)


def test_a_hub_that_proposes_nothing_is_not_listed() -> None:
    party = moved()
    party.room.log.group._signer = None
    refusal(party.room, change(party, (HUB_SENDER, C_SENDER)), Reason.INVALID_PROPOSAL)


def test_who_reads_the_log_knows_the_hub_by_its_name() -> None:
    party = moved()
    made = change(party, ((C_KEY.public_key, b"mimi://a.example"), C_SENDER))
    group = party.group_of_hub()
    staged = group.stage_commit(made.bundle.message, now=MLS.now)
    check_new_senders(group, staged, party.room.state)
    with pytest.raises(Rejected):
        check_new_senders(group, staged, party.room.state, key=HUB_KEY.public_key)
    assert MLS.now == NOW // 1000


def test_senders_that_are_no_providers_stay_and_unreadable_lists_are_refused() -> None:
    strange = (ExternalSender(signature_key=b"key", credential=b"\x00\x02\x00"),)
    others = ExternalSender(signature_key=b"k", credential=basic_credential(b"\xff"))
    hub = ExternalSender(signature_key=b"h", credential=basic_credential(b"mimi://a.example"))
    before = {EXTERNAL_SENDERS: ExternalSenders(senders=(*strange, others)).encode(), 6: b"x"}
    group: Any = SimpleNamespace(extensions=lambda: dict(before))
    state = moved().room.state

    def staged(extensions: dict[int, bytes] | None) -> Any:
        change = SimpleNamespace(kind="group_context_extensions", extensions=extensions)
        return SimpleNamespace(proposals=[change])

    after = ExternalSenders(senders=(hub, *strange, others)).encode()
    check_new_senders(group, staged({EXTERNAL_SENDERS: after, 6: b"x"}), state)
    for extensions in ({EXTERNAL_SENDERS: after[:-1], 6: b"x"}, {6: b"x"}, {}, None):
        with pytest.raises(Rejected, match="cannot be read"):
            check_new_senders(group, staged(extensions), state)
