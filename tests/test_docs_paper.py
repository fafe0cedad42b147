"""docs/paper.md: every command on the page exists, and prints what the page shows where that is the same anywhere."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from fcnlite import models
from fcnlite.commands import evaluate, inspect, table, train

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.strip()
    for kind, text in BLOCKS
    if kind == "sh"
    for line in text.strip().splitlines()
    if line.strip()
]
# (command, what the page shows under it), of those that print the same everywhere
SHOWN = [
    (before.strip().splitlines()[-1], shown)
    for (kind, before), (after, shown) in zip(BLOCKS, BLOCKS[1:])
    if (kind, after) == ("sh", "text") and re.search(r"^fcnlite (inspect|table)", before.splitlines()[-1])
]
PARSERS = {"train": train.parser, "evaluate": evaluate.parser, "table": table.parser}
MAINS = {"inspect": inspect.main, "table": table.main}


def words_of(command: str) -> tuple[str, list[str]]:
    program, *words = shlex.split(command)
    if program == "fcnlite":
        return words[0], words[1:]
    assert (program, words[0]) == ("python", "-m"), command
    return words[1], words[2:]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_given(command: str) -> None:
    module, arguments = words_of(command)
    if module == "pytest":
        files = [word for word in arguments if word.startswith("tests/")]
        names = "".join(
            name for file in files for name in re.findall(r"^def (test_\w+)", (ROOT / file).read_text(), re.M)
        )
        wanted = arguments[arguments.index("-k") + 1].split(" or ") if "-k" in arguments else ["test_"]
        assert files and any(word in names for word in wanted), wanted
    elif module in PARSERS:
        given = PARSERS[module]().parse_intermixed_args(arguments)
        if hasattr(given, "net"):
            assert models.canonical(given.net) == given.net
    elif module.startswith("benchmarks."):
        importlib.import_module(module)._parser().parse_args(arguments)
    else:
        assert module in MAINS


@pytest.mark.parametrize(("command", "shown"), SHOWN)
def test_the_page_shows_what_is_printed(command: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, arguments = words_of(command)
    assert MAINS[module](arguments) == 0
    printed = capsys.readouterr().out.splitlines()
    assert shown.splitlines() == [line for line in printed if line in shown.splitlines()]


def test_every_file_and_option_the_page_names_exists() -> None:
    named = set(re.findall(r"`((?:tests|fcnlite|benchmarks|docs)/[\w/.]+)`", PAGE))
    assert named and not [path for path in named if not (ROOT / path).exists()]
    options = set(re.findall(r"`(--[a-z-]+)", PAGE))
    known = {option for made in PARSERS.values() for option in made()._option_string_actions}
    assert options <= known, options - known
    assert "@@" not in PAGE
