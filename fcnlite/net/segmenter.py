"""A net that turns pictures into label maps, and what loads one from a file of weights.

>>> net = load("fcn8s.h5")                                   # doctest: +SKIP
>>> labels = net.predict("photo.jpg")                        # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from fcnlite import device
from fcnlite.data import Dataset
from fcnlite.data.classes import VOC
from fcnlite.data.dataset import preprocess
from fcnlite.data.files import picture_size, read_photo, to_rgb
from fcnlite.data.folder.dataset import resized, shrunk
from fcnlite.data.notes import Notes
from fcnlite.deploy import deployed
from fcnlite.errors import InputError, warn
from fcnlite.io import iter_weights, read_deploy
from fcnlite.memory import bytes_of, shown
from fcnlite.models import recognise
from fcnlite.net.core import Net
from fcnlite.net.doubts import warn_of_doubts
from fcnlite.net.parameters import lacking
from fcnlite.net.segmentation import Segmentation
from fcnlite.net.tiles import tiling
from fcnlite.progress import progress_bar
from fcnlite.proto import NetParameter, parse_net

_ALLOW = "name the layers as in the file, or allow it (--allow-missing, load(allow_missing=True))"
_READ_BYTES = 20  # that a pixel of a data set takes when it is read: image and label, as bytes and as blobs
Maps: TypeAlias = dict[str, tuple[np.ndarray, np.ndarray]]  # truth and prediction by head


class Segmenter(Net):
    """A net for pictures; parameters, attributes and errors are those of `fcnlite.net.Net`.

    Of a net for training the form for prediction is built: data layers become inputs, losses are left out
    (`fcnlite.deploy.deployed`).

    Attributes
    ----------
    notes : Notes
        Class names, the mean colour that `predict` subtracts, the background class.
    """

    notes: Notes = Notes()

    def form_of(self, param: NetParameter, folder: Path | None) -> NetParameter:
        """The form for prediction."""
        return deployed(param, folder)

    def predict(
        self,
        image: Any,
        mean_bgr: Sequence[float] | None = None,
        output: str | None = None,
        scale: float | None = None,
        memory: str | int | None = None,
    ) -> Any:
        """Segment an image, freeing activations on the way; threads that call it at once are served in turn.

        A net that learned from pictures scaled down to a largest size (its notes tell) sees larger ones so, too.

        Parameters
        ----------
        image : path, PIL.Image or numpy.ndarray, or a list of such
            An array is H x W x 3 uint8, RGB. A file is turned upright if its EXIF says that it lies on a side.
        mean_bgr : sequence of float, optional
            Mean colour to subtract (that of the notes, VOC's unless the weights say otherwise, by default).
        output : str, optional
            The score blob to use, where the net has several.
        scale : float, optional
            Factor after the mean (that of the notes, 1 unless the weights say otherwise, by default).
        memory : str or int, optional
            What the process may hold in all (on a GPU: the arrays there), such as `"2G"` or a number of bytes. A
            picture for which that is too little is worked on in tiles (`fcnlite.net.tiles`), with the same labels.

        Returns
        -------
        numpy.ndarray
            H x W uint8: each pixel's class; a list of such for a list.

        Raises
        ------
        InputError
            The net takes more than one picture; or the memory is too little for the smallest tile, or the net cannot
            work in tiles.
        """
        if isinstance(image, (list, tuple)):
            bar = progress_bar(image, unit="image", leave=False)
            return [self.predict(one, mean_bgr, output, scale, memory) for one in bar]
        return self._run(image, mean_bgr, output, scale, memory, _labels)

    def scores(
        self,
        image: Any,
        mean_bgr: Sequence[float] | None = None,
        output: str | None = None,
        scale: float | None = None,
        memory: str | int | None = None,
    ) -> np.ndarray:
        """Score an image; parameters as for `predict`.

        Returns
        -------
        numpy.ndarray
            C x H x W float32: each pixel's score for each class, as the net gives them. Their maxima are what `predict`
            returns; the FCNs' own are not probabilities, which a softmax over the classes makes of them.
        """
        return self._run(image, mean_bgr, output, scale, memory, _scores)

    def segment(self, image: Any, output: str | None = None, memory: str | int | None = None) -> Segmentation:
        """Segment an image, with its scores: an object that notebooks show.

        Parameters
        ----------
        image, output, memory
            As for `predict`.
        """
        found = self.scores(image, output=output, memory=memory)
        kind = np.uint8 if len(found) <= 256 else np.int32
        names = self.notes.classes.get(output or self.outputs[0]) or [str(k) for k in range(len(found))]
        labels = found.argmax(0).astype(kind)
        return Segmentation(_pixels(image), labels, tuple(names), found, self.notes.background)

    def _run(
        self,
        image: Any,
        mean_bgr: Sequence[float] | None,
        output: str | None,
        scale: float | None,
        memory: str | int | None,
        finish: Callable[[Any], np.ndarray],
    ) -> np.ndarray:
        """What `finish` makes of the scores (C, H, W), at the picture's own size."""
        pixels = self.notes.use(mean_bgr, scale)
        picture = _pixels(image) if pixels.bgr else _pixels(image)[:, :, ::-1]
        small = shrunk(np.ascontiguousarray(picture), pixels.max_size)

        def inputs(rows: slice, columns: slice) -> dict[str, Any]:
            return {self.picture: preprocess(small[rows, columns], pixels.mean_bgr, pixels.scale)[None]}

        with self.exclusive():
            found = _finished(self, output or self.only_output(), small.shape[:2], inputs, finish, memory)
        return resized(found, picture.shape[:2]) if found.shape[-2:] == small.shape[:2] else found

    @property
    def picture(self) -> str:
        """The input that takes the picture, the only one."""
        if len(self.inputs) != 1:
            raise InputError(f"the net takes {', '.join(self.inputs) or 'no input'}, not one picture")
        return self.inputs[0]


def load(
    path: str | os.PathLike[str],
    prototxt: Any = None,
    *,
    allow_missing: bool = False,
    stages: Sequence[str] = (),
    allow_nonfinite: bool = False,
) -> Segmenter:
    """A net ready to predict, from a file of weights.

    Parameters
    ----------
    path : path
        An HDF5 file that fcnlite wrote (it carries its own net), or a bare Caffe HDF5 or .caffemodel of one of the
        paper's nets, which is recognised by its layers' names and shapes.
    prototxt : path, str or NetParameter, optional
        The net to use instead.
    allow_missing : bool
        Warn where the file has nothing for a layer of the net, which then keeps the weights it was built with.
    stages : sequence of str
        For the include and exclude rules of the net's layers.
    allow_nonfinite : bool
        Take weights that are NaN or infinite.

    Returns
    -------
    Segmenter
        In phase TEST, with the weights copied in.

    Raises
    ------
    FileNotFoundError, InputError
        If there is no such file, no net for it, or nothing in it for a layer of the net.
    """
    if Path(path).is_dir():
        raise InputError(f"{os.fspath(path)}: this is a folder; name the file of weights in it")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{os.fspath(path)}: no such weights file")
    source = _description(path) if prototxt is None else prototxt
    try:
        net = Segmenter(source, "TEST", stages=stages)
    except InputError as error:
        raise InputError(str(error) if prototxt is not None else f"{os.fspath(path)}: {error}") from None
    told = lacking(net.copy_from(path, allow_nonfinite, is_new=True), os.fspath(path))
    if told and not allow_missing:
        raise InputError(f"{told}, which would score at random or as one class; {_ALLOW}")
    if told:
        warn(told)
    warn_of_doubts(net, os.fspath(path))
    net.notes = Notes.read(path, {name: blob.channels for name, blob in net.blobs.items()})
    return net


def _description(path: str | os.PathLike[str]) -> Any:
    """The net that a file of weights carries, or else that of the catalogue with its layers."""
    text = read_deploy(path)
    if text:
        return parse_net(text, f"{os.fspath(path)}, attribute 'prototxt'")
    known = recognise({layer: [array.shape for array in arrays] for layer, arrays in iter_weights(path)})
    if known is None:
        raise InputError(
            f"{os.fspath(path)}: its layers are those of no net in the catalogue; give the deploy prototxt too"
        )
    return known


def score_blob(head: str) -> str:
    """The blob with the scores for a label blob: "score" for "label", else "score_sem" for "sem" and so on."""
    return "score" if head == "label" else f"score_{head}"


def _finished(
    net: Net,
    output: str,
    size: tuple[int, int],
    inputs: Callable[[slice, slice], dict[str, Any]],
    finish: Callable[[Any], np.ndarray],
    memory: str | int | None,
) -> np.ndarray:
    """What `finish` makes of the scores (C, H, W) of a picture, tile by tile if the memory is too little for the whole.

    `size` is the picture's; `inputs` gives the net's for a range of its rows and one of its columns.
    """

    def run(rows: slice, columns: slice) -> np.ndarray:
        found = finish(net.infer(output, **inputs(rows, columns))[0])
        net.drop_blobs()
        return found

    if memory is None:
        return run(slice(None), slice(None))
    like = finish(device.current().empty((net.blob(output).shape[1], 1, 1)))
    tiles = tiling(net, output, size, bytes_of(memory), like.nbytes)
    whole = np.empty((*like.shape[:-2], *tiles.size), like.dtype)
    bar = progress_bar(tiles, hidden=len(tiles) == 1, total=len(tiles), unit="tile", leave=False)
    for row, column in bar:
        target = whole[..., row.first : row.last, column.first : column.last]
        found = run(slice(row.begin, row.end), slice(column.begin, column.end))
        target[...] = found[..., row.kept, column.kept]
        del found  # else it would lie beside the next tile's blobs
    return whole


def segment(
    net: Net,
    dataset: Dataset,
    index: int,
    look: Callable[[str, Any, np.ndarray], object] | None = None,
    memory: str | int | None = None,
) -> Maps:
    """Segment one image of a data set.

    Parameters
    ----------
    net : Net
    dataset : Dataset
    index : int
    look : callable, optional
        Called with each label blob's name, its scores, (1, C, H, W) on the device, and its truth, (1, H, W).
    memory : str or int, optional
        As for `Segmenter.predict`; not together with `look`. Each label blob takes a pass of its own then.

    Returns
    -------
    Maps
        For each label blob truth and prediction, (H, W) uint8 each.

    Raises
    ------
    InputError
        The net gives no score for each pixel; or as for `Segmenter.predict`.
    """
    if memory is not None:
        if look is not None:
            raise InputError(
                "scores that a loss is measured on are looked at whole; leave out the memory, or the loss"
            )
        path = dataset.sized_by(dataset.names[index])
        if path is not None:
            check_readable(dataset.names[index], picture_size(path), _READ_BYTES, bytes_of(memory))
    blobs = dataset.blobs(index)
    with net.exclusive():
        if memory is None:
            predictions = _at_once(net, dataset, blobs, look)
        else:
            predictions = _within(memory, net, dataset, index, blobs)
    maps = {head: (blobs[head][0].astype(np.uint8), found) for head, found in predictions.items()}
    for head, (truth, prediction) in maps.items():
        check_size(score_blob(head), prediction, truth.shape)
    return maps


def _at_once(
    net: Net,
    dataset: Dataset,
    blobs: dict[str, np.ndarray],
    look: Callable[[str, Any, np.ndarray], object] | None,
) -> dict[str, np.ndarray]:
    """The labels for each label blob, from one pass."""
    inputs: dict[str, Any] = {name: blobs[name][np.newaxis] for name in net.inputs}
    outputs = {head: score_blob(head) for head in dataset.heads}
    if len(outputs) == 1:
        scores = {head: net.infer(blob, **inputs) for head, blob in outputs.items()}
    else:
        net.forward(**inputs)
        scores = {head: net.blobs[blob].data for head, blob in outputs.items()}
    if look is not None:
        for head, score in scores.items():
            look(head, score, blobs[head])
    predictions = {head: _labels(score[0]) for head, score in scores.items()}
    net.drop_blobs()
    return predictions


def _within(
    memory: str | int, net: Net, dataset: Dataset, index: int, blobs: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The labels for each label blob, in tiles where the memory is too little for the whole."""

    def inputs(rows: slice, columns: slice) -> dict[str, Any]:
        return {name: blobs[name][np.newaxis, :, rows, columns] for name in net.inputs}

    height, width = blobs[net.inputs[0]].shape[1:]
    try:
        return {
            head: _finished(net, score_blob(head), (height, width), inputs, _labels, memory)
            for head in dataset.heads
        }
    except InputError as error:
        raise InputError(f"{dataset.names[index]}: {error}") from None


def check_readable(name: str, size: tuple[int, int], bytes_each: int, memory: int) -> None:
    """Refuse a picture that cannot be read within the memory, before it is read.

    Parameters
    ----------
    name : str
    size : (int, int)
        Height and width.
    bytes_each : int
        What a pixel takes.
    memory : int
        Bytes, of the CPU's memory; a GPU's holds no pictures.

    Raises
    ------
    InputError
    """
    height, width = size
    needed = device.current().held_bytes() + height * width * bytes_each
    if needed > memory and device.current().name == "cpu":
        raise InputError(
            f"{name} has {width} x {height} pixels: to read them takes {shown(needed)} in all, more than the memory"
            f" (--memory) of {shown(memory)}"
        )


def check_size(blob: str, prediction: np.ndarray, wanted: Sequence[int]) -> None:
    """Refuse scores that are not one for each pixel, as of a net without upsampling or its last crop.

    Raises
    ------
    InputError
    """
    if prediction.shape != tuple(wanted):
        height, width = prediction.shape
        raise InputError(
            f"blob '{blob}' scores {height} x {width} positions of an image of {wanted[0]} x {wanted[1]}; "
            "a blob with a score for each pixel is needed"
        )


def class_names(net: Segmenter, output: str) -> tuple[str, ...]:
    """Names of a score blob's classes: those kept with the weights, VOC's for 21, else numbers."""
    if output in net.notes.classes:
        return tuple(net.notes.classes[output])
    count = net.blobs[output].shape[1]
    return VOC if count == len(VOC) else tuple(map(str, range(count)))


def picture_scores(net: Segmenter, wanted: str | None = None) -> str:
    """The blob with the scores of one picture: the one wanted, "score", or the first output.

    Raises
    ------
    InputError
        There is none such, or the net takes more than a picture.
    """
    name = wanted or ("score" if "score" in net.blobs else net.outputs[0])
    if name not in net.blobs:
        raise InputError(
            f"--output {name}: the net has no such blob; its outputs are {', '.join(net.outputs)}"
        )
    if len(net.blobs[name].shape) != 4:
        raise InputError(f"blob '{name}' holds no score maps; choose them with --output")
    if len(net.inputs) != 1:
        takes = ", ".join(net.inputs) or "no input"
        raise InputError(f"the net takes {takes}, not one picture; use fcnlite evaluate")
    return name


def argmax_channels(score: Any) -> np.ndarray:
    """The class of each pixel: (N, C, H, W) scores on the device to (N, H, W) uint8 (int32 above 256 classes)."""
    backend = device.current()
    n, channels, height, width = score.shape
    labels = backend.empty((n, height, width), np.int32)
    backend.launch("argmax_forward", n * height, width, channels, height, score, labels)
    return backend.tonumpy(labels).astype(np.uint8 if channels <= 256 else np.int32)


def _labels(score: Any) -> np.ndarray:
    """The classes (H, W) of scores (C, H, W)."""
    return argmax_channels(score[None])[0]


def _scores(score: Any) -> np.ndarray:
    """Scores (C, H, W) as float32 of NumPy."""
    return device.current().tonumpy(score).astype(np.float32, copy=False)


def _pixels(image: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a path, a PIL image or an array."""
    if isinstance(image, (str, os.PathLike)):
        return read_photo(image)
    if isinstance(image, Image.Image):
        return to_rgb(image)
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise InputError(f"an image array must be H x W x 3 uint8; this one is {pixels.shape} {pixels.dtype}")
    return pixels
