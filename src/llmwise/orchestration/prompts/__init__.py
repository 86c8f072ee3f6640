"""The texts that models are told when they merge, judge or check answers: `prompts.toml`, a version of them all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import replace

Name: TypeAlias = Literal["consensus", "council", "best_of", "chain", "layer", "judge", "again", "check"]
NAMES: tuple[str, ...] = get_args(Name)


class Prompt(Struct, frozen=True, forbid_unknown_fields=True):
    """`system` is what the model is told; it never holds anything of a caller's or another model's."""

    system: str


class Roles(Struct, frozen=True, forbid_unknown_fields=True):
    """Ways to look at a question, for the samples of one model; the empty one is the model as it is."""

    all: tuple[str, ...]


class Prompts(Struct, frozen=True, forbid_unknown_fields=True):
    """All texts of one version; `+own` in the version says that the configuration has replaced some."""

    version: str
    consensus: Prompt
    council: Prompt
    best_of: Prompt
    chain: Prompt
    layer: Prompt
    judge: Prompt
    again: Prompt
    check: Prompt
    roles: Roles

    def system(self, name: Name) -> str:
        prompt: Prompt = getattr(self, name)
        return prompt.system.strip()

    def with_own(self, own: Mapping[str, str]) -> "Prompts":
        """With the configuration's texts in place. Raises `KeyError` for a name that is none of `NAMES`, and
        `ValueError` with the name of a text that is empty."""
        for name, text in own.items():
            if name not in NAMES:
                raise KeyError(name)
            if not text.strip():
                raise ValueError(name)
        if not own:
            return self
        return replace(self, version=f"{self.version}+own", **{name: Prompt(text) for name, text in own.items()})


BUILT_IN = msgspec.toml.decode(Path(__file__).with_name("prompts.toml").read_bytes(), type=Prompts)
