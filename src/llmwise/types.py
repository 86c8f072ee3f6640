"""The SDK's shapes under the import path of the published package."""

from llmwise.client.shapes import *  # noqa: F403
