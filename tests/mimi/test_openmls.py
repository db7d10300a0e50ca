"""The structures around what a real MLS implementation makes, with the proposals MIMI adds to RFC 9420's."""

from __future__ import annotations

import time
from functools import partial

import openmls
import pytest

from linearized.exceptions import SignatureError
from linearized.mimi.franking import ServerFrankingContext, franking_tag, make_frank, verify_frank
from linearized.mimi.handshake import (
    GroupInfoOption,
    HandshakeBundle,
    RatchetTreeOption,
    welcome_message,
    welcome_struct,
)
from linearized.mimi.key_material import ClientKeyMaterial, KeyMaterialClientCode
from linearized.mimi.messages import FanoutMessage, message_role
from linearized.mimi.participants import (
    PARTICIPANT_LIST,
    ParticipantListData,
    ParticipantListUpdate,
    UserRolePair,
    apply_update,
)

ALICE, BOB = (UserRolePair(user=f"mimi://{name}.example/u/{name}", role_index=1) for name in ("alice", "bob"))


def bundle_of(commit: openmls.CommitBundle) -> HandshakeBundle:
    return HandshakeBundle(
        message=commit.commit,
        welcome=None if commit.welcome is None else welcome_struct(commit.welcome),
        group_info=GroupInfoOption(full=commit.group_info),
        ratchet_tree=RatchetTreeOption.full(commit.ratchet_tree),
    )


def test_a_group_lives_through_bundles() -> None:
    alice, bob, tablet = (
        openmls.Client.create(identity=name) for name in (b"alice", b"bob", b"bob's tablet")
    )
    before = ParticipantListData(participants=(ALICE,))
    group = alice.create_group(group_id=b"mimi://a.example/g/r", app_data={PARTICIPANT_LIST: before.encode()})

    key_package = bob.key_package(now=int(time.time()), lifetime=3600)
    material = ClientKeyMaterial(
        status=KeyMaterialClientCode.SUCCESS, client_uri=BOB.user, key_package=key_package
    )
    assert ClientKeyMaterial.decode(material.encode()).key_package == key_package

    update = ParticipantListUpdate(added=(BOB,))
    after = apply_update(before, update)
    commit = group.commit(
        add=[key_package],
        app_data_updates={PARTICIPANT_LIST: update.encode()},
        new_app_data={PARTICIPANT_LIST: after.encode()},
    )
    bundle = HandshakeBundle.decode(bundle_of(commit).encode())
    assert bundle.is_commit
    assert (bundle.message, bundle.welcome) == (commit.commit, welcome_struct(commit.welcome or b""))
    group.merge_pending_commit()

    assert bundle.welcome is not None
    assert bundle.ratchet_tree is not None
    joined = bob.join_welcome(welcome=welcome_message(bundle.welcome), ratchet_tree=bundle.ratchet_tree.tree)
    assert ParticipantListData.decode(joined.app_data()[PARTICIPANT_LIST]) == after

    fanned_out = FanoutMessage(timestamp=1, message=group.encrypt(b"hi"))
    assert FanoutMessage.decode(fanned_out.encode()) == fanned_out
    assert message_role(fanned_out.message) == "application"

    group_info, tree = group.group_info()
    _, external = tablet.join_external(group_info=group_info, ratchet_tree=tree)
    assert external.welcome is None
    assert HandshakeBundle.decode(bundle_of(external).encode()) == bundle_of(external)

    leaving = HandshakeBundle(message=joined.propose_self_remove())
    assert HandshakeBundle.decode(leaving.encode()) == leaving
    assert not leaving.is_commit


def test_a_frank_is_signed_with_the_groups_signature_scheme() -> None:
    hub = openmls.SignatureKeyPair.generate()
    tag = franking_tag(salt=bytes(16), application_data=b"hi")
    context = ServerFrankingContext(
        sender_uri=ALICE.user, room_uri="mimi://a.example/r/r", accepted_timestamp=5
    )
    frank = make_frank(hub_key=b"k", tag=tag, context=context, cipher_suite=1, sign=hub.sign_with_label)
    verify = partial(openmls.verify_with_label, ciphersuite=1, public_key=hub.public_key)
    verify_frank(frank, context=context, cipher_suite=1, verify=verify)
    other = ServerFrankingContext(sender_uri=BOB.user, room_uri="mimi://a.example/r/r", accepted_timestamp=5)
    with pytest.raises(openmls.InvalidSignature):
        verify_frank(frank, context=other, cipher_suite=1, verify=verify)
    with pytest.raises(SignatureError):
        verify_frank(frank, context=context, cipher_suite=3, verify=verify)
