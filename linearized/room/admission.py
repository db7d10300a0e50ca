"""What kinds of event an encrypted room takes, and when.

The draft lets encryption be chosen only at creation ("This prevents the room having encryption disabled or
downgraded without an entirely new room being created", MLS Considerations). A hub that then accepted a plain
message would downgrade it all the same, so: history imported before the first commit is the only plaintext;
afterwards every event that is not state is of one of the MLS types.
"""

from __future__ import annotations

from typing import Final

from linearized.protocol.events import Event
from linearized.protocol.state import StateMap, algorithm_of
from linearized.room.algorithms import DEFAULT_ALGORITHM, ciphersuite_of
from linearized.room.pseudonymity import check_pseudonyms
from linearized.room.submissions import Reason, Rejected

COMMIT: Final = "m.mls.commit"
# What a commit that is larger than an event has in front of it; see ``parts``.
COMMIT_PART: Final = "dev.linearized.mls.commit_part"
PROPOSAL: Final = "m.mls.proposal"
ENCRYPTED: Final = "m.room.encrypted"
MLS_TYPES: Final = frozenset({COMMIT, COMMIT_PART, PROPOSAL, ENCRYPTED})

ALGORITHM: Final = DEFAULT_ALGORITHM


def encryption_algorithm(state: StateMap) -> str | None:
    """The room's algorithm, from ``content.encryption.algorithm`` of its create event; None for a
    plaintext room.
    """
    create = state.get(("m.room.create", ""))
    return algorithm_of(create) if create is not None else None


def admit(event: Event, state: StateMap) -> None:
    """Refuse an event that an encrypted room takes from nobody, whatever its room version says.

    Args:
        event: built and authorised.
        state: the state before it.

    Raises:
        Rejected: ``FORBIDDEN``.
    """
    check_pseudonyms(event, state)
    if event.type == "m.room.create":
        _check_encryption(event)
    elif event.type in MLS_TYPES:
        if event.is_state:
            raise Rejected(Reason.FORBIDDEN, f"{event.type} is never state")
    elif not event.is_state and encryption_algorithm(state) is not None and not event.imported:
        raise Rejected(Reason.FORBIDDEN, "The room is encrypted: plaintext messages are refused")


def _check_encryption(create: Event) -> None:
    # "Encryption can only be enabled at the time the room is created. This prevents the room having
    # encryption disabled or downgraded without an entirely new room being created." A room that asks for
    # encryption and could not have it would be a room without.
    if "encryption" in create.content and ciphersuite_of(algorithm_of(create) or "") is None:
        raise Rejected(Reason.FORBIDDEN, "The room's encryption algorithm is not one this server has")
