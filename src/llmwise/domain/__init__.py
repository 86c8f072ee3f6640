"""The gateway's own shapes: pure values that every layer speaks, built on the standard library and msgspec.

Values travel; nothing here does I/O, reads a clock or draws a random number.
"""
