"""Shared by the commands: the argument parser, errors as one line, the device options, stopping between steps."""

from __future__ import annotations

import argparse
import difflib
import functools
import math
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from fcnlite.errors import InputError, printable
from fcnlite.launcher import launched
from fcnlite.memory import bytes_of

if TYPE_CHECKING:
    from fcnlite.net import Segmenter

BAD_INPUT = 2  # exit statuses, as shells and argparse have them
CLOSED_PIPE = 128 + signal.SIGPIPE
_ENDS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_MOST = 2**31 - 1  # Caffe's int
_LONGEST_LINE = 1000  # characters of an error, which may repeat what a file holds

Main = Callable[..., int]


class Parser(argparse.ArgumentParser):
    """An argument parser that tells a mistake in one line, with the nearest option where one is misspelt.

    Parameters
    ----------
    program : str
        How it is called, such as `fcnlite train`.
    """

    def __init__(self, program: str, **options: Any) -> None:
        super().__init__(
            prog=program,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,
        )
        self._given: list[str] = []

    def error(self, message: str) -> NoReturn:
        """Print the mistake, in the first of several processes, and leave with status 2."""
        if launched()[1] == 0:
            line = f"{self.prog}: error: {message}{self._hint(message)} (--help explains)"
            print(line, file=sys.stderr)
        raise SystemExit(BAD_INPUT)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, which tells of options left out before it tells of those that it does not know."""
        self._given = [str(a).partition("=")[0] for a in (sys.argv[1:] if args is None else args)]
        return super().parse_known_args(args, namespace)

    def _hint(self, message: str) -> str:
        if not message.startswith(("unrecognized arguments:", "the following arguments are required:")):
            return ""
        for wrong in self._given:
            if re.match("--?[A-Za-z]", wrong) and wrong not in self._option_string_actions:
                near = difflib.get_close_matches(wrong, self._option_string_actions, 1)
                named = "" if wrong in message else f"{wrong} is unknown: "
                return f"; {named}did you mean {near[0]}?" if near else ""
        return ""


def guarded(
    program: str,
    mistakes: tuple[type[Exception], ...] = (InputError, OSError, MemoryError),
    together: bool | Literal["loud"] = False,
) -> Callable[[Main], Main]:
    """Decorate a command's `main(arguments) -> status`: whatever a user can cause ends in one line.

    Mistakes and missing, unreadable or unwritable files give status 2, Ctrl-C 130, SIGTERM 143, SIGHUP 129, a
    closed pipe 141.

    Parameters
    ----------
    program : str
        How it is called; the line begins so: `fcnlite train: error: ...`.
    mistakes : tuple of exception types
        Errors to tell in a line; any other ends in its traceback.
    together : bool
        The command shares its work out to the processes that mpiexec starts: the first one alone prints, and a mistake
        in any ends all; "loud" lets all of them print. Other commands refuse to run several times at once.
    """

    def decorate(main: Main) -> Main:
        @functools.wraps(main)
        def run(arguments: Sequence[str] | None = None) -> int:
            try:
                with _handling(_interrupt, *_ENDS), _flushed(), _warning(program) as shown:
                    if launched()[0] == 1:
                        return main(arguments)
                    status = _one_of_several(main, arguments, together)
                    _pass_on(shown)
                    return status
            except KeyboardInterrupt as stop:
                return interrupted(program, *stop.args)
            except BrokenPipeError:  # the reader left: `... | head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return CLOSED_PIPE
            except mistakes as error:
                return _end(f"{program}: error: {in_one_line(error)}", BAD_INPUT)

        return run

    return decorate


def _one_of_several(main: Main, arguments: Sequence[str] | None, together: bool | str) -> int:
    """Run a command in one of the processes that mpiexec started; only the first one is heard."""
    if not together:
        raise InputError("it works in one process; start it without mpiexec")
    if launched()[1] == 0 or together == "loud":
        return main(arguments)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        return main(arguments)


def _pass_on(shown: set[str]) -> None:
    """Let the first process warn of what only others have met, each in its share of the work."""
    from fcnlite.parallel import world

    met = world().gather(sorted(shown))
    if world().leads:
        for message in sorted({message for messages in met for message in messages} - shown):
            warnings.warn(message, stacklevel=2)


def _end(line: str, status: int) -> int:
    """Print why the command ends, and end it in all processes; returns the exit status."""
    if launched()[0] > 1:
        from fcnlite.parallel import end_all

        return end_all(line, status)
    with suppress(OSError):  # a terminal that is gone
        print(line, file=sys.stderr)
    return status


@contextmanager
def _warning(program: str) -> Iterator[set[str]]:
    """Show each `UserWarning` of the block once, as one line that does not tear a progress bar."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, UserWarning):
            others(message, category, *where, **more)
        elif str(message) not in shown:
            shown.add(str(message))
            from tqdm import tqdm  # not before it is needed: --help and --version answer at once

            tqdm.write(f"{program}: warning: {printable(' '.join(str(message).split()))}", file=sys.stderr)

    with warnings.catch_warnings():
        others = warnings.showwarning
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield shown


