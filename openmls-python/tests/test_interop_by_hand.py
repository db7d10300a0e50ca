"""AppDataUpdate and SelfRemove, which none of our peers has, against a member made by hand from the draft.

The member is bob: ts-mls brought him into the group that our alice created, and gave away his keys.
"""

from functools import partial

import pytest

from forge import Reader, split_commit, vector
from handmade import (
    APP_DATA_DICTIONARY,
    APP_DATA_UPDATE,
    SELF_REMOVE,
    HandmadeMember,
    app_data_remove,
    app_data_update,
    by_reference,
    by_value,
    dictionary,
    extensions,
)
from mixed import KEY_PACKAGE_HEADER, WEEK, Mixed
from openmls import Client, InvalidCommit, MlsError, StagedCommit
from peers import EXPORTED
from peers.ts_mls import TsMls, TsMlsPeer
from support import ref_of

TOPIC, ROLES, NEW = 0x8001, 0x8002, 0x8000
Values = dict[int, bytes]
# RequiredCapabilities: extension_types<V>, proposal_types<V>, credential_types<V>
REQUIRED_CAPABILITIES = b"\x00\x03" + vector(
    vector(APP_DATA_DICTIONARY) + vector(APP_DATA_UPDATE + SELF_REMOVE) + vector(b"\x00\x01")
)


class ByHand(Mixed[TsMlsPeer]):
    """Has our alice and dave, the peer carol whom nobody asks any more, and bob."""

    def __init__(self, ts_mls: TsMls, app_data: Values) -> None:
        make_peer = partial(TsMlsPeer, ts_mls, suite=1, plain=False, tree_inside=False)
        super().__init__(make_peer, created_by="us", plain=False)
        info, tree = self.ours["alice"].group_info()
        self.ours["dave"], bundle = self.client("dave").join_external(group_info=info, ratchet_tree=tree)
        self.commit(bundle.commit, "dave")
        bob = self.peers["bob"]
        self.bob = HandmadeMember(bob.group_context(), self.leaf("bob"), bob.secrets())
        self.peers.clear()
        if app_data:
            proposals = [by_value(app_data_update(component, value)) for component, value in app_data.items()]
            self.take(self.bob.commit(proposals, app_data), app_data)

    def take(self, commit: bytes, new: Values) -> StagedCommit:
        """Let hub and members take a commit that was made by hand; all must agree with its maker."""
        staged = self.hub.stage_commit(commit, new_app_data=new)
        self.hub.merge(staged)
        for group in self.ours.values():
            group.process(commit, new_app_data=new)
        self.agree()
        return staged

    def agree(self) -> None:
        label, context, length = EXPORTED
        assert self.hub.group_context() == self.bob.group_context()
        for group in self.ours.values():
            assert group.group_context() == self.bob.group_context()
            secret = group.export_secret(label=label, context=context, length=length)
            assert secret == self.bob.export_secret(label, context, length)


@pytest.fixture
def room(ts_mls: TsMls) -> ByHand:
    return ByHand(ts_mls, {TOPIC: b"topic", ROLES: b"roles"})


def test_updates_made_by_hand_are_applied_by_hub_and_members(room: ByHand) -> None:
    proposals = [by_value(app_data_update(TOPIC, payload)) for payload in (b"first", b"second")]
    after = {TOPIC: b"computed from both", ROLES: b"roles"}
    commit = room.bob.commit(proposals, after)
    for updates in (room.hub.app_data_updates(commit), room.ours["alice"].app_data_updates(commit)):
        assert [(update.component_id, update.operation, update.payload) for update in updates] == [
            (TOPIC, "update", b"first"),
            (TOPIC, "update", b"second"),
        ]
    staged = room.take(commit, {TOPIC: b"computed from both"})
    assert staged.app_data == after
    assert room.ours["dave"].app_data() == after


def test_a_removal_and_a_new_component_made_by_hand_are_applied(room: ByHand) -> None:
    proposals = [by_value(app_data_remove(ROLES)), by_value(app_data_update(NEW, b""))]
    commit = room.bob.commit(proposals, {NEW: b"sorted before the others", TOPIC: b"topic"})
    [removal, _] = room.hub.app_data_updates(commit)
    assert (removal.component_id, removal.operation, removal.payload) == (ROLES, "remove", b"")
    room.take(commit, {NEW: b"sorted before the others"})
    assert list(room.ours["alice"].app_data()) == [NEW, TOPIC]


