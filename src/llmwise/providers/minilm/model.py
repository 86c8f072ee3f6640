"""The model itself: a BERT encoder of 6 layers, 12 heads and 384 dimensions, whose outputs are averaged.

https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2 (config.json, 1_Pooling).
"""

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmwise.providers.minilm.words import Words

Array = NDArray[np.float32]

LAYERS, HEADS, DIMENSIONS = 6, 12, 384


class MiniLM:
    """Reads the weights as they lie on the disk (90 MB, shared by processes). Any thread may call."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds `vocab.txt` and `model.safetensors`. Raises `OSError`."""
        self.words = Words(folder / "vocab.txt")
        self._weights = _tensors(folder / "model.safetensors")

    def embed(self, text: str) -> tuple[list[float], int]:
        """A vector of length 1 and 384 dimensions, and how many tokens it was made of."""
        ids = self.words.ids(text)
        w = self._weights
        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][: len(ids)] + w["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x, "embeddings.LayerNorm")
        for layer in range(LAYERS):
            x = self._layer(x, f"encoder.layer.{layer}")
        mean = x.mean(axis=0)
        return (mean / np.linalg.norm(mean)).tolist(), len(ids)

    def _layer(self, x: Array, at: str) -> Array:
        size = DIMENSIONS // HEADS
        query, key, value = (
            self._linear(x, f"{at}.attention.self.{name}").reshape(len(x), HEADS, size).transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / np.float32(size**0.5)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        seen = (scores / scores.sum(axis=-1, keepdims=True)) @ value
        told = self._linear(seen.transpose(1, 0, 2).reshape(len(x), DIMENSIONS), f"{at}.attention.output.dense")
        x = self._norm(x + told, f"{at}.attention.output.LayerNorm")
        thought = self._linear(_gelu(self._linear(x, f"{at}.intermediate.dense")), f"{at}.output.dense")
        return self._norm(x + thought, f"{at}.output.LayerNorm")

    def _linear(self, x: Array, at: str) -> Array:
        made: Array = x @ self._weights[f"{at}.weight"].T + self._weights[f"{at}.bias"]
        return made

    def _norm(self, x: Array, at: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(1e-12))
        made: Array = scaled * self._weights[f"{at}.weight"] + self._weights[f"{at}.bias"]
        return made


def _gelu(x: Array) -> Array:
    """x times the normal distribution's integral. Its error function by Abramowitz and Stegun 7.1.26, which is right
    to 1.5e-7: float32 has no more."""
    z = np.abs(x) / np.float32(2**0.5)
    t = 1 / (1 + np.float32(0.3275911) * z)
    tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - tail * np.exp(-z * z))
    return (x * (1 + erf) / 2).astype(np.float32)


def _tensors(file: Path) -> Mapping[str, Array]:
    """https://github.com/huggingface/safetensors: the header's length in 8 bytes, a header of JSON,
    then the numbers."""
    with file.open("rb") as opened:
        data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    size = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    found = {}
    for name, told in header.items():
        if name != "__metadata__" and told["dtype"] == "F32":
            start, end = told["data_offsets"]
            numbers = np.frombuffer(data, np.float32, (end - start) // 4, 8 + size + start)
            found[name] = numbers.reshape(told["shape"])
    return found
