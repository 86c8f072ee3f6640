def doctor() -> None:
    """Not yet."""
