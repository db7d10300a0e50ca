"""Joining links and the policy on them (draft-ietf-mimi-room-policy, "Join Link policies component")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from linearized.exceptions import MimiDecodeError
from linearized.mimi.policy.common import MAX_ITEMS
from linearized.mimi.tls import Bool, Bytes, Struct, Uint, Uint32, Uri, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinLinkPolicy(Struct):
    """Data and update of the component: how new links come about.

    ``join_link`` is where a client asks for one, possibly empty; ``expiration`` is in seconds.
    """

    on_request: Bool
    join_link: Uri = ""
    multiuser: Bool
    expiration: Uint32


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinLink(Struct):
    """One link; the draft leaves its form open."""

    join_link: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinLinksData(Struct):
    """Data of the ``join_links`` component: the room's active links."""

    links: Annotated[tuple[JoinLink, ...], Vector(JoinLink, max_items=MAX_ITEMS)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinLinksUpdate(Struct):
    """Update of the ``join_links`` component; indices are those of the links before it."""

    removed_indices: Annotated[tuple[int, ...], Vector(Uint(4), max_items=MAX_ITEMS)] = ()
    added_links: Annotated[tuple[JoinLink, ...], Vector(JoinLink, max_items=MAX_ITEMS)] = ()


def apply_link_update(
    data: JoinLinksData, update: JoinLinksUpdate, policy: JoinLinkPolicy | None
) -> JoinLinksData:
    """The links after an update: the named ones gone, new ones at the end.

    Args:
        policy: None in a room that has none on links.

    Raises:
        MimiDecodeError: an index is outside the list or there twice, or more links remain than may.
    """
    removed = set(update.removed_indices)
    if len(removed) != len(update.removed_indices):
        raise MimiDecodeError("a joining link is removed twice")
    if removed and max(removed) >= len(data.links):
        raise MimiDecodeError(f"there is no joining link {max(removed)}")
    kept = tuple(link for index, link in enumerate(data.links) if index not in removed)
    links = kept + update.added_links
    # "If the on_request field is true, a maximum of one joining link will be persisted in the room policy"
    limit = 1 if policy is not None and policy.on_request else MAX_ITEMS
    if len(links) > limit:
        raise MimiDecodeError(f"a room of this policy keeps {limit} joining links at most")
    return JoinLinksData(links=links)
