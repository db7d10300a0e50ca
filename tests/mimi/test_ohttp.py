"""Oblivious HTTP: the exchange of RFC 9458, and everything that must not open."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linearized.exceptions import MimiDecodeError
from linearized.mimi.binary_http import BinaryRequest
from linearized.mimi.ohttp import (
    MAX_KEYS_BYTES,
    OVERHEAD_BYTES,
    GatewayKey,
    KeyConfig,
    ObliviousError,
    SignedKeyConfigs,
    UnknownKey,
    decode_key_configs,
    encode_key_configs,
    open_request,
    padded_request,
    padded_response,
    seal_request,
)

VECTOR = {
    name: bytes.fromhex(value)
    for name, value in json.loads(
        (Path(__file__).parent.parent / "vectors" / "http" / "ohttp.json").read_text(encoding="utf-8")
    ).items()
}
KEY = GatewayKey(key_id=1, secret=VECTOR["gateway_secret"])
EPHEMERAL = VECTOR["ephemeral_secret"]
SMALL_ORDER = bytes(32)


def config() -> KeyConfig:
    found = KeyConfig.decode(VECTOR["key_config"])
    assert found is not None
    return found


def test_the_key_configuration_of_the_rfc_is_read_and_written() -> None:
    assert config().algorithms == ((1, 1), (1, 3))
    assert config().encode() == VECTOR["key_config"]
    assert config().public_key == KEY.config().public_key


def test_the_exchange_of_the_rfc_comes_out_byte_for_byte() -> None:
    sealed, exchange = seal_request(config(), VECTOR["request"], ephemeral=EPHEMERAL)
    assert sealed == VECTOR["encapsulated_request"]
    assert exchange.secret == VECTOR["exported_secret"]
    request, opened = open_request([KEY], sealed)
    assert (request, opened) == (VECTOR["request"], exchange)
    response = opened.seal_response(VECTOR["response"], nonce=VECTOR["response_nonce"])
    assert response == VECTOR["encapsulated_response"]
    assert exchange.open_response(response) == VECTOR["response"]


@pytest.mark.parametrize("aead", [1, 2, 3])
def test_every_algorithm_carries_a_request_there_and_a_response_back(aead: int) -> None:
    sealed, exchange = seal_request(
        replace(KEY.config(), algorithms=((2, 1), (1, aead))), b"question", ephemeral=EPHEMERAL
    )
    request, opened = open_request([GatewayKey(key_id=2, secret=bytes(32)), KEY], sealed)
    assert request == b"question"
    answer = opened.seal_response(b"answer", nonce=bytes(opened.nonce_bytes))
    assert len(answer) <= len(b"answer") + OVERHEAD_BYTES
    assert exchange.open_response(answer) == b"answer"


def test_a_key_that_is_not_there_is_said_to_be_unknown() -> None:
    sealed = VECTOR["encapsulated_request"]
    with pytest.raises(UnknownKey):
        open_request([GatewayKey(key_id=2, secret=KEY.secret)], sealed)
    for at in (2, 4, 6):  # KEM, KDF, AEAD
        other = bytearray(sealed)
        other[at] = 0x7F
        with pytest.raises(UnknownKey):
            open_request([KEY], bytes(other))


def test_a_request_to_another_key_does_not_open() -> None:
    with pytest.raises(ObliviousError):
        open_request([GatewayKey(key_id=1, secret=b"\x07" * 32)], VECTOR["encapsulated_request"])


def test_a_request_of_another_aead_than_the_header_says_does_not_open() -> None:
    other = bytearray(VECTOR["encapsulated_request"])
    other[6] = 3
    with pytest.raises(ObliviousError):
        open_request([KEY], bytes(other))


def test_what_is_truncated_or_changed_anywhere_does_not_open() -> None:
    sealed = VECTOR["encapsulated_request"]
    for length in range(len(sealed)):
        with pytest.raises(ObliviousError):
            open_request([KEY], sealed[:length])
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 0x10
        with pytest.raises(ObliviousError):
            open_request([KEY], bytes(changed))


def test_a_response_that_is_truncated_changed_or_of_another_request_does_not_open() -> None:
    _, exchange = seal_request(config(), VECTOR["request"], ephemeral=EPHEMERAL)
    _, other = seal_request(config(), VECTOR["request"], ephemeral=b"\x05" * 32)
    response = VECTOR["encapsulated_response"]
    for data in (response[:-1], response[:20], b"", response + b"\0"):
        with pytest.raises(ObliviousError):
            exchange.open_response(data)
    with pytest.raises(ObliviousError):
        other.open_response(response)


def test_a_key_with_which_everybody_shares_the_same_secret_is_none() -> None:
    with pytest.raises(ObliviousError):
        seal_request(replace(config(), public_key=SMALL_ORDER), b"", ephemeral=EPHEMERAL)
    sealed = VECTOR["encapsulated_request"]
    with pytest.raises(ObliviousError):
        open_request([KEY], sealed[:7] + SMALL_ORDER + sealed[39:])


def test_a_gateway_without_algorithms_that_we_know_cannot_be_asked() -> None:
    with pytest.raises(ObliviousError):
        seal_request(replace(config(), algorithms=((1, 9), (3, 1))), b"", ephemeral=EPHEMERAL)


def test_configurations_of_unknown_keys_are_passed_over() -> None:
    unknown = b"\x07\x00\x10" + bytes(65)  # P-256
    known = encode_key_configs([config(), KEY.config()])
    data = len(unknown).to_bytes(2, "big") + unknown + known
    assert decode_key_configs(data) == (config(), KEY.config())
    assert decode_key_configs(b"") == ()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x00", id="half a length"),
        pytest.param(b"\x00\x05\x01\x00\x20", id="less than its length"),
        pytest.param(b"\x00\x25\x01\x00\x20" + bytes(32) + b"\x00\x00", id="no algorithms"),
        pytest.param(b"\x00\x28\x01\x00\x20" + bytes(32) + b"\x00\x03\x00\x01\x00", id="half an algorithm"),
        pytest.param(b"\x00\x2a\x01\x00\x20" + bytes(32) + b"\x00\x04\x00\x01\x00\x01\x00", id="more"),
        pytest.param(bytes(MAX_KEYS_BYTES + 1), id="too much"),
    ],
)
def test_what_are_no_key_configurations_is_refused(data: bytes) -> None:
    with pytest.raises(MimiDecodeError):
        decode_key_configs(data)


def test_key_configurations_are_signed_with_the_name_of_their_provider() -> None:
    signed = SignedKeyConfigs(provider="a.example", key_configs=b"keys", signature=b"signature")
    assert signed.signed() == b"\x09a.example\x04keys"
    assert SignedKeyConfigs.decode(signed.encode()) == signed


def test_a_gateways_secret_key_is_not_shown() -> None:
    assert KEY.secret.hex() not in repr(KEY)
    assert repr(KEY.secret) not in repr(KEY)


def test_padding_hides_small_differences_in_size() -> None:
    request = BinaryRequest(method="GET", scheme="https", authority="a", path="/")
    assert len(padded_request(request.encode())) == 512
    assert len(padded_request(bytes(512))) == 512
    assert BinaryRequest.decode(padded_request(request.encode())) == request
    assert {len(padded_response(bytes(size))) for size in range(1_000_000, 1_010_000, 1000)} == {1_048_576}


@settings(deadline=None)
@given(st.integers(0, 100_000))
def test_padding_costs_an_eighth_at_most(size: int) -> None:
    padded = len(padded_response(bytes(size)))
    assert size <= padded <= size + size / 8


@settings(deadline=None)
@given(
    st.binary(max_size=80)
    | st.binary(max_size=40).map(lambda tail: VECTOR["encapsulated_request"][:39] + tail)
)
def test_any_other_bytes_do_not_open(data: bytes) -> None:
    with pytest.raises(ObliviousError):
        open_request([KEY], data)


@settings(deadline=None)
@given(st.binary(max_size=80) | st.binary(max_size=50).map(lambda tail: b"\x00\x29\x01\x00\x20" + tail))
def test_any_bytes_are_key_configurations_or_refused(data: bytes) -> None:
    try:
        found = decode_key_configs(data)
    except MimiDecodeError:
        return
    assert decode_key_configs(encode_key_configs(found)) == found