def test_a_dictionary_that_was_empty_is_filled_by_hand_and_emptied_again(ts_mls: TsMls) -> None:
    room = ByHand(ts_mls, {})
    room.take(room.bob.commit([by_value(app_data_update(TOPIC, b"x"))], {TOPIC: b"x"}), {TOPIC: b"x"})
    room.take(room.bob.commit([by_value(app_data_remove(TOPIC))], {}), {})
    assert room.hub.app_data() == {}


def test_an_update_proposed_by_hand_is_committed_by_hand_by_reference(room: ByHand) -> None:
    proposal = room.bob.propose(app_data_update(TOPIC, b"+"))
    info = room.hub.add_proposal(proposal)
    assert (info.kind, info.sender_leaf) == ("app_data_update", room.leaf("bob"))
    assert vector(ref_of(info)) == by_reference(proposal)[1:]
    for group in room.ours.values():
        assert group.process(proposal).kind == "proposal"
        [pending] = group.pending_app_data_updates()
        assert (pending.component_id, pending.payload) == (TOPIC, b"+")
    staged = room.take(
        room.bob.commit([by_reference(proposal)], {TOPIC: b"new", ROLES: b"roles"}), {TOPIC: b"new"}
    )
    assert staged.proposal_references == (info.reference,)


def test_an_update_proposed_by_hand_is_committed_by_us(room: ByHand) -> None:
    proposal = room.bob.propose(app_data_update(TOPIC, b"+"))
    room.hub.add_proposal(proposal)
    for group in room.ours.values():
        group.process(proposal)
    bundle = room.ours["alice"].commit(new_app_data={TOPIC: b"new"})
    staged = room.hub.stage_commit(bundle.commit, new_app_data={TOPIC: b"new"})
    assert room.ours["dave"].process(bundle.commit, new_app_data={TOPIC: b"new"}).epoch == staged.epoch
    assert proposals_of(bundle.commit) == by_reference(proposal)


def test_bob_leaves_by_a_self_remove_made_by_hand_that_a_member_commits(room: ByHand) -> None:
    proposal = room.bob.propose(SELF_REMOVE)
    info = room.hub.add_proposal(proposal)
    assert (info.kind, info.removed_leaf) == ("self_remove", room.leaf("bob"))
    for group in room.ours.values():
        group.process(proposal)
    bundle = room.ours["dave"].commit()
    staged = room.hub.stage_commit(bundle.commit)
    room.hub.merge(staged)
    room.ours["dave"].merge_pending_commit()
    processed = room.ours["alice"].process(bundle.commit)
    assert [member.identity for member in staged.removed] == [b"bob"]
    assert processed.removed == staged.removed
    assert proposals_of(bundle.commit) == by_reference(proposal)
    room.check()


def test_bob_leaves_by_a_self_remove_made_by_hand_that_a_joiner_commits(room: ByHand) -> None:
    group_info, tree = room.ours["alice"].group_info()
    proposal = room.bob.propose(SELF_REMOVE)
    room.hub.add_proposal(proposal)
    for group in room.ours.values():
        group.process(proposal)
    room.ours["erin"], bundle = room.client("erin").join_external(
        group_info=group_info, ratchet_tree=tree, proposals=[proposal]
    )
    staged = room.commit(bundle.commit, "erin")
    assert [member.identity for member in staged.removed] == [b"bob"]
    assert by_reference(proposal) in proposals_of(bundle.commit)
    room.talk()


@pytest.mark.parametrize("offset", [1, 40], ids=["membership tag", "signature"])
def test_a_proposal_made_by_hand_with_a_wrong_tag_or_signature_is_refused(room: ByHand, offset: int) -> None:
    for content in (SELF_REMOVE, app_data_update(TOPIC, b"+")):
        proposal = bytearray(room.bob.propose(content))
        proposal[-offset] ^= 1
        before = room.clients["alice"].save()
        with pytest.raises(MlsError):
            room.ours["alice"].process(bytes(proposal))
        assert room.clients["alice"].save() == before


