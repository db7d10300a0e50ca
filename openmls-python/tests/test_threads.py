"""Handles in several threads: different groups at once, and one group used by many."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import TypeVar

import pytest

from openmls import CannotDecrypt, Client, Member, NotAllowed, PublicGroup, WrongEpoch
from support import GROUP_ID, WEEK, Room, uri

THREADS = 8
MESSAGES = 25  # of each thread; together far more than may arrive out of order
DEADLOCK_SECONDS = 120.0  # after which a thread that has not come back is taken to wait for ever

Result = TypeVar("Result")


def at_once(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Run every task in a thread of its own, all beginning together; raises what one of them raises."""
    barrier = Barrier(len(tasks))

    def run(task: Callable[[], Result]) -> Result:
        barrier.wait(DEADLOCK_SECONDS)
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        futures = [pool.submit(run, task) for task in tasks]
        return [future.result(DEADLOCK_SECONDS) for future in futures]


def outcome(task: Callable[[], Result], *refusals: type[Exception]) -> Result | None:
    """What the task gives, None if it is refused."""
    try:
        return task()
    except refusals:
        return None


@pytest.fixture
def room(room: Room) -> Iterator[Room]:
    room.add("bob", "carol")
    yield room
    room.accept(room.groups["bob"].commit(), "bob")  # whatever happened, the group goes on
    room.talk()


def test_groups_of_different_clients_live_side_by_side(now: int) -> None:
    def live() -> int:
        room = Room(now=now)
        room.add("bob", "carol")
        for _ in range(3):
            room.talk()
            room.accept(room.groups["bob"].commit(), "bob")
        room.join("dave")
        room.accept(room.groups["alice"].commit(remove=[room.leaf("carol")]), "alice")
        room.talk()
        return room.hub.epoch

    assert at_once([live] * THREADS) == [6] * THREADS


def test_groups_of_one_client_live_side_by_side(now: int) -> None:
    alice, bob = Client.create(identity=uri("alice")), Client.create(identity=uri("bob"))
    names = [b"group %d" % number for number in range(THREADS)]

    def live(name: bytes) -> list[bytes | None]:
        group = alice.create_group(group_id=name)
        bundle = group.commit(add=[bob.key_package(now=now, lifetime=WEEK)])
        group.merge_pending_commit()
        assert bundle.welcome is not None
        joined = bob.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
        assert joined.group_id == name
        heard = [joined.process(group.encrypt(b"%d in " % number + name)) for number in range(MESSAGES)]
        joined.process(group.commit().commit)
        group.merge_pending_commit()
        return [processed.plaintext for processed in heard]

    heard = at_once([partial(live, name) for name in names])
    assert heard == [[b"%d in " % number + name for number in range(MESSAGES)] for name in names]
    assert alice.group_ids() == bob.group_ids() == tuple(sorted(names))
    for client in (alice, bob):
        assert {Client.load(client.save()).group(name).epoch for name in names} == {2}


def test_what_many_threads_encrypt_many_threads_read_once_each(room: Room) -> None:
    alice, bob = room.groups["alice"], room.groups["bob"]
    heard: list[bytes | None] = []
    for number in range(MESSAGES):  # in rounds, for keys are dropped if a message falls far behind others
        sent = at_once([partial(alice.encrypt, b"%d of %d" % (number, thread)) for thread in range(THREADS)])
        received = at_once([partial(bob.process, message) for message in sent])
        heard += [processed.plaintext for processed in received]
    expected = [b"%d of %d" % (number, thread) for number in range(MESSAGES) for thread in range(THREADS)]
    assert heard == expected


def test_a_message_is_decrypted_by_one_thread_only(room: Room) -> None:
    message = room.groups["alice"].encrypt(b"once")
    results = at_once(
        [partial(outcome, partial(room.groups["bob"].process, message), CannotDecrypt)] * THREADS
    )
    assert [result.plaintext for result in results if result is not None] == [b"once"]


def test_of_many_commits_of_one_member_at_once_one_is_made(room: Room) -> None:
    alice = room.groups["alice"]
    bundles = at_once([partial(outcome, alice.commit, NotAllowed)] * THREADS)
    [bundle] = [bundle for bundle in bundles if bundle is not None]
    room.accept(bundle, "alice")


def test_of_many_commits_that_a_hub_stages_at_once_one_is_merged(room: Room) -> None:
    bundles = {name: group.commit() for name, group in room.groups.items()}
    commits = [bundle.commit for bundle in bundles.values()] * (THREADS // 2)
    staged = at_once([partial(room.hub.stage_commit, commit) for commit in commits])
    assert {stage.epoch for stage in staged} == {room.hub.epoch + 1}

    def merge(index: int) -> int:
        room.hub.merge(staged[index])
        return index

    merged = at_once([partial(outcome, partial(merge, index), NotAllowed) for index in range(len(staged))])
    [index] = [index for index in merged if index is not None]
    assert room.hub.group_context() == staged[index].group_context
    winner = next(name for name, bundle in bundles.items() if bundle.commit == commits[index])
    for name, group in room.groups.items():
        if name == winner:
            group.merge_pending_commit()
        else:
            group.clear_pending_commit()
            group.process(commits[index])
    room.check()


def names(members: Sequence[Member]) -> list[tuple[int, bytes]]:
    return [(member.leaf_index, member.identity) for member in members]


def test_a_hub_and_a_member_are_read_in_whole_epochs_while_they_move_on(room: Room) -> None:
    alice, epochs = room.groups["alice"], 10
    last = room.hub.epoch + epochs

    def move() -> None:
        for _ in range(epochs):
            room.accept(alice.commit(), "alice")

    def read() -> None:
        seen = 0
        while seen < last:
            hub, client = PublicGroup.load(room.hub.save()), Client.load(room.clients["bob"].save())
            assert seen <= hub.epoch
            seen = hub.epoch
            assert hub.export_ratchet_tree()
            group = client.group(GROUP_ID)
            assert names(group.members()) == names(room.hub.members())
            with pytest.raises(WrongEpoch):
                hub.stage_commit(stale)

    stale = alice.commit().commit
    alice.clear_pending_commit()
    room.accept(room.groups["carol"].commit(), "carol")
    last += 1
    at_once([move] + [read] * (THREADS - 1))
    assert room.hub.epoch == last
