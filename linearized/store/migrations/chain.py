"""The chain itself: migrations are applied in the order in which they are added to it."""

from __future__ import annotations

from typing import Final

from sqlite_utils.migrations import Migrations

MIGRATION_SET: Final = "linearized"

migrations = Migrations(MIGRATION_SET)
