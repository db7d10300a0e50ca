"""Key packages in SQLite: each handed out once, and where other providers' live."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from linearized.store.base import KeyPackageRow
from linearized.store.sqlite_reader import Reader
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import Writes

# Packages of a suite that are looked at for one that fits: as many as a device may keep.
MAX_CANDIDATES: Final = 200
_BY_REFERENCE = """
SELECT reference, user_id, device_id, client_uri, key_package, ciphersuite, last_resort, not_after, claimed_at
FROM key_packages WHERE reference = ?
"""
# Of those used once, first the one that expires first; of last-resort ones the one that lasts longest.
_CLAIMABLE = """
SELECT reference, user_id, device_id, client_uri, key_package, ciphersuite, last_resort, not_after, claimed_at
FROM key_packages WHERE user_id = ? AND device_id = ? AND claimed_at IS NULL AND last_resort = 0
AND ciphersuite = ? AND not_after * 1000 > ? ORDER BY not_after LIMIT ?
"""
_LAST_RESORT = """
SELECT reference, user_id, device_id, client_uri, key_package, ciphersuite, last_resort, not_after, claimed_at
FROM key_packages WHERE user_id = ? AND device_id = ? AND claimed_at IS NULL AND last_resort = 1
AND ciphersuite = ? AND not_after * 1000 > ? ORDER BY not_after DESC LIMIT ?
"""
# The one that lasts longest is the newest, and says best what the device can do.
_ANY_CLAIMABLE = """
SELECT reference, user_id, device_id, client_uri, key_package, ciphersuite, last_resort, not_after, claimed_at
FROM key_packages WHERE user_id = ? AND device_id = ? AND claimed_at IS NULL AND not_after * 1000 > ?
ORDER BY not_after DESC LIMIT 1
"""
_UNCLAIMED = """
SELECT reference, user_id, device_id, client_uri, key_package, ciphersuite, last_resort, not_after, claimed_at
FROM key_packages WHERE user_id = ? AND device_id = ? AND claimed_at IS NULL
"""


class KeyPackageReads(Reader):
    """Reads about key packages."""

    def key_package_counts(self, user_id: str, device_id: str) -> dict[int, int]:
        """Unclaimed, not last-resort packages by cipher suite."""
        return dict(
            self._query(
                "SELECT ciphersuite, count(*) FROM key_packages WHERE user_id = ? AND device_id = ?"
                " AND claimed_at IS NULL AND last_resort = 0 GROUP BY ciphersuite",
                user_id,
                device_id,
            )
        )

    def unclaimed_key_packages(self, user_id: str, device_id: str) -> list[KeyPackageRow]:
        """A device's packages that were not handed out."""
        return [_key_package(row) for row in self._query(_UNCLAIMED, user_id, device_id)]

    def claimable_key_package(self, user_id: str, device_id: str, *, now_ms: int) -> KeyPackageRow | None:
        """A package of a device, of whatever suite, that could be handed out; None if it has run out."""
        rows = self._query(_ANY_CLAIMABLE, user_id, device_id, now_ms)
        return _key_package(rows[0]) if rows else None

    def key_package(self, reference: bytes) -> KeyPackageRow | None:
        """The package with this KeyPackageRef, claimed or not, or None."""
        rows = self._query(_BY_REFERENCE, reference)
        return _key_package(rows[0]) if rows else None

    def key_package_route(self, reference: bytes, *, room_id: str | None = None) -> str | None:
        """The provider at which the key package with this KeyPackageRef lives, or None."""
        rows = self._query("SELECT provider FROM key_package_routes WHERE reference = ?", reference)
        if not rows and room_id is not None:
            rows = self._query(
                "SELECT provider FROM room_routes WHERE room_id = ? AND reference = ?", room_id, reference
            )
        return rows[0][0] if rows else None

    def room_routes(self, room_id: str, *, now_ms: int, limit: int) -> dict[bytes, tuple[str, int]]:
        """The provider of each KeyPackageRef that was handed out for a room, and until when that is kept."""
        rows = self._query(
            "SELECT reference, provider, expires_ms FROM room_routes WHERE room_id = ? AND expires_ms > ?"
            " ORDER BY expires_ms DESC LIMIT ?",
            room_id,
            now_ms,
            limit,
        )
        return {reference: (provider, expires_ms) for reference, provider, expires_ms in rows}


def _key_package(row: tuple[Any, ...]) -> KeyPackageRow:
    (
        reference,
        user_id,
        device_id,
        client_uri,
        key_package,
        ciphersuite,
        last_resort,
        not_after,
        claimed_at,
    ) = row
    return KeyPackageRow(
        reference=reference,
        user_id=user_id,
        device_id=device_id,
        client_uri=client_uri,
        key_package=key_package,
        ciphersuite=ciphersuite,
        last_resort=bool(last_resort),
        not_after=not_after,
        claimed_at=claimed_at,
    )


