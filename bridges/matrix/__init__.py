"""The bridge to a Matrix homeserver: an application service there, a client of a linearized provider here."""

from bridges.matrix.config import BridgeConfig, load_bridge_config
from bridges.matrix.process import run_bridge
from bridges.matrix.registration import registration, write_registration

__all__ = ["BridgeConfig", "load_bridge_config", "registration", "run_bridge", "write_registration"]
