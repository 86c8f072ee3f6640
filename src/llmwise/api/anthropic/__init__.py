"""Anthropic's dialect below /v1/messages."""
