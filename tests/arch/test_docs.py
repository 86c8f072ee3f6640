"""The documentation holds what it says: pages made from the code are fresh, links resolve, examples parse and load,
commands exist, and nothing in the tree names the machine that it was written on."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_origin

import msgspec
import pytest
import typer

from llmwise.app import catalog_of
from llmwise.catalog.rows import ModelSettings
from llmwise.cli.main import app
from llmwise.config import Config, parse
from llmwise.providers.scripted import parse_script
from llmwise.providers.scripted.parsing import FAULTS
from llmwise.routing.planner import Planner

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
TEXTS = {page: page.read_text("utf-8") for page in PAGES}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(language: str) -> list[Any]:
    """Every fenced example of a language, named by its page and line."""
    found = []
    for page, text in TEXTS.items():
        for match in FENCE.finditer(text):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 1
                found.append(pytest.param(match[2], id=f"{name_of(page)}:{line}"))
    return found


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Made from the code


def test_the_reference_is_what_the_code_says() -> None:
    pages = generator().pages()
    stale = [name for name, text in pages.items() if text != TEXTS.get(DOCS / "reference" / name)]
    assert stale == [], "run `make docs` and look at the difference"
    assert {page.name for page in (DOCS / "reference").iterdir()} == set(pages)


def test_every_setting_has_a_meaning() -> None:
    split = generator().split_docstring
    sections = {field.name: field.type for field in msgspec.structs.fields(Config) if field.name != "source"}
    structs = [t for t in sections.values() if isinstance(t, type) and issubclass(t, msgspec.Struct)]
    tables = [t.__args__[1] for t in sections.values() if get_origin(t) is dict]  # `[providers.NAME]`
    structs += [t for t in tables if t is not str] + [ModelSettings]
    assert len(structs) == len(sections) - tables.count(str)
    missing = [f"{s.__name__}.{key}" for s in structs for key in s.__struct_fields__ if key not in split(s)[1]]
    assert missing == []


# Links


def anchors(text: str) -> set[str]:
    plain = FENCE.sub("", text)
    return {anchor_of(heading) for heading in re.findall(r"^#+ (.+)$", plain, re.MULTILINE)}


def anchor_of(heading: str) -> str:
    """GitHub's anchor of a heading: code ticks and punctuation go, spaces become dashes."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links(page: Path) -> Iterator[str]:
    plain = FENCE.sub("", TEXTS[page])
    for target in re.findall(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"", plain):
        yield target[0] or target[1]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(TEXTS[target])):
            broken.append(link)
    assert broken == []


def test_every_page_can_be_reached_from_the_index() -> None:
    seen, ahead = set(), [DOCS / "index.md"]
    while ahead:
        page = ahead.pop()
        seen.add(page)
        targets = [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if ":" not in link]
        ahead += [target for target in targets if target in TEXTS and target not in seen]
    assert [name_of(page) for page in PAGES if page not in seen and DOCS in page.parents] == []


# Examples


class AnySecret(dict[str, str]):
    """An environment in which every variable is set."""

    def get(self, key: str, default: Any = None) -> str:
        return "secret"


@pytest.mark.parametrize("text", blocks("python"))
def test_a_python_example_parses(text: str) -> None:
    ast.parse(text)


@pytest.mark.parametrize("text", blocks("json"))
def test_a_json_example_parses(text: str) -> None:
    json.loads(text)


@pytest.mark.parametrize("text", blocks("toml"))
def test_a_toml_example_parses_and_what_claims_to_be_whole_loads(text: str) -> None:
    document = tomllib.loads(text)
    if text.startswith("# llmwise.toml\n"):
        config = parse(text, source=str(ROOT / "llmwise.toml"), environ=AnySecret())
        catalog = catalog_of(config, time.time_ns() // 1_000_000)
        Planner(catalog, config.auto)
    elif text.startswith("# script.toml\n"):
        parse_script(document)


def test_the_guide_to_testing_shows_every_fault() -> None:
    text = TEXTS[DOCS / "howto" / "test-your-application.md"]
    assert [fault for fault in FAULTS if fault != "none" and f'fault = "{fault}"' not in text] == []


def test_the_example_that_needs_nothing_else_runs() -> None:
    page = TEXTS[DOCS / "howto" / "test-your-application.md"]
    (example,) = [match[2] for match in FENCE.finditer(page) if match[1] == "python"]
    ran = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=40)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "['m', 'm']\n"


