"""OpenAI's Responses dialect: /v1/responses."""
