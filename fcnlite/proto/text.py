"""Prototxt in and out: protobuf's text format, with errors that a person can act on.

protobuf does the parsing; a walk over the text beforehand checks every name and value against the schema, so
that a mistake is told with its file, its line and the nearest name that exists, and so that fields which only
forks of Caffe know, and which change no number, are passed over.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from google.protobuf import text_encoding, text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from fcnlite.errors import InputError, check_name, nearest
from fcnlite.proto.foreign import foreign_field
from fcnlite.proto.schema import descriptor, is_repeated, message_class

# Fields of Caffe's forks that tell it how to run, not what to compute: they are skipped with a warning.
HARMLESS = {
    "NetParameter": "mem_param optimize_mem compile_net_state engine reduce_buckets default_forward_type"
    " default_backward_type default_forward_math default_backward_math default_cudnn_math_override",
    "LayerParameter": "forward_type backward_type forward_math backward_math cudnn_math_override",
    "ConvolutionParameter": "conv_algos_override cudnn_convolution_algo_seeker cudnn_math_override",
    "SolverParameter": "device_ids store_blobs_in_old_format",
}
# Fields of forks under the name that Caffe itself gave them later.
RENAMED = {("ConvolutionParameter", "hole"): "dilation"}

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)|(?P<string>"[^"\\\n]*(?:\\.[^"\\\n]*)*"|'[^'\\\n]*(?:\\.[^'\\\n]*)*')"""
    r"""|(?P<word>[\w.+-]+)|(?P<mark>[{}<>\[\]:;,])""",
    re.ASCII | re.DOTALL,
)
_INTEGER = re.compile(r"-?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_NUMBER = re.compile(
    r"-?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?)[fF]?|-?(inf|infinity|nan)", re.IGNORECASE
)
_PLACEHOLDER = re.compile(r"\$\{\w+\}|\$\(\w+\)|\$[A-Z_]\w*", re.ASCII)
_MAX_TEXT = 2 << 20  # bytes; ResNet-152 takes 150 KB
_MAX_WORD = 100  # characters of a number, or of what an error repeats
_BOOLEANS = ("true", "false", "True", "False", "t", "f", "1", "0")
_KIND = {
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_STRING: "a quoted string",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
}
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**31 - 1),  # Caffe takes them on into an int
}
_CLOSING = {"{": "}", "<": ">", "[": "]"}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    line: int


@dataclass
class _Block:
    """A message being walked: `message` is None inside a skipped field."""

    message: Descriptor | None
    name: str = ""
    opening: str = ""
    line: int = 0
    seen: dict[str, int] = field(default_factory=dict)


def _tokens(text: str, filename: str) -> Iterator[_Token]:
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            if text[position] in "\"'":
                raise InputError(f"{filename}:{line}: a string that starts here is not closed on its line")
            _refuse_template(text[position : position + _MAX_WORD], filename, line)
            raise InputError(f"{filename}:{line}: unexpected character {text[position]!r}")
        if match.lastgroup == "string" and "$" in match.group():
            _refuse_template(match.group()[match.group().index("$") :], filename, line)
        if match.lastgroup != "space":
            yield _Token(match.lastgroup or "", match.group(), position, line)
        line += match.group().count("\n")
        position = match.end()


def _refuse_template(text: str, filename: str, line: int) -> None:
    """Raise if a text begins with a shell's or a template's `${NAME}`."""
    found = _PLACEHOLDER.match(text)
    if found:
        raise InputError(
            f"{filename}:{line}: '{found[0]}' stands for something to be filled in: this is a template, of which the"
            " script beside it (or sed) makes the prototxt"
        )


