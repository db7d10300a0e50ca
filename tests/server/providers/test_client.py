"""What another provider's directory may make us do."""

from __future__ import annotations

import orjson
import pytest

from linearized.server.providers import client
from linearized.server.providers.client import Answer, ProviderClient, ProviderError

ROOM = "mimi://a.example/r/plans"


class Wire:
    def __init__(self, directory: bytes) -> None:
        self.directory = directory
        self.posted: list[str] = []

    async def raw(
        self,
        provider: str,
        method: str,
        url: str,
        *,
        content: bytes = b"",
        headers: dict[str, str] | None = None,
        limit: int = 0,
        in_turn: bool = False,
    ) -> Answer:
        del provider, content, headers, limit, in_turn
        if method == "GET":
            return Answer(200, self.directory)
        self.posted.append(url)
        return Answer(200, b"")


def speaking(template: str) -> tuple[ProviderClient, Wire]:
    wire = Wire(orjson.dumps({"notify": template}))
    return ProviderClient(wire, own_name="a.example", clock=lambda: 0), wire


@pytest.mark.parametrize("template", ["https://mimi.b.example/v1/notify/{roomId}", "https://b.example/n{r}"])
async def test_the_target_goes_where_the_template_has_it(template: str) -> None:
    provider, wire = speaking(template)
    await provider.post("b.example", "notify", ROOM, b"")
    assert wire.posted == [template.partition("{")[0] + "mimi%3A%2F%2Fa.example%2Fr%2Fplans"]


@pytest.mark.parametrize(
    "template",
    [
        "https://c.example/_mimi/v1/notify/mimi%3A%2F%2Fa.example%2Fr%2Fother?{roomId}",
        "https://c.example/_mimi/v1/notify/mimi%3A%2F%2Fa.example%2Fr%2Fother#{roomId}",
        "https://c.example/{roomId}/../_mimi/v1/notify/mimi%3A%2F%2Fa.example%2Fr%2Fother",
        "https://c.example/notify",
        "https://{roomId}",
    ],
)
async def test_a_template_cannot_aim_our_request_at_another_target(template: str) -> None:
    provider, wire = speaking(template)
    with pytest.raises(ProviderError, match="does not end with its target"):
        await provider.post("c.example", "notify", ROOM, b"")
    assert wire.posted == []


async def test_directories_are_bounded_in_size_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_DIRECTORIES", 3)
    provider, wire = speaking("https://b.example/notify/{roomId}")
    for number in range(10):
        await provider.post(f"n{number}.example", "notify", ROOM, b"")
    assert list(provider._directories) == ["n7.example", "n8.example", "n9.example"]
    wire.directory = orjson.dumps({f"endpoint{number}": "https://b.example/" for number in range(1000)})
    with pytest.raises(ProviderError, match="too large"):
        await provider.post("b.example", "notify", ROOM, b"")
