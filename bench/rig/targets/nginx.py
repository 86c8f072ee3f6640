"""The limit: it forwards and understands nothing."""

from target import Target

TARGETS = [
    Target(
        name="nginx",
        port=9201,
        needs=["nginx"],
        config="nginx.conf",
        start=["nginx", "-c", "{CONFIG}", "-p", "{RUN}/"],
        version="nginx -v",
    )
]
