"""Leaves of a group, and the clients they belong to."""

from __future__ import annotations

from linearized.exceptions import IdentifierError
from linearized.mls import Member
from linearized.room.credentials import ClientIdentity, client_of
from linearized.room.submissions import Reason, Rejected


def identify(member: Member) -> ClientIdentity:
    """The client a leaf belongs to.

    Raises:
        Rejected: ``INVALID_COMMIT`` if its credential names none.
    """
    try:
        return client_of(member.credential, signature_key=member.signature_key)
    except IdentifierError as error:
        raise Rejected(Reason.INVALID_COMMIT, str(error)) from error
