"""The console script: `fcnlite COMMAND`, or `python -m fcnlite COMMAND`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import fcnlite
from fcnlite.commands import COMMANDS
from fcnlite.commands.options import guarded, interrupted
from fcnlite.errors import InputError, nearest

_OPTIONS = {"-h": "--help", "--help": "--help", "-V": "--version", "--version": "--version"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first word names; returns its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after the program's name; those of this process if None.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in COMMANDS:
        return _without_command(words)
    try:
        command = importlib.import_module(f"fcnlite.commands.{words[0]}")
    except KeyboardInterrupt:  # some commands take a moment to load
        return interrupted(f"fcnlite {words[0]}")
    return command.main(words[1:])


@guarded("fcnlite")
def _without_command(words: Sequence[str] | None) -> int:
    """Answer `--help`, `--version`, no word at all, and words that name no command."""
    word = words[0] if words else "--help"
    if word not in _OPTIONS:
        kind, known = ("option", _OPTIONS) if word.startswith("-") else ("command", COMMANDS)
        raise InputError(f"unknown {kind} '{word}'{nearest(word, known)} (fcnlite --help lists the commands)")
    if _OPTIONS[word] == "--version":
        print(f"fcnlite {fcnlite.__version__}")
        return 0
    print(f"fcnlite {fcnlite.__version__}: fully convolutional networks with Caffe's numbers\n")
    print("usage: fcnlite COMMAND ...\n")
    for name, about in COMMANDS.items():
        print(f"  fcnlite {name:<9} {about}")
    print("\nEach explains itself with --help. Start with the demo: fcnlite train shapes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
