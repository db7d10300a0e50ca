"""Updates, messages and group information, asked of us as the hub by another provider."""

from __future__ import annotations

from pathlib import Path

import openmls
import orjson
import pytest

from linearized.client.group_requests import open_group_info
from linearized.mimi.group_info import (
    GroupInfoCode,
    GroupInfoRequest,
    GroupInfoRequestTBS,
    GroupInfoResponse,
)
from linearized.mimi.handshake import HandshakeBundle, UpdateResponseCode, UpdateRoomResponse
from linearized.mimi.messages import SubmitMessageRequest, SubmitMessageResponse, SubmitResponseCode
from linearized.mimi.participants import ParticipantListUpdate, UserIndexRolePair
from linearized.protocol.base64 import encode_base64
from linearized.protocol.identifiers import user_uri
from linearized.room.proposals import messages_of
from linearized.room.submissions import ApplicationMessage, Handshake, Reason, Rejected
from linearized.server.loading import pending_proposals
from tests.room.party import leave, offer, references
from tests.room.support import NOW, Member, handshake

from .support import ALICE, BOB, SUITE, Provider, World, world

# --- update ---


async def update(w: World, submission: Handshake | bytes, *, target: str | None = None) -> UpdateRoomResponse:
    body = submission if isinstance(submission, bytes) else submission.bundle.encode()
    answer = await w.other.ask("update", target or w.uri, body)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    return UpdateRoomResponse.decode(answer.content)


async def test_an_update_is_accepted_with_the_time(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        response = await update(w, handshake(w.bob, w.bob.joined().commit()))
        assert response.code is UpdateResponseCode.SUCCESS
        assert response.accepted_timestamp is not None
        assert response.accepted_timestamp > NOW
        row = w.server.node.groups.row(w.room_id)
        assert row is not None
        assert row.epoch == w.bob.joined().epoch + 1


async def test_an_update_or_message_whose_answer_was_lost_is_accepted_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        message = w.bob.message()
        request = SubmitMessageRequest(message=message.message, sending_uri=message.sending_uri).encode()
        answers = [await w.other.ask("submitMessage", w.uri, request) for _ in range(2)]
        assert answers[0].content == answers[1].content
        assert SubmitMessageResponse.decode(answers[1].content).code is SubmitResponseCode.ACCEPTED
        submission = handshake(w.bob, w.bob.joined().commit())
        head = w.server.node.rooms.row(w.room_id)
        assert head is not None
        first, second = [await update(w, submission) for _ in range(2)]
        assert first.code is UpdateResponseCode.SUCCESS
        assert first == second
        row = w.server.node.rooms.row(w.room_id)
        assert row is not None
        assert row.head_seq == head.head_seq + 1
        stored = [entry.type for entry in w.server.node.store.entries(w.room_id, after=0, limit=100)]
        assert stored.count("m.room.encrypted") == 1


async def test_an_update_that_another_provider_in_the_room_replays_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path, with_bob=False) as w:
        await w.add(Member("@carol:c.example"))
        await w.add(w.bob)
        third = Provider("c.example", w.server.network)
        commit = handshake(w.bob, w.bob.joined().commit())
        w.bob.accept()
        for submission, code in (
            (commit, UpdateResponseCode.WRONG_EPOCH),
            (leave(w.bob), UpdateResponseCode.INVALID_PROPOSAL),
        ):
            taken = await update(w, submission)
            assert taken.code is UpdateResponseCode.SUCCESS, taken
            before = w.head()
            answer = await third.ask("update", w.uri, submission.bundle.encode())
            replayed = UpdateRoomResponse.decode(answer.content)
            assert replayed.code is code, replayed
            assert w.head() == before


async def test_a_message_that_another_provider_in_the_room_submits_again_is_not_allowed(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, with_bob=False) as w:
        await w.add(Member("@carol:c.example"))
        await w.add(w.bob)
        third = Provider("c.example", w.server.network)
        message = w.bob.message()
        request = SubmitMessageRequest(message=message.message, sending_uri=message.sending_uri).encode()
        again = SubmitMessageRequest(message=message.message, sending_uri="mimi://c.example/u/carol").encode()

        async def submit(provider: Provider, body: bytes) -> SubmitMessageResponse:
            return SubmitMessageResponse.decode((await provider.ask("submitMessage", w.uri, body)).content)

        taken = await submit(w.other, request)
        assert taken.code is SubmitResponseCode.ACCEPTED
        assert (await submit(third, again)).code is SubmitResponseCode.NOT_ALLOWED
        # The first stays what it is, and a hub that has been away remembers.
        assert await submit(w.other, request) == taken
        restored = w.server.node.rooms._hub.load(w.room_id)
        assert len(restored.log.group.replays) == 1


