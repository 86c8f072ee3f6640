"""The floor that added latency is taken from: the load generator straight at the mock."""

from target import Target

TARGETS = [Target(name="direct")]
