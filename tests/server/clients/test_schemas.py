"""The schemas cover the API: no endpoint without one, none for an endpoint that is not there."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator, ValidationError

from linearized.server.clients import PRIVATE, PUBLIC
from tests.server.clients.traffic import check, documents, endpoints

FILES = {"GET /_matrix/client/v1/media/download/{server_name}/{media_id}"}  # answers are files, not JSON
FILES |= {f"{endpoint}/{{file_name}}" for endpoint in FILES}
FILES.add("GET /_matrix/client/v1/media/thumbnail/{server_name}/{media_id}")
FILES.add("GET /_matrix/client/unstable/dev.linearized.1/rooms/{room_id}/segments/{number}")
FILES.add("GET /_matrix/client/unstable/dev.linearized.1/metadata_policy/{hub}")
# What an oblivious relay passes on is nobody's JSON either.
FILES |= {
    f"{method} /_matrix/client/unstable/dev.linearized.1/ohttp/{{gateway}}{rest}"
    for method, rest in (("GET", "/keys"), ("POST", ""))
}


def test_every_endpoint_has_a_schema_and_every_schema_an_endpoint() -> None:
    served = {f"{method} {pattern}" for method, pattern, _ in (*PUBLIC, *PRIVATE)}
    assert served - FILES == endpoints().keys()


@pytest.mark.parametrize("schema_id", sorted(documents()))
def test_every_schema_is_a_schema(schema_id: str) -> None:
    Draft202012Validator.check_schema(documents()[schema_id])


def test_an_answer_that_lacks_what_its_schema_requires_fails_a_test() -> None:
    with pytest.raises(ValidationError):
        check(
            "GET",
            "/_matrix/client/v3/account/whoami",
            status=200,
            request=b"",
            response=b'{"is_guest":false}',
        )