class _Walk:
    """One pass over the tokens of a text, checking it against the schema of its message."""

    def __init__(self, text: str, filename: str, message: Descriptor):
        self.text = text
        self.filename = filename
        self.tokens = list(_tokens(text, filename))
        self.at = 0
        self.blocks = [_Block(message, message.name)]
        self.edits: list[tuple[int, int, str]] = []
        self.skipped: dict[str, int] = {}

    def fail(self, line: int, message: str) -> NoReturn:
        told = re.sub(r"[^\s']+", lambda word: _short(word[0]), message)
        raise InputError(f"{self.filename}:{line}: {told}")

    def peek(self) -> _Token:
        if self.at < len(self.tokens):
            return self.tokens[self.at]
        return _Token("end", "", len(self.text), self.tokens[-1].line if self.tokens else 1)

    def take(self) -> _Token:
        token = self.peek()
        self.at += 1
        return token

    def run(self) -> str:
        """Walk the whole text; returns it with what only forks know blanked out or renamed."""
        self.inside(0)
        return self.edited()

    def inside(self, depth: int) -> None:
        """Walk on until no more than `depth` blocks are open, or to the end of the text."""
        while len(self.blocks) > depth:
            token = self.take()
            if token.kind == "end":
                break
            if token.text in ("}", ">"):
                self.close(token)
            elif token.text not in (";", ","):
                self.entry(token)
        if len(self.blocks) > max(depth, 1):
            block = self.blocks[-1]
            self.fail(block.line, f"the '{block.opening}' of '{block.name}' opened here is never closed")

    def close(self, token: _Token) -> None:
        if len(self.blocks) == 1:
            self.fail(
                token.line, f"'{token.text}' closes nothing: there is one too many, or its opening is missing"
            )
        block = self.blocks.pop()
        if token.text != _CLOSING[block.opening]:
            self.fail(
                token.line,
                f"'{token.text}' cannot close the '{block.opening}' of '{block.name}' (line {block.line})",
            )

    def entry(self, name: _Token) -> None:
        """One field: its name is taken, its value (or the opening of its block) follows."""
        block = self.blocks[-1]
        if name.kind != "word":
            self.fail(name.line, f"expected a field name, found {name.text}")
        if block.message is None:
            self.skip_value(name)
            return
        known = block.message.fields_by_name.get(name.text)
        if known is None:
            known = self.unknown(name, block)
            if known is None:
                return
        if not is_repeated(known):
            if known.name in block.seen:
                self.fail(
                    name.line,
                    f"'{known.name}' is given twice in {block.message.name}, "
                    f"first on line {block.seen[known.name]}",
                )
            block.seen[known.name] = name.line
        self.value(name, known)

    def unknown(self, name: _Token, block: _Block) -> FieldDescriptor | None:
        """Handle a name the schema lacks: rename it, skip it with its value, or refuse it."""
        message = block.message
        assert message is not None
        modern = RENAMED.get((message.name, name.text))
        if modern:
            self.edits.append((name.start, name.start + len(name.text), modern))
            return message.fields_by_name[modern]
        if name.text in HARMLESS.get(message.name, "").split():
            self.skipped.setdefault(name.text, name.line)
            self.skip_value(name)
            end = self.tokens[self.at - 1]
            self.edits.append((name.start, end.start + len(end.text), ""))
            return None
        foreign = foreign_field(message.name, name.text)
        if foreign:
            self.fail(name.line, f"unknown field '{name.text}' in {message.name}{foreign}")
        for outer in self.blocks[:-1]:
            if outer.message is not None and name.text in outer.message.fields_by_name:
                self.fail(
                    name.line,
                    f"unknown field '{name.text}' in {message.name}; is the '{_CLOSING[block.opening]}' of "
                    f"'{block.name}' (line {block.line}) missing?",
                )
        hint = _belongs(name.text, message) or nearest(name.text, message.fields_by_name)
        self.fail(name.line, f"unknown field '{name.text}' in {message.name}{hint}")

    def value(self, name: _Token, known: FieldDescriptor) -> None:
        colon = self.peek().text == ":"
        if colon:
            self.take()
        token = self.peek()
        if token.text in ("{", "<"):
            self.open(name, known)
        elif token.text == "[":
            self.take()
            self.listed(name, known)
        elif known.message_type is not None:
            self.fail(name.line, f"'{name.text}' holds fields: write {name.text} {{ ... }}")
        elif not colon:
            self.fail(name.line, f"expected ':' after '{name.text}'")
        else:
            self.scalar(name, known)

    def open(self, name: _Token, known: FieldDescriptor) -> None:
        if known.message_type is None:
            self.fail(name.line, f"'{name.text}' takes {_kind(known)}, not a {{ }} block")
        brace = self.take()
        self.blocks.append(_Block(known.message_type, name.text, brace.text, brace.line))

    def listed(self, name: _Token, known: FieldDescriptor) -> None:
        """`[a, b, c]`, the short way to write a repeated field."""
        if not is_repeated(known):
            self.fail(name.line, f"'{name.text}' takes one value, not a list")
        while self.peek().text != "]":
            if known.message_type is None:
                self.scalar(name, known)
            elif self.peek().text in ("{", "<"):
                self.open(name, known)
                self.inside(len(self.blocks) - 1)
            else:
                self.fail(self.peek().line, f"the list of '{name.text}' holds fields: [{{ ... }}, {{ ... }}]")
            if self.peek().text == ",":
                self.take()
            elif self.peek().text != "]":
                self.fail(self.peek().line, f"expected ',' or ']' in the list of '{name.text}'")
        self.take()

    def scalar(self, name: _Token, known: FieldDescriptor) -> None:
        token = self.take()
        if token.kind not in ("word", "string"):
            self.fail(name.line, f"'{name.text}' has no value; it takes {_kind(known)}")
        if known.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            good = token.kind == "string"
            while good and self.peek().kind == "string":  # "a" "b" is one string
                self.take()
        elif token.kind == "string":
            good = False
        else:
            good = _fits(token.text, known)
        if good:
            return
        enum = known.enum_type
        if enum is None:
            self.fail(token.line, f"'{name.text}' takes {_kind(known)}, not {_short(token.text)}")
        word = token.text.strip("\"'")
        if token.kind == "string" and word in enum.values_by_name:
            self.fail(
                token.line, f"'{name.text}' takes a bare word: write {name.text}: {word} without quotes"
            )
        if enum.name == "LayerType" and token.kind == "string":
            self.fail(
                token.line,
                f"'layers' takes old type names such as CONVOLUTION; write 'layer' for type {token.text}",
            )
        hint = nearest(word, enum.values_by_name)
        if not hint and enum.name == "LayerType":
            hint = '; layers newer than this old form are written layer { type: "Name" ... }'
        hint = hint or f"; it is one of {', '.join(enum.values_by_name)}"
        self.fail(token.line, f"unknown value '{_short(word)}' for '{name.text}'{hint}")

    def skip_value(self, name: _Token) -> None:
        """Pass over the value of a field the schema does not know."""
        if self.peek().text == ":":
            self.take()
        token = self.take()
        if token.text not in _CLOSING:
            if token.kind not in ("word", "string"):
                self.fail(name.line, f"'{name.text}' has no value")
            while token.kind == "string" and self.peek().kind == "string":
                self.take()
            return
        expected = [_CLOSING[token.text]]
        while expected:
            inner = self.take()
            if inner.kind == "end":
                self.fail(token.line, f"the '{token.text}' of '{name.text}' opened here is never closed")
            if inner.text in _CLOSING:
                expected.append(_CLOSING[inner.text])
            elif inner.kind == "mark" and inner.text == expected[-1]:
                expected.pop()

    def edited(self) -> str:
        pieces, position = [], 0
        for start, end, replacement in self.edits:
            newlines = "\n" * self.text.count("\n", start, end)  # later errors keep their line
            pieces += [self.text[position:start], replacement, newlines]
            position = end
        return "".join([*pieces, self.text[position:]])


