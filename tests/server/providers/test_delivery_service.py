"""The delivery service operations: each does what MIMI's own endpoint for it does, and every refusal."""

from __future__ import annotations

from pathlib import Path

import openmls

from linearized.mimi.delivery_service import (
    CommitRequest,
    DeleteGroupRequest,
    DSErrorCode,
    DSRequest,
    DSRequestBody,
    DSResponseType,
    MLSGroupUpdate,
    ProposalRequest,
)
from linearized.mimi.handshake import (
    HandshakeBundle,
    UpdateResponseCode,
    UpdateRoomResponse,
)
from linearized.protocol.identifiers import client_uri
from linearized.room.submissions import Reason
from linearized.server.providers.delivery_service import ERROR_CODES, MAX_ITEMS
from linearized.store.base import Role, RoomAppend, RoomRow
from tests.room.party import B_KEY, B_SENDER, leave
from tests.room.support import ALICE, BOB, Member, handshake
from tests.server.support import running_server

from .delivery_service_support import (
    GROUP_INFO,
    MEMBERSHIP_TAG_BYTES,
    Type,
    ask,
    commits,
    let_bob_remove,
    messages,
    packages,
    refused,
    signed,
    unsigned,
    update_of,
)
from .support import Provider, World, world

# --- who asks ---


async def test_the_client_at_the_leaf_signs_and_its_provider_passes_it_on(here: World) -> None:
    body = messages(here.bob.joined().encrypt(b"hello"))
    good = signed(here.bob, body)
    auth = good.authentication_data
    assert auth.signature is not None
    await refused(here, unsigned(body), DSErrorCode.NOT_ALLOWED)
    await refused(here, signed(here.bob, body, signature=b""), DSErrorCode.NOT_ALLOWED)
    await refused(here, signed(here.bob, body, signature=bytes(64)), DSErrorCode.NOT_ALLOWED)
    await refused(here, signed(here.bob, body, index=7), DSErrorCode.NOT_ALLOWED)
    await refused(here, signed(here.bob, body, index=0), DSErrorCode.NOT_ALLOWED)  # Alice's
    other = signed(here.bob, messages(here.bob.joined().encrypt(b"other")))
    swapped = DSRequest(request_body=other.request_body, authentication_data=auth)
    await refused(here, swapped, DSErrorCode.NOT_ALLOWED)
    stranger = Provider("c.example", here.server.network)
    await refused(here, good, DSErrorCode.NOT_ALLOWED, provider=stranger)
    assert (await ask(here, good)).response_type is DSResponseType.OK


async def test_a_room_that_is_not_here_or_not_ours_is_no_group(here: World) -> None:
    request = signed(here.bob, messages(here.bob.joined().encrypt(b"hello")))
    await refused(here, request, DSErrorCode.NOT_ALLOWED, room="mimi://a.example/r/none")
    row = RoomRow(
        room_id="!elsewhere:b.example",
        version="I.1",
        role=Role.PARTICIPANT,
        hub="b.example",
        head_seq=0,
        epoch=None,
    )
    await here.server.node.store.append(RoomAppend(room_id=row.room_id, room=row))
    await refused(here, request, DSErrorCode.NOT_ALLOWED, room="mimi://b.example/r/elsewhere")
    empty = await here.server.node.rooms.create(
        creator=ALICE, version="dev.linearized.1", creation_content={}, initial=[]
    )
    uri = f"mimi://a.example/r/{empty[1:].partition(':')[0]}"
    await refused(here, request, DSErrorCode.NOT_ALLOWED, room=uri)
    await refused(here, unsigned(GROUP_INFO), DSErrorCode.NOT_ALLOWED, room=uri)


async def test_what_is_no_request_is_a_400(here: World) -> None:
    for body in (b"", b"\1", b"\2\5\0", b"\1\5\0\0"):
        assert (await here.other.ask("deliveryService", here.uri, body)).status_code == 400
    assert (await here.other.ask("deliveryService", "clubhouse", b"\1\5\0")).status_code == 400


# --- messages, proposals, commits ---


