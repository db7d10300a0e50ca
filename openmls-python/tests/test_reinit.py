"""ReInit, its successor (RFC 9420 section 11.2) and branches (section 11.3)."""

from collections.abc import Callable

import pytest

from forge import Forgery
from openmls import (
    CannotDecrypt,
    Client,
    InvalidCommit,
    InvalidKeyPackage,
    InvalidProposal,
    NotAllowed,
    PskId,
    PublicGroup,
    UnknownGroup,
    WrongEpoch,
)
from support import GROUP_ID, WEEK, Room, ref_of, uri

NEXT = b"mimi://hub.example/g/next"
TOPIC = 0x8001


@pytest.fixture
def room(now: int) -> Room:
    room = Room(now=now, app_data={TOPIC: b"chess"})
    room.add("bob", "carol")
    return room


def propose(room: Room, by: str = "bob", ciphersuite: int | None = None) -> bytes:
    """Propose a ReInit and let everybody store it; gives the reference."""
    proposal = room.groups[by].propose_reinit(group_id=NEXT, ciphersuite=ciphersuite, app_data={TOPIC: b"go"})
    info = room.hub.add_proposal(proposal)
    assert info.kind == "reinit"
    for name, group in room.groups.items():
        if name != by:
            group.process(proposal)
    return ref_of(info)


def close(room: Room, by: str = "alice", ciphersuite: int | None = None) -> None:
    """Let ``by`` commit a ReInit."""
    reference = propose(room, ciphersuite=ciphersuite)
    bundle = room.groups[by].commit_reinit(reference, aad=b"good bye")
    staged = room.hub.stage_commit(bundle.commit)
    room.hub.verify_group_info(staged=staged, group_info=bundle.group_info)
    assert (staged.proposal_kinds, staged.proposal_references) == (("reinit",), (reference,))
    assert staged.authenticated_data == b"good bye"
    room.hub.merge(staged)
    assert room.groups[by].is_active
    room.groups[by].merge_pending_commit()
    for name, group in room.groups.items():
        if name != by:
            processed = group.process(bundle.commit)
            assert [info.kind for info in processed.proposals] == ["reinit"]


def key_packages(room: Room, *names: str) -> list[bytes]:
    return [room.clients[name].key_package(now=room.now, lifetime=WEEK) for name in names]


def test_a_commit_of_a_reinit_closes_the_group_for_everybody(room: Room) -> None:
    late = room.groups["carol"].encrypt(b"sent before")
    assert room.groups["bob"].reinit is None
    close(room)
    for name, group in room.groups.items():
        assert not group.is_active
        assert group.reinit is not None
        assert (group.reinit.group_id, group.reinit.version, group.reinit.ciphersuite) == (NEXT, 1, 1)
        assert group.reinit.app_data == {TOPIC: b"go"}
        assert group.reinit.external_senders == ()
        assert group.reinit.required_capabilities is not None
        assert group.epoch == room.hub.epoch == 2
        restored = Client.load(room.clients[name].save()).group(GROUP_ID)
        assert restored.reinit is not None
        assert not restored.is_active
    assert room.groups["alice"].process(late).plaintext == b"sent before"


def test_a_delivery_service_takes_nothing_in_a_closed_group_even_after_a_restart(room: Room) -> None:
    assert room.hub.reinit is None
    twin = Client.load(room.clients["carol"].save()).group(GROUP_ID)
    reference = propose(room)
    bundle = room.groups["alice"].commit_reinit(reference)
    room.hub.merge(room.hub.stage_commit(bundle.commit))
    # A member who thinks that the group goes on: it takes the commit as one that changes nothing.
    forgery = Forgery.read(twin.commit().commit)
    forgery.epoch = room.hub.epoch
    late = forgery.sign(room.clients["carol"], room.hub.group_context())
    for hub in (room.hub, PublicGroup.load(room.hub.save())):
        assert hub.reinit is not None
        assert (hub.reinit.group_id, hub.reinit.app_data) == (NEXT, {TOPIC: b"go"})
        before = hub.save()
        with pytest.raises(NotAllowed, match="ended by a ReInit"):
            hub.stage_commit(late)
        with pytest.raises(NotAllowed, match="ended by a ReInit"):
            hub.add_proposal(late)
        assert hub.save() == before


def test_nothing_is_sent_in_a_closed_group(room: Room) -> None:
    close(room)
    group = room.groups["bob"]
    before = room.clients["bob"].save()
    ways: list[Callable[[], object]] = [
        lambda: group.encrypt(b"x"),
        group.commit,
        group.group_info,
        group.propose_update,
        group.propose_self_remove,
        lambda: group.propose_reinit(group_id=b"again"),
        lambda: group.commit_reinit(b""),
    ]
    for way in ways:
        with pytest.raises(NotAllowed):
            way()
    assert room.clients["bob"].save() == before


