"""Requests for KeyPackages and their answers."""

from __future__ import annotations

import openmls
import pytest

from linearized.exceptions import MimiDecodeError
from linearized.mimi.key_material import (
    Capabilities,
    ClientKeyMaterial,
    KeyMaterialClientCode,
    KeyMaterialRequest,
    KeyMaterialRequestTBS,
    KeyMaterialResponse,
    KeyMaterialUserCode,
    RequiredCapabilities,
    Requirements,
    basic_credential,
    basic_identity,
    capabilities_of,
    is_of_another_protocol,
)
from linearized.mimi.tls import UnknownValue
from tests.mimi.support import BASIC, KEY_PACKAGE, X509, vec

ALICE, BOB, ROOM = "mimi://a.example/u/alice", "mimi://b.example/u/bob", "mimi://a.example/r/clubhouse"
REQUEST = KeyMaterialRequest(
    requesting_user=ALICE,
    target_user=BOB,
    room_id=ROOM,
    acceptable_ciphersuites=(1, 2),
    required_capabilities=RequiredCapabilities(
        extension_types=(6,), proposal_types=(8,), credential_types=(1,)
    ),
    requester_signature_key=b"key",
    requester_credential=BASIC,
    signature=b"sig",
)
FIELDS = (
    b"\x01" + vec(ALICE.encode()) + vec(BOB.encode()) + vec(ROOM.encode())
    + bytes.fromhex("04 0001 0002  02 0006  02 0008  02 0001") + b"\x03key" + BASIC
)  # fmt: skip


def test_a_request_is_what_is_signed_and_the_signature() -> None:
    assert REQUEST.encode() == FIELDS + b"\x03sig"
    assert KeyMaterialRequest.decode(REQUEST.encode()) == REQUEST
    assert REQUEST.tbs() == FIELDS == KeyMaterialRequestTBS.decode(FIELDS).encode()


def test_a_request_without_ciphersuites_is_refused() -> None:
    assert FIELDS.count(b"\x04\x00\x01\x00\x02") == 1
    with pytest.raises(MimiDecodeError, match="at least 1 items"):
        KeyMaterialRequestTBS.decode(FIELDS.replace(b"\x04\x00\x01\x00\x02", b"\x00"))


@pytest.mark.parametrize(
    ("client", "data"),
    [
        (
            ClientKeyMaterial(status=KeyMaterialClientCode.SUCCESS, client_uri="c", key_package=KEY_PACKAGE),
            b"\x00\x01c" + KEY_PACKAGE,
        ),
        (
            ClientKeyMaterial(status=KeyMaterialClientCode.KEY_MATERIAL_EXHAUSTED, client_uri="c"),
            b"\x01\x01c",
        ),
        (
            ClientKeyMaterial(status=KeyMaterialClientCode.NOTHING_COMPATIBLE, client_uri="c"),
            b"\x02\x01c\x00",
        ),
        (
            ClientKeyMaterial(
                status=KeyMaterialClientCode.NOTHING_COMPATIBLE,
                client_uri="c",
                capabilities=Capabilities(versions=(1,), credentials=(1, 2)),
            ),
            b"\x02\x01c\x01" + bytes.fromhex("02 0001  00 00 00  04 0001 0002"),
        ),
    ],
)
def test_each_client_has_a_key_package_or_a_reason(client: ClientKeyMaterial, data: bytes) -> None:
    assert client.encode() == data
    assert ClientKeyMaterial.decode(data) == client


def test_an_answer_lists_the_users_clients() -> None:
    client = ClientKeyMaterial(status=KeyMaterialClientCode.SUCCESS, client_uri="c", key_package=KEY_PACKAGE)
    response = KeyMaterialResponse(
        user_status=KeyMaterialUserCode.SUCCESS, user_uri="u", clients=(client, client)
    )
    assert response.encode() == b"\x01\x00\x01u" + vec(client.encode() * 2)
    assert KeyMaterialResponse.decode(response.encode()) == response