def _belongs(name: str, message: Descriptor) -> str:
    """A hint for a field written one level too high: `"; it belongs in param { }"`."""
    inside = [
        field.name
        for field in message.fields
        if field.message_type is not None and name in field.message_type.fields_by_name
    ]
    return f"; it belongs in {' or '.join(inside)} {{ }}" if 0 < len(inside) <= 3 else ""


def _short(word: str) -> str:
    """A word as errors repeat it: a long one by its beginning and its length."""
    if len(word) <= _MAX_WORD:
        return word
    plain = word.lstrip("+-")
    return f"{word[:8]}...({len(plain):,} {'digits' if plain.isdecimal() else 'characters'})"


def _kind(known: FieldDescriptor) -> str:
    if known.enum_type is not None:
        return f"one of {', '.join(known.enum_type.values_by_name)}"
    if known.cpp_type in _KIND:
        return _KIND[known.cpp_type]
    low, high = _RANGES[known.cpp_type]
    return f"an integer from {low} to {high}"


def _fits(word: str, known: FieldDescriptor) -> bool:
    """Tell whether a bare word is a value of the field's type."""
    if known.enum_type is not None:
        return (
            word in known.enum_type.values_by_name
            or bool(re.fullmatch(r"\d{1,9}", word))
            and int(word) in known.enum_type.values_by_number
        )
    if known.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return word in _BOOLEANS
    if known.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return len(word) <= _MAX_WORD and bool(_NUMBER.fullmatch(word))
    if len(word) > _MAX_WORD or not _INTEGER.fullmatch(word):
        return False
    low, high = _RANGES[known.cpp_type]
    return low <= _integer(word) <= high


def _integer(word: str) -> int:
    """An integer in C's notation: 0x begins a hexadecimal number, another leading 0 an octal one."""
    digits = word.lstrip("+-")
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") else 10
    return int(digits, base) * (-1 if word.startswith("-") else 1)


def _own_words(error: text_format.ParseError) -> str:
    """The message of protobuf about a text that passed the walk (a number out of range), without its own position."""
    return re.sub(r"^\d+:\d+ ?: ", "", str(error)).replace('"caffe.', '"')


def parse_message(text: str, filename: str, name: str) -> Any:
    """Parse the text of the message called `name`; errors are those of `parse_net`."""
    if len(text) > _MAX_TEXT:
        raise InputError(
            f"{filename}: too large for a prototxt ({len(text) >> 20} MB, {_MAX_TEXT >> 20} at most)"
        )
    walk = _Walk(text, filename, descriptor(name))
    text = walk.run()
    message = message_class(name)()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise InputError(f"{filename}:{error.GetLine() or 1}: {_own_words(error)}") from None
    missing = message.FindInitializationErrors()
    if missing:
        raise InputError(f"{filename}: required field {missing[0]} is missing")
    if name == "NetParameter":
        check_names(message, filename)
    for skipped, line in walk.skipped.items():
        warnings.warn(
            f"{filename}:{line}: '{skipped}' is not a field of Caffe's; it is ignored", stacklevel=3
        )
    return message