async def test_messages_are_taken_in_order_and_once(here: World) -> None:
    texts = [here.bob.joined().encrypt(text) for text in (b"one", b"two")]
    before = here.head()
    for _ in range(2):
        assert (await ask(here, signed(here.bob, messages(*texts)))).response_type is DSResponseType.OK
    assert here.head() == before + 2
    entries = here.server.node.store.entries(here.room_id, after=before, limit=9)
    assert [entry.sender for entry in entries] == [BOB, BOB]


async def test_a_message_of_a_past_epoch_is_refused_with_the_present_one(here: World) -> None:
    late = here.bob.joined().encrypt(b"late")
    await here.commit()
    body = await refused(here, signed(here.bob, messages(late)), DSErrorCode.WRONG_EPOCH)
    assert body.error is not None
    assert body.error.current_epoch == here.alice.joined().epoch


async def test_a_commit_with_a_partial_group_info_moves_the_group(here: World) -> None:
    submission = handshake(here.bob, here.bob.joined().commit())
    assert (await ask(here, signed(here.bob, commits(submission)))).response_type is DSResponseType.OK
    here.bob.accept()
    here.alice.joined().process(submission.bundle.message)
    group = here.server.node.groups.row(here.room_id)
    assert group is not None
    assert group.epoch == here.bob.joined().epoch
    assert submission.bundle.group_info is not None
    assert group.group_info == submission.bundle.group_info.full


async def test_commits_are_taken_one_after_the_other_up_to_the_first_that_is_refused(here: World) -> None:
    late = handshake(here.bob, here.bob.joined().commit())
    here.bob.joined().clear_pending_commit()
    first = handshake(here.bob, here.bob.joined().commit())
    here.bob.accept()
    second = handshake(here.bob, here.bob.joined().commit())
    before = here.head()
    request = signed(here.bob, commits(first, second, late))
    body = await ask(here, request)
    assert body.error is not None
    assert body.error.code is DSErrorCode.WRONG_EPOCH
    assert here.head() == before + 2


async def test_a_commit_of_another_member_is_not_passed_off_as_ones_own(here: World) -> None:
    foreign = handshake(here.alice, here.alice.joined().commit())
    await refused(here, signed(here.bob, commits(foreign)), DSErrorCode.NOT_ALLOWED)
    here.alice.joined().clear_pending_commit()
    proposal = here.alice.joined().propose_remove(here.bob.joined().own_leaf_index)
    body = DSRequestBody(request_type=Type.PROPOSALS, proposals=ProposalRequest(proposals=(proposal,)))
    await refused(here, signed(here.bob, body), DSErrorCode.NOT_ALLOWED)


async def test_proposals_are_decided_as_update_decides_them(here: World) -> None:
    def proposals(*messages: bytes) -> DSRequestBody:
        return DSRequestBody(request_type=Type.PROPOSALS, proposals=ProposalRequest(proposals=messages))

    lone = here.bob.joined().propose_remove(here.alice.joined().own_leaf_index)
    await refused(here, signed(here.bob, proposals(lone)), DSErrorCode.NOT_ALLOWED)
    updated = await here.other.ask("update", here.uri, HandshakeBundle(message=lone).encode())
    assert UpdateRoomResponse.decode(updated.content).code is UpdateResponseCode.NOT_ALLOWED
    here.bob.joined().clear_pending_proposals()
    leaving = leave(here.bob).bundle
    body = proposals(leaving.message, *leaving.more_proposals)
    assert (await ask(here, signed(here.bob, body))).response_type is DSResponseType.OK
    assert not here.server.node.rooms.is_participant(here.room_id, "b.example")


async def test_a_provider_among_the_external_senders_proposes_without_a_leaf(tmp_path: Path) -> None:
    async with world(tmp_path, senders=(B_SENDER,)) as w:
        _, tree = w.alice.joined().group_info()
        group = openmls.PublicGroup.observe(group_info=w.alice.joined().group_info()[0], ratchet_tree=tree)

        def removal(of: Member, key: openmls.SignatureKeyPair = B_KEY) -> DSRequest:
            leaf = of.joined().own_leaf_index
            message = group.propose_remove(signer=key, sender_index=0, leaf_index=leaf)
            return unsigned(
                DSRequestBody(request_type=Type.PROPOSALS, proposals=ProposalRequest(proposals=(message,)))
            )

        third = Provider("c.example", w.server.network)
        await refused(w, removal(w.bob), DSErrorCode.NOT_ALLOWED, provider=third)
        await refused(w, removal(w.alice), DSErrorCode.NOT_ALLOWED)
        # Of a member it would have to be signed by that member.
        lone = w.bob.joined().propose_remove(w.alice.joined().own_leaf_index)
        body = DSRequestBody(request_type=Type.PROPOSALS, proposals=ProposalRequest(proposals=(lone,)))
        await refused(w, unsigned(body), DSErrorCode.NOT_ALLOWED)
        assert (await ask(w, removal(w.bob))).response_type is DSResponseType.OK


