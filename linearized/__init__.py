"""A Matrix-side hub that keeps every room as one linear, MLS-tied, verifiable log."""

from __future__ import annotations

__version__ = "0.1.0"
