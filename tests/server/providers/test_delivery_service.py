"""The delivery service operations: each does what MIMI's own endpoint for it does, and every refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openmls
import pytest

from linearized.mimi.delivery_service import (
    SIGNATURE_LABEL,
    ClientID,
    ClientSignatureTBS,
    CommitRequest,
    DeleteGroupRequest,
    DSAuthData,
    DSAuthType,
    DSErrorCode,
    DSPartialGroupInfo,
    DSRequest,
    DSRequestBody,
    DSRequestType,
    DSResponse,
    DSResponseBody,
    DSResponseType,
    KeyPackagesRequest,
    MLSGroupUpdate,
    ProposalRequest,
    SendMessageRequest,
    WelcomeInfoRequest,
)
from linearized.mimi.handshake import (
    HandshakeBundle,
    UpdateResponseCode,
    UpdateRoomResponse,
    welcome_message,
)
from linearized.mimi.participants import ParticipantListUpdate, UserRolePair
from linearized.protocol.identifiers import client_uri, user_uri
from linearized.protocol.state import membership
from linearized.room.submissions import Handshake, Reason
from linearized.server.join_codes import ADMISSION_MS
from linearized.server.opening import system_clock
from linearized.server.providers.delivery_service import ERROR_CODES, MAX_ITEMS
from linearized.store.base import Role, RoomAppend, RoomRow
from linearized.store.pseudonyms import PseudonymRow
from tests.room.party import leave
from tests.room.support import ALICE, ANNA, BOB, MLS, Member, handshake, state_event
from tests.server.support import running_server

from .support import Provider, World, with_packages, world

Type = DSRequestType


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as found:
        await let_bob_remove(found)
        yield found


async def let_bob_remove(w: World) -> None:
    levels = {"users": {ALICE: 50, BOB: 100}}
    await w.server.node.rooms.submit(w.room_id, state_event(ALICE, "m.room.power_levels", levels))


def signed(member: Member, body: DSRequestBody, *, index: int | None = None, **changes: Any) -> DSRequest:
    """A request as the member's client makes it."""
    leaf = member.joined().own_leaf_index if index is None else index
    content = ClientSignatureTBS(request_body=body, sender_index=leaf).encode()
    signature = member.client.sign_with_label(label=SIGNATURE_LABEL, content=content)
    values: dict[str, Any] = {"sender_index": leaf, "signature": signature} | changes
    return DSRequest(
        request_body=body,
        authentication_data=DSAuthData(auth_type=DSAuthType.CLIENT_SIGNATURE, **values),
    )


def unsigned(body: DSRequestBody) -> DSRequest:
    return DSRequest(request_body=body, authentication_data=DSAuthData())


async def ask(
    w: World, request: DSRequest, *, provider: Provider | None = None, room: str | None = None
) -> DSResponseBody:
    answer = await (provider or w.other).ask("deliveryService", room or w.uri, request.encode())
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    return DSResponse.decode(answer.content).response_body


async def refused(w: World, request: DSRequest, code: DSErrorCode, **more: Any) -> DSResponseBody:
    before = w.head()
    body = await ask(w, request, **more)
    assert body.error is not None, body
    assert body.error.code is code, body.error
    assert w.head() == before
    return body


def update_of(submission: Handshake) -> MLSGroupUpdate:
    """A commit in the shape of this draft."""
    assert submission.bundle.group_info is not None
    assert submission.bundle.group_info.full is not None
    details = openmls.group_info_details(submission.bundle.group_info.full)
    partial = DSPartialGroupInfo(group_info_extensions=details.extensions, signature=details.signature)
    return MLSGroupUpdate(commit=submission.bundle.message, partial_group_info=partial)


def commits(*submissions: Handshake, welcomes: tuple[bytes, ...] | None = None) -> DSRequestBody:
    if welcomes is None:
        welcomes = tuple(
            welcome_message(one.bundle.welcome) for one in submissions if one.bundle.welcome is not None
        )
    return DSRequestBody(
        request_type=Type.COMMITS,
        commits=CommitRequest(
            group_updates=tuple(update_of(one) for one in submissions), welcome_messages=welcomes
        ),
    )


def messages(*texts: bytes) -> DSRequestBody:
    return DSRequestBody(
        request_type=Type.SEND_MESSAGE, send_message=SendMessageRequest(application_messages=texts)
    )


def packages(*clients: str) -> DSRequestBody:
    return DSRequestBody(
        request_type=Type.KEY_PACKAGES,
        key_packages=KeyPackagesRequest(
            client_identifiers=tuple(ClientID(client_id=client) for client in clients)
        ),
    )


MEMBERSHIP_TAG_BYTES = 33  # HMAC-SHA256 and its length
GROUP_INFO = DSRequestBody(request_type=Type.GROUP_INFO)


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


