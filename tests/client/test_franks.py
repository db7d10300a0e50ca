"""What a client commits to, and what it believes of a hub's stamp: each lie on the way is found."""

from __future__ import annotations

from dataclasses import dataclass, replace

import openmls
import pytest

from linearized.client import MemoryStorage, MlsDevice
from linearized.client.franks import FrankError, FrankFault, agent_of, check_frank, safe_aad, with_claims
from linearized.client.identity import LeafOwner
from linearized.exceptions import MimiDecodeError
from linearized.mimi.content import MimiContent, text
from linearized.mimi.franking import (
    FrankingAgentData,
    ServerFrankingContext,
    franking_components,
    make_frank,
    tag_in,
)
from linearized.mimi.key_material import basic_credential
from linearized.mimi.messages import Frank
from linearized.protocol.identifiers import room_uri, user_uri
from tests.client.support import wall_clock

SUITE = openmls.CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519
ROOM = "!club:a.example"
BOB = "@bob:b.example"
OWNER = LeafOwner(BOB, "DEV")
WHEN = 1_700_000_000_000
HUB_KEY = b"k" * 32
SIGNER = openmls.SignatureKeyPair.generate()


def agent(provider: str = "a.example", key: bytes = SIGNER.public_key) -> bytes:
    credential = basic_credential(f"mimi://{provider}".encode())
    return FrankingAgentData(franking_signature_key=key, credential=credential).encode()


def stamp(
    message: bytes, *, sender: str = BOB, room: str = ROOM, when: int = WHEN, suite: int = SUITE
) -> Frank:
    """What the hub makes of a message."""
    tag = tag_in(openmls.inspect_message(message).authenticated_data or b"")
    assert tag is not None
    context = ServerFrankingContext(
        sender_uri=user_uri(sender), room_uri=room_uri(room), accepted_timestamp=when
    )
    return make_frank(
        hub_key=HUB_KEY, tag=tag, context=context, cipher_suite=suite, sign=SIGNER.sign_with_label
    )


@dataclass
class Pair:
    """Bob, who sends, and Alice, who receives, in one group."""

    bob: openmls.Group
    alice: openmls.Group
    hub: str = "a.example"

    def send(self, payload: bytes, *, aad: dict[int, bytes] | None = None) -> bytes:
        return self.bob.encrypt(payload, safe_aad=safe_aad(payload) if aad is None else aad)

    def check(self, message: bytes, frank: bytes | None, app_data: dict[int, bytes] | None = None) -> None:
        check_frank(
            self.alice.process(message),
            app_data=self.alice.app_data() if app_data is None else app_data,
            cipher_suite=SUITE,
            frank=frank,
            owner=OWNER,
            room_id=ROOM,
            hub=self.hub,
            timestamp=WHEN,
        )


