"""OpenAI's dialect below /v1."""
