"""Which providers follow a room, and from where: derived from its membership, never kept by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from linearized.protocol.identifiers import user_domain
from linearized.protocol.state import StateMap
from linearized.room.admission import COMMIT_PART
from linearized.room.submissions import NewEntry
from linearized.server.acl import SERVER_ACL, state_allows
from linearized.store.base import FollowerRow

MIMI: Final = "mimi"
LINEARIZED: Final = "linearized"
MATRIX: Final = "matrix"


def joined_providers(state: StateMap, *, ours: frozenset[str]) -> dict[str, str]:
    """Remote providers with a joined user, each with the protocol its users came in by.

    Args:
        ours: the domains this server answers for itself.
    """
    providers: dict[str, str] = {}
    for (event_type, user_id), event in state.items():
        if event_type != "m.room.member" or event.content.get("membership") != "join":
            continue
        domain = user_id.partition(":")[2]  # of a state key that was checked when it came in
        protocol = event.provenance["protocol"] if event.provenance is not None else LINEARIZED
        # Who was in a Matrix room whose past was imported is a member here as well; their homeserver never
        # came, and gets nothing.
        if domain in ours or protocol == MATRIX or not state_allows(state, domain):
            continue
        if providers.get(domain) != LINEARIZED:  # a provider that takes PDUs gets PDUs
            providers[domain] = protocol
    return providers


def cursor_changes(
    room_id: str,
    *,
    entries: Iterable[NewEntry],
    state: StateMap,
    existing: Mapping[str, FollowerRow],
    ours: frozenset[str],
    signs: Callable[[str], bool] = lambda _provider: False,
) -> tuple[FollowerRow, ...]:
    """Cursors that start or stop with new entries.

    A provider whose first user joins follows from there; one whose last user is gone follows up to and
    including the entry that says so ("The server implied by the sender for a kick or ban … up to the point of
    that kick or ban", Linearized Matrix, Sending Events). One whose users come by another protocol than
    before follows by that one from there on. A server ACL that denies a provider ends its cursor likewise;
    one that admits it again lets it go on where it was. A Linearized Matrix server that never followed is
    sent the one entry by which an invited or knocking user of its was turned away.

    Args:
        existing: by provider, the follower that still runs, or else one that has stopped.
        signs: whether a provider is a Linearized Matrix server that we know.
    """
    new = list(entries)
    moved = {user_domain(key): index for index, key in _membership_moves(new)}
    ruled = max((index for index, entry in enumerate(new) if _is_acl(entry)), default=None)
    if moved.keys() <= ours and ruled is None:
        return ()
    providers = joined_providers(state, ours=ours)
    if ruled is not None:
        moved |= {name: ruled for name in (*providers, *existing) if moved.get(name, -1) < ruled}
    changes: list[FollowerRow] = []
    for provider, protocol in providers.items():
        known = existing.get(provider)
        stopped = known is None or known.stop_seq is not None
        if provider in moved and (stopped or (known is not None and known.protocol != protocol)):
            cursor = _beginning(new, provider, protocol, known)
            changes.append(FollowerRow(room_id=room_id, provider=provider, protocol=protocol, cursor=cursor))
            if known is not None and known.stop_seq is None:
                changes.append(replace(known, stop_seq=cursor))
    for provider, known in existing.items():
        if provider not in providers and known.stop_seq is None and provider in moved:
            last = moved[provider]
            stop = _commit_at(new, last) if known.protocol == MIMI else new[last].seq
            changes.append(replace(known, stop_seq=stop))
    for provider, entry in _turned_away(new).items():
        known = existing.get(provider)
        if (
            provider not in ours | providers.keys()
            and signs(provider)
            and (known is None or is_finished(known))
        ):
            only = FollowerRow(
                room_id=room_id,
                provider=provider,
                protocol=LINEARIZED,
                cursor=entry.seq - 1,
                stop_seq=entry.seq,
            )
            changes.append(only)
    return tuple(changes)


def may_move_cursors(entries: Iterable[NewEntry]) -> bool:
    """Whether any of the entries is of a kind that ``cursor_changes`` looks at."""
    return any(entry.event.type == "m.room.member" or _is_acl(entry) for entry in entries)


def _turned_away(new: Sequence[NewEntry]) -> dict[str, NewEntry]:
    """By provider, the last entry by which somebody else removed or banned one of its users."""
    return {
        user_domain(user_id): new[index]
        for index, user_id in _membership_moves(new)
        if new[index].event.content.get("membership") in {"leave", "ban"}
        and new[index].event.sender != user_id
    }


def current_followers(followers: Iterable[FollowerRow]) -> dict[str, FollowerRow]:
    """A room's followers by provider, those that run before those that have stopped."""
    found: dict[str, FollowerRow] = {}
    for follower in followers:
        known = found.get(follower.provider)
        if known is None or known.stop_seq is not None:
            found[follower.provider] = follower
    return found


def is_finished(follower: FollowerRow) -> bool:
    """Whether a follower has everything it may have."""
    return follower.stop_seq is not None and follower.cursor >= follower.stop_seq


def _beginning(new: Sequence[NewEntry], provider: str, protocol: str, known: FollowerRow | None) -> int:
    """The entry after which a provider follows from now on."""
    first = next((index for index, key in _membership_moves(new) if user_domain(key) == provider), None)
    if first is None:  # it was denied by an ACL; or it joined while it was
        return known.cursor if known is not None else new[0].seq - 1
    # A MIMI provider begins with the Welcome, after the commit that made it; the others with their join.
    return _commit_at(new, first) if protocol == MIMI else new[first].seq - 1


def _is_acl(entry: NewEntry) -> bool:
    return entry.event.type == SERVER_ACL and entry.event.state_key == ""


def _membership_moves(new: Sequence[NewEntry]) -> list[tuple[int, str]]:
    """Index and user of every membership entry."""
    return [
        (index, entry.event.state_key)
        for index, entry in enumerate(new)
        if entry.event.type == "m.room.member" and entry.event.state_key
    ]


def _commit_at(new: Sequence[NewEntry], index: int) -> int:
    """The sequence number of the commit that a membership entry was written for, or of the hub's proposals
    to remove who left, which follow it; else its own.
    """
    for entry in new[index:]:
        if entry.event.type in {"m.mls.commit", "m.mls.proposal"}:
            return entry.seq
        if entry.event.type not in {"m.room.member", "m.room.power_levels", COMMIT_PART}:
            break
    return new[index].seq
