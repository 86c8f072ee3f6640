"""What models there are, what they are called, what they can do and what they cost."""

from llmwise.catalog.cost import cost, estimate, estimate_tokens
from llmwise.catalog.load import build_catalog, load
from llmwise.catalog.lookup import Catalog
from llmwise.catalog.rows import Builtin, CatalogError, ModelSettings

__all__ = [
    "Builtin",
    "Catalog",
    "CatalogError",
    "ModelSettings",
    "build_catalog",
    "cost",
    "estimate",
    "estimate_tokens",
    "load",
]
