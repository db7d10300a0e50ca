"""`save` and `load`: nothing is lost, damaged snapshots are refused, nothing a failed call did remains."""

import contextlib
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openmls import (
    Client,
    MlsError,
    NotAllowed,
    PublicGroup,
    SnapshotFormat,
    UnknownGroup,
)
from support import GROUP_ID, WEEK, Room, uri

# Fewer than may arrive out of order, since threads run in any order.
COUNT = 24


def reload(room: Room) -> None:
    """Replace everybody by what their snapshots hold."""
    room.hub = PublicGroup.load(room.hub.save())
    for name in list(room.groups):
        room.clients[name] = Client.load(room.clients[name].save())
        room.groups[name] = room.clients[name].group(GROUP_ID)


def test_a_life_with_a_restart_after_every_step_is_like_one_without(room: Room) -> None:
    reload(room)
    room.add("bob", "carol")
    reload(room)
    room.talk()
    reload(room)
    room.talk()
    room.accept(room.groups["bob"].commit(remove=[0]), "bob")
    reload(room)
    room.join("alice")
    reload(room)
    room.talk()


def test_saving_twice_or_after_loading_gives_the_same_bytes(room: Room) -> None:
    room.add("bob", "carol")
    room.hub.add_proposal(room.groups["bob"].propose_self_remove())
    for client in room.clients.values():
        assert client.save() == client.save() == Client.load(client.save()).save()
    assert room.hub.save() == PublicGroup.load(room.hub.save()).save()


def test_a_public_group_is_the_same_however_often_it_was_saved(room: Room) -> None:
    twin = PublicGroup.load(room.hub.save())
    for _ in range(3):
        bundle = room.groups["alice"].commit()
        twin.merge(twin.stage_commit(bundle.commit))
        twin.save()
        room.accept(bundle, "alice")
    assert room.hub.save() == twin.save()


def test_a_pending_commit_survives_saving(room: Room) -> None:
    room.add("bob")
    bundle = room.groups["alice"].commit(remove=[1])
    restored = Client.load(room.clients["alice"].save())
    room.clients["alice"], room.groups["alice"] = restored, restored.group(GROUP_ID)
    assert restored.group(GROUP_ID).has_pending_commit
    room.accept(bundle, "alice")


def test_key_packages_survive_saving(room: Room) -> None:
    bob = room.client("bob")
    package = room.key_package("bob")
    bob = Client.load(bob.save())
    bundle = room.groups["alice"].commit(add=[package])
    room.accept(bundle, "alice")
    assert bundle.welcome is not None
    bob.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)


def test_a_client_keeps_several_groups_apart(now: int) -> None:
    alice, bob = Client.create(identity=uri("alice")), Client.create(identity=uri("bob"))
    for group_id in (b"one", b"two"):
        bundle = alice.create_group(group_id=group_id).commit(add=[bob.key_package(now=now, lifetime=WEEK)])
        alice.group(group_id).merge_pending_commit()
        assert bundle.welcome is not None
        bob.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    assert alice.group_ids() == bob.group_ids() == (b"one", b"two")
    bob.forget_group(b"one")
    restored = Client.load(bob.save())
    assert restored.group_ids() == (b"two",)
    assert restored.group(b"two").process(alice.group(b"two").encrypt(b"x")).plaintext == b"x"
    with pytest.raises(UnknownGroup):
        restored.group(b"one")
    with pytest.raises(UnknownGroup):
        bob.forget_group(b"one")
    with pytest.raises(NotAllowed):
        alice.create_group(group_id=b"one")


