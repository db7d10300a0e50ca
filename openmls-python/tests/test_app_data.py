"""AppDataUpdate proposals: the application interprets the payloads, all compute the same dictionary."""

import pytest

from openmls import InvalidProposal, NotAllowed
from support import GROUP_ID, Room, uri

ROLES, NAME, ABSENT = 0x8001, 0x8002, 0x8003


@pytest.fixture
def room(now: int) -> Room:
    room = Room(now=now, app_data={ROLES: b"alice", NAME: b"clubhouse"})
    room.add("bob")
    return room


def test_the_dictionary_of_a_new_group_reaches_hub_and_joiners(room: Room) -> None:
    expected = {ROLES: b"alice", NAME: b"clubhouse"}
    assert room.hub.app_data() == expected
    assert room.groups["bob"].app_data() == expected


def test_a_commit_updates_several_components_by_value(room: Room) -> None:
    values = {ROLES: b"alice,bob", NAME: b"club"}
    bundle = room.groups["bob"].commit(app_data_updates={ROLES: b"+bob", NAME: b"club"}, new_app_data=values)
    updates = room.hub.app_data_updates(bundle.commit)
    assert [
        (update.component_id, update.operation, update.payload, update.sender_leaf) for update in updates
    ] == [
        (ROLES, "update", b"+bob", 1),
        (NAME, "update", b"club", 1),
    ]
    assert room.groups["alice"].app_data_updates(bundle.commit) == updates
    staged = room.accept(bundle, "bob", values)
    assert staged.app_data == values
    assert staged.app_data_updates == updates
    assert staged.proposal_kinds == ("app_data_update",)
    assert room.groups["alice"].app_data() == room.groups["bob"].app_data() == values


def test_updates_travel_with_adds_and_removes_in_one_commit(room: Room) -> None:
    room.client("carol")
    values = {ROLES: b"alice,carol"}
    bundle = room.groups["alice"].commit(
        add=[room.key_package("carol")], remove=[1], app_data_updates={ROLES: b"+carol"}, new_app_data=values
    )
    staged = room.accept(bundle, "alice", values)
    assert [member.identity for member in staged.added] == [uri("carol")]
    assert bundle.welcome is not None
    carol = room.clients["carol"].join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree)
    assert carol.app_data()[ROLES] == b"alice,carol"


def test_hub_and_member_who_compute_another_value_do_not_follow(room: Room) -> None:
    values = {ROLES: b"alice,bob"}
    bundle = room.groups["bob"].commit(app_data_updates={ROLES: b"+bob"}, new_app_data=values)
    staged = room.hub.stage_commit(bundle.commit, new_app_data={ROLES: b"alice"})
    with pytest.raises(Exception, match="does not describe"):
        room.hub.verify_group_info(staged=staged, group_info=bundle.group_info)
    with pytest.raises(Exception, match=r"[Cc]onfirmation tag|decrypt|[Pp]ath"):
        room.groups["alice"].process(bundle.commit, new_app_data={ROLES: b"alice"})
    room.accept(bundle, "bob", values)


@pytest.mark.parametrize(
    "values", [{}, {ROLES: b"x", NAME: b"y"}, {NAME: b"y"}], ids=["none", "too many", "another"]
)
def test_the_values_must_answer_exactly_the_updates(room: Room, values: dict[int, bytes]) -> None:
    alice = room.groups["alice"]
    with pytest.raises(NotAllowed):
        alice.commit(app_data_updates={ROLES: b"+"}, new_app_data=values)
    assert not alice.has_pending_commit
    bundle = alice.commit(app_data_updates={ROLES: b"+"}, new_app_data={ROLES: b"x"})
    with pytest.raises(NotAllowed):
        room.hub.stage_commit(bundle.commit, new_app_data=values)
    with pytest.raises(NotAllowed):
        room.groups["bob"].process(bundle.commit, new_app_data=values)
    room.accept(bundle, "alice", {ROLES: b"x"})


def test_values_for_a_commit_without_updates_are_refused(room: Room) -> None:
    bundle = room.groups["alice"].commit()
    with pytest.raises(NotAllowed):
        room.hub.stage_commit(bundle.commit, new_app_data={ROLES: b"x"})
    with pytest.raises(NotAllowed):
        room.groups["bob"].process(bundle.commit, new_app_data={ROLES: b"x"})
    with pytest.raises(NotAllowed):
        room.groups["bob"].process(room.groups["alice"].encrypt(b"x"), new_app_data={ROLES: b"x"})
    room.accept(bundle, "alice")


def test_any_mapping_will_do_for_the_values(room: Room) -> None:
    class Values(dict[int, bytes]):
        pass

    bundle = room.groups["alice"].commit(
        app_data_updates=Values({NAME: b"n"}), new_app_data=Values({NAME: b"n"})
    )
    room.accept(bundle, "alice", Values({NAME: b"n"}))


def test_a_joiner_updates_a_component_in_its_external_commit(room: Room) -> None:
    values = {ROLES: b"alice,bob,carol"}
    carol = room.client("carol")
    group, bundle = carol.join_external(
        group_info=room.group_info,
        ratchet_tree=room.tree,
        app_data_updates={ROLES: b"+carol"},
        new_app_data=values,
        aad=b"aad",
    )
    updates = room.hub.app_data_updates(bundle.commit)
    assert [(update.payload, update.sender_leaf) for update in updates] == [(b"+carol", None)]
    room.groups["carol"] = group
    staged = room.accept(bundle, "carol", values)
    assert staged.authenticated_data == b"aad"
    assert staged.app_data == {**values, NAME: b"clubhouse"}


def test_a_client_that_lost_its_keys_updates_a_component_while_it_rejoins(room: Room) -> None:
    del room.groups["bob"]
    group, bundle = room.client("bob").join_external(
        group_info=room.group_info,
        ratchet_tree=room.tree,
        replace_leaf=1,
        app_data_updates={ROLES: b"bob is back"},
        new_app_data={ROLES: b"alice,bob"},
    )
    room.groups["bob"] = group
    staged = room.accept(bundle, "bob", {ROLES: b"alice,bob"})
    assert set(staged.proposal_kinds) == {"external_init", "remove", "app_data_update"}
    room.talk()


def test_an_empty_component_is_a_value_too(room: Room) -> None:
    bundle = room.groups["alice"].commit(app_data_updates={ABSENT: b""}, new_app_data={ABSENT: b""})
    assert room.accept(bundle, "alice", {ABSENT: b""}).app_data[ABSENT] == b""


def test_component_ids_are_sixteen_bits(room: Room) -> None:
    with pytest.raises(OverflowError):
        room.groups["alice"].commit(app_data_updates={1 << 16: b""}, new_app_data={1 << 16: b""})
    with pytest.raises(InvalidProposal):
        room.groups["alice"].commit(remove=[77], app_data_updates={NAME: b""}, new_app_data={NAME: b""})
    assert room.groups["alice"].group_id == GROUP_ID