# Commands


def commands() -> dict[str, set[str]]:
    """Each command of the command line, and its options."""
    root: Any = typer.main.get_command(app())
    found: dict[str, set[str]] = {}
    for name, command in root.commands.items():
        found[name] = {option for parameter in command.params for option in parameter.opts}
        for inner, each in getattr(command, "commands", {}).items():
            found[f"{name} {inner}"] = {option for parameter in each.params for option in parameter.opts}
    return found


def called(text: str) -> Iterator[tuple[str, str]]:
    """(program, the rest of the line) of every call of ours in shell examples, units and code spans."""
    shell = [
        line for language, block in FENCE.findall(text) if language in ("sh", "ini") for line in block.splitlines()
    ]
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    for line in [*shell, *spans]:
        for match in re.finditer(r"(?:^|[\s/($])(make|llmwise) ([a-z].*)$", line):
            yield match[1], match[2].split("#")[0]


@pytest.mark.parametrize("page", [page for page in PAGES if "reference" not in page.parts], ids=name_of)
def test_every_command_and_option_exists(page: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known, wrong = commands(), []
    groups = {name.split()[0] for name in known if " " in name}
    for program, rest in called(TEXTS[page]):
        words = rest.split()
        if program == "make":
            wrong += [f"make {words[0]}"] if words[0] not in targets else []
            continue
        name = " ".join(words[:2]) if words[0] in groups and len(words) > 1 and words[1][0] != "-" else words[0]
        if "|" in name:  # several in one, which take the same options
            wrong += [f"llmwise {words[0]} {one}" for one in words[1].split("|") if f"{words[0]} {one}" not in known]
        elif name not in known:
            wrong.append(f"llmwise {name}")
        else:
            wrong += [f"llmwise {name} {o}" for o in re.findall(r"(?<!\S)--[a-z-]+", rest) if o not in known[name]]
    assert wrong == []


def test_the_readme_shows_the_two_commands() -> None:
    assert {"run", "test"} <= {
        rest.split()[0] for program, rest in called(TEXTS[ROOT / "README.md"]) if program == "make"
    }


def test_the_changelog_has_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^## {re.escape(version)}\b", TEXTS[ROOT / "CHANGELOG.md"], re.MULTILINE)


# Decisions


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(page.name[:4]) for page in sorted((DOCS / "decisions").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("page", sorted((DOCS / "decisions").glob("*.md")), ids=lambda page: page.stem)
def test_a_decision_says_what_a_decision_has_to_say(page: Path) -> None:
    parts = ("Context", "Decision", "Alternatives", "Evidence", "What would change our mind")
    assert [part for part in parts if f"**{part}.**" not in TEXTS[page]] == []
    assert TEXTS[page].startswith(f"# {int(page.name[:4])}. ")


# The whole tree


def tree() -> list[Path]:
    """What is tracked, and what would be with the next `git add`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_nothing_names_the_machine_it_was_written_on() -> None:
    beside = [ROOT] if len(ROOT.parts) < 3 else list(ROOT.parent.iterdir())  # the checkout, and what lies next to it
    own = [re.escape(str(path)) for path in beside if len(path.parts) > 2]
    pattern = re.compile(r"(?<![\w.:}])(?:" + "|".join([*own, r"/(?:home|Users)/[a-z][\w.-]+/"]) + r")(?![\w-])")
    found = []
    for path in tree():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []
