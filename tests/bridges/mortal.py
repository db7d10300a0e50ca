"""A bridge's database at whose commits the bridge dies: just before each, and just after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bridges.matrix.database import Database
from tests.client.test_kills import Killed


class Death:
    """Comes at the ``left``-th point; never if that is 0."""

    left = 0

    def point(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


DEATH = Death()


class MortalDatabase(Database):
    """One at whose commits death may come."""

    @contextmanager
    def together(self) -> Iterator[None]:
        if self._connection.in_transaction:
            yield
            return
        with super().together():
            yield
            DEATH.point()
        DEATH.point()

    def run(self, sql: str, *values: object) -> int:
        if self._connection.in_transaction:
            return super().run(sql, *values)
        DEATH.point()
        changed = super().run(sql, *values)
        DEATH.point()
        return changed