def test_what_somebody_else_sends_in_a_closed_group_is_refused(room: Room) -> None:
    rebel = Client.load(room.clients["bob"].save())
    reference = propose(room, by="carol")
    bundle = room.groups["alice"].commit_reinit(reference)
    for name in ("bob", "carol"):
        room.groups[name].process(bundle.commit)
    # Somebody who committed something else in its place is in another epoch 2 and is not understood either.
    other = rebel.group(GROUP_ID)
    other.commit()
    other.merge_pending_commit()
    for message in (other.encrypt(b"still here"), other.commit().commit):
        with pytest.raises(NotAllowed):
            room.groups["carol"].process(message)
    with pytest.raises(WrongEpoch):
        room.groups["carol"].process(bundle.commit)


def test_a_reinit_is_committed_alone_and_left_out_of_other_commits(room: Room) -> None:
    reference = propose(room)
    staged = room.accept(room.groups["alice"].commit(), "alice")
    assert staged.proposal_references == ()
    assert room.groups["alice"].is_active
    assert room.groups["alice"].pending_proposals() == ()
    with pytest.raises(NotAllowed):
        room.groups["alice"].commit_reinit(reference)
    reference = propose(room)
    proposal = room.groups["carol"].propose_app_ephemeral(TOPIC, b"")
    for name in ("alice", "bob"):
        room.groups[name].process(proposal)
    room.hub.add_proposal(proposal)
    bundle = room.groups["alice"].commit_reinit(reference)
    assert room.hub.stage_commit(bundle.commit).proposal_references == (reference,)
    assert len(room.groups["alice"].pending_proposals()) == 2


def test_only_a_stored_reinit_can_be_committed_as_one(room: Room) -> None:
    alice = room.groups["alice"]
    alice.propose_remove(1)
    for reference in (b"", b"\x07" * 32, ref_of(alice.pending_proposals()[0])):
        with pytest.raises(NotAllowed):
            alice.commit_reinit(reference)
    assert len(alice.pending_proposals()) == 1
    assert not alice.has_pending_commit


def test_a_dropped_or_overtaken_reinit_closes_nothing(room: Room) -> None:
    alice = room.groups["alice"]
    alice.commit_reinit(propose(room))
    alice.clear_pending_commit()
    assert alice.is_active
    alice.commit_reinit(ref_of(alice.pending_proposals()[0]))
    room.accept(room.groups["bob"].commit(), "bob")
    assert alice.reinit is None
    room.talk()


def test_a_successor_needs_another_group_id_and_a_known_ciphersuite(room: Room) -> None:
    with pytest.raises(NotAllowed):
        room.groups["bob"].propose_reinit(group_id=GROUP_ID)
    with pytest.raises(NotAllowed):
        room.groups["bob"].propose_reinit(group_id=NEXT, ciphersuite=0xF00)
    assert room.groups["bob"].pending_proposals() == ()


def test_all_go_on_in_the_successor(room: Room) -> None:
    close(room)
    group, bundle = room.clients["carol"].create_reinit(
        GROUP_ID, add=key_packages(room, "alice", "bob"), now=room.now
    )
    assert (group.group_id, group.epoch, group.is_active) == (NEXT, 1, True)
    assert group.app_data() == {TOPIC: b"go"}
    hub = PublicGroup.observe(group_info=bundle.group_info, ratchet_tree=bundle.ratchet_tree)
    assert bundle.welcome is not None
    successors = {"carol": group}
    for name in ("alice", "bob"):
        preview = room.clients[name].preview_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
        assert (preview.group_id, preview.sender.identity) == (NEXT, uri("carol"))
        successors[name] = room.clients[name].join_welcome(
            welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree
        )
    after = successors["alice"].commit()
    staged = hub.stage_commit(after.commit)
    hub.verify_group_info(staged=staged, group_info=after.group_info)
    successors["alice"].merge_pending_commit()
    for name in ("bob", "carol"):
        successors[name].process(after.commit)
    message = successors["bob"].encrypt(b"here we are")
    for name in ("alice", "carol"):
        assert successors[name].process(message).plaintext == b"here we are"
        room.clients[name] = Client.load(room.clients[name].save())
        assert room.clients[name].group_ids() == (GROUP_ID, NEXT)
    assert successors["bob"].pending_proposals() == ()


