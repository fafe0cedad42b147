"""Train a net: `fcnlite train`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fcnlite import device, models
from fcnlite.commands.data import add_data_options as add_own_data_options
from fcnlite.commands.data import look
from fcnlite.commands.options import (
    Parser,
    add_device_options,
    add_sharing_options,
    amount,
    at_least,
    fraction,
    guarded,
    in_one_line,
    stopping,
    use_device,
)
from fcnlite.data import HIDE, catalogue
from fcnlite.data.folder import MANIFEST, Report
from fcnlite.data.skipping import Skipping
from fcnlite.errors import InputError
from fcnlite.io.lock import owning
from fcnlite.parallel import world
from fcnlite.training.build import open_data
from fcnlite.training.chain import TAKE, Chain, holds_chain, is_classifier, stages_of
from fcnlite.training.class_weights import class_weights
from fcnlite.training.plan import Plan, net_name, own_images, plan_from, resumed, style_of
from fcnlite.training.recipes import HEAVY
from fcnlite.training.run_folder import SETTINGS, RunFolder
from fcnlite.training.trainer import Trainer
from fcnlite.training.watchers import EventWriter, PageWriter, Watcher

_HELP = """\
Train a fully convolutional net.

  fcnlite train shapes                     the demo: draws its own data; a few minutes on two cores
  fcnlite train voc --data VOCdevkit --net fcn32s --init vgg16.caffemodel
  fcnlite train voc --data VOCdevkit --net fcn16s --init runs/voc-fcn32s/fcn32s.h5
  fcnlite train voc --data VOCdevkit --net fcn8s --init vgg16.caffemodel
                                                     all three stages: fcn32s, fcn16s from it, fcn8s from that
  fcnlite train folder --images photos --masks masks
                                                     your own pictures, from nothing; masks as images of class numbers,
                                                     of 0 and 255, of colours, or as LabelMe's or COCO's .json
  fcnlite train folder --data MY_FOLDER --init runs/folder-fcn8s/fcn8s.h5
                                                     the same from weights, in a folder that holds both; the classes may
                                                     be others than those of the weights
  fcnlite train --resume runs/voc-fcn32s   go on with a run that was stopped

Started from weights (--init), a net learns by the paper's "heavy" recipe: one image a step at its own size, the
loss summed over its pixels, momentum 0.99, a learning rate for each net. From nothing that learns too slowly: the
loss is averaged, the rate higher and falling, momentum 0.9, fc6 and fc7 smaller (--recipe scratch). Your own pictures
(folder, or voc with a classes.txt) are learned so from weights, too, at a tenth of the rate; each is seen 20 times or
more and changed at random, the net is validated 20 times, and the run ends with the best weights (--recipe own). Any
single setting can be given. A Caffe solver file is trained by fcnlite solve SOLVER.prototxt.

A run's folder gets settings.json, log.jsonl (a line an iteration), loss.png, snapshots, validation scores with
pictures, and at the end NET.h5, for fcnlite predict. Ctrl-C saves a snapshot; a resumed run ends with the
same bits as one that was never stopped.
"""


def parser() -> argparse.ArgumentParser:
    """The command's options; one that is not given is absent from the result."""
    made = Parser("fcnlite train", description=_HELP, argument_default=argparse.SUPPRESS)
    made.add_argument(
        "data_set",
        nargs="?",
        metavar="DATA_SET",
        help=f"{', '.join(catalogue.names())} (default: shapes)",
    )
    _add_data_options(made.add_argument_group("data"))
    _add_net_options(made.add_argument_group("net"))
    _add_learning_options(made.add_argument_group("learning (defaults: the net's recipe)"))
    _add_run_options(made.add_argument_group("run"))
    add_device_options(made)
    add_sharing_options(made)
    return made


