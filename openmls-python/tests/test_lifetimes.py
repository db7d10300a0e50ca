"""Judging commits by the time they were made at, long after the key packages they add have expired."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from forge import ForgedKeyPackage, Forgery, external, proposal_message
from openmls import Client, Group, InvalidProposal, MlsError, PublicGroup, SignatureKeyPair
from support import GROUP_ID, NO_DATA, WEEK, Room, uri

COMPONENT = 0x8001
ADD = b"\x00\x01"
LIFETIME = 3
"""Seconds for making all messages below while the key packages in them are valid."""


def external_add(hub_key: SignatureKeyPair, epoch: int, key_package: bytes) -> bytes:
    """An Add proposal of the external sender 0 (RFC 9420 section 12.1.8)."""
    return proposal_message(hub_key, external(0), ADD + key_package, group_id=GROUP_ID, epoch=epoch)


def relabelled(key_package: bytes, signer: Client, not_before: int) -> bytes:
    """A key package whose lifetime begins at another time, signed again by its owner."""
    forged = ForgedKeyPackage.read(key_package)
    forged.not_before = not_before
    return forged.sign(signer)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A message of the room's log, and the hub after it as it was at the time."""

    message: bytes
    hub: bytes
    tree: bytes
    is_commit: bool = True
    app_data: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """What is left of a room: a log that was valid at ``then`` and cannot have been made at ``later``."""

    then: int
    hub: bytes
    bob: bytes
    bob_live: bytes
    alice: bytes
    hub_key: SignatureKeyPair
    log: tuple[Entry, ...]
    too_long: tuple[bytes, bytes]
    """A proposal whose key package is valid for over 200 days, and a commit that takes it by reference."""
    repeated: tuple[bytes, bytes]
    """The same with a key package whose identity holds the bytes of its lifetime as well."""

    @property
    def later(self) -> int:
        return self.then + LIFETIME

    @property
    def before(self) -> int:
        """Before any of the key packages begins, an hour before the time it was made."""
        return self.then - 3601


@pytest.fixture(scope="module")
def past() -> Past:
    """Bob was added and went away.

    Then a commit added carol by value and dave by reference, the next erin and frank together with
    application data, and the last one was without proposals.
    """
    then = int(time.time())
    room = Room(now=then, app_data={COMPONENT: b"old"})
    room.add("bob")
    away = room.clients["bob"].save()
    hub = room.hub.save()
    late = {name: Client.create(identity=uri(name)) for name in ("carol", "dave", "erin", "frank", "grace")}
    packages = {name: late[name].key_package(now=then, lifetime=LIFETIME) for name in late}
    log: list[Entry] = []

    def append(message: bytes, tree: bytes, app_data: Mapping[int, bytes] = NO_DATA, *, commit: bool) -> None:
        log.append(
            Entry(message=message, hub=room.hub.save(), tree=tree, is_commit=commit, app_data=app_data)
        )

    def taken(package: bytes) -> tuple[bytes, bytes]:
        proposal = external_add(room.hub_key, 1, package)
        twin = Client.load(room.clients["alice"].save()).group(GROUP_ID)
        twin.process(proposal)
        return proposal, twin.commit().commit

    too_long = taken(relabelled(packages["grace"], late["grace"], then - 200 * 86400))
    repeating = Client.create(identity=stored_lifetime(then))
    repeated = taken(repeating.key_package(now=then, lifetime=LIFETIME))
    proposal = external_add(room.hub_key, 1, packages["dave"])
    assert room.hub.add_proposal(proposal).kind == "add"
    for group in room.groups.values():
        group.process(proposal)
    append(proposal, room.tree, commit=False)
    bundle = room.groups["alice"].commit(add=[packages["carol"]])
    staged = room.accept(bundle, "alice")
    assert {member.identity for member in staged.added} == {uri("carol"), uri("dave")}
    append(bundle.commit, room.tree, commit=True)
    new = {COMPONENT: b"new"}
    bundle = room.groups["alice"].commit(
        add=[packages["erin"], packages["frank"]], app_data_updates={COMPONENT: b"+"}, new_app_data=new
    )
    room.accept(bundle, "alice", new)
    append(bundle.commit, room.tree, new, commit=True)
    bundle = room.groups["alice"].commit()
    room.accept(bundle, "alice")
    append(bundle.commit, room.tree, commit=True)
    while time.time() < then + LIFETIME:
        time.sleep(0.1)
    return Past(
        then=then,
        hub=hub,
        bob=away,
        bob_live=room.clients["bob"].save(),
        alice=room.clients["alice"].save(),
        hub_key=room.hub_key,
        log=tuple(log),
        too_long=too_long,
        repeated=repeated,
    )


