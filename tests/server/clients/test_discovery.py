"""Versions and capabilities."""

from __future__ import annotations

from tests.server.clients.support import Client, Server


async def test_versions_are_public(server: Server) -> None:
    answer = (await server.call("GET", "/_matrix/client/versions")).ok()
    assert "v1.13" in answer["versions"]
    assert answer["unstable_features"] == {
        "dev.linearized.1": True,
        "org.matrix.msc4222": True,
        "org.matrix.simplified_msc3575": True,
    }


async def test_capabilities_name_the_room_versions(alice: Client) -> None:
    versions = (await alice.call("GET", "/capabilities")).ok()["capabilities"]["m.room_versions"]
    assert versions["default"] == "dev.linearized.1"
    assert versions["available"]["dev.linearized.1"] == "stable"
    assert "I.1" in versions["available"]
