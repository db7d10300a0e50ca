"""Keys, our own and as a notary; version; where we are; key packages."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from linearized.protocol.canonical import JsonObject
from linearized.protocol.signing import verify_json
from linearized.room.algorithms import key_package_algorithm
from linearized.server.federation.devices import MAX_CLAIMS
from linearized.server.federation.lookup import MAX_QUERY_BYTES
from linearized.server.key_documents import parse_document
from linearized.store.base import DeviceRow, KeyPackageRow
from linearized.store.pseudonyms import PseudonymRow

from .schemas import check
from .support import ALICE, FINAL, Foreign, World, world


async def get(w: World, path: str) -> tuple[int, JsonObject]:
    async with w.server.http() as http:
        answer = await http.get(path)
        return answer.status_code, answer.json()


async def post(w: World, path: str, body: JsonObject) -> tuple[int, JsonObject]:
    async with w.server.http() as http:
        answer = await http.post(path, json=body)
        return answer.status_code, answer.json()


async def test_our_keys_are_published(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        status, document = await get(w, "/_matrix/key/v2/server")
        assert status == 200
        check("server_keys", document)
        assert document["m.linearized"] is True
        key = w.server.node.identity.key
        parsed = parse_document(document, "a.example", w.server.node.clock())
        assert parsed.current == {key.key_id: key.verify_key}


async def test_a_notary_signs_what_it_passes_on(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        status, answer = await get(w, "/_matrix/key/v2/query/b.example")
        assert status == 200
        check("key_query.response", answer)
        (document,) = answer["server_keys"]
        ours, theirs = w.server.node.identity, w.foreign.identity
        verify_json(document, name="a.example", keys={ours.key.key_id: ours.key.verify_key})
        verify_json(document, name="b.example", keys={theirs.key.key_id: theirs.key.verify_key})


async def test_a_notary_knows_its_own_keys(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        _, answer = await get(w, "/_matrix/key/v2/query/a.example")
        assert answer["server_keys"][0]["server_name"] == "a.example"


async def test_a_notary_remembers_a_server_that_is_down_and_knows_nothing_of_others(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await get(w, "/_matrix/key/v2/query/b.example")
        w.network.down.add("b.example")
        _, answer = await get(w, "/_matrix/key/v2/query/b.example")
        assert len(answer["server_keys"]) == 1
        assert await get(w, "/_matrix/key/v2/query/c.example") == (200, {"server_keys": []})


async def test_keys_that_are_not_valid_for_long_enough_are_left_out(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        now = w.server.node.clock()
        hour = 3_600_000
        _, enough = await get(w, f"/_matrix/key/v2/query/b.example?minimum_valid_until_ts={now + hour}")
        assert len(enough["server_keys"]) == 1
        _, much = await get(w, f"/_matrix/key/v2/query/b.example?minimum_valid_until_ts={now + 100 * hour}")
        assert much == {"server_keys": []}


async def test_many_servers_are_asked_for_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        Foreign("c.example", w.network)
        now = w.server.node.clock()
        request: JsonObject = {
            "server_keys": {
                "c.example": {"ed25519:f": {"minimum_valid_until_ts": now}},
                "b.example": {},
                "d.example": {"ed25519:f": {}},
            }
        }
        check("key_query.request", request)
        status, answer = await post(w, "/_matrix/key/v2/query", request)
        assert status == 200
        check("key_query.response", answer)
        assert [one["server_name"] for one in answer["server_keys"]] == ["c.example", "b.example"]
        assert await post(w, "/_matrix/key/v2/query", {"server_keys": {}}) == (200, {"server_keys": []})
        far = {"server_keys": {"b.example": {"ed25519:f": {"minimum_valid_until_ts": now * 2}}}}
        assert await post(w, "/_matrix/key/v2/query", far) == (200, {"server_keys": []})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"server_keys": []},
        {"server_keys": {"b.example": []}},
        {"server_keys": {"not a name": {}}},
        {"server_keys": {f"s{number}.example": {} for number in range(101)}},
    ],
)
async def test_a_malformed_query_is_refused(tmp_path: Path, body: JsonObject) -> None:
    async with world(tmp_path) as w:
        status, answer = await post(w, "/_matrix/key/v2/query", body)
        assert status == 400
        check("error", answer)


@pytest.mark.parametrize("path", ["not%20a%20name", "b.example?minimum_valid_until_ts=soon"])
async def test_a_malformed_name_or_time_is_refused(tmp_path: Path, path: str) -> None:
    async with world(tmp_path) as w:
        status, answer = await get(w, f"/_matrix/key/v2/query/{path}")
        assert (status, answer["errcode"]) == (400, "M_INVALID_PARAM")


async def test_a_query_has_a_largest_size(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        body = {"server_keys": {}, "more": "x" * MAX_QUERY_BYTES}
        status, answer = await post(w, "/_matrix/key/v2/query", body)
        assert (status, answer["errcode"]) == (413, "M_TOO_LARGE")


async def test_version_and_place_are_public(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        status, version = await get(w, f"{FINAL}/v1/version")
        assert status == 200
        check("version.response", version)
        assert version["server"]["name"] == "linearized"
        status, place = await get(w, "/.well-known/matrix/server")
        assert (status, place) == (200, {"m.server": "a.example:8448"})
        check("well_known_server", place)
        async with w.server.http() as http:
            said = (await http.get("/.well-known/matrix/server")).headers["content-type"]
        assert said == "application/json"


async def test_trailing_slashes_and_wrong_methods_are_unrecognized(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for path in ("/_matrix/key/v2/server/", f"{FINAL}/v1/version/", f"{FINAL}/v9/send/1", "/_matrix/x"):
            status, answer = await get(w, path)
            assert (status, answer["errcode"]) == (404, "M_UNRECOGNIZED"), path
        status, answer = await post(w, "/_matrix/key/v2/server", {})
        assert (status, answer["errcode"]) == (405, "M_UNRECOGNIZED")


async def test_our_keys_never_expire_within_the_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hour = 3_600_000
    async with world(tmp_path) as w:
        now = w.server.node.clock()
        for hours in (0, 11, 12, 100):
            then = partial(int, now + hours * hour)
            monkeypatch.setattr(w.server.node, "clock", then)
            monkeypatch.setattr(w.server.node.keys, "_clock", then)
            for path in ("server", "query/a.example"):
                _, answer = await get(w, f"/_matrix/key/v2/{path}")
                (document,) = answer.get("server_keys", [answer])
                assert document["valid_until_ts"] - w.server.node.clock() > hour


ALGORITHM = key_package_algorithm(1)


async def stock(w: World, count: int, *, ciphersuite: int = 1, user_id: str = ALICE) -> None:
    await w.server.node.store.put_device(
        DeviceRow(user_id=user_id, device_id="PHONE", display_name=None, token_hash=None)
    )
    await w.server.node.store.put_key_packages(
        [
            KeyPackageRow(
                reference=bytes([number, ciphersuite]) * 16,
                user_id=user_id,
                device_id="PHONE",
                client_uri="mimi://a.example/d/alice/PHONE",
                key_package=b"package %d" % number,
                ciphersuite=ciphersuite,
                last_resort=False,
                not_after=w.server.node.clock() // 1000 + 3600,
            )
            for number in range(count)
        ]
    )


def claim(*devices: str, user: str = ALICE, algorithm: str = ALGORITHM) -> JsonObject:
    return {"one_time_keys": {user: dict.fromkeys(devices, algorithm)}}


async def test_a_key_package_is_claimed_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await stock(w, 2)
        packages = []
        for _ in range(3):
            check("keys_claim.request", claim("PHONE", "LAPTOP"))
            answer = await w.foreign.ask("POST", f"{FINAL}/v1/user/keys/claim", claim("PHONE", "LAPTOP"))
            check("keys_claim.response", answer.body)
            packages.append(answer.body["one_time_keys"].get(ALICE, {}).get("PHONE", {}).get(ALGORITHM))
        assert packages[2] is None
        assert len({*packages}) == 3


async def test_a_key_package_is_of_the_suite_that_was_asked_for(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await stock(w, 1)
        wanted = claim("PHONE", algorithm=key_package_algorithm(7))
        answer = await w.foreign.ask("POST", f"{FINAL}/v1/user/keys/claim", wanted)
        assert answer.body == {"one_time_keys": {}}
        await stock(w, 1, ciphersuite=7)
        answer = await w.foreign.ask("POST", f"{FINAL}/v1/user/keys/claim", wanted)
        check("keys_claim.response", answer.body)
        assert answer.body["one_time_keys"][ALICE]["PHONE"].keys() == {key_package_algorithm(7)}


async def test_a_pseudonym_is_given_away_for_a_named_room_only(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        user_id = "@0b5c2d3e-7f1a-4c6b-9d8e-1a2b3c4d5e6f:a.example"
        row = PseudonymRow(user_id=user_id, owner=ALICE, created_ts=0)
        await w.server.node.store.put_pseudonym(row, "PHONE")
        await stock(w, 1, user_id=user_id)
        for _ in range(2):
            answer = await w.foreign.ask("POST", f"{FINAL}/v1/user/keys/claim", claim("PHONE", user=user_id))
            assert answer.body == {"one_time_keys": {}}
            await w.server.node.store.bind_pseudonym(user_id, "!room:b.example")


async def test_keys_of_others_and_other_algorithms_are_not_given(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await stock(w, 1)
        for wanted in (
            claim("PHONE", user="@bob:b.example"),
            claim("PHONE", user="nobody"),
            claim("PHONE", algorithm="m.olm"),
            claim("PHONE", algorithm="m.mls.v1.key_package.unheard-of"),
            {"one_time_keys": {ALICE: {"PHONE": 5}}},
        ):
            answer = await w.foreign.ask("POST", f"{FINAL}/v1/user/keys/claim", wanted)
            assert (answer.status, answer.body) == (200, {"one_time_keys": {}})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"one_time_keys": []},
        {"one_time_keys": {ALICE: []}},
        claim(*(f"D{number}" for number in range(MAX_CLAIMS + 1))),
    ],
)
async def test_a_malformed_claim_is_refused(tmp_path: Path, body: JsonObject) -> None:
    async with world(tmp_path) as w:
        answer = await w.foreign.ask("POST", f"{FINAL}/v1/user/keys/claim", body)
        assert (answer.status, answer.errcode) == (400, "M_BAD_JSON")
