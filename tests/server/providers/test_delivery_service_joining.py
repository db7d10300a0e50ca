"""The delivery service operations by which clients come into a group: Welcomes and their trees, external
commits, group information and key packages.
"""

from __future__ import annotations

import openmls

from linearized.mimi.delivery_service import (
    DSErrorCode,
    DSRequest,
    DSRequestBody,
    DSResponseType,
    WelcomeInfoRequest,
)
from linearized.mimi.handshake import (
    welcome_message,
)
from linearized.mimi.participants import ParticipantListUpdate, UserRolePair
from linearized.protocol.identifiers import client_uri, user_uri
from linearized.protocol.state import membership
from linearized.room.submissions import Handshake
from linearized.server.join_codes import ADMISSION_MS
from linearized.server.opening import system_clock
from linearized.store.pseudonyms import PseudonymRow
from tests.room.support import ALICE, ANNA, BOB, MLS, Member, handshake

from .delivery_service_support import (
    GROUP_INFO,
    Type,
    ask,
    commits,
    packages,
    refused,
    signed,
    unsigned,
)
from .support import Provider, World, with_packages

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


# --- by themselves ---


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


async def test_key_packages_of_who_wants_to_be_asked_are_given_to_nobody_who_may_not_have_asked(
    here: World,
) -> None:
    await with_packages(here.server, ALICE, "PHONE", packages=1)
    store = here.server.node.store
    await store.put_consent_required(ALICE, required=True)
    for client in ("PHONE", "OTHER"):
        request = unsigned(packages(client_uri(ALICE, client)))
        await refused(here, request, DSErrorCode.NOT_ALLOWED)
    assert store.key_package_counts(ALICE, "PHONE") == {1: 1}
    await store.put_consent_required(ALICE, required=False)
    assert (await ask(here, unsigned(packages(client_uri(ALICE, "PHONE"))))).key_packages


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