def take(hub: PublicGroup, entry: Entry, now: int | None) -> None:
    if entry.is_commit:
        hub.merge(hub.stage_commit(entry.message, new_app_data=entry.app_data, now=now))
    else:
        hub.add_proposal(entry.message, now=now)


def varint(number: int) -> bytes:
    """How a snapshot holds a number: seven bits a byte, the lowest first."""
    low = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([part | 0x80 for part in low[:-1]] + low[-1:])


def stored_lifetime(then: int) -> bytes:
    """How a snapshot holds the lifetime of a key package made at ``then``."""
    return varint(then - 3600) + varint(then + LIFETIME)


def follow(past: Past, until: int) -> PublicGroup:
    """The hub of a verifier who has taken in the first entries of the log."""
    hub = PublicGroup.load(past.hub)
    for entry in past.log[:until]:
        take(hub, entry, past.then)
    return hub


def follow_as_member(past: Past, until: int) -> tuple[Client, Group]:
    bob = Client.load(past.bob)
    group = bob.group(GROUP_ID)
    for entry in past.log[:until]:
        group.process(entry.message, new_app_data=entry.app_data, now=past.then)
    return bob, group


def test_a_log_verifies_at_any_later_time_and_leads_to_the_very_same_state(past: Past) -> None:
    hub = PublicGroup.load(past.hub)
    for entry in past.log:
        take(hub, entry, past.then)
        assert hub.save() == entry.hub
        assert hub.export_ratchet_tree() == entry.tree
    assert hub.group_context() == Client.load(past.alice).group(GROUP_ID).group_context()


def test_a_verifier_may_save_and_load_between_any_two_steps(past: Past) -> None:
    data = past.hub
    for entry in past.log:
        hub = PublicGroup.load(data)
        take(hub, entry, past.then)
        data = hub.save()
    assert data == past.log[-1].hub


def test_staging_tells_the_same_as_it_did_at_the_time(past: Past) -> None:
    hub = follow(past, 1)
    staged = hub.stage_commit(past.log[1].message, now=past.then)
    assert [member.identity for member in staged.added] == [uri("dave"), uri("carol")]
    assert staged.proposal_references == (hub.proposals()[0].reference,)
    assert staged.group_context == PublicGroup.load(past.log[1].hub).group_context()
    assert hub.save() == past.log[0].hub


def test_a_member_who_was_away_catches_up_to_the_very_same_state(past: Past) -> None:
    bob = Client.load(past.bob)
    for entry in past.log:
        processed = bob.group(GROUP_ID).process(entry.message, new_app_data=entry.app_data, now=past.then)
        assert processed.kind == ("commit" if entry.is_commit else "proposal")
        bob = Client.load(bob.save())
    group, hub = bob.group(GROUP_ID), PublicGroup.load(past.log[-1].hub)
    assert group.group_context() == hub.group_context()
    assert group.members() == hub.members()
    live = Client.load(past.bob_live)
    genuine = stored_lifetime(past.then)
    assert bob.save().count(genuine) == past.bob_live.count(genuine) > 0
    secret, same = (
        taken.group(GROUP_ID).export_secret(label="x", context=b"", length=32) for taken in (bob, live)
    )
    assert secret == same


def test_everybody_goes_on_together_after_catching_up(past: Past) -> None:
    alice = Client.load(past.alice).group(GROUP_ID)
    _, bob = follow_as_member(past, len(past.log))
    hub = follow(past, len(past.log))
    assert alice.process(bob.encrypt(b"I am back")).plaintext == b"I am back"
    zoe = Client.create(identity=uri("zoe"))
    bundle = bob.commit(
        add=[zoe.key_package(now=int(time.time()), lifetime=WEEK)], remove=[alice.own_leaf_index]
    )
    staged = hub.stage_commit(bundle.commit)
    hub.verify_group_info(staged=staged, group_info=bundle.group_info)
    hub.merge(staged)
    bob.merge_pending_commit()
    assert alice.process(bundle.commit).self_removed
    assert bundle.welcome is not None
    joined = zoe.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    assert joined.group_context() == bob.group_context() == hub.group_context()
    assert (
        PublicGroup.observe(group_info=bundle.group_info, ratchet_tree=hub.export_ratchet_tree()).epoch == 5
    )


