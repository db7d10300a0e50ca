"""Which Welcome of a CommitRequest belongs to which of its commits.

The request has two lists. A Welcome names the key packages it is for, and a commit has those that it adds by
value; a lone commit may add others by reference, and any Welcome is its.
"""

from __future__ import annotations

from collections.abc import Sequence

import openmls

from linearized.exceptions import MimiDecodeError
from linearized.mimi.commit_parts import commit_parts
from linearized.mimi.delivery_service import DSErrorCode
from linearized.server.providers.ds_authentication import DSRefused


def assign_welcomes(commits: Sequence[bytes], welcomes: Sequence[bytes]) -> list[bytes | None]:
    """The Welcome of each commit, or None.

    Args:
        commits: MLSMessages with public commits.
        welcomes: MLSMessages with Welcomes.

    Raises:
        DSRefused: a Welcome belongs to no commit, or two belong to the same.
    """
    assigned: list[bytes | None] = [None] * len(commits)
    for welcome in welcomes:
        try:
            index = 0 if len(commits) == 1 else _commit_of(welcome, commits)
        except (openmls.MlsError, MimiDecodeError) as error:
            raise DSRefused(DSErrorCode.MALFORMED, "a Welcome or a commit cannot be read") from error
        if assigned[index] is not None:
            raise DSRefused(DSErrorCode.NOT_ALLOWED, "two Welcomes belong to one commit")
        assigned[index] = welcome
    return assigned


def _commit_of(welcome: bytes, commits: Sequence[bytes]) -> int:
    named = set(openmls.welcome_references(welcome))
    for index, commit in enumerate(commits):
        added = {openmls.key_package_reference(package) for package in commit_parts(commit).key_packages}
        if named & added:
            return index
    raise DSRefused(DSErrorCode.NOT_ALLOWED, "a Welcome belongs to none of the commits")