def put_key_packages(
    transaction: Transaction, packages: Sequence[KeyPackageRow], withdrawn: Sequence[bytes]
) -> None:
    """Store packages. One stored already stays as it is: uploading it again must not make it claimable."""
    transaction.connection.executemany(
        "DELETE FROM key_packages WHERE reference = ? AND claimed_at IS NULL",
        [(reference,) for reference in withdrawn],
    )
    transaction.connection.executemany(
        "INSERT INTO key_packages (reference, user_id, device_id, client_uri, key_package, ciphersuite,"
        " last_resort, not_after, claimed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (reference) DO NOTHING",
        [
            (
                package.reference,
                package.user_id,
                package.device_id,
                package.client_uri,
                package.key_package,
                package.ciphersuite,
                package.last_resort,
                package.not_after,
                package.claimed_at,
            )
            for package in packages
        ],
    )


def claim_key_package(
    transaction: Transaction,
    *,
    user_id: str,
    device_id: str,
    ciphersuites: Sequence[int],
    now_ms: int,
    fits: Callable[[bytes], bool] | None = None,
) -> KeyPackageRow | None:
    """Hand out one package, of the earliest suite that has one; a last-resort one only if none has."""
    looked_at = 1 if fits is None else MAX_CANDIDATES
    for statement in (_CLAIMABLE, _LAST_RESORT):
        for ciphersuite in ciphersuites:
            for row in transaction.connection.execute(
                statement, (user_id, device_id, ciphersuite, now_ms, looked_at)
            ).fetchall():
                package = _key_package(row)
                if fits is None or fits(package.key_package):
                    return _claimed(transaction, package, now_ms)
    return None


def _claimed(transaction: Transaction, package: KeyPackageRow, now_ms: int) -> KeyPackageRow:
    if package.last_resort:
        return package
    transaction.connection.execute(
        "UPDATE key_packages SET claimed_at = ? WHERE reference = ?", (now_ms, package.reference)
    )
    return replace(package, claimed_at=now_ms)


def put_key_package_routes(
    transaction: Transaction, routes: Mapping[bytes, str], expires_ms: int, room_id: str | None
) -> None:
    """Remember at which provider each KeyPackageRef lives, and for which room."""
    if room_id is not None:
        put_room_routes(transaction, room_id, routes, expires_ms)
    transaction.connection.executemany(
        "INSERT OR REPLACE INTO key_package_routes (reference, provider, expires_ms) VALUES (?, ?, ?)",
        [(reference, provider, expires_ms) for reference, provider in routes.items()],
    )


def put_room_routes(
    transaction: Transaction, room_id: str, routes: Mapping[bytes, str], expires_ms: int
) -> None:
    """Remember at which provider each KeyPackageRef lives that was handed out for a room."""
    transaction.connection.executemany(
        "INSERT OR IGNORE INTO room_routes (room_id, reference, provider, expires_ms) VALUES (?, ?, ?, ?)",
        [(room_id, reference, provider, expires_ms) for reference, provider in routes.items()],
    )


class KeyPackageWrites(Writes):
    """The writes of this module, each durable when it returns."""

    async def put_key_packages(
        self, packages: Sequence[KeyPackageRow], *, withdrawn: Sequence[bytes] = ()
    ) -> None:
        """Store packages; those already stored stay as they are. Forget others."""
        await self._write(partial(put_key_packages, packages=packages, withdrawn=withdrawn))

    async def claim_key_package(
        self,
        *,
        user_id: str,
        device_id: str,
        ciphersuites: Sequence[int],
        now_ms: int,
        fits: Callable[[bytes], bool] | None = None,
    ) -> KeyPackageRow | None:
        """Hand out one package, preferring earlier ``ciphersuites``; see ``Store.claim_key_package``."""
        return await self._write(
            partial(
                claim_key_package,
                user_id=user_id,
                device_id=device_id,
                ciphersuites=ciphersuites,
                now_ms=now_ms,
                fits=fits,
            )
        )

    async def put_key_package_routes(
        self, routes: Mapping[bytes, str], expires_ms: int, *, room_id: str | None = None
    ) -> None:
        """Remember at which provider each KeyPackageRef lives, and for which room."""
        await self._write(
            partial(
                put_key_package_routes,
                routes=routes,
                expires_ms=expires_ms,
                room_id=room_id,
            )
        )

    async def put_room_routes(self, room_id: str, routes: Mapping[bytes, str], expires_ms: int) -> None:
        """Remember what another hub says of a room."""
        await self._write(partial(put_room_routes, room_id=room_id, routes=routes, expires_ms=expires_ms))