def interrupted(program: str, number: int = signal.SIGINT) -> int:
    """Say in one line that a signal ended the command; returns the exit status."""
    return _end(f"\n{program}: interrupted", 128 + number)


@contextmanager
def _flushed() -> Iterator[None]:
    """Flush standard output at the end of the block, where a closed pipe can still be answered."""
    try:
        yield
    finally:
        if sys.stdout is not None:  # started with `>&-`
            sys.stdout.flush()


def in_one_line(error: Exception) -> str:
    """An error as one line; an error of the system's begins with the file's name."""
    if isinstance(error, MemoryError):
        reason = f"{error}; " if str(error) else ""
        return f"out of memory: {reason}try smaller images or a narrower net"
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fspath(error.filename)}: " if isinstance(error.filename, (str, os.PathLike)) else ""
        return printable(f"{where}{' '.join(error.strerror.split())}")
    line = printable(" ".join(str(error).split())) or type(error).__name__
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} .."


def refuse_overwrite(
    inputs: Iterable[str | os.PathLike[str]], targets: Iterable[str | os.PathLike[str]]
) -> None:
    """Raise if a file to write is one of those to read."""
    read = {Path(path).resolve() for path in inputs}
    lost = next((path for path in targets if Path(path).resolve() in read), None)
    if lost is not None:
        raise InputError(f"{lost} is an input, which would be overwritten; name another file")


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Add --device, --threads and --fast."""
    group = parser.add_argument_group("where it runs")
    group.add_argument(
        "--device",
        metavar="NAME",
        help="cpu, cuda, cuda:N, or auto: the GPU if one answers (default: $FCNLITE_DEVICE, else auto)",
    )
    group.add_argument(
        "--threads",
        type=at_least(1),
        metavar="N",
        help="worker threads on the CPU; results do not depend on it (default: all cores)",
    )
    group.add_argument(
        "--fast",
        action="store_true",
        help="convolve by Winograd's algorithm: less work, scores off by up to 1e-5 of the largest instead of 1e-6",
    )


def add_memory_option(parser: argparse.ArgumentParser) -> None:
    """Add --memory, for pictures in tiles."""
    parser.add_argument(
        "--memory",
        type=memory_amount,
        metavar="AMOUNT",
        help="hold no more than so much, such as 2G or 800M (on a GPU: there), in each process that shares the work; a"
        " picture that takes more is worked on in tiles, each with the margin that its scores depend on, and gets the"
        " same labels",
    )


def add_weights_options(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Add --weights, which may name several files or one, and what `add_net_options` adds."""
    parser.add_argument(
        "--weights",
        required=True,
        nargs="+" if several else None,
        metavar="FILE",
        help="NET.h5, a snapshot, or a .caffemodel" + ("; several are compared" if several else ""),
    )
    add_net_options(parser)


def add_net_options(parser: argparse.ArgumentParser) -> None:
    """Add --prototxt and what else `load_net` reads beside the weights, --mean and --scale."""
    parser.add_argument(
        "--prototxt",
        metavar="FILE",
        help="the net, where the weights do not tell it; of one for training the form for prediction is used",
    )
    add_stage_option(parser)
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="go on where the weights have nothing for a layer, which then keeps what its fillers give",
    )
    parser.add_argument(
        "--allow-nonfinite",
        action="store_true",
        help="take weights that are NaN or infinite, to look at them",
    )
    group = parser.add_argument_group("pixels (default: as noted with the weights, else VOC's mean)")
    group.add_argument(
        "--mean",
        type=colour_value,
        nargs=3,
        metavar=("B", "G", "R"),
        help="subtracted from blue, green and red (0 to 255); 0 0 0 where the net does it itself",
    )
    group.add_argument("--scale", type=amount(positive=True), metavar="X", help="multiplied by then")