def test_an_answer_of_a_code_from_the_future_can_be_read() -> None:
    response = KeyMaterialResponse.decode(b"\x01\xc8\x01u\x00")
    assert response.user_status == UnknownValue(200)
    assert response.encode() == b"\x01\xc8\x01u\x00"


def test_clients_are_listed_only_if_the_user_code_allows_it() -> None:
    client = ClientKeyMaterial(status=KeyMaterialClientCode.KEY_MATERIAL_EXHAUSTED, client_uri="c")
    allowed = {
        code
        for code in KeyMaterialUserCode
        if _reads(b"\x01" + bytes([code]) + b"\x01u" + vec(client.encode()))
    }
    assert allowed == {
        KeyMaterialUserCode.SUCCESS,
        KeyMaterialUserCode.PARTIAL_SUCCESS,
        KeyMaterialUserCode.NO_COMPATIBLE_MATERIAL,
    }


def _reads(data: bytes) -> bool:
    try:
        KeyMaterialResponse.decode(data)
    except MimiDecodeError:
        return False
    return True


def test_a_basic_credential_holds_an_identity() -> None:
    assert basic_credential(b"mimi://a.example/d/alice/ABC") == BASIC
    assert basic_identity(BASIC) == b"mimi://a.example/d/alice/ABC"
    for other in (X509, BASIC + b"\x00", BASIC[:-1], b""):
        with pytest.raises(MimiDecodeError):
            basic_identity(other)


SUPPORTED = Capabilities(versions=(1,), extensions=(6, 0x000A), proposals=(8,), credentials=(1,))


@pytest.mark.parametrize(
    ("required", "met"),
    [
        (RequiredCapabilities(), True),
        (RequiredCapabilities(extension_types=(6,), proposal_types=(8,), credential_types=(1,)), True),
        (RequiredCapabilities(extension_types=(6, 0x000A, 6)), True),
        (RequiredCapabilities(extension_types=(6, 7)), False),
        (RequiredCapabilities(proposal_types=(8, 9)), False),
        (RequiredCapabilities(credential_types=(2,)), False),
        # "Default" types are supported by everybody and listed by nobody; there is no default credential.
        (RequiredCapabilities(extension_types=(1, 2, 3, 4, 5), proposal_types=(1, 2, 3, 4, 5, 6, 7)), True),
    ],
)
def test_requirements_are_met_by_what_is_listed_and_what_everybody_can(
    required: RequiredCapabilities, met: bool
) -> None:
    assert Requirements(required).met_by(SUPPORTED) is met


def test_the_capabilities_of_a_key_package_are_those_of_its_leaf() -> None:
    client = openmls.Client.create(identity=b"mimi://a.example/d/alice/ABC")
    package = client.key_package(now=1_700_000_000, lifetime=1_000)
    expected = openmls.inspect_key_package(package, now=1_700_000_000).capabilities
    found = capabilities_of(package)
    assert (found.versions, found.cipher_suites, found.extensions, found.proposals, found.credentials) == (
        expected.versions,
        expected.ciphersuites,
        expected.extensions,
        expected.proposals,
        expected.credentials,
    )
    assert {6, 8} <= {*found.extensions, *found.proposals}
    with pytest.raises(MimiDecodeError):
        capabilities_of(package[:60])


def test_a_request_of_a_protocol_to_come_is_told_from_a_malformed_one() -> None:
    header = vec(ALICE.encode()) + vec(BOB.encode()) + vec(b"")
    found = [is_of_another_protocol(bytes([first]) + header + b"?") for first in (0, 1, 2, 255)]
    assert found == [False, False, True, True]
    for malformed in (b"", b"\x02", b"\x02" + header[:-1], b"\xff" * 100):
        with pytest.raises(MimiDecodeError):
            is_of_another_protocol(malformed)