def check_names(net: Any, where: str) -> None:
    """Refuse a net whose names hold control characters, which printed tables and errors would pass to a terminal.

    Raises
    ------
    InputError
        A name of the net, or a layer's name, type, bottom or top holds one; the message begins with `where`.
    """
    check_name(net.name, where)
    for layer in [*net.layer, *net.layers]:
        kind = layer.type if isinstance(layer.type, str) else ""
        for name in (layer.name, kind, *layer.bottom, *layer.top):
            check_name(name, where)


def _looks_like_text(source: str) -> bool:
    return "\n" in source or "{" in source or (":" in source and not os.path.exists(source))


def folder_of(source: Any) -> Path | None:
    """The folder of the file that a source of `read_net` names; None for a text, a message or no file."""
    named = isinstance(source, os.PathLike) or (isinstance(source, str) and not _looks_like_text(source))
    return Path(source).parent if named and os.path.isfile(source) else None


def load_text(source: str | os.PathLike[str]) -> tuple[str, str]:
    """The text of a source and the name to call it in messages."""
    if isinstance(source, str) and _looks_like_text(source):
        return source, "<text>"
    path = Path(source)
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; name the prototxt file in it")
    try:
        with open(path, "rb") as file:  # a pipe has no size
            data = file.read(_MAX_TEXT + 1)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > _MAX_TEXT:
        raise InputError(
            f"{path}: over {_MAX_TEXT >> 20} MB, too large for a prototxt; is it a file of weights?"
        )
    if b"\0" in data or data.startswith(b"\x89HDF"):
        raise InputError(f"{path}: this is not a text file; a prototxt is wanted here, weights go elsewhere")
    try:
        return data.decode("utf-8-sig"), str(path)
    except UnicodeDecodeError:
        return data.decode("latin-1"), str(path)  # comments in some local encoding


def parse_net(text: str, filename: str = "<text>") -> Any:
    """Parse the text of a net.

    Parameters
    ----------
    text : str
        Prototxt, in any of the forms Caffe took (`layer`, V1 `layers`, `input` fields); see `upgrade`.
    filename : str
        What error messages call it.

    Returns
    -------
    NetParameter

    Raises
    ------
    InputError
        The text has a mistake: `FILE:LINE: unknown field 'kernel_sise' in ConvolutionParameter; did you mean
        'kernel_size'?`
    """
    return parse_message(text, filename, "NetParameter")


def read_net(source: str | os.PathLike[str]) -> Any:
    """Read a net from a prototxt file or from its text.

    Parameters
    ----------
    source : path or str
        A path, or prototxt text (a string is text if it contains a newline, a brace, or a colon without being
        the name of a file).

    Returns
    -------
    NetParameter
        As written: `upgrade` brings old forms up to date.

    Raises
    ------
    FileNotFoundError, InputError
        There is no such file, it is not text, or the text has a mistake.
    """
    text, filename = load_text(source)
    return parse_message(text, filename, "NetParameter")


def to_text(message: Any) -> str:
    """The prototxt of a message, as Caffe reads it back: every value survives, floats in their shortest form.

    Parameters
    ----------
    message : any message of fcnlite.proto
    """
    return text_format.MessageToString(message, as_utf8=True)


def locate(source: str | os.PathLike[str], layer: str) -> str:
    """Where a layer stands in the text of its net, for the start of an error message.

    Parameters
    ----------
    source : path or str
        What `read_net` was given.
    layer : str
        The layer's name.

    Returns
    -------
    str
        `"FILE:LINE: "`, or an empty string when the layer is not found (a net built by a program).
    """
    try:
        text, filename = load_text(source)
        tokens = list(_tokens(text, filename))
    except (OSError, ValueError):
        return ""
    depth, start, word = 0, 0, ""
    names: list[str] = []
    for before, token in zip([_Token("", "", 0, 0), *tokens], tokens):
        if token.kind == "mark" and token.text in "{<":
            if depth == 0:
                start, word, names = (token if before.text in "[," else before).line, "", []
            depth += 1
        elif token.kind == "mark" and token.text in "}>":
            depth -= 1
            if depth == 0 and names and names[0] == layer:
                return f"{filename}:{start}: "
        elif depth == 1 and token.kind == "word":
            word = token.text
        elif depth == 1 and token.kind == "string" and word == "name":
            names.append(text_encoding.CUnescape(token.text[1:-1]).decode("utf-8", "replace"))
    return ""