async def test_a_client_that_lost_its_state_rejoins_by_an_external_commit(here: World) -> None:
    await here.commit()
    found = (await ask(here, unsigned(GROUP_INFO))).external_commit_info
    assert found is not None
    here.bob.client = openmls.Client.create(identity=here.bob.client.identity)
    here.bob.group, bundle = here.bob.client.join_external(
        group_info=found.group_info[4:], ratchet_tree=found.ratchet_tree, replace_leaf=1
    )
    request = unsigned(commits(handshake(here.bob, bundle)))
    assert (await ask(here, request)).response_type is DSResponseType.OK
    here.bob.accept()
    here.alice.joined().process(bundle.commit)
    assert here.alice.joined().epoch == here.bob.joined().epoch


async def test_who_showed_a_joining_code_joins_by_an_external_commit(here: World) -> None:
    carol = Member("@carol:b.example")
    node = here.server.node
    code, _ = await node.join_codes.create(here.room_id, creator=ALICE, uses=1, lifetime_ms=60_000)
    found = (await ask(here, unsigned(GROUP_INFO))).external_commit_info
    assert found is not None

    def joining() -> DSRequest:
        carol.group, bundle = carol.client.join_external(
            group_info=found.group_info[4:], ratchet_tree=found.ratchet_tree
        )
        return unsigned(commits(handshake(carol, bundle)))

    await refused(here, joining(), DSErrorCode.NOT_ALLOWED)
    assert not await node.join_codes.show(here.room_id, user_id=carol.user_id, code=b"guess")
    await refused(here, joining(), DSErrorCode.NOT_ALLOWED)
    assert await node.join_codes.show(here.room_id, user_id=carol.user_id, code=code.encode())
    assert (await ask(here, joining())).response_type is DSResponseType.OK
    assert membership(node.rooms.state(here.room_id), carol.user_id) == "join"
    entries = node.store.entries(here.room_id, after=here.head() - 3, limit=3)
    assert [(entry.type, entry.sender) for entry in entries] == [
        ("m.room.member", ALICE),
        ("m.room.member", carol.user_id),
        ("m.mls.commit", carol.user_id),
    ]


async def test_an_expired_admission_by_a_code_lets_nobody_in(here: World) -> None:
    carol = Member("@carol:b.example")
    node = here.server.node
    code, _ = await node.join_codes.create(here.room_id, creator=ALICE, uses=1, lifetime_ms=60_000)
    assert await node.join_codes.show(here.room_id, user_id=carol.user_id, code=code.encode())
    node.clock = lambda: system_clock() + ADMISSION_MS + 1
    found = (await ask(here, unsigned(GROUP_INFO))).external_commit_info
    assert found is not None
    carol.group, bundle = carol.client.join_external(
        group_info=found.group_info[4:], ratchet_tree=found.ratchet_tree
    )
    await refused(here, unsigned(commits(handshake(carol, bundle))), DSErrorCode.NOT_ALLOWED)


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


# --- joining ---


async def added(w: World) -> tuple[Handshake, Member]:
    """Bob adds Anna, with a key package that the operation gave him."""
    anna = Member(ANNA)
    await with_packages(w.server, ANNA, "DEV", client=anna.client)
    answer = await ask(w, unsigned(packages(client_uri(ANNA, "DEV"))))
    update = ParticipantListUpdate(added=(UserRolePair(user=user_uri(ANNA), role_index=1),))
    return w.bob.change(update, add=answer.key_packages), anna


async def test_a_welcome_goes_with_the_commit_that_adds(here: World) -> None:
    submission, anna = await added(here)
    assert (await ask(here, signed(here.bob, commits(submission)))).response_type is DSResponseType.OK
    (message,) = here.server.node.store.to_device(anna.user_id, "DEV", after=0, limit=9)
    assert b"ratchet_tree" in message.content


async def test_a_welcome_that_belongs_to_no_commit_is_refused(here: World) -> None:
    submission, _ = await added(here)
    here.bob.joined().clear_pending_commit()
    assert submission.bundle.welcome is not None
    welcome = welcome_message(submission.bundle.welcome)
    one = handshake(here.bob, here.bob.joined().commit())
    here.bob.accept()
    two = handshake(here.bob, here.bob.joined().commit())
    await refused(here, signed(here.bob, commits(one, two, welcomes=(welcome,))), DSErrorCode.NOT_ALLOWED)
    await refused(here, signed(here.bob, commits(one, welcomes=(welcome, welcome))), DSErrorCode.NOT_ALLOWED)


async def test_of_several_commits_each_gets_its_own_welcome(here: World) -> None:
    empty = handshake(here.bob, here.bob.joined().commit())
    here.bob.accept()
    submission, anna = await added(here)
    body = commits(empty, submission)
    assert (await ask(here, signed(here.bob, body))).response_type is DSResponseType.OK
    assert len(here.server.node.store.to_device(anna.user_id, "DEV", after=0, limit=9)) == 1


