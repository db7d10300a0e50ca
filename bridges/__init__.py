"""Bridges from other systems into the rooms of a linearized provider."""
