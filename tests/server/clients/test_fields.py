"""Reading bodies and queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from linearized.server.clients import fields
from linearized.server.http import HttpError, build_request

Reader = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("read", "value", "errcode"),
    [
        (lambda body: fields.text(body, "k"), None, "M_BAD_JSON"),
        (lambda body: fields.text(body, "k"), 1, "M_BAD_JSON"),
        (lambda body: fields.text(body, "k", limit=3), "four", "M_INVALID_PARAM"),
        (lambda body: fields.optional_object(body, "k"), [], "M_BAD_JSON"),
        (lambda body: fields.objects(body, "k", limit=1), [1], "M_BAD_JSON"),
        (lambda body: fields.objects(body, "k", limit=1), [{}, {}], "M_INVALID_PARAM"),
        (lambda body: fields.texts(body, "k", limit=1), "a", "M_BAD_JSON"),
        (lambda body: fields.texts(body, "k", limit=1), ["a", "b"], "M_INVALID_PARAM"),
        (lambda body: fields.binary(body, "k"), None, "M_BAD_JSON"),
        (lambda body: fields.binary(body, "k"), "!", "M_INVALID_PARAM"),
        (lambda body: fields.boolean(body, "k"), 1, "M_BAD_JSON"),
        (lambda body: fields.integer(body, "k"), True, "M_BAD_JSON"),
        (lambda body: fields.integer(body, "k"), -1, "M_BAD_JSON"),
    ],
)
def test_a_member_of_the_wrong_kind_is_named_in_the_refusal(read: Reader, value: Any, errcode: str) -> None:
    with pytest.raises(HttpError) as caught:
        read({"k": value})
    assert (caught.value.status, caught.value.errcode) == (400, errcode)
    assert caught.value.error.startswith("k ")


def test_a_missing_object_is_refused_where_one_is_required() -> None:
    with pytest.raises(HttpError, match="k is missing"):
        fields.required_object({}, "k")


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request"}


def limit_of(query: str) -> int:
    scope = {"method": "GET", "path": "/", "headers": [], "query_string": query.encode()}
    return fields.query_integer(
        build_request(scope, _nothing, {}), "limit", default=10, maximum=100, minimum=1
    )


@pytest.mark.parametrize(
    ("query", "value"), [("", 10), ("limit=1", 1), ("limit=99", 99), ("limit=5000", 100)]
)
def test_a_limit_has_a_default_and_is_clamped(query: str, value: int) -> None:
    assert limit_of(query) == value


@pytest.mark.parametrize(
    "query", ["limit=", "limit=-1", "limit=1.5", "limit=x", "limit=0", "limit=" + "9" * 40]
)
def test_a_limit_that_is_no_number_is_refused(query: str) -> None:
    with pytest.raises(HttpError) as caught:
        limit_of(query)
    assert caught.value.errcode == "M_INVALID_PARAM"