def welcome_info(epoch: int, reference: bytes, *, joined: int = 0) -> DSRequestBody:
    return DSRequestBody(
        request_type=Type.WELCOME_INFO,
        welcome_info=WelcomeInfoRequest(epoch=epoch, key_package_ref=reference, joined=joined),
    )


async def test_the_tree_of_a_welcome_is_there_until_its_client_has_joined(here: World) -> None:
    tablet = Member(BOB, "TABLET")
    accepted = await here.server.node.rooms.submit(here.room_id, here.alice.add(tablet))
    here.alice.accept()
    (effect,) = accepted.welcomes
    (reference,) = effect.references
    assert accepted.group is not None
    epoch = accepted.group.epoch
    for _ in range(2):
        await here.commit()
    tablet.join(accepted)  # a copy that knows its leaf, to sign with
    asked = signed(tablet, welcome_info(epoch, reference))
    assert (await ask(here, asked)).welcome_info == effect.ratchet_tree
    await refused(here, unsigned(asked.request_body), DSErrorCode.NOT_ALLOWED)
    await refused(here, signed(tablet, welcome_info(epoch + 1, reference)), DSErrorCode.UNKNOWN_EPOCH)
    await refused(here, signed(tablet, welcome_info(epoch, b"other")), DSErrorCode.UNKNOWN_EPOCH)
    done = signed(tablet, welcome_info(epoch, reference, joined=1))
    assert (await ask(here, done)).response_type is DSResponseType.OK
    await refused(here, asked, DSErrorCode.UNKNOWN_EPOCH)


async def test_group_information_is_for_members_and_providers_in_the_room(here: World) -> None:
    group = here.server.node.groups.row(here.room_id)
    assert group is not None
    for request in (unsigned(GROUP_INFO), signed(here.bob, GROUP_INFO)):
        found = (await ask(here, request)).external_commit_info
        assert found is not None
        assert (found.group_info[4:], found.ratchet_tree) == (group.group_info, group.ratchet_tree)
    await refused(here, signed(here.bob, GROUP_INFO, signature=bytes(64)), DSErrorCode.NOT_ALLOWED)
    stranger = Provider("c.example", here.server.network)
    await refused(here, unsigned(GROUP_INFO), DSErrorCode.NOT_ALLOWED, provider=stranger)


# --- key packages ---


async def test_key_packages_of_our_clients_are_handed_out_once(here: World) -> None:
    client = await with_packages(here.server, ALICE, "PHONE", packages=1)
    assert client.identity == client_uri(ALICE, "PHONE").encode()
    request = unsigned(packages(client_uri(ALICE, "PHONE")))
    (package,) = (await ask(here, request)).key_packages
    assert openmls.inspect_key_package(package, now=MLS.now).identity == client.identity
    await refused(here, request, DSErrorCode.NO_KEY_PACKAGE)


async def test_key_packages_are_for_our_clients_and_rooms_of_the_caller_only(here: World) -> None:
    await with_packages(here.server, ALICE, "PHONE", packages=2)
    for wrong in (
        client_uri(ALICE, "OTHER"),
        client_uri("@nobody:a.example", "PHONE"),
        client_uri(BOB, "DEV"),
    ):
        await refused(here, unsigned(packages(wrong)), DSErrorCode.UNKNOWN_CLIENT)
    phone = client_uri(ALICE, "PHONE")
    await refused(here, unsigned(packages(phone, phone)), DSErrorCode.NOT_ALLOWED)
    answer = await here.other.ask(
        "deliveryService", here.uri, unsigned(packages("mimi://a.example")).encode()
    )
    assert answer.status_code == 400
    stranger = Provider("c.example", here.server.network)
    request = unsigned(packages(phone))
    await refused(here, request, DSErrorCode.NOT_ALLOWED, provider=stranger)
    await refused(here, request, DSErrorCode.NOT_ALLOWED, provider=stranger, room="mimi://b.example/r/x")
    # The hub of a room of its own.
    assert (await ask(here, request, provider=stranger, room="mimi://c.example/r/x")).key_packages


async def test_a_pseudonym_is_given_for_the_first_room_it_is_asked_for(here: World) -> None:
    user_id = "@0b5c2d3e-7f1a-4c6b-9d8e-1a2b3c4d5e6f:a.example"
    await here.server.node.store.put_pseudonym(
        PseudonymRow(user_id=user_id, owner=ALICE, created_ts=0), "PHONE"
    )
    await with_packages(here.server, user_id, "PHONE", packages=2)
    request = unsigned(packages(client_uri(user_id, "PHONE")))
    assert (await ask(here, request)).key_packages
    stranger = Provider("c.example", here.server.network)
    await refused(here, request, DSErrorCode.NOT_ALLOWED, provider=stranger, room="mimi://c.example/r/x")


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
