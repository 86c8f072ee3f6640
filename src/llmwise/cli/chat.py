def chat() -> None:
    """Not yet."""
