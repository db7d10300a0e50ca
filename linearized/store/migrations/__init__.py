"""All migrations of the store.

Importing a module adds its own to the chain. They are named so that sorted imports are in order, and a test
holds the numbers to it.
"""

from linearized.store.migrations import (
    m0001_foundations,
    m0005_verifiable_logs,
    m0009_exchanges,
    m0013_members,
    m0018_reading,
    m0022_redactions,
    m0023_archive,
    m0024_room_routes,
    m0025_directory,
    m0026_pulled_hubs,
    m0027_parents,
    m0028_servers_of_members,
    m0029_ways_in,
)
from linearized.store.migrations.chain import MIGRATION_SET, migrations

__all__ = [
    "MIGRATION_SET",
    "m0001_foundations",
    "m0005_verifiable_logs",
    "m0009_exchanges",
    "m0013_members",
    "m0018_reading",
    "m0022_redactions",
    "m0023_archive",
    "m0024_room_routes",
    "m0025_directory",
    "m0026_pulled_hubs",
    "m0027_parents",
    "m0028_servers_of_members",
    "m0029_ways_in",
    "migrations",
]