def add_stage_option(parser: argparse.ArgumentParser) -> None:
    """Add --stage, for the include and exclude rules of a prototxt's layers."""
    parser.add_argument(
        "--stage",
        "-stage",
        action=_Stages,
        default=[],
        metavar="NAME",
        help='a stage to build the net in, for layers with include { stage: "NAME" }; several with commas between',
    )


class _Stages(argparse.Action):
    """Adds names with commas between them to a list."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        names = [name.strip() for name in str(values).split(",") if name.strip()]
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), *names])


def load_net(options: argparse.Namespace) -> Segmenter:
    """The net that --weights, --prototxt and --allow-missing name."""
    from fcnlite.net import load

    return load(
        options.weights,
        options.prototxt,
        allow_missing=options.allow_missing,
        allow_nonfinite=options.allow_nonfinite,
        stages=options.stage,
    )


def colour_value(text: str) -> float:
    """The type of an option that takes a finite number, such as a mean."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def add_sharing_options(parser: argparse.ArgumentParser) -> None:
    """Add --exact and --scale-batch."""
    group = parser.add_argument_group("several processes (mpiexec -n N fcnlite ...)")
    group.add_argument(
        "--exact",
        action="store_true",
        help="sum large gradients, too, in the order of one process, to get its bits; slower",
    )
    group.add_argument(
        "--scale-batch",
        action="store_true",
        help="let each process make iter_size passes an update, N times as many in all, as Caffe on several GPUs",
    )


def use_device(name: str | None, threads: int | None, fast: bool = False) -> None:
    """Choose the device that the options name; several processes on a machine share its GPUs and cores out."""
    from fcnlite import device
    from fcnlite.parallel import world

    here = world()
    if here.size > 1 and threads is None and "FCNLITE_THREADS" not in os.environ:
        threads = here.cores()
    name = name or os.environ.get("FCNLITE_DEVICE", "auto")
    device.use(name, threads=threads, first_gpu=here.local_rank, fast=fast)


def at_least(least: int) -> Callable[[str], int]:
    """The type of an option that takes whole numbers from `least` on, as far as Caffe counts."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        if value > _MOST:
            raise argparse.ArgumentTypeError(f"{text!r} is more than {_MOST}")
        return value

    return parse


def amount(positive: bool = False) -> Callable[[str], float]:
    """The type of an option that takes finite numbers from 0 on; above 0 if `positive`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not (0 <= value < float("inf")) or (positive and value == 0):
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a number {'above' if positive else 'of at least'} 0"
            )
        return value

    return parse


def memory_amount(text: str) -> int:
    """The type of an option that takes an amount of memory, `2G`."""
    try:
        return bytes_of(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def fraction(text: str) -> float:
    """The type of an option that takes a number above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and at most 1")
    return value


def image_size(text: str) -> tuple[int, int]:
    """The type of an option that takes the height and width of an image, `334x500`."""
    found = re.fullmatch(r"(\d+)x(\d+)", text.lower())
    if not found or min(map(int, found.groups())) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not HEIGHTxWIDTH in pixels, such as 334x500")
    return int(found[1]), int(found[2])


class Stop:
    """The user's wish to stop: true after the first Ctrl-C (or SIGTERM)."""

    def __init__(self) -> None:
        self.signal = 0

    def __bool__(self) -> bool:
        return self.signal != 0


@contextmanager
def stopping(program: str) -> Iterator[Stop]:
    """While active, the first Ctrl-C, SIGTERM or SIGHUP only sets the yielded flag, to stop between two steps.

    A second one interrupts at once.
    """
    stop = Stop()

    def ask(number: int, frame: Any) -> None:
        if stop:
            _interrupt(number, frame)
        stop.signal = number
        with suppress(OSError):  # a terminal that is gone
            print(f"\n{program}: stopping after this step; once more to stop at once", file=sys.stderr)

    with _handling(ask, signal.SIGINT, *_ENDS):
        yield stop


def _interrupt(number: int, frame: Any) -> NoReturn:
    """End as Ctrl-C does, so that nothing half-written stays behind; the signal decides the exit status."""
    raise KeyboardInterrupt(number)


@contextmanager
def _handling(handler: Callable[[int, Any], None], *signals: int) -> Iterator[None]:
    """Install the handler for the length of the block, for signals that are not ignored (as SIGHUP under nohup).

    Outside the main thread, where Python forbids it, nothing is done.
    """
    heard = [which for which in signals if signal.getsignal(which) != signal.SIG_IGN]
    try:
        before = {which: signal.signal(which, handler) for which in heard}
    except ValueError:
        before = {}
    try:
        yield
    finally:
        for which, earlier in before.items():
            signal.signal(which, earlier)