@pytest.mark.parametrize(
    "claimed",
    [
        {TOPIC: b"another", ROLES: b"roles"},
        {TOPIC: b"new"},
        {TOPIC: b"new", ROLES: b"roles", NEW: b""},
    ],
    ids=["another value", "a component less", "a component more"],
)
def test_members_refuse_a_commit_whose_maker_has_another_dictionary(room: ByHand, claimed: Values) -> None:
    commit = room.bob.commit([by_value(app_data_update(TOPIC, b"+"))], claimed)
    for group in room.ours.values():
        epoch = group.epoch
        with pytest.raises(InvalidCommit):
            group.process(commit, new_app_data={TOPIC: b"new"})
        assert group.epoch == epoch


def test_members_refuse_an_update_of_a_dictionary_that_is_not_the_last_extension(
    ts_mls: TsMls, now: int
) -> None:
    # A known limit: OpenMLS 0.9.2 moves the dictionary to the end, so that the confirmation tag of somebody
    # who leaves it in its place cannot be right. Groups that we create have it there.
    bob = TsMlsPeer(ts_mls, "bob", suite=1, plain=False, tree_inside=True)
    bob.create_group(b"group", extensions=[dictionary({TOPIC: b"topic"}), REQUIRED_CAPABILITIES])
    alice = Client.create(identity=b"alice")
    sent = bob.add(KEY_PACKAGE_HEADER + alice.key_package(now=now, lifetime=WEEK))
    bob.merge(sent.commit)
    assert sent.welcome is not None
    group = alice.join_welcome(welcome=sent.welcome, ratchet_tree=sent.tree)
    assert list(extensions(group.group_context())) == [APP_DATA_DICTIONARY, REQUIRED_CAPABILITIES[:2]]

    maker = HandmadeMember(bob.group_context(), 0, bob.secrets())
    commit = maker.commit([by_value(app_data_update(TOPIC, b"new"))], {TOPIC: b"new"})
    with pytest.raises(InvalidCommit):
        group.process(commit, new_app_data={TOPIC: b"new"})
    assert (group.epoch, group.app_data()) == (1, {TOPIC: b"topic"})


def proposals_of(commit: bytes) -> bytes:
    """The ProposalOrRefs of a commit, as they are encoded."""
    reader = Reader(split_commit(commit)[0])
    reader.vector()  # group_id
    reader.take(8)  # epoch
    if reader.take(1) == b"\x01":
        reader.take(4)
    reader.vector()  # authenticated_data
    reader.take(1)  # content_type
    return reader.vector()


def test_what_we_write_is_what_the_draft_says(now: int) -> None:
    alice, bob = Client.create(identity=b"alice"), Client.create(identity=b"bob")
    group = alice.create_group(group_id=b"group", app_data={ROLES: b"roles", TOPIC: b"topic"})
    # AppDataDictionary: ComponentData component_data<V>, sorted by component_id
    assert extensions(group.group_context())[APP_DATA_DICTIONARY] == vector(
        b"\x80\x01" + vector(b"topic") + b"\x80\x02" + vector(b"roles")
    )
    bundle = group.commit(
        add=[bob.key_package(now=now, lifetime=3600)],
        app_data_updates={TOPIC: b"+", NEW: b""},
        new_app_data={TOPIC: b"changed", NEW: b"n"},
    )
    group.merge_pending_commit()
    proposals = proposals_of(bundle.commit)
    for update in (app_data_update(TOPIC, b"+"), app_data_update(NEW, b"")):
        assert by_value(update) in proposals
    assert dictionary({NEW: b"n", TOPIC: b"changed", ROLES: b"roles"}) in group.group_context()

    assert bundle.welcome is not None
    joined = bob.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    proposal = joined.propose_self_remove()
    front = vector(b"group") + (1).to_bytes(8, "big") + b"\x01\x00\x00\x00\x01" + vector(b"") + b"\x02"
    assert proposal[4:].startswith(front + b"\x00\x0a" + b"\x40\x40")  # then a signature of 64 octets
    kind, required = REQUIRED_CAPABILITIES[:2], REQUIRED_CAPABILITIES[3:]
    assert extensions(group.group_context())[kind] == required
