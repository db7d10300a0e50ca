"""A public group under hypothesis: what it refuses changes nothing, and it goes on as before."""

from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openmls import (
    Client,
    InvalidCommit,
    InvalidProposal,
    InvalidSignature,
    MalformedMessage,
    NotAllowed,
    PublicGroup,
    StagedCommit,
    UnknownGroup,
    WrongEpoch,
    group_info_details,
)
from support import GROUP_ID, WEEK, Room, uri

COMPONENT = 0x8001
STEPS = 12
DOCUMENTED = (
    InvalidCommit,
    InvalidProposal,
    InvalidSignature,
    MalformedMessage,
    NotAllowed,
    UnknownGroup,
    WrongEpoch,
)


def damage(data: st.DataObject, message: bytes) -> bytes:
    """Flip bits, cut off, append or replace."""
    how = data.draw(st.sampled_from(["flip", "cut", "append", "insert", "random"]))
    position = data.draw(st.integers(0, len(message) - 1))
    if how == "flip":
        flipped = message[position] ^ data.draw(st.integers(1, 255))
        return message[:position] + bytes([flipped]) + message[position + 1 :]
    if how == "cut":
        return message[:position]
    if how == "append":
        return message + data.draw(st.binary(min_size=1, max_size=8))
    if how == "insert":
        return message[:position] + data.draw(st.binary(min_size=1, max_size=8)) + message[position:]
    return data.draw(st.binary(max_size=64))


class Life:
    """A room whose hub is shown, between what is valid, everything that is not."""

    def __init__(self, data: st.DataObject, now: int) -> None:
        self.data = data
        self.room = Room(now=now, app_data={COMPONENT: b"0"})
        self.room.add("bob", "carol")
        self.seen: list[bytes] = []
        self.serial = 0
        self.leaving: set[str] = set()
        stranger = Client.create(identity=uri("stranger"))
        foreign = stranger.create_group(group_id=b"another")
        self.foreign = [foreign.commit().commit]
        foreign.merge_pending_commit()
        self.foreign.append(foreign.commit().commit)
        impostor = stranger.create_group(group_id=GROUP_ID)
        for _ in range(2):
            self.foreign.append(impostor.commit().commit)
            impostor.merge_pending_commit()

    def entrances(self) -> dict[str, Callable[[bytes], object]]:
        hub = self.room.hub
        now = self.room.now
        return {
            "stage_commit": hub.stage_commit,
            "stage_commit with values": lambda message: hub.stage_commit(
                message, new_app_data={COMPONENT: b"1"}
            ),
            "stage_commit at a time": lambda message: hub.stage_commit(message, now=now + WEEK),
            "stage_proposal": hub.stage_proposal,
            "stage_proposal at a time": lambda message: hub.stage_proposal(message, now=now - WEEK),
            "add_proposal": hub.add_proposal,
            "app_data_updates": hub.app_data_updates,
        }

    def shown(self, message: bytes) -> None:
        """Show the hub a message that it may refuse."""
        for name, entrance in self.entrances().items():
            before = self.room.hub.save()
            try:
                entrance(message)
            except DOCUMENTED:
                assert self.room.hub.save() == before, name
            else:
                # A flip in a membership or confirmation tag is for members to see; staging changes nothing.
                changed = self.room.hub.save() != before
                assert not changed or name == "add_proposal"
                if changed:
                    self.room.hub = PublicGroup.load(before)

    def wrong(self) -> None:
        known = [*self.foreign, *self.seen, self.room.group_info, self.room.tree]
        old = self.data.draw(st.sampled_from(known))
        self.shown(damage(self.data, old) if self.data.draw(st.booleans()) else old)

    def commit(self) -> None:
        """A valid commit that is shown damaged first, with GroupInfos that do not belong to it."""
        room, name = self.room, self.data.draw(st.sampled_from(sorted(self.room.groups)))
        values: dict[int, bytes] = {}
        add, newcomer = [], ""
        if self.data.draw(st.booleans()):
            values = {COMPONENT: str(self.serial).encode()}
        if self.data.draw(st.booleans()) and len(room.groups) < 5:
            newcomer = f"new{self.serial}"
            room.client(newcomer)
            add = [room.key_package(newcomer)]
        self.serial += 1
        bundle = room.groups[name].commit(add=add, app_data_updates=values, new_app_data=values)
        for _ in range(2):
            self.shown(damage(self.data, bundle.commit))
        before = room.hub.save()
        staged = room.hub.stage_commit(bundle.commit, new_app_data=values)
        self.infos(bundle.group_info, staged=staged)
        assert room.hub.save() == before
        room.accept(bundle, name, values)
        if newcomer:
            assert bundle.welcome is not None
            room.groups[newcomer] = room.clients[newcomer].join_welcome(
                welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree
            )
        self.seen.append(bundle.commit)
        self.leaving.clear()

    def infos(self, group_info: bytes, staged: StagedCommit) -> None:
        hub = self.room.hub
        details = group_info_details(group_info)
        for info in (damage(self.data, group_info), self.room.group_info):
            try:
                hub.verify_group_info(staged=staged, group_info=info)
            except DOCUMENTED:
                continue
            raise AssertionError("a wrong GroupInfo was accepted")
        signature = damage(self.data, details.signature)
        try:
            hub.rebuild_group_info(staged=staged, extensions=details.extensions, signature=signature)
        except DOCUMENTED:
            return
        raise AssertionError("a wrong signature was accepted")

    def propose(self) -> None:
        """A valid proposal of a member or of the hub, shown damaged first."""
        room = self.room
        name = self.data.draw(st.sampled_from(sorted(room.groups)))
        if name in self.leaving:
            return
        self.leaving.add(name)
        if self.data.draw(st.booleans()):
            message = room.groups[name].propose_self_remove()
            takers = [group for other, group in room.groups.items() if other != name]
        else:
            message = room.hub.propose_remove(
                signer=room.hub_key, sender_index=0, leaf_index=room.groups[name].own_leaf_index
            )
            takers = list(room.groups.values())
        self.shown(damage(self.data, message))
        room.hub.add_proposal(message)
        for group in takers:
            group.process(message)
        self.seen.append(message)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_public_group_never_changes_when_it_refuses(now: int, data: st.DataObject) -> None:
    life = Life(data, now)
    steps = {"wrong": life.wrong, "commit": life.commit, "propose": life.propose}
    for _ in range(data.draw(st.integers(1, STEPS))):
        steps[data.draw(st.sampled_from(sorted(steps)))]()
    life.commit()
    life.room.talk()