def test_who_was_not_in_the_old_group_cannot_join_the_successor(room: Room, now: int) -> None:
    close(room)
    stranger = Client.create(identity=uri("alice"))
    package = stranger.key_package(now=now, lifetime=WEEK)
    _, bundle = room.clients["bob"].create_reinit(GROUP_ID, add=[package])
    assert bundle.welcome is not None
    before = stranger.save()
    with pytest.raises(NotAllowed):
        stranger.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    assert stranger.save() == before


def test_the_secret_of_the_old_group_is_needed_and_not_only_its_name(room: Room, now: int) -> None:
    """Two groups of one name: the successor of one cannot be joined with the secret of the other."""
    close(room)
    impostor = Room(now=now)
    for name in ("bob",):
        impostor.add(name)
    close_again = impostor.groups["bob"].propose_reinit(group_id=NEXT)
    impostor.groups["alice"].process(close_again)
    reference = ref_of(impostor.groups["bob"].pending_proposals()[0])
    bundle = impostor.groups["bob"].commit_reinit(reference)
    impostor.groups["bob"].merge_pending_commit()
    assert impostor.groups["bob"].epoch == room.groups["alice"].epoch
    assert bundle.commit
    _, bundle = impostor.clients["bob"].create_reinit(GROUP_ID, add=key_packages(room, "alice"))
    assert bundle.welcome is not None
    with pytest.raises(CannotDecrypt):
        room.clients["alice"].join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)


def test_a_successor_must_be_what_the_reinit_announced(room: Room, now: int) -> None:
    # carol closes the group with another successor in mind than alice and bob.
    fork = Client.load(room.clients["carol"].save())
    close(room)
    other = fork.group(GROUP_ID)
    other.propose_reinit(group_id=b"somewhere else")
    other.commit_reinit(ref_of(other.pending_proposals()[0]))
    other.merge_pending_commit()
    _, bundle = fork.create_reinit(GROUP_ID, add=key_packages(room, "alice"))
    assert bundle.welcome is not None
    with pytest.raises(CannotDecrypt):  # another epoch 2 has another secret
        room.clients["alice"].join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)


def test_a_successor_without_everybody_is_not_joined(room: Room) -> None:
    close(room)
    _, bundle = room.clients["alice"].create_reinit(GROUP_ID, add=key_packages(room, "bob"))
    assert bundle.welcome is not None
    before = room.clients["bob"].save()
    with pytest.raises(InvalidCommit):
        room.clients["bob"].join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    assert room.clients["bob"].save() == before


def test_a_successor_is_made_only_of_a_closed_group_and_with_somebody(room: Room, now: int) -> None:
    alice = room.clients["alice"]
    packages = key_packages(room, "bob")
    with pytest.raises(NotAllowed):
        alice.create_reinit(GROUP_ID, add=packages)
    with pytest.raises(UnknownGroup):
        alice.create_reinit(b"nowhere", add=packages)
    close(room)
    with pytest.raises(NotAllowed):
        alice.create_reinit(GROUP_ID, add=[])
    with pytest.raises(InvalidKeyPackage):
        alice.create_reinit(GROUP_ID, add=[b"nonsense"])
    with pytest.raises(InvalidKeyPackage):
        alice.create_reinit(GROUP_ID, add=packages, now=now + WEEK)
    with pytest.raises(NotAllowed):
        alice.create_reinit(GROUP_ID, add=packages, past_epochs=65)
    assert alice.group_ids() == (GROUP_ID,)
    alice.create_reinit(GROUP_ID, add=packages)
    with pytest.raises(NotAllowed):
        alice.create_reinit(GROUP_ID, add=packages)


@pytest.mark.parametrize("suite", [2, 3, 7, 0x004D])
def test_all_go_on_in_a_successor_of_another_ciphersuite_with_new_clients(room: Room, suite: int) -> None:
    """RFC 9420 section 11.2: what a group cannot change, its ciphersuite say, a ReInit changes."""
    close(room, ciphersuite=suite)
    clients = {name: Client.create(identity=uri(name), ciphersuite=suite) for name in room.clients}
    packages = [clients[name].key_package(now=room.now, lifetime=WEEK) for name in ("bob", "carol")]
    group, bundle = clients["alice"].create_reinit(GROUP_ID, add=packages, former=room.clients["alice"])
    assert (group.group_id, group.epoch, group.ciphersuite) == (NEXT, 1, suite)
    hub = PublicGroup.observe(group_info=bundle.group_info, ratchet_tree=bundle.ratchet_tree)
    assert (hub.ciphersuite, hub.group_context()) == (suite, group.group_context())
    assert bundle.welcome is not None
    for name in ("bob", "carol"):
        before = clients[name].save()
        for former in (None, clients["alice"]):
            with pytest.raises(NotAllowed):
                clients[name].join_welcome(
                    welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree, former=former
                )
        assert clients[name].save() == before
        preview = clients[name].preview_welcome(
            welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree, former=room.clients[name]
        )
        assert (preview.group_id, preview.ciphersuite) == (NEXT, suite)
        joined = clients[name].join_welcome(
            welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree, former=room.clients[name]
        )
        assert joined.process(group.encrypt(b"here we are")).plaintext == b"here we are"


