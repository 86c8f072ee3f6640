"""The SDK's errors under the import path of the published package."""

from llmwise.client.errors import *  # noqa: F403