@pytest.mark.parametrize("position", [0, 1, 2], ids=["proposal", "by value and by reference", "by value"])
def test_what_adds_an_expired_key_package_is_refused_and_changes_nothing(past: Past, position: int) -> None:
    entry = past.log[position]
    hub = follow(past, position)
    bob, group = follow_as_member(past, position)
    public, private = hub.save(), bob.save()
    for now in (None, past.later, past.before, 0, 1 << 63, (1 << 64) - 1):
        with pytest.raises(InvalidProposal):
            take(hub, entry, now)
        with pytest.raises(InvalidProposal):
            group.process(entry.message, new_app_data=entry.app_data, now=now)
        if not entry.is_commit:
            with pytest.raises(InvalidProposal):
                hub.stage_proposal(entry.message, now=now)
        assert hub.save() == public
        assert bob.save() == private
    take(hub, entry, past.then)
    group.process(entry.message, new_app_data=entry.app_data, now=past.then)
    assert hub.group_context() == group.group_context()


def test_a_proposal_is_verified_at_its_time_without_being_stored(past: Past) -> None:
    hub = PublicGroup.load(past.hub)
    assert hub.stage_proposal(past.log[0].message, now=past.then).kind == "add"
    assert hub.save() == past.hub


def test_a_key_package_that_was_good_when_proposed_must_also_be_so_when_it_is_committed(past: Past) -> None:
    hub = follow(past, 1)
    for now in (None, past.later):
        with pytest.raises(InvalidProposal):
            hub.stage_commit(past.log[1].message, now=now)
    assert hub.save() == past.log[0].hub


def test_what_the_clock_would_accept_is_refused_if_it_is_not_valid_at_the_time_given(room: Room) -> None:
    room.add("bob")
    room.client("carol")
    bundle = room.groups["alice"].commit(add=[room.key_package("carol")])
    room.client("dave")
    proposal = external_add(room.hub_key, 1, room.key_package("dave"))
    public, private = room.hub.save(), room.clients["bob"].save()
    for now in (room.now + WEEK, room.now - 2 * 3600):
        with pytest.raises(InvalidProposal, match="not at"):
            room.hub.stage_commit(bundle.commit, now=now)
        with pytest.raises(InvalidProposal, match="not at"):
            room.groups["bob"].process(bundle.commit, now=now)
        with pytest.raises(InvalidProposal, match="not at"):
            room.hub.stage_proposal(proposal, now=now)
        with pytest.raises(InvalidProposal, match="not at"):
            room.hub.add_proposal(proposal, now=now)
        with pytest.raises(InvalidProposal, match="not at"):
            room.groups["bob"].process(proposal, now=now)
    assert room.hub.save() == public
    assert room.clients["bob"].save() == private
    staged = room.hub.stage_commit(bundle.commit, now=room.now)
    assert [member.identity for member in staged.added] == [uri("carol")]


def test_a_commit_valid_in_the_future_is_accepted_there_only(room: Room) -> None:
    start = room.now + WEEK
    key_package = room.client("dave").key_package(now=start, lifetime=WEEK)
    proposal = external_add(room.hub_key, 0, key_package)
    with pytest.raises(InvalidProposal):
        room.hub.stage_proposal(proposal)
    assert room.hub.stage_proposal(proposal, now=start).kind == "add"


