"""Key packages that a device has no use for any more, as it has another credential or another key now."""

from __future__ import annotations

from collections.abc import Sequence

from linearized.mimi.commit_parts import leaf_credential, leaf_signature_key
from linearized.store.base import KeyPackageRow, Store


def stale_packages(store: Store, uploaded: Sequence[KeyPackageRow]) -> list[bytes]:
    """The KeyPackageRefs of what a device has in store and cannot stand for beside what it uploads.

    A device is one client in each cipher suite. Whoever were added by a package with the certificate or the
    key that it had before would be refused when that certificate expires, or could not read the Welcome. What
    was handed out already stays, and packages that are uploaded a second time say nothing of the present.

    Args:
        uploaded: new packages of one device.
    """
    present: dict[int, set[tuple[bytes, bytes]]] = {}
    for package in uploaded:
        if store.key_package(package.reference) is None:
            present.setdefault(package.ciphersuite, set()).add(_client(package))
    if not present:
        return []
    device = uploaded[0]
    return [
        package.reference
        for package in store.unclaimed_key_packages(device.user_id, device.device_id)
        if package.ciphersuite in present and _client(package) not in present[package.ciphersuite]
    ]


def _client(package: KeyPackageRow) -> tuple[bytes, bytes]:
    return leaf_credential(package.key_package), leaf_signature_key(package.key_package)
