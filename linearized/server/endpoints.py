"""The paths of the Linearized Matrix server-server API: the draft's unstable ones, and the final ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FINAL: Final = "/_matrix/federation"
UNSTABLE: Final = "/_matrix/federation/unstable/org.matrix.i-d.ralston-mimi-linearized-matrix.02"
# Ours: the draft leaves "alias resolution" for later, and Matrix's own path may come to mean another answer.
ALIAS: Final = "/_linearized/v1/aliases/{room_alias}"
# The version in the final path of each endpoint that we call by its unstable one.
FINAL_VERSIONS: Final[Mapping[str, str]] = {
    "send": "v2",
    "event": "v2",
    "backfill": "v2",
    "invite": "v3",
    "send_join": "v3",
    "send_leave": "v3",
    "send_knock": "v3",
    "user": "v1",
}


def final_path(path: str) -> str | None:
    """The final path of an endpoint from its unstable one; None for any other path."""
    rest = path.removeprefix(f"{UNSTABLE}/")
    version = FINAL_VERSIONS.get(rest.partition("/")[0])
    return f"{FINAL}/{version}/{rest}" if rest != path and version is not None else None
