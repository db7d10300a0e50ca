"""Linearized Matrix without I/O: identifiers, canonical JSON, hashes, signatures, events, authorization.

Time, randomness and keys are arguments. Normative text: draft-ralston-mimi-linearized-matrix ("the draft" in
this package); where we read more than it allows, or it leaves a choice, ``docs/divergence.md`` has a row.
"""
