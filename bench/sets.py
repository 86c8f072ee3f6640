"""Sets of outcomes in two folders, one to learn from and one to judge on: which set, and the part that both can be used
with. What is no data ends the program in one line."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from routing_train import UNTOLD, Outcome, read_outcomes

SET: Final = "routerbench_subset"
"""Taken where it is there: eleven models."""
LEAST_MODELS: Final = 2
LEAST_ROWS: Final = 50


def sets_of(folder: Path) -> dict[str, list[Outcome]]:
    """The sets of a folder; ends the program where there are none."""
    if not folder.is_dir():
        sys.exit(f"{folder}: there is no such folder")
    try:
        found = {name: rows for name, rows in read_outcomes(folder).items() if rows}
    except ValueError as error:
        sys.exit(str(error))
    for name, rows in found.items():
        if untold := sum(row.task == UNTOLD for row in rows):
            print(
                f"{folder}: {untold} of {len(rows)} rows of {name} name no task: counted as {UNTOLD}", file=sys.stderr
            )
    return found or sys.exit(f"{folder}: no SET.jsonl with a line in it, there or in outcomes/")


def in_common(train: Sequence[Outcome], data: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Both with the same models in every row: of models and rows as many as can be, where cells are missing."""
    counts = Counter(model for row in (*train, *data) for model in row.models)
    names = sorted({m for row in train for m in row.models} & {m for row in data for m in row.models})
    names.sort(key=lambda model: -counts[model])
    sizes = {}
    for count in range(LEAST_MODELS, len(names) + 1):
        models = set(names[:count])
        sizes[count] = count * sum(models <= row.models.keys() for row in (*train, *data))
    if not sizes:
        return [], []
    kept = set(names[: max(sizes, key=lambda count: (sizes[count], count))])

    def whole(rows: Sequence[Outcome]) -> list[Outcome]:
        return [
            msgspec.structs.replace(row, models={model: row.models[model] for model in sorted(kept)})
            for row in rows
            if kept <= row.models.keys()
        ]

    return whole(train), whole(data)


def choose_set(
    train: Mapping[str, Sequence[Outcome]], data: Mapping[str, Sequence[Outcome]], wanted: str | None
) -> tuple[str, list[Outcome], list[Outcome]]:
    """The set's name and its rows in both; ends the program where there is none to learn from."""
    both = {name: in_common(train[name], data[name]) for name in train if name in data}
    enough = {name: rows for name, rows in both.items() if min(map(len, rows)) >= LEAST_ROWS}
    if not enough or (wanted is not None and wanted not in enough):
        what = "no set" if wanted is None else f"no set {wanted!r}"
        sys.exit(
            f"{what} in both folders with {LEAST_MODELS} models in common and {LEAST_ROWS} prompts that all of them "
            f"answered; --train has {', '.join(train)}; --data has {', '.join(data)}"
        )
    largest = max(enough, key=lambda name: (len(enough[name][1][0].models), len(enough[name][1])))
    name = wanted or (SET if SET in enough else largest)
    rows = enough[name]
    for where, had, has in (("--train", train[name], rows[0]), ("--data", data[name], rows[1])):
        if len(has) < len(had) or len(has[0].models) < max(len(row.models) for row in had):
            text = f"{name} of {where}: {len(has)} of {len(had)} prompts have all of {len(has[0].models)} models"
            print(text, file=sys.stderr)
    return name, *rows