def _add_data_options(group: Any) -> None:
    group.add_argument(
        "--data",
        metavar="DIR",
        help="the data set's folder (default: data/NAME; for shapes in the run's folder, drawn there if need be)",
    )
    add_own_data_options(group)
    group.add_argument(
        "--no-check",
        dest="check",
        action="store_false",
        help="train on your own pictures in spite of what fcnlite data check finds",
    )
    group.add_argument("--split", metavar="LIST", help="images to train on (default: the paper's choice)")
    group.add_argument(
        "--val-split", metavar="LIST", help="images to validate on (default: the paper's choice)"
    )
    group.add_argument("--year", type=int, choices=(2011, 2012), help="which VOC, where the folder has both")
    group.add_argument(
        "--sbd",
        metavar="DIR",
        help="voc: train on SBD's images, as the paper does, and validate on VOC 2011 val without them",
    )
    group.add_argument(
        "--labels", metavar="DIR", help="voc: the folder of labels, such as SegmentationClassAug"
    )
    group.add_argument("--mapping", metavar="FILE", help="nyud: what maps its 894 classes to 40")
    group.add_argument("--context", metavar="DIR", help="pascalcontext: the folder of its labels")
    group.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="mirror images at random (default: no; for shapes, yes)",
    )
    group.add_argument(
        "--jitter",
        type=at_least(0),
        nargs="?",
        const=32,
        metavar="PIXELS",
        help="shift images at random by up to so many pixels (32, as in the paper, if no number is given)",
    )
    group.add_argument(
        "--zoom",
        type=at_least_one,
        metavar="FACTOR",
        help="scale images at random by 1/FACTOR to FACTOR (default: 1, not at all; own pictures: 1.25)",
    )
    group.add_argument(
        "--recolor",
        type=amount(),
        metavar="AMOUNT",
        help="change contrast, brightness and colours at random (default: 0, not at all; own pictures: 0.2)",
    )
    group.add_argument(
        "--no-augment",
        action="store_true",
        help="own pictures: none of the random changes but those given (--mirror, --jitter, --zoom, --recolor)",
    )
    group.add_argument(
        "--hide",
        choices=HIDE,
        help="mask images by their labels, to see what a net goes by; both: only the shape is shown",
    )
    group.add_argument(
        "--sample-patches",
        type=fraction,
        metavar="P",
        help="let a random share P of each image's pixels count in the loss, and 1/P times the images an update",
    )
    group.add_argument(
        "--order",
        choices=("random", "file"),
        help="random: a seeded draw for each step, as the original; file: the list's order, over and over",
    )


def _add_net_options(group: Any) -> None:
    group.add_argument(
        "--net", metavar="NAME", help=f"{', '.join(HEAVY)} (default: stride 32; shapes: fcn8s)"
    )
    group.add_argument(
        "--width",
        type=at_least(1),
        metavar="W",
        help="channels of conv1, on which all others' depend (default: as in --init, else 64; shapes: 8)",
    )
    group.add_argument(
        "--fc",
        type=at_least(1),
        metavar="N",
        help="channels of fc6 and fc7 (default: as in --init, else 8 times the width)",
    )
    group.add_argument(
        "--init",
        action="append",
        metavar="WEIGHTS",
        help="a classifier or an FCN to start from, .caffemodel or .h5 (nyud late fusion: twice, color then hha)",
    )

    group.add_argument(
        "--chain",
        action=argparse.BooleanOptionalAction,
        help="train the coarser nets first, each stage from the last one's weights (default: where --init is a"
        " classifier and the net starts from a coarser one)",
    )
    group.add_argument(
        "--stage-weights",
        choices=TAKE,
        help="which weights of a stage the next one starts from; best: in validation (default: final)",
    )


def _add_learning_options(group: Any) -> None:
    group.add_argument(
        "--recipe",
        choices=("heavy", "cvpr15", "scratch", "own"),
        help="the settings below: the journal's, the conference paper's, for training from nothing, for own pictures",
    )
    group.add_argument(
        "--fixed", action="store_true", help="learn the score layers only, as the paper's FCN-32s-fixed"
    )
    group.add_argument(
        "--freeze",
        action="append",
        metavar="PATTERN",
        help="layers that keep their weights, such as 'conv[12]_*'; may be given several times",
    )
    group.add_argument(
        "--class-weights",
        metavar="balanced|FILE",
        help="weigh the loss of each class's pixels: the rarer the more, w = N / (C n), or by lines NAME,WEIGHT",
    )
    group.add_argument("--iterations", type=at_least(1), metavar="N", help="weight updates")
    group.add_argument("--lr", type=amount(positive=True), metavar="RATE", help="learning rate")
    group.add_argument(
        "--power",
        type=amount(),
        metavar="P",
        help="let the rate fall as (1 - iteration / iterations) ** P; 0 keeps it",
    )
    group.add_argument(
        "--clip",
        type=amount(),
        metavar="NORM",
        help="scale larger gradients down to this L2 norm; 0: never",
    )
    group.add_argument("--momentum", type=amount(), metavar="M")
    group.add_argument("--weight-decay", type=amount(), metavar="D")
    group.add_argument("--iter-size", type=at_least(1), metavar="N", help="images an update")
    group.add_argument(
        "--normalize", action=argparse.BooleanOptionalAction, help="average the loss over pixels, or sum it"
    )
    group.add_argument("--average-loss", type=at_least(1), metavar="N", help="losses in the one displayed")
    group.add_argument("--seed", type=at_least(0), help="of weights, dropout and image order (default: 1337)")


def _add_run_options(group: Any) -> None:
    group.add_argument("--out", metavar="RUN", help="the run's folder (default: runs/DATA_SET-NET)")
    group.add_argument(
        "--resume",
        metavar="STATE",
        help="go on from a .solverstate[.h5], or from the last one in a run's folder",
    )
    group.add_argument(
        "--snapshot", type=at_least(0), metavar="N", help="save and validate every N; 0: only at the end"
    )
    group.add_argument(
        "--validate", type=at_least(0), metavar="N", help="validate on the first N images (default: all)"
    )
    group.add_argument(
        "--keep",
        type=at_least(0),
        metavar="N",
        help="newest snapshots to keep beside the best; 0: all (default: 3)",
    )
    group.add_argument(
        "--final",
        choices=("last", "best"),
        help="the weights to end with: the last, or the best by mean IU (default: last; own pictures: best)",
    )
    group.add_argument(
        "--patience",
        type=at_least(0),
        metavar="N",
        help="stop when N validations in a row bring no better mean IU; 0: never (default)",
    )
    group.add_argument(
        "--report-every",
        type=at_least(1),
        nargs="?",
        const=1,
        metavar="N",
        help="write report.html in the run's folder after every Nth validation (default without N: every one)",
    )
    group.add_argument(
        "--tensorboard",
        action="store_true",
        help="write event files for TensorBoard in the run's folder, too",
    )


def at_least_one(text: str) -> float:
    """The type of an option that takes a factor of at least 1."""
    factor = amount(positive=True)(text)
    if factor < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return factor


def _prepare(given: dict[str, Any]) -> Trainer:
    """The run that the options ask for, ready to start: a new one, or one to go on with."""
    here = world()
    plan, folder, state = here.from_leader(lambda: _plan(given))
    try:
        if here.leads and not folder.holds_run():
            folder.begin(plan, state)
        trainer = Trainer(plan, folder, state, world=here, exact=given.get("exact", False))
        trainer.write_description()
        if here.leads:
            trainer.watchers = _watchers(given, folder)
    except BaseException:
        folder.discard()
        raise
    return trainer


def _watchers(given: dict[str, Any], folder: RunFolder) -> list[Watcher]:
    """The watchers that the options ask for."""
    made: list[Watcher] = []
    if "report_every" in given:
        made.append(PageWriter(folder.path, given["report_every"], tqdm.write))
    if given.get("tensorboard"):
        made.append(EventWriter(folder.path))
    return made


def _plan(given: dict[str, Any]) -> tuple[Plan, RunFolder, Path | None]:
    """The plan that the options ask for, the run's folder, owned, and the solver state that it goes on from."""
    named = Path(given["resume"]) if "resume" in given else None
    if named is not None and not named.exists():
        raise FileNotFoundError(f"--resume {named}: there is no such file or folder")
    folder = None if named is None else RunFolder(named) if named.is_dir() else RunFolder.around(named)
    if folder is not None:
        return _resumed(folder, given)
    out = Path(given["out"]) if "out" in given else _unused(given)
    report = _look(given)
    folder = RunFolder.create(out, begun=(MANIFEST,))
    try:
        if report is not None:
            report.manifest.write(out / MANIFEST)
        plan = plan_from(given, out)
        if "class_weights" in given:
            plan.class_weights = class_weights(given["class_weights"], open_data(plan)[0])
        if given.get("scale_batch") and world().size > 1:
            plan.iter_size *= world().size
            print(f"{plan.iter_size} images an update: --scale-batch for {world().size} processes")
        world().share(plan.iter_size)
    except BaseException:
        folder.discard()
        raise
    return plan, folder, named


def _refuse_options_of_folder(given: dict[str, Any]) -> None:
    """Raise for options that only the data set `folder` has, given with another one."""
    name = catalogue.canonical(given.get("data_set", "shapes"))
    own = ("images", "masks", "colors", "classes", "void", "max_size", "resize_masks", "val_share")
    wrong = [option.replace("_", "-") for option in own if option in given]
    if wrong and name != "folder" and "resume" not in given:
        raise InputError(f"--{wrong[0]} goes with the data set folder, not with {name}")


def _look(given: dict[str, Any]) -> Report | None:
    """Check the pictures of `folder` before they are trained on; None for other data sets.

    Raises
    ------
    InputError
        Training would fail or mislead.
    """
    if catalogue.canonical(given.get("data_set", "shapes")) != "folder":
        return None
    report = look(given, given.get("data"))
    for kind, lines in (("note", report.manifest.encoding.remarks), ("warning", report.warnings)):
        for line in lines:
            print(f"{kind}: {line}")
    if report.errors and given.get("check", True):
        more = f" (and {len(report.errors) - 1} more: see fcnlite data check)" if report.errors[1:] else ""
        raise InputError(f"{report.errors[0]}{more}")
    return report


def _resumed(folder: RunFolder, given: dict[str, Any]) -> tuple[Plan, RunFolder, Path | None]:
    """As `_plan`: from the snapshot that --resume names, else the last one that is whole, else the run's start."""
    if "out" in given and Path(given["out"]).resolve() != folder.path.resolve():
        raise InputError(f"--resume goes on in {folder.path}; leave --out out")
    if not folder.holds_run():
        raise InputError(f"--resume {folder.path}: no run was started in this folder")
    folder.take()
    plan = Plan.from_json(folder.read_settings()["plan"], folder.path / SETTINGS)
    named = Path(given["resume"])
    state = named if named.is_file() else folder.latest() or folder.origin
    return resumed(plan, given, folder.path), folder, state


def _unused(given: dict[str, Any]) -> Path:
    name = catalogue.canonical(given.get("data_set", "shapes"))
    return RunFolder.unused(f"{name}-{net_name(name, given.get('net')).removeprefix(f'{name}-')}")


