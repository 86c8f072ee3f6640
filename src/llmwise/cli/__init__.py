"""The commands: one module each, plain functions with Typer's annotations; `main` mounts them.

A mistake of the user is one line on standard error and a status that is not 0, never a traceback.
"""
