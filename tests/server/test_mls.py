"""The binding as the room is handed it."""

import pytest
from openmls import Client, MlsError

from linearized.server.mls import OpenMls

NOW = 1_800_000_000_000


def mls() -> OpenMls:
    return OpenMls(lambda: NOW)


def test_a_group_saved_by_another_version_goes_on_from_its_group_info_and_tree() -> None:
    member = Client.create(identity=b"alice").create_group(group_id=b"room", now=NOW // 1000)
    group_info, tree = member.group_info()
    before = mls().observe(group_info=group_info, ratchet_tree=tree)
    foreign = bytearray(before.save())
    foreign[11] ^= 0xFF  # the version of the format
    for snapshot in (before.save(), bytes(foreign)):
        after = mls().load(snapshot, group_info=group_info, ratchet_tree=tree)
        assert after.group_context() == before.group_context()
        staged = after.stage_commit(member.commit().commit, now=NOW // 1000)
        member.clear_pending_commit()
        after.merge(staged)
        assert after.epoch == 1


def test_neither_a_snapshot_nor_a_tree_that_was_damaged_is_taken_up() -> None:
    group_info, tree = Client.create(identity=b"alice").create_group(group_id=b"room").group_info()
    with pytest.raises(MlsError):
        mls().load(b"nothing", group_info=group_info, ratchet_tree=tree[:-1])
    damaged = tree[:-1] + bytes([tree[-1] ^ 1])
    with pytest.raises(MlsError):
        mls().load(b"nothing", group_info=group_info, ratchet_tree=damaged)
