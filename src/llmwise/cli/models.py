def models() -> None:
    """Not yet."""