def test_the_successor_of_another_ciphersuite_is_not_made_by_a_client_of_the_old_one(room: Room) -> None:
    close(room, ciphersuite=3)
    alice = room.clients["alice"]
    with pytest.raises(NotAllowed, match="another ciphersuite"):
        alice.create_reinit(GROUP_ID, add=key_packages(room, "bob"))
    new = Client.create(identity=uri("alice"), ciphersuite=3)
    with pytest.raises(UnknownGroup):
        new.create_reinit(GROUP_ID, add=key_packages(room, "bob"))
    with pytest.raises(InvalidProposal, match="ciphersuite"):
        new.create_reinit(GROUP_ID, add=key_packages(room, "bob"), former=alice)
    assert new.group_ids() == ()


def test_some_members_branch_off_and_the_group_goes_on(room: Room) -> None:
    group, bundle = room.clients["alice"].create_branch(
        GROUP_ID, branch_id=b"branch", add=key_packages(room, "bob"), app_data={TOPIC: b"poker"}
    )
    assert bundle.welcome is not None
    branch = room.clients["bob"].join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    assert branch.process(group.encrypt(b"psst")).plaintext == b"psst"
    assert branch.app_data() == {TOPIC: b"poker"}
    assert [member.identity for member in branch.members()] == [uri("alice"), uri("bob")]
    with pytest.raises(CannotDecrypt):
        room.clients["carol"].join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    room.talk()


def test_an_older_epoch_that_is_still_known_can_be_branched_from(room: Room) -> None:
    _, bundle = room.clients["alice"].create_branch(
        GROUP_ID, branch_id=b"branch", add=key_packages(room, "bob")
    )
    room.accept(room.groups["carol"].commit(), "carol")
    assert bundle.welcome is not None
    branch = room.clients["bob"].join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    # What is not given is as in the original group.
    assert branch.app_data() == {TOPIC: b"chess"}
    assert branch.external_senders() == room.groups["bob"].external_senders()


def test_a_branch_has_members_of_the_original_group_only(room: Room, now: int) -> None:
    stranger = Client.create(identity=uri("mallory"))
    packages = [*key_packages(room, "bob"), stranger.key_package(now=now, lifetime=WEEK)]
    _, bundle = room.clients["alice"].create_branch(GROUP_ID, branch_id=b"branch", add=packages)
    assert bundle.welcome is not None
    before = room.clients["bob"].save()
    with pytest.raises(InvalidCommit):
        room.clients["bob"].join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    with pytest.raises(NotAllowed):
        stranger.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    assert room.clients["bob"].save() == before


def test_a_closed_group_is_not_branched_from_nor_one_that_we_left(room: Room) -> None:
    packages = key_packages(room, "alice")
    room.accept(room.groups["alice"].commit(remove=[2]), "alice")
    with pytest.raises(NotAllowed):
        room.clients["carol"].create_branch(GROUP_ID, branch_id=b"branch", add=packages)
    close(room)
    with pytest.raises(NotAllowed):
        room.clients["bob"].create_branch(GROUP_ID, branch_id=b"branch", add=packages)
    with pytest.raises(NotAllowed):
        room.clients["bob"].create_branch(GROUP_ID, branch_id=GROUP_ID, add=packages)


def test_a_branch_can_have_keys_of_its_members_beside(room: Room) -> None:
    psk = PskId.external(b"beside")
    for name in ("alice", "bob"):
        room.clients[name].add_psk(psk, b"secret")
    group, bundle = room.clients["alice"].create_branch(
        GROUP_ID, branch_id=b"branch", add=key_packages(room, "bob")
    )
    assert bundle.welcome is not None
    branch = room.clients["bob"].join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    after = group.commit(psks=[psk, PskId.resumption(1)])
    branch.process(after.commit)
    group.merge_pending_commit()
    assert branch.process(group.encrypt(b"x")).plaintext == b"x"
