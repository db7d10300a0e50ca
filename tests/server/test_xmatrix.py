"""X-Matrix headers: parsing as RFC 9110 has it, and who is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given

from linearized.exceptions import SignatureError
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.protocol.signing import ServerIdentity, SigningKey
from linearized.server.http import HttpError
from linearized.server.xmatrix import (
    MAX_HEADER_CHARS,
    XMatrix,
    authenticate,
    parse_header,
    sign_encoded,
    sign_request,
)
from tests.protocol.support import json_objects, quick

from .test_http import receiver, request

SENDER = ServerIdentity("b.example", SigningKey.generate("one", b"b" * 32))
OTHER_KEY = ServerIdentity("b.example", SigningKey.generate("two", b"c" * 32))
URI = "/_matrix/federation/v1/x%2Fy?q=%20"
PARSED = XMatrix(origin="b.example", destination="a.example", key_id="ed25519:one", signature="c2ln")


@dataclass
class Keys:
    """The keys a ring would give."""

    valid: dict[str, bytes] = field(
        default_factory=lambda: {
            SENDER.key.key_id: SENDER.key.verify_key,
            OTHER_KEY.key.key_id: OTHER_KEY.key.verify_key,
        }
    )
    asked: list[str] = field(default_factory=list)

    confirmed: list[str] = field(default_factory=list)

    async def confirm(self, server: str) -> None:
        self.confirmed.append(server)

    async def request_keys(self, server: str, key_ids: Sequence[str]) -> Mapping[str, bytes]:
        self.asked.append(server)
        return {key_id: key for key_id, key in self.valid.items() if key_id in key_ids}


@pytest.mark.parametrize(
    "value",
    [
        'X-Matrix origin="b.example",destination="a.example",key="ed25519:one",sig="c2ln"',
        'X-Matrix origin=b.example,destination=a.example,key="ed25519:one",signature="c2ln"',
        "X-Matrix origin=b.example,destination=a.example,key=ed25519:one,sig=c2ln",
        'x-matrix   SIG="c2ln" , Key="ed25519:one",\tDestination="a.example" ,origin="b.example"',
        'X-Matrix origin="b.example",,destination="a.example",key="ed25519:one",sig="c2ln",',
        'X-Matrix origin = "b.example" ,destination= "a.example",key ="ed25519:one",sig="c2ln"',
        r'X-Matrix origin="b\.exa\mple",destination="a.example",key="ed25519:one",sig="c2ln"',
        'X-Matrix origin="b.example",destination="a.example",key="ed25519:one",sig="c2ln",signature="c2ln"',
        r'X-Matrix new="a, \"b\", sig=no",origin=b.example,destination=a.example,key="ed25519:one",sig=c2ln',
    ],
)
def test_every_spelling_of_a_header_is_read(value: str) -> None:
    assert parse_header(value) == PARSED


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer token",
        "X-Matrix",
        'X-Matrixorigin="b.example"',
        'X-Matrix origin="b.example",destination="a.example",key="ed25519:one"',
        'X-Matrix origin="b.example",destination="a.example",sig="c2ln"',
        'X-Matrix destination="a.example",key="ed25519:one",sig="c2ln"',
        'X-Matrix origin="not a name",destination="a.example",key="ed25519:one",sig="c2ln"',
        'X-Matrix origin="b.example",destination="a.example",key="rsa:one",sig="c2ln"',
        'X-Matrix origin="b.example",origin="c.example",destination="a.example",key="ed25519:one",sig="c2ln"',
        'X-Matrix origin="b.example",destination="a.example",key="ed25519:one",sig="c2ln",signature="other"',
        'X-Matrix origin="b.example" destination="a.example" key="ed25519:one" sig="c2ln"',
        'X-Matrix origin="b.example,destination="a.example",key="ed25519:one",sig="c2ln"',
        'X-Matrix origin="b.example",destination="a.example",key="ed25519:one",sig="c2ln',
        'X-Matrix origin="b.example",(bad)=1,destination="a.example",key="ed25519:one",sig="c2ln"',
        'X-Matrix x="' + "x" * MAX_HEADER_CHARS + '"',
    ],
)
def test_what_is_no_complete_header_is_refused(value: str) -> None:
    with pytest.raises(SignatureError):
        parse_header(value)


def signed(
    identity: ServerIdentity = SENDER,
    *,
    destination: str = "a.example",
    method: str = "PUT",
    uri: str = URI,
    content: JsonObject | None,
) -> str:
    return sign_request(identity, destination=destination, method=method, uri=uri, content=content)


async def check(*values: str, content: JsonObject | None, keys: Keys | None = None) -> str:
    path, _, query = URI.partition("?")
    got = request(
        receiver(),
        target=path.encode(),
        query=query.encode(),
        headers=[(b"authorization", value.encode()) for value in values],
        method="GET" if content is None else "PUT",
    )
    return await authenticate(got, content, own_name="a.example", keys=keys or Keys())


async def refused(*values: str, content: JsonObject | None, keys: Keys | None = None) -> str:
    with pytest.raises(HttpError) as caught:
        await check(*values, content=content, keys=keys)
    assert (caught.value.status, caught.value.errcode) == (401, "M_FORBIDDEN")
    return caught.value.error


def test_the_signature_is_over_the_object_of_the_draft() -> None:
    expected = SENDER.key.sign(
        canonical_json(
            {
                "method": "PUT",
                "uri": URI,
                "origin": "b.example",
                "destination": "a.example",
                "content": {"a": 1},
            }
        )
    )
    header = parse_header(signed(content={"a": 1}))
    assert header.signature == encode_base64(expected)
    assert (header.origin, header.destination, header.key_id) == ("b.example", "a.example", "ed25519:one")


@quick
@given(json_objects)
def test_encoded_content_is_signed_as_what_it_encodes(content: JsonObject) -> None:
    whole = {
        "method": "PUT",
        "uri": URI,
        "origin": "b.example",
        "destination": "c.example",
        "content": content,
    }
    value = sign_encoded(
        SENDER, destination="c.example", method="PUT", uri=URI, content=canonical_json(content)
    )
    assert f'sig="{encode_base64(SENDER.key.sign(canonical_json(whole)))}"' in value


async def test_a_signed_request_names_its_sender() -> None:
    assert await check(signed(content={"a": 1}), content={"a": 1}) == "b.example"


async def test_a_get_is_taken_with_and_without_content() -> None:
    assert await check(signed(method="GET", content={}), content=None) == "b.example"
    assert await check(signed(method="GET", content=None), content=None) == "b.example"


async def test_a_put_is_not_taken_without_its_content() -> None:
    await refused(signed(content=None), content={"a": 1})
    await refused(signed(content={}), content={"a": 1})


@pytest.mark.parametrize(
    "changed",
    [
        signed(content={"a": 2}),
        signed(uri="/_matrix/federation/v1/x/y?q=%20", content={"a": 1}),
        signed(uri="/_matrix/federation/v1/x%2Fy", content={"a": 1}),
        signed(method="POST", content={"a": 1}),
        signed(content={"a": 1}).replace('origin="b.example"', 'origin="c.example"'),
    ],
)
async def test_a_signature_over_anything_else_is_refused(changed: str) -> None:
    assert "wrong" in await refused(changed, content={"a": 1})


async def test_a_request_for_another_server_is_refused() -> None:
    assert "another server" in await refused(signed(destination="c.example", content={}), content={})
    replayed = signed(destination="c.example", content={}).replace("c.example", "a.example")
    assert "wrong" in await refused(replayed, content={})


async def test_a_request_signed_with_no_valid_key_is_refused() -> None:
    assert "no longer valid" in await refused(signed(content={}), content={}, keys=Keys(valid={}))


async def test_an_unsigned_request_is_refused_without_a_look_at_keys() -> None:
    keys = Keys()
    assert "not signed" in await refused(content={}, keys=keys)
    assert keys.asked == []


async def test_every_header_must_hold() -> None:
    both = [signed(content={}), signed(OTHER_KEY, content={})]
    assert await check(*both, content={}) == "b.example"
    await refused(both[0], signed(OTHER_KEY, content={"x": 1}), content={})
    await refused(both[0], "Bearer token", content={})


async def test_headers_of_two_servers_are_refused() -> None:
    stranger = ServerIdentity("c.example", SENDER.key)
    assert "several servers" in await refused(signed(content={}), signed(stranger, content={}), content={})


async def test_too_many_headers_are_refused() -> None:
    assert "too many" in await refused(*[signed(content={})] * 5, content={})
