"""Key documents: ours, and the checks of others'."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from linearized.exceptions import InvalidInput
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.protocol.signing import RetiredKey, ServerIdentity, sign_json, verify_json
from linearized.server.key_documents import (
    HOUR_MS,
    own_document,
    parse_document,
)

from .test_keys import NEW, OLD, OWN, START, document


def test_our_document_is_signed_and_good_for_twelve_hours() -> None:
    ours = own_document(OWN, START)
    verify_json(ours, name="a.example", keys={OWN.key.key_id: OWN.key.verify_key})
    parsed = parse_document(ours, "a.example", START)
    assert parsed.valid_until == START + 12 * HOUR_MS
    assert parsed.current == {OWN.key.key_id: OWN.key.verify_key}
    assert ours["m.linearized"] is True


def test_retired_keys_are_published_as_old_ones_and_never_the_present_one() -> None:
    retired = tuple(
        RetiredKey(key_id=key.key_id, verify_key=key.verify_key, expired_ts=START - 5)
        for key in (OLD, OWN.key)
    )
    ours = own_document(ServerIdentity("a.example", OWN.key, retired), START)
    parsed = parse_document(ours, "a.example", START)
    assert parsed.current == {OWN.key.key_id: OWN.key.verify_key}
    assert parsed.old == {OLD.key_id: OLD.verify_key}
    assert parsed.expired == {OLD.key_id: START - 5}


def test_a_key_that_did_not_sign_is_not_the_servers() -> None:
    claimed = document(OLD, until=START + HOUR_MS)
    del claimed["signatures"]
    claimed["verify_keys"][NEW.key_id] = {"key": encode_base64(NEW.verify_key)}
    claimed = sign_json(claimed, name="b.example", key=OLD)
    assert parse_document(claimed, "b.example", START).current == {OLD.key_id: OLD.verify_key}


def test_keys_of_other_algorithms_are_passed_over() -> None:
    mixed = document(OLD, until=START + HOUR_MS)
    del mixed["signatures"]
    mixed["verify_keys"]["rsa:1"] = {"key": "AAAA"}
    mixed = sign_json(mixed, name="b.example", key=OLD)
    assert set(parse_document(mixed, "b.example", START).current) == {OLD.key_id}


def change(name: str, value: object) -> Callable[[JsonObject], None]:
    def apply(target: JsonObject) -> None:
        target[name] = value

    return apply


@pytest.mark.parametrize(
    "broken",
    [
        change("valid_until_ts", "soon"),
        change("valid_until_ts", True),
        change("verify_keys", []),
        change("verify_keys", {}),
        change("verify_keys", {f"ed25519:{n}": {"key": "A" * 43} for n in range(51)}),
        change("verify_keys", {OLD.key_id: "key"}),
        change("verify_keys", {OLD.key_id: {"key": 5}}),
        change("verify_keys", {OLD.key_id: {"key": "!!!"}}),
        change("verify_keys", {OLD.key_id: {"key": "AAAA"}}),
        change("old_verify_keys", {NEW.key_id: {"key": encode_base64(NEW.verify_key), "expired_ts": "x"}}),
        change("server_name", "c.example"),
    ],
)
def test_a_malformed_document_is_refused(broken: Callable[[JsonObject], None]) -> None:
    source = document(OLD, until=START + HOUR_MS)
    del source["signatures"]
    broken(source)
    with pytest.raises(InvalidInput):
        parse_document(sign_json(source, name="b.example", key=OLD), "b.example", START)