async def test_what_only_frames_well_is_malformed(here: World) -> None:
    submission = handshake(here.bob, here.bob.joined().commit())
    commit = bytearray(submission.bundle.message)
    # Its end is the membership tag, which only members can check.
    for position in range(8, len(commit) - MEMBERSHIP_TAG_BYTES, 11):
        spoilt = bytes(commit[:position]) + bytes([commit[position] ^ 0x55]) + bytes(commit[position + 1 :])
        update = update_of(submission)
        try:
            body = DSRequestBody(
                request_type=Type.COMMITS,
                commits=CommitRequest(
                    group_updates=(
                        MLSGroupUpdate(commit=spoilt, partial_group_info=update.partial_group_info),
                    )
                ),
            )
            request = signed(here.bob, body)
        except ValueError:  # it does not even frame
            continue
        answer = await ask(here, request)
        assert answer.response_type is DSResponseType.ERROR


async def test_a_request_is_bounded(here: World) -> None:
    text = here.bob.joined().encrypt(b"again")
    await refused(here, signed(here.bob, messages(*[text] * (MAX_ITEMS + 1))), DSErrorCode.TOO_LARGE)
    client = client_uri(ALICE, "PHONE")
    await refused(here, unsigned(packages(*[client] * (MAX_ITEMS + 1))), DSErrorCode.TOO_LARGE)


def test_every_reason_has_a_code() -> None:
    assert set(ERROR_CODES) == set(Reason)


# --- the end ---


async def test_a_group_is_deleted_by_a_commit_that_removes_everybody_else(here: World) -> None:
    gone = here.bob.remove(here.alice)
    body = DSRequestBody(
        request_type=Type.DELETE_GROUP, delete_group=DeleteGroupRequest(group_update=update_of(gone))
    )
    foreign = signed(here.bob, body, index=here.alice.joined().own_leaf_index)
    await refused(here, foreign, DSErrorCode.NOT_ALLOWED)
    assert (await ask(here, signed(here.bob, body))).response_type is DSResponseType.OK
    here.bob.accept()
    after = here.head()
    await refused(
        here, signed(here.bob, messages(here.bob.joined().encrypt(b"still?"))), DSErrorCode.NOT_ALLOWED
    )
    await refused(here, unsigned(GROUP_INFO), DSErrorCode.NOT_ALLOWED)
    # The log is there as before.
    assert len(here.server.node.store.entries(here.room_id, after=0, limit=100)) == after


async def test_a_deleted_group_stays_deleted_when_the_hub_starts_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await let_bob_remove(w)
        gone = w.bob.remove(w.alice)
        body = DSRequestBody(
            request_type=Type.DELETE_GROUP, delete_group=DeleteGroupRequest(group_update=update_of(gone))
        )
        assert (await ask(w, signed(w.bob, body))).response_type is DSResponseType.OK
        w.bob.accept()
    async with running_server("a.example", tmp_path, w.server.network) as server:
        w.server = server
        await refused(w, signed(w.bob, messages(w.bob.joined().encrypt(b"still?"))), DSErrorCode.NOT_ALLOWED)


async def test_a_commit_that_leaves_somebody_deletes_nothing(here: World) -> None:
    body = DSRequestBody(
        request_type=Type.DELETE_GROUP,
        delete_group=DeleteGroupRequest(
            group_update=update_of(handshake(here.bob, here.bob.joined().commit()))
        ),
    )
    await refused(here, signed(here.bob, body), DSErrorCode.INVALID_COMMIT)
