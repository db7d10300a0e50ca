"""The participant list and what updates may do to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.exceptions import MimiDecodeError
from linearized.mimi.participants import (
    FRANK_AAD,
    FRANKING_AGENT,
    PARTICIPANT_LIST,
    ROOM_METADATA,
    ParticipantChanges,
    ParticipantListData,
    ParticipantListError,
    ParticipantListUpdate,
    UserIndexRolePair,
    UserRolePair,
    apply_update,
    apply_updates,
    changes,
)
from linearized.mimi.tls import Reader, Vector, encode_vector

ALICE, BOB, CATHY = (f"mimi://{name[0]}.example/u/{name}" for name in ("alice", "bob", "cathy"))


def listed(*pairs: tuple[str, int]) -> ParticipantListData:
    return ParticipantListData(
        participants=tuple(UserRolePair(user=user, role_index=role) for user, role in pairs)
    )


def update(
    *,
    changed: tuple[tuple[int, int], ...] = (),
    removed: tuple[int, ...] = (),
    added: tuple[tuple[str, int], ...] = (),
) -> ParticipantListUpdate:
    return ParticipantListUpdate(
        changed=tuple(UserIndexRolePair(user_index=index, role_index=role) for index, role in changed),
        removed=removed,
        added=listed(*added).participants
        if len(set(added)) == len(added)
        else tuple(UserRolePair(user=user, role_index=role) for user, role in added),
    )


def test_the_components_have_the_numbers_the_draft_registers() -> None:
    assert (FRANK_AAD, FRANKING_AGENT, PARTICIPANT_LIST, ROOM_METADATA) == (0x20, 0x21, 0x22, 0x23)


def test_a_list_is_a_vector_of_users_and_roles() -> None:
    data = listed(("mimi://a.example/u/a", 2), ("b", 1))
    assert data.encode() == b"\x1f" + b"\x14mimi://a.example/u/a\x00\x00\x00\x02" + b"\x01b\x00\x00\x00\x01"
    assert ParticipantListData.decode(data.encode()) == data


def test_a_list_is_read_and_written_as_any_vector_of_pairs_is() -> None:
    everyone = listed(("a" * 63, 1), ("b" * 64, 0), ("c" * 2048, 2**32 - 1))
    vector = Vector(UserRolePair)
    out = bytearray()
    vector.write(everyone.participants, out, {})
    assert everyone.encode() == bytes(out)
    assert vector.read(Reader(bytes(out)), {}) == ParticipantListData.decode(bytes(out)).participants


@pytest.mark.parametrize(
    "data",
    [
        b"\x02\x01b",  # cut off
        b"\x06\x01\xff\x00\x00\x00\x01",  # not ASCII
        b"\x0c" + b"\x01b\x00\x00\x00\x01" * 2,  # twice
        b"\x00\x00",  # more than a list
        encode_vector(encode_vector(b"u" * 2049) + b"\x00\x00\x00\x01"),
        b"\xc0",
    ],
)
def test_what_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        ParticipantListData.decode(data)


@pytest.mark.parametrize(("user", "role"), [("u" * 2049, 1), ("ü", 1), ("u", -1), ("u", 2**32)])
def test_what_has_no_encoding_is_not_written(user: str, role: int) -> None:
    with pytest.raises(ValueError, match=r"encod"):
        listed((user, role)).encode()


def test_an_update_is_changes_then_removals_then_additions() -> None:
    value = update(changed=((1, 2),), removed=(0,), added=(("c", 1),))
    assert value.encode().hex(" ", -4) == "08000000 01000000 02040000 00000601 63000000 01"
    assert ParticipantListUpdate.decode(value.encode()) == value


def test_roles_and_positions_are_found_by_user() -> None:
    data = listed((ALICE, 2), (BOB, 1))
    assert (data.role_of(BOB), data.role_of(CATHY)) == (1, None)
    assert (data.index_of(BOB), data.index_of(CATHY)) == (1, None)


def test_a_user_is_in_the_list_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        listed((ALICE, 1), (ALICE, 2))
    with pytest.raises(MimiDecodeError, match="twice"):
        ParticipantListData.decode(b"\x0c" + b"\x01b\x00\x00\x00\x01" * 2)


def test_an_update_changes_removes_and_appends() -> None:
    data = listed((ALICE, 2), (BOB, 1))
    step = update(changed=((0, 1),), removed=(1,), added=((CATHY, 2),))
    assert apply_update(data, step) == listed((ALICE, 1), (CATHY, 2))
    assert changes(data, step) == ParticipantChanges(
        changed=(UserRolePair(user=ALICE, role_index=1),),
        removed=(BOB,),
        added=(UserRolePair(user=CATHY, role_index=2),),
    )


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (update(changed=((2, 1),)), "no participant 2"),
        (update(removed=(2,)), "no participant 2"),
        (update(changed=((0, 1), (0, 2))), "more than once"),
        (update(removed=(0, 0)), "more than once"),
        (update(changed=((0, 1),), removed=(0,)), "more than once"),
        (update(added=((CATHY, 1), (CATHY, 1))), "more than once"),
        (update(removed=(1,), added=((BOB, 2),)), "more than once"),
        (update(added=((BOB, 2),)), "already"),
    ],
)
def test_an_update_that_does_not_fit_the_list_is_refused(step: ParticipantListUpdate, reason: str) -> None:
    with pytest.raises(ParticipantListError, match=reason):
        apply_update(listed((ALICE, 2), (BOB, 1)), step)


def test_the_updates_of_a_commit_all_refer_to_the_list_before_it() -> None:
    steps = [update(removed=(0,)), update(changed=((1, 2),)), update(added=((CATHY, 1),))]
    assert apply_updates(listed((ALICE, 2), (BOB, 1)), steps) == listed((BOB, 2), (CATHY, 1))


def test_the_updates_of_a_commit_touch_a_user_once() -> None:
    for second in (update(added=((CATHY, 2),)), update(removed=(1,))):
        first = update(added=((CATHY, 1),), changed=((1, 2),))
        with pytest.raises(ParticipantListError, match="the commit operates on the same user"):
            apply_updates(listed((ALICE, 2), (BOB, 1)), [first, second])


def test_a_user_who_goes_is_not_added_again_by_the_same_commit() -> None:
    with pytest.raises(ParticipantListError, match="a participant already"):
        apply_updates(listed((ALICE, 2)), [update(removed=(0,)), update(added=((ALICE, 1),))])


@given(
    users=st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=6),
    changed=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3)), max_size=3),
    removed=st.lists(st.integers(0, 7), max_size=3),
    added=st.lists(st.sampled_from("abcdefgh"), max_size=3),
)
def test_any_update_gives_the_list_it_says_or_is_refused(
    users: list[str], changed: list[tuple[int, int]], removed: list[int], added: list[str]
) -> None:
    data = listed(*((user, 1) for user in users))
    step = ParticipantListUpdate(
        changed=tuple(UserIndexRolePair(user_index=index, role_index=role) for index, role in changed),
        removed=tuple(removed),
        added=tuple(UserRolePair(user=user, role_index=1) for user in added),
    )
    touched = [index for index, _ in changed] + removed
    fits = (
        all(index < len(users) for index in touched)
        and len(set(touched)) == len(touched)
        and len(set(added)) == len(added)
        and not set(added) & set(users)
    )
    try:
        after = apply_update(data, step)
    except ParticipantListError:
        assert not fits
        return
    assert fits
    roles = dict(changed)
    expected = [(user, roles.get(index, 1)) for index, user in enumerate(users) if index not in removed]
    assert after == listed(*expected, *((user, 1) for user in added))