async def test_an_update_of_an_epoch_that_has_passed_is_told_the_current_one(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.commit()
        before = w.head()
        response = await update(w, handshake(w.bob, w.bob.joined().commit()))
        assert response.code is UpdateResponseCode.WRONG_EPOCH
        assert response.current_epoch == w.alice.joined().epoch
        assert w.head() == before


async def test_an_update_the_room_does_not_allow_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        before = w.head()
        bob_index = w.bob.participants().index_of(user_uri(BOB))
        assert bob_index is not None
        promote = ParticipantListUpdate(changed=(UserIndexRolePair(user_index=bob_index, role_index=2),))
        response = await update(w, w.bob.change(promote))
        assert response.code is UpdateResponseCode.NOT_ALLOWED
        assert response.description
        assert w.head() == before


async def test_an_update_of_another_providers_user_is_not_allowed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        before = w.head()
        response = await update(w, handshake(w.alice, w.alice.joined().commit()))
        assert response.code is UpdateResponseCode.NOT_ALLOWED
        assert w.head() == before


async def test_a_proposal_that_is_not_allowed_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        before = w.head()
        proposal = HandshakeBundle(message=w.bob.joined().propose_remove(0))
        response = await update(w, proposal.encode())
        assert response.code is UpdateResponseCode.NOT_ALLOWED
        assert w.head() == before


async def test_a_proposal_of_an_epoch_that_has_passed_is_told_the_current_one(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        late = leave(w.bob)
        await w.commit()
        before = w.head()
        response = await update(w, late)
        assert response.code is UpdateResponseCode.WRONG_EPOCH
        assert response.current_epoch == w.alice.joined().epoch
        assert w.head() == before


async def test_a_leave_is_taken_once_and_every_commit_has_to_contain_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        before, submission = w.head(), leave(w.bob)
        first, again = [await update(w, submission) for _ in range(2)]
        assert first == again
        assert first.code is UpdateResponseCode.SUCCESS
        assert w.head() == before + 2
        store = w.server.node.store
        assert {row.user_id: row.membership for row in store.memberships(w.room_id)}[BOB] == "leave"
        (row,) = store.proposals(w.room_id, after=before, limit=10)
        sent = (submission.bundle.message, *submission.bundle.more_proposals)
        assert tuple(messages_of(orjson.loads(row.pdu)["content"])) == sent
        # Another start of the server has it from the log.
        group = store.group(w.room_id)
        assert group is not None
        assert pending_proposals(store, w.room_id, group.commit_event_id) == [
            (each, first.accepted_timestamp) for each in sent
        ]
        assert len(references(w.server.node.rooms._hub.load(w.room_id))) == len(sent)
        with pytest.raises(Rejected) as refused:
            await w.commit()
        assert refused.value.code is Reason.INVALID_PROPOSAL
        assert len(refused.value.invalid_proposals) == len(sent)


@pytest.mark.parametrize("room", ["mimi://a.example/r/unknown", "mimi://b.example/r/clubhouse"])
async def test_an_update_of_a_room_we_do_not_know_is_not_allowed(tmp_path: Path, room: str) -> None:
    async with world(tmp_path) as w:
        response = await update(w, handshake(w.bob, w.bob.joined().commit()), target=room)
        assert response.code is UpdateResponseCode.NOT_ALLOWED


@pytest.mark.parametrize("endpoint", ["update", "submitMessage", "groupInfo", "keyMaterial"])
async def test_garbage_is_a_bad_request_and_changes_nothing(tmp_path: Path, endpoint: str) -> None:
    async with world(tmp_path) as w:
        before = w.head()
        good = handshake(w.bob, w.bob.joined().commit()).bundle.encode()
        message = submit_request(w.bob.message())
        for body in (b"", b"\0", b"\xff" * 100, good[:-1], good + b"\0", message[:-1], message + b"\0"):
            answer = await w.other.ask(endpoint, w.uri, body)
            assert (answer.status_code, answer.json()["errcode"]) == (400, "M_BAD_JSON"), body
        assert w.head() == before


@pytest.mark.parametrize("target", ["!clubhouse:a.example", "mimi://a.example/u/alice", "mimi://", "x"])
async def test_what_is_no_room_uri_is_a_bad_request(tmp_path: Path, target: str) -> None:
    async with world(tmp_path) as w:
        good = handshake(w.bob, w.bob.joined().commit()).bundle.encode()
        assert (await w.other.ask("update", target, good)).status_code == 400


# --- messages ---


def submit_request(message: ApplicationMessage, *, sender: str | None = None) -> bytes:
    return SubmitMessageRequest(message=message.message, sending_uri=sender or message.sending_uri).encode()


async def submit(w: World, body: bytes, *, target: str | None = None) -> SubmitMessageResponse:
    answer = await w.other.ask("submitMessage", target or w.uri, body)
    assert answer.status_code == 200
    return SubmitMessageResponse.decode(answer.content)


async def test_a_message_is_accepted_with_the_time_and_stands_in_the_log(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        message = w.bob.message(b"hello")
        response = await submit(w, submit_request(message))
        assert response.code is SubmitResponseCode.ACCEPTED
        (entry,) = w.server.node.store.entries(w.room_id, after=w.head() - 1, limit=1)
        assert entry.origin_server_ts == response.accepted_timestamp
        assert encode_base64(message.message).encode() in entry.pdu
        assert entry.sender == BOB


async def test_a_message_of_an_epoch_that_has_passed_is_told_the_current_one(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        message = w.bob.message()
        await w.commit()
        before = w.head()
        response = await submit(w, submit_request(message))
        assert response.code is SubmitResponseCode.EPOCH_TOO_OLD
        assert response.current_epoch == w.alice.joined().epoch
        assert w.head() == before


async def test_a_message_of_an_epoch_to_come_is_not_allowed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.bob.joined().commit()
        w.bob.accept()  # alone: the hub never heard of it
        response = await submit(w, submit_request(w.bob.message()))
        assert response.code is SubmitResponseCode.NOT_ALLOWED


@pytest.mark.parametrize("sender", [ALICE, "@mallory:b.example", "@carol:c.example"])
async def test_a_message_in_the_name_of_somebody_else_is_not_allowed(tmp_path: Path, sender: str) -> None:
    async with world(tmp_path) as w:
        before = w.head()
        response = await submit(w, submit_request(w.bob.message(), sender=user_uri(sender)))
        assert response.code is SubmitResponseCode.NOT_ALLOWED
        assert w.head() == before


async def test_a_message_to_another_group_or_room_is_not_allowed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        stranger = Member(BOB, "OTHER")
        stranger.create(name=b"another group")
        stranger.accept()
        response = await submit(w, submit_request(stranger.message()))
        assert response.code is SubmitResponseCode.NOT_ALLOWED
        nowhere = await submit(w, submit_request(w.bob.message()), target="mimi://a.example/r/unknown")
        assert nowhere.code is SubmitResponseCode.NOT_ALLOWED


async def test_a_message_from_no_user_uri_is_not_allowed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        response = await submit(w, submit_request(w.bob.message(), sender="mimi://b.example/r/bob"))
        assert response.code is SubmitResponseCode.NOT_ALLOWED


# --- group information ---


def info_request(
    client: openmls.Client, keys: openmls.HpkeKeyPair, *, public_key: bytes | None = None, suite: int = SUITE
) -> GroupInfoRequest:
    signed = GroupInfoRequestTBS(
        cipher_suite=suite,
        signature_key=client.signature_key,
        credential=client.credential,
        group_info_public_key=keys.public_key if public_key is None else public_key,
    )
    return GroupInfoRequest(
        cipher_suite=signed.cipher_suite,
        signature_key=signed.signature_key,
        credential=signed.credential,
        group_info_public_key=signed.group_info_public_key,
        signature=client.sign_with_label(label="GroupInfoRequestTBS", content=signed.encode()),
    )


async def group_info(w: World, body: bytes, *, target: str | None = None) -> GroupInfoResponse:
    answer = await w.other.ask("groupInfo", target or w.uri, body)
    assert answer.status_code == 200
    return GroupInfoResponse.decode(answer.content)


async def test_a_member_gets_what_it_needs_to_rejoin_readable_by_it_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        keys = openmls.HpkeKeyPair.generate()
        response = await group_info(w, info_request(w.bob.client, keys).encode())
        opened = open_group_info(response, w.room_id, keys)
        row = w.server.node.groups.row(w.room_id)
        assert row is not None
        assert (opened.group_info, opened.ratchet_tree.tree) == (row.group_info, row.ratchet_tree)
        assert row.group_info not in response.encode()
        with pytest.raises(openmls.CannotDecrypt):
            open_group_info(response, w.room_id, openmls.HpkeKeyPair.generate())
        # and with it, it does
        again = w.bob.rejoin(w.accepted)
        assert (await update(w, again)).code is UpdateResponseCode.SUCCESS


async def test_a_joiner_is_given_what_is_pending_with_the_time_it_was_accepted_at(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        tablet = Member(BOB, "TABLET")
        await w.add(tablet)
        keys = openmls.HpkeKeyPair.generate()
        message = tablet.joined().propose_self_remove()
        response = await update(w, offer(tablet, message))
        info = await group_info(w, info_request(w.bob.client, keys).encode())
        (pending,) = open_group_info(info, w.room_id, keys).pending_proposals
        assert (pending.proposal, pending.hub_accepted_time) == (message, response.accepted_timestamp)


async def test_who_may_not_have_it_is_answered_as_if_there_were_no_room(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        keys = openmls.HpkeKeyPair.generate()
        mallory = Member("@mallory:b.example").client
        # The signature proves a key only: another provider's user cannot be named.
        impostor = openmls.Client.create(identity=w.alice.client.identity)
        answers = [
            await w.other.ask("groupInfo", target, info_request(client, keys).encode())
            for client, target in [
                (mallory, w.uri),
                (impostor, w.uri),
                (w.bob.client, "mimi://a.example/r/unknown"),
            ]
        ]
        responses = [GroupInfoResponse.decode(answer.content) for answer in answers]
        assert {response.status for response in responses} == {GroupInfoCode.NOT_AUTHORIZED}
        assert all(response.encrypted_groupinfo_and_tree is None for response in responses)


async def test_who_was_removed_gets_no_more_group_information(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.server.node.rooms.submit(w.room_id, w.alice.remove(w.bob))
        keys = openmls.HpkeKeyPair.generate()
        response = await group_info(w, info_request(w.bob.client, keys).encode())
        assert response.status is GroupInfoCode.NOT_AUTHORIZED


async def test_a_room_without_a_group_has_no_group_information(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        rooms = w.server.node.rooms
        bare = await rooms.create(creator=ALICE, version="dev.linearized.1", creation_content={}, initial=[])
        keys = openmls.HpkeKeyPair.generate()
        target = f"mimi://a.example/r/{bare[1:].partition(':')[0]}"
        response = await group_info(w, info_request(w.bob.client, keys).encode(), target=target)
        assert response.status is GroupInfoCode.NOT_AUTHORIZED


async def test_a_request_with_a_bad_signature_or_key_is_a_bad_request(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        keys = openmls.HpkeKeyPair.generate()
        good = info_request(w.bob.client, keys)
        flipped = good.encode()[:-1] + bytes([good.encode()[-1] ^ 1])
        other_key = info_request(w.alice.client, keys)
        forged = GroupInfoRequest(
            cipher_suite=SUITE,
            signature_key=good.signature_key,
            credential=good.credential,
            group_info_public_key=good.group_info_public_key,
            signature=other_key.signature,
        ).encode()
        short = info_request(w.bob.client, keys, public_key=b"\1").encode()
        nowhere = openmls.Client.create(identity=b"nobody")
        nameless = info_request(nowhere, keys).encode()
        unknown_suite = info_request(w.bob.client, keys, suite=0x7777).encode()
        for body in (flipped, forged, short, nameless, unknown_suite):
            answer = await w.other.ask("groupInfo", w.uri, body)
            assert (answer.status_code, answer.json()["errcode"]) == (400, "M_BAD_JSON")
