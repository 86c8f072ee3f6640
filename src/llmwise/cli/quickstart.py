def quickstart() -> None:
    """Not yet."""
