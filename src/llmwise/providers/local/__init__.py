"""A small model on this machine, so that a newcomer sees a real answer without an account: a demonstration.

`weights` fetches and checks the model file, `server` is the child process that runs it, `supervisor` keeps that child
alive, `provider` makes it a `Provider`. This file imports nothing, because the child loads it.
"""