@pytest.fixture
def pair() -> Pair:
    bob = openmls.Client.create(identity=b"mimi://b.example/d/bob/DEV")
    alice = openmls.Client.create(identity=b"mimi://a.example/d/alice/DEV")
    group = bob.create_group(group_id=b"club", app_data=franking_components(agent()))
    package = alice.key_package(now=wall_clock() // 1000, lifetime=3600)
    bundle = group.commit(add=[package])
    group.merge_pending_commit()
    assert bundle.welcome is not None
    return Pair(group, alice.join_welcome(welcome=bundle.welcome, ratchet_tree=bundle.ratchet_tree))


def content(body: str = "hi", *, sender: str = BOB, room: str = ROOM) -> MimiContent:
    return with_claims(text(body, salt=bytes(16)), user_id=sender, room_id=room)


def fault_of(
    pair: Pair, message: bytes, frank: bytes | None, app_data: dict[int, bytes] | None = None
) -> FrankFault:
    with pytest.raises(FrankError) as raised:
        pair.check(message, frank, app_data)
    return raised.value.fault


def test_a_message_that_hub_and_sender_stand_for_is_believed(pair: Pair) -> None:
    message = pair.send(content().encode())
    pair.check(message, stamp(message).encode())


def test_a_message_that_came_without_a_stamp_is_held_to_its_senders_commitment_alone(pair: Pair) -> None:
    pair.check(pair.send(content().encode()), None)
    committed = safe_aad(content("something else").encode())
    assert fault_of(pair, pair.send(content().encode(), aad=committed), None) is FrankFault.TAG


def test_a_message_without_a_tag_is_not_franked(pair: Pair) -> None:
    pair.check(pair.send(content().encode(), aad={}), None)


def test_in_a_group_without_an_agent_nothing_is_checked(pair: Pair) -> None:
    pair.check(pair.send(content().encode()), b"no frank", app_data={})


@pytest.mark.parametrize(
    ("when", "sender", "room"),
    [(WHEN + 1, BOB, ROOM), (WHEN, "@mallory:b.example", ROOM), (WHEN, BOB, "!other:a.example")],
)
def test_a_stamp_on_another_time_sender_or_room_is_not_believed(
    pair: Pair, when: int, sender: str, room: str
) -> None:
    message = pair.send(content().encode())
    frank = stamp(message, when=when, sender=sender, room=room)
    assert fault_of(pair, message, frank.encode()) is FrankFault.SIGNATURE


def test_a_follower_that_changes_the_server_frank_is_found_out(pair: Pair) -> None:
    message = pair.send(content().encode())
    frank = replace(stamp(message), server_frank=bytes(32))
    assert fault_of(pair, message, frank.encode()) is FrankFault.SIGNATURE


def test_a_stamp_of_another_cipher_suite_is_not_believed(pair: Pair) -> None:
    message = pair.send(content().encode())
    assert fault_of(pair, message, stamp(message, suite=3).encode()) is FrankFault.SIGNATURE


def test_a_stamp_that_cannot_be_read_is_refused(pair: Pair) -> None:
    assert fault_of(pair, pair.send(content().encode()), b"no frank") is FrankFault.FRANK


@pytest.mark.parametrize("changed", [{"sender": "@mallory:b.example"}, {"room": "!other:a.example"}])
def test_content_that_names_another_sender_or_room_is_refused(pair: Pair, changed: dict[str, str]) -> None:
    message = pair.send(content(**changed).encode())
    assert fault_of(pair, message, stamp(message).encode()) is FrankFault.CLAIMS


def test_content_that_names_nobody_is_refused(pair: Pair) -> None:
    bare = text("hi", salt=bytes(16)).encode()
    message = pair.send(bare, aad=safe_aad(content().encode()))
    assert fault_of(pair, message, stamp(message).encode()) is FrankFault.CLAIMS
    with pytest.raises(MimiDecodeError):
        safe_aad(bare)


def test_a_commitment_of_another_length_is_refused(pair: Pair) -> None:
    message = pair.send(content().encode(), aad={0x0020: bytes(31)})
    assert fault_of(pair, message, None) is FrankFault.CLAIMS


def test_an_agent_of_another_provider_is_refused(pair: Pair) -> None:
    message = pair.send(content().encode())
    frank = stamp(message).encode()
    foreign = {**pair.alice.app_data(), 0x0021: agent("b.example")}
    assert fault_of(pair, message, frank, app_data=foreign) is FrankFault.AGENT


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        FrankingAgentData(franking_signature_key=b"k", credential=basic_credential(b"a.example")).encode(),
        FrankingAgentData(franking_signature_key=b"k", credential=basic_credential(b"\xff")).encode(),
    ],
)
def test_an_agent_that_names_no_provider_is_refused(encoded: bytes) -> None:
    with pytest.raises(FrankError) as raised:
        agent_of(encoded, ROOM)
    assert raised.value.fault is FrankFault.AGENT


@pytest.mark.parametrize(
    ("hub", "named", "needed"),
    [
        (None, agent("a.example"), False),
        ("b.example", agent("a.example"), True),
        ("b.example", agent("b.example"), False),
        ("b.example", b"no agent", True),
        ("b.example", None, False),
        ("c.example", agent("a.example"), False),
    ],
    ids=["never moved", "moved here", "named already", "unreadable", "not franked", "moved elsewhere"],
)
def test_a_device_at_the_hub_that_a_room_has_moved_to_names_its_agent(
    hub: str | None, named: bytes | None, needed: bool
) -> None:
    device = MlsDevice.open(MemoryStorage(), user_id=BOB, device_id="DEV")
    assert not device.must_tidy(ROOM)
    sender = (openmls.SignatureKeyPair.generate().public_key, b"mimi://b.example")
    device.create_group(ROOM, franking_agent=named, external_senders=(sender,))
    device.record(ROOM).hub = hub
    assert device.needs_agent(ROOM) is needed
    assert device.must_tidy(ROOM) is needed
    assert device.hub(ROOM) == (hub or "a.example")
