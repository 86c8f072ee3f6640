"""Recorded exchanges with providers, played back through a gateway: `bench/replay_wire.py` is the command."""
