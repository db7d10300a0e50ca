"""How far back, how far out of order and how far ahead a message may be."""

from collections.abc import Callable
from typing import TypedDict, Unpack

import pytest

from openmls import CannotDecrypt, Client, Group, MlsError, NotAllowed
from support import GROUP_ID, WEEK, Room, uri


class Options(TypedDict, total=False):
    past_epochs: int
    out_of_order_tolerance: int
    maximum_forward_distance: int


def pair(now: int, **options: Unpack[Options]) -> tuple[Client, Client, Group, Group]:
    """Alice with a group of default options, and bob who joins it with ``options``."""
    alice, bob = Client.create(identity=uri("alice")), Client.create(identity=uri("bob"))
    group = alice.create_group(group_id=GROUP_ID)
    bundle = group.commit(add=[bob.key_package(now=now, lifetime=WEEK)])
    group.merge_pending_commit()
    assert bundle.welcome is not None
    joined = bob.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree, **options)
    return alice, bob, group, joined


def advance(committer: Group, *others: Group) -> None:
    bundle = committer.commit()
    committer.merge_pending_commit()
    for other in others:
        other.process(bundle.commit)


@pytest.mark.parametrize("past_epochs", [0, 1, 5])
def test_messages_are_read_as_many_epochs_late_as_wanted(now: int, past_epochs: int) -> None:
    alice, bob, sender, reader = pair(now, past_epochs=past_epochs)
    messages = [sender.encrypt(b"%d" % number) for number in range(past_epochs + 2)]
    for number in range(past_epochs + 1):
        assert reader.process(messages[number]).plaintext == b"%d" % number
        advance(sender, reader)
        # The option is kept with the group.
        bob = Client.load(bob.save())
        reader = bob.group(GROUP_ID)
    with pytest.raises(CannotDecrypt):
        reader.process(messages[-1])
    assert reader.process(sender.encrypt(b"now")).plaintext == b"now"
    assert alice.group(GROUP_ID).epoch == past_epochs + 2


def test_the_creator_and_an_external_joiner_have_options_as_well(now: int) -> None:
    room = Room(now=now)
    alice = Client.create(identity=uri("alice"))
    group = alice.create_group(group_id=b"g", past_epochs=0)
    group_info, tree = group.group_info()
    joined, bundle = Client.create(identity=uri("bob")).join_external(
        group_info=group_info, ratchet_tree=tree, past_epochs=1
    )
    joined.merge_pending_commit()
    group.process(bundle.commit)
    from_alice, from_bob = group.encrypt(b"a"), joined.encrypt(b"b")
    advance(group, joined)
    with pytest.raises(CannotDecrypt):
        group.process(from_bob)
    assert joined.process(from_alice).plaintext == b"a"
    assert room.hub.epoch == 0


@pytest.mark.parametrize("tolerance", [0, 1, 40])
def test_as_many_messages_as_wanted_may_overtake_one(now: int, tolerance: int) -> None:
    _, bob, sender, reader = pair(now, out_of_order_tolerance=tolerance)
    messages = [sender.encrypt(b"%d" % number) for number in range(tolerance + 2)]
    assert reader.process(messages[-1]).plaintext == b"%d" % (tolerance + 1)
    bob = Client.load(bob.save())
    reader = bob.group(GROUP_ID)
    # One of the kept generations is that of the message which overtook the others.
    for number in range(3, tolerance + 1):
        assert reader.process(messages[number]).plaintext == b"%d" % number
    with pytest.raises(CannotDecrypt):
        reader.process(messages[0])


def test_no_more_messages_than_wanted_may_be_missing(now: int) -> None:
    _, _, sender, reader = pair(now, maximum_forward_distance=3)
    messages = [sender.encrypt(b"%d" % number) for number in range(9)]
    with pytest.raises(CannotDecrypt):
        reader.process(messages[4])
    assert reader.process(messages[3]).plaintext == b"3"
    assert reader.process(messages[7]).plaintext == b"7"


@pytest.mark.parametrize(
    ("most", "options"),
    [
        (Options(past_epochs=64), Options(past_epochs=65)),
        (Options(out_of_order_tolerance=1024), Options(out_of_order_tolerance=1025)),
        (Options(maximum_forward_distance=100_000), Options(maximum_forward_distance=100_001)),
    ],
    ids=["past_epochs", "out_of_order_tolerance", "maximum_forward_distance"],
)
def test_options_are_bounded(room: Room, most: Options, options: Options) -> None:
    client = room.client("bob")
    before = client.save()
    ways: list[Callable[[], object]] = [
        lambda: client.create_group(group_id=b"g", **options),
        lambda: client.join_welcome(welcome=b"", ratchet_tree=None, **options),
        lambda: client.join_external(group_info=room.group_info, ratchet_tree=room.tree, **options),
    ]
    for way in ways:
        with pytest.raises(NotAllowed, match=next(iter(options))):
            way()
    assert client.save() == before
    client.create_group(group_id=b"g", **most)


def test_options_are_not_negative(room: Room) -> None:
    with pytest.raises(OverflowError):
        room.client("bob").create_group(group_id=b"g", past_epochs=-1)
    with pytest.raises(MlsError):
        room.clients["bob"].group(b"g")