def test_snapshots_of_another_format_or_kind_are_refused(room: Room) -> None:
    client, group = room.clients["alice"].save(), room.hub.save()
    with pytest.raises(SnapshotFormat):
        Client.load(group)
    with pytest.raises(SnapshotFormat):
        PublicGroup.load(client)
    version = 11
    newer = group[:version] + bytes([group[version] + 1]) + group[version + 1 :]
    with pytest.raises(SnapshotFormat):
        PublicGroup.load(newer)
    for data in (b"", b"openmls-py", group + b"\x00", client + b"\x00"):
        with pytest.raises(SnapshotFormat):
            Client.load(data)
        with pytest.raises(SnapshotFormat):
            PublicGroup.load(data)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_snapshots_raise_nothing_but_mls_errors(room: Room, data: st.DataObject) -> None:
    snapshot = data.draw(st.sampled_from([room.clients["alice"].save(), room.hub.save()]))
    cut = data.draw(st.integers(0, len(snapshot) - 1))
    mutated = bytearray(snapshot)
    mutated[cut] ^= data.draw(st.integers(1, 255))
    for damaged in (snapshot[:cut], bytes(mutated)):
        for load in (Client.load, PublicGroup.load):
            with contextlib.suppress(SnapshotFormat):
                load(damaged)


def test_a_failed_process_leaves_the_client_as_it_was(room: Room) -> None:
    room.add("bob")
    alice = room.groups["alice"]
    message = room.groups["bob"].encrypt(b"once")
    before = room.clients["alice"].save()
    for position in range(0, len(message), 3):
        damaged = message[:position] + bytes([message[position] ^ 1]) + message[position + 1 :]
        with pytest.raises(MlsError):
            alice.process(damaged)
        assert room.clients["alice"].save() == before
    assert alice.process(message).plaintext == b"once"


def test_a_failed_commit_leaves_the_client_as_it_was(room: Room) -> None:
    room.add("bob")
    before = room.clients["alice"].save()
    with pytest.raises(MlsError):
        room.groups["alice"].commit(add=[b"nonsense"])
    with pytest.raises(MlsError):
        room.groups["alice"].commit(app_data_updates={1: b"x"}, new_app_data={2: b"x"})
    with pytest.raises(MlsError):
        room.groups["alice"].commit(add=[room.key_package("bob")])
    assert room.clients["alice"].save() == before


def test_a_failed_join_uses_up_no_key_package(room: Room) -> None:
    bob = room.client("bob")
    bundle = room.groups["alice"].commit(add=[room.key_package("bob")])
    room.accept(bundle, "alice")
    assert bundle.welcome is not None
    before = bob.save()
    with pytest.raises(NotAllowed):
        bob.join_welcome(welcome=bundle.welcome, ratchet_tree=None)
    tree = bundle.ratchet_tree
    for damaged in (tree[:-1] + bytes([tree[-1] ^ 1]), tree[:-1]):
        with pytest.raises(MlsError):
            bob.join_welcome(welcome=bundle.welcome, ratchet_tree=damaged)
    assert bob.save() == before
    bob.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)


def test_handles_may_be_used_from_several_threads(room: Room) -> None:
    room.add("bob")
    messages = [room.groups["alice"].encrypt(b"%d" % number) for number in range(COUNT)]
    heard: list[bytes | None] = []
    failures: list[BaseException] = []

    def listen(part: list[bytes]) -> None:
        try:
            for message in part:
                heard.append(room.groups["bob"].process(message).plaintext)
                room.hub.members()
        except MlsError as error:
            failures.append(error)

    threads = [threading.Thread(target=listen, args=(messages[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(heard, key=lambda plaintext: int(plaintext or b"")) == [
        b"%d" % number for number in range(COUNT)
    ]


def test_no_secret_is_shown_by_repr(room: Room) -> None:
    room.add("bob")
    client = room.clients["alice"]
    bundle = room.groups["alice"].commit()
    staged = room.hub.stage_commit(bundle.commit)
    for value in (
        client,
        room.groups["alice"],
        room.hub,
        room.hub_key,
        bundle,
        staged,
        room.hub.members()[0],
    ):
        text = repr(value)
        assert len(text) < 120
        assert text.startswith("<")
    assert room.hub_key.to_bytes().hex() not in repr(room.hub_key)