def _introduce(trainer: Trainer) -> None:
    """Say what is about to be trained."""
    plan, backend = trainer.plan, device.current()
    parameters = sum(blob.count for blobs in trainer.net.params.values() for blob in blobs)
    threads = getattr(backend, "threads", None)
    where = f"{backend.name}, {threads} threads" if threads else backend.name
    val = (
        f", {trainer.validation_images} of {plan.val_split} to validate" if trainer.validation_images else ""
    )
    loss = "mean" if plan.normalize else "sum"
    falling = f" falling (power {plan.power:g})" if plan.power else ""
    if trainer.world.size > 1:
        where = f"{trainer.world.size} processes, each on {where}"
    trainer.say(f"net: {plan.net}, {parameters / 1e6:.2f} million parameters, on {where}")
    trainer.say(f"data: {len(trainer.train_data)} images of {trainer.train_data.folder} ({plan.split}){val}")
    trainer.say(
        f"learning: {plan.iterations} iterations, rate {plan.lr:g}{falling}, "
        f"momentum {plan.momentum:g}, decay {plan.weight_decay:g}, loss: {loss} over pixels, seed {plan.seed}"
    )
    if plan.sample_patches < 1:
        share = f"{100 * plan.sample_patches:g} % of each image's pixels, drawn at random"
        trainer.say(f"patches: {share}; {plan.iter_size} images an update")
    start = f", going on from iteration {trainer.iteration}" if trainer.iteration else ""
    trainer.say(f"run: {trainer.folder.path}{start}")


def _conclude(trainer: Trainer, weights: Path, iteration: int) -> None:
    """Show the scores of the weights, and what to do with them."""
    validation = trainer.folder.path / "validation" / f"iter_{iteration}"
    if trainer.evaluation is not None:
        if iteration != trainer.iteration:
            print(f"\nbest in validation: iteration {iteration}")
        print(f"\n{validation.with_suffix('.txt').read_text(encoding='utf-8')}")
        print(f"pictures: {validation.with_suffix('.png')}")
    if isinstance(trainer.train_data, Skipping) and trainer.train_data.skipped:
        print(f"skipped: {len(trainer.train_data.skipped)} images that cannot be read")
    print(f"loss curve: {trainer.folder.path / 'loss.png'}")
    print(f"weights: {weights}")
    print(f"segment pictures with: fcnlite predict IMAGE --weights {weights} --out FOLDER")


@guarded("fcnlite train", together=True)
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    given = vars(parser().parse_args(arguments))
    if given.pop("no_augment", False):
        given = {"mirror": False, "jitter": 0, "zoom": 1.0, "recolor": 0.0} | given
    if given.get("data_set", "").endswith(".prototxt"):
        file = given["data_set"]
        raise InputError(f"{file} is a Caffe solver file, not a data set; use: fcnlite solve {file}")
    _refuse_options_of_folder(given)
    use_device(given.get("device"), given.get("threads"), given.get("fast", False))
    with owning():
        chain = world().from_leader(lambda: _chain(given))
        if chain is None:
            return _train(given)
        of_processes = {option: given[option] for option in ("exact", "scale_batch") if option in given}
        return _train_stages(chain[0], chain[1] | of_processes)


def _train(given: dict[str, Any], again: Path | None = None) -> int:
    """Train one net; `again` is what --resume goes on with if it is not the last snapshot."""
    trainer = _prepare(given)
    _introduce(trainer)
    try:
        with stopping("fcnlite train") as stop:
            finished = trainer.run(stop)
        if finished:
            weights, iteration = trainer.finish()
            if trainer.world.leads:  # the others might look for its files before they are there
                _conclude(trainer, weights, iteration)
            _close_watchers(trainer, finished=True)
            return 0
    except KeyboardInterrupt:
        _say_how_to_go_on(trainer, again)
        raise
    except Exception as error:
        trainer.rescue(error)
        if not isinstance(error, (InputError, OSError, MemoryError)) or isinstance(error, BrokenPipeError):
            _say_how_to_go_on(trainer, again)
            raise
        at = (
            f"after iteration {trainer.iteration}, at {', '.join(trainer.images)}"
            if trainer.images
            else "at once"
        )
        going_on = _how_to_go_on(trainer, again)
        raise InputError(f"{in_one_line(error)}; the run stopped {at}; go on with: {going_on}") from error
    finally:
        _close_watchers(trainer, finished=False)
    _say_how_to_go_on(trainer, again)
    return 128 + stop.signal


