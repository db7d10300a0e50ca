"""The final path of every endpoint that we call by its unstable one."""

from __future__ import annotations

import pytest

from linearized.server.endpoints import FINAL, UNSTABLE, final_path


@pytest.mark.parametrize(
    ("unstable", "final"),
    [
        ("send/1", "v2/send/1"),
        ("event/$x", "v2/event/$x"),
        ("backfill/!r:a?v=$x&limit=1", "v2/backfill/!r:a?v=$x&limit=1"),
        ("invite/1", "v3/invite/1"),
        ("send_join/1", "v3/send_join/1"),
        ("send_leave/1", "v3/send_leave/1"),
        ("send_knock/1", "v3/send_knock/1"),
        ("user/keys/claim", "v1/user/keys/claim"),
        ("user/@a:b/device/D", "v1/user/@a:b/device/D"),
    ],
)
def test_an_unstable_path_has_a_final_one(unstable: str, final: str) -> None:
    assert final_path(f"{UNSTABLE}/{unstable}") == f"{FINAL}/{final}"


@pytest.mark.parametrize("path", [f"{UNSTABLE}/nothing", f"{FINAL}/v2/send/1", "send/1", "/", ""])
def test_any_other_path_has_none(path: str) -> None:
    assert final_path(path) is None