def test_messages_that_add_nobody_are_judged_alike_at_any_time(room: Room) -> None:
    room.add("bob", "carol")
    long_ago = 1
    proposal = room.groups["bob"].propose_self_remove()
    assert room.hub.add_proposal(proposal, now=long_ago).kind == "self_remove"
    for name in ("alice", "carol"):
        assert room.groups[name].process(proposal, now=long_ago).kind == "proposal"
    bundle = room.groups["alice"].commit()
    room.hub.merge(room.hub.stage_commit(bundle.commit, now=long_ago))
    room.groups["alice"].merge_pending_commit()
    for name in ("bob", "carol"):
        room.groups[name].process(bundle.commit, now=long_ago)
    del room.groups["bob"]
    room.check()
    message = room.groups["alice"].encrypt(b"x")
    assert room.groups["carol"].process(message, now=long_ago).plaintext == b"x"


def flip(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@pytest.mark.parametrize("position", [0, 1, 2], ids=["proposal", "by value and by reference", "by value"])
def test_no_bit_of_an_old_message_can_be_flipped_unnoticed(past: Past, position: int) -> None:
    entry = past.log[position]
    hub = follow(past, position)
    bob, group = follow_as_member(past, position)
    public, private = hub.save(), bob.save()
    tags = 2 * 33 if entry.is_commit else 0  # confirmation and membership tag are for members to check
    for at in range(len(entry.message) - tags):
        with pytest.raises(MlsError):
            take(
                hub,
                Entry(
                    message=flip(entry.message, at),
                    hub=b"",
                    tree=b"",
                    app_data=entry.app_data,
                    is_commit=entry.is_commit,
                ),
                past.then,
            )
    assert hub.save() == public
    for at in (*range(0, len(entry.message), 29), *range(len(entry.message) - tags, len(entry.message), 7)):
        with pytest.raises(MlsError):
            group.process(flip(entry.message, at), new_app_data=entry.app_data, now=past.then)
    assert bob.save() == private


def test_a_lifetime_changed_by_a_member_who_signs_the_commit_is_refused(past: Past) -> None:
    """The committer can sign the commit again, but not the key package of somebody else."""
    hub, alice = follow(past, 2), Client.load(past.alice)
    honest = Forgery.read(past.log[2].message)
    assert (
        hub.stage_commit(
            honest.sign(alice, hub.group_context()), new_app_data=past.log[2].app_data, now=past.then
        ).epoch
        == 3
    )
    end = past.later.to_bytes(8, "big")
    assert honest.proposals.count(end) == 2
    honest.proposals = honest.proposals.replace(end, (past.later + 1).to_bytes(8, "big"), 1)
    with pytest.raises(InvalidProposal):
        hub.stage_commit(
            honest.sign(alice, hub.group_context()), new_app_data=past.log[2].app_data, now=past.then
        )


def test_the_longest_lifetime_holds_for_old_key_packages_too(past: Past) -> None:
    """The check of RFC 9420 section 7.2 sees the genuine lifetimes."""
    hub = PublicGroup.load(past.hub)
    proposal, commit = past.too_long
    assert hub.add_proposal(proposal, now=past.then).kind == "add"
    with pytest.raises(InvalidProposal, match="too long"):
        hub.stage_commit(commit, now=past.then)
    bob = Client.load(past.bob).group(GROUP_ID)
    assert bob.process(proposal, now=past.then).kind == "proposal"
    with pytest.raises(InvalidProposal, match="too long"):
        bob.process(commit, now=past.then)


def test_a_key_package_that_makes_its_lifetime_ambiguous_is_refused_once_it_is_old(past: Past) -> None:
    hub = PublicGroup.load(past.hub)
    proposal, commit = past.repeated
    assert hub.add_proposal(proposal, now=past.then).kind == "add"
    before = hub.save()
    with pytest.raises(InvalidProposal, match="repeats its lifetime"):
        hub.stage_commit(commit, now=past.then)
    assert hub.save() == before
    bob = Client.load(past.bob)
    group = bob.group(GROUP_ID)
    group.process(proposal, now=past.then)
    saved = bob.save()
    with pytest.raises(InvalidProposal, match="repeats its lifetime"):
        group.process(commit, now=past.then)
    assert bob.save() == saved


@pytest.mark.parametrize("number", [-1, 1 << 64])
def test_a_time_that_is_no_64_bit_number_is_refused(room: Room, number: int) -> None:
    commit = room.groups["alice"].commit().commit
    with pytest.raises(OverflowError):
        room.hub.stage_commit(commit, now=number)
    with pytest.raises(OverflowError):
        room.groups["alice"].process(commit, now=number)