def _close_watchers(trainer: Trainer, finished: bool) -> None:
    """End what looks on, once."""
    while trainer.watchers:
        trainer.watchers.pop().close(finished)


def _how_to_go_on(trainer: Trainer, again: Path | None) -> str:
    """The command that goes on from the last good snapshot, or from the start where there is none."""
    where = again or trainer.saved or trainer.folder.path
    return f"fcnlite train {trainer.plan.name} --resume {where}"


def _say_how_to_go_on(trainer: Trainer, again: Path | None) -> None:
    with suppress(OSError):  # a terminal that is gone
        print(f"\nstopped after iteration {trainer.iteration}; go on with:", file=sys.stderr)
        print(f"  {_how_to_go_on(trainer, again)}", file=sys.stderr)


# Chains of nets


def _chain(given: dict[str, Any]) -> tuple[Chain, dict[str, Any]] | None:
    """The chain that the options ask for, new or to go on with, and what they say anew; None for a single net."""
    apart = (
        "chain",
        "stage_weights",
        "out",
        "resume",
        "net",
        "device",
        "threads",
        "fast",
        "exact",
        "scale_batch",
    )
    options = {option: value for option, value in given.items() if option not in apart}
    if "resume" in given and holds_chain(given["resume"]):
        chain = Chain.read(Path(given["resume"]))
        wanted = models.canonical(given.get("net", chain.stages[-1]))
        if wanted != chain.stages[-1]:
            raise InputError(f"the chain in {chain.path} ends with {chain.stages[-1]}, not with {wanted}")
        return chain, options
    name = catalogue.canonical(given.get("data_set", "shapes"))
    net = net_name(name, given.get("net"))
    stages = stages_of(net) if net in HEAVY else [net]
    style = _style(name, given)
    if not given.get("chain", style != "own" and _starts_from_classifier(stages, given)):
        if "stage_weights" in given:
            raise InputError("--stage-weights goes with a chain of nets, --chain")
        return None
    if len(stages) == 1 or "resume" in given:
        why = "--resume names no chain" if "resume" in given else f"{net} does not start from a coarser net"
        raise InputError(f"--chain: {why}; leave it out")
    options.setdefault("recipe", style)
    out = Path(given["out"]) if "out" in given else _unused(given)
    if name == "shapes":
        options.setdefault("data", str(out / "data"))
    return Chain.create(out, stages, given.get("stage_weights", TAKE[0]), options), {}


def _style(name: str, given: dict[str, Any]) -> str:
    """The recipe of a new run; a run to go on with keeps its own."""
    own = "resume" not in given and (name == "folder" or own_images(name, given) is not None)
    return style_of(given, own)


def _starts_from_classifier(stages: Sequence[str], given: dict[str, Any]) -> bool:
    """True if the net is one that the paper starts from a coarser one, and --init names a classifier."""
    return (
        len(stages) > 1
        and "resume" not in given
        and len(given.get("init", ())) == 1
        and is_classifier(given["init"][0])
    )


def _train_stages(chain: Chain, now: dict[str, Any]) -> int:
    """Train what is left of a chain."""
    here = world()
    for number, stage in enumerate(chain.stages):
        done, options = here.from_leader(partial(_stage, chain, number, now))
        told = f"done, {done}" if done else chain.folder(number).path
        print(f"stage {number + 1} of {len(chain.stages)}, {stage}: {told}")
        if done:
            continue
        try:
            status = _train(options, again=chain.path)
        except BaseException:
            if here.leads:
                chain.discard_if_unused()
            raise
        if status:
            return status
    print(f"all stages done: {here.from_leader(chain.finish)}")
    return 0


def _stage(chain: Chain, number: int, now: dict[str, Any]) -> tuple[Path | None, dict[str, Any]]:
    """A stage's final weights, if it is done, else the options that train it."""
    done = chain.weights(number)
    return (done, {}) if done else (None, chain.options(number, now))
