"""pycaffe's Net over fcnlite's: same names, same calls, NumPy arrays in and out.

Everything a script may look at stays as Caffe leaves it: blobs keep their data and diff after a pass, arrays once
taken stay the net's own, and parameters' diffs hold the step after an update.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import numpy as np

from fcnlite import device
from fcnlite import net as core
from fcnlite.caffe.session import choose_mode
from fcnlite.caffe.structure import Structure
from fcnlite.errors import InputError, as_caffe, warn
from fcnlite.hostblob import push
from fcnlite.io.caffemodel import write_caffemodel
from fcnlite.io.hdf5 import write_hdf5
from fcnlite.layers.sources.data import MemoryData
from fcnlite.net.doubts import warn_of_doubts
from fcnlite.net.parameters import lacking
from fcnlite.proto import TEST

Hook = Callable[[int], object]


def _hook(event: str) -> Callable[[Net, Hook], None]:
    """The method of `Net` that registers a hook for an event, such as "before_forward"."""

    def add(self: Net, hook: Hook) -> None:
        self._hooks.setdefault(event, []).append(hook)

    moment, way = event.split("_")
    add.__name__ = event
    add.__doc__ = f"Call `hook(layer number)` {moment} each layer's {way}."
    return add


class Net(Structure):
    """A net (pycaffe's `caffe.Net`), in any of its forms.

    ::

        Net(network_file, phase, level=0, stages=None, weights=None)
        Net(network_file, weights, phase)

    It lives on the device that is current when it is made.

    Parameters
    ----------
    network_file : path
        Prototxt.
    phase : int
        `caffe.TRAIN` or `caffe.TEST`.
    level, stages : int, list of str
        For the include and exclude rules of layers.
    weights : path, optional
        Weights to copy in, `.caffemodel` or HDF5.

    Attributes are those of `Structure`.

    Raises
    ------
    FileNotFoundError, InputError
        Naming file, line and layer, where the net cannot be built.
    """

    def __init__(self, network_file: Any, *arguments: Any, **named: Any):
        phase, level, stages, weights = _net_arguments(arguments, named)
        choose_mode()
        with as_caffe():
            self._show(core.Net(network_file, phase, level=level, stages=stages))
        if weights is not None:
            self.copy_from(weights)

    def _show(self, net: core.Net) -> None:
        super()._show(net)
        self._hooks: dict[str, list[Hook]] = {}
        self._told = False

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: Any,
    ) -> dict[str, np.ndarray]:
        """Run forward.

        Parameters
        ----------
        blobs : list of str, optional
            Blobs to return besides the outputs.
        start, end : str, optional
            First and last layer to run.
        **kwargs : numpy.ndarray
            Content of all input blobs, in their present shapes.

        Returns
        -------
        dict of str to numpy.ndarray
            The data of the outputs (with `end`: of that layer's tops).
        """
        first, last = self._index(start, 0), self._index(end, len(self.layers) - 1)
        returned = [*(self.outputs if end is None else self.top_names[end]), *(blobs or ())]
        with self._running():
            _fill(self, "input", self.inputs, kwargs, "data")
            self._run_forward(first, last)
            return {name: self._blob(name).data for name in returned}

    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: Any,
    ) -> dict[str, np.ndarray]:
        """Run backward from the losses, or from the diffs that the outputs hold; parameters' diffs are added to.

        Parameters
        ----------
        diffs : list of str, optional
            Blobs whose diffs to return besides the inputs'.
        start, end : str, optional
            First (nearest the output) and last layer to run.
        **kwargs : numpy.ndarray
            Diffs of all outputs.

        Returns
        -------
        dict of str to numpy.ndarray
            The diffs of the inputs (with `end`: of that layer's bottoms).
        """
        first, last = self._index(start, len(self.layers) - 1), self._index(end, 0)
        returned = [*(self.inputs if end is None else self.bottom_names[end]), *(diffs or ())]
        with self._running():
            _fill(self, "output", self.outputs, kwargs, "diff")
            self._backward(first, last)
            return {name: self._blob(name).diff for name in returned}

    def _run_forward(self, first: int, last: int) -> None:
        with self._running():
            tell_doubts(self)
            for i in range(first, last + 1):
                self._call("before_forward", i)
                self._net.forward_node(self._nodes[i])
                self._call("after_forward", i)

    def _forward(self, first: int, last: int) -> float:
        """Run layers number `first` to `last`; returns the sum of their weighted losses."""
        self._run_forward(first, last)
        loss = 0.0
        with self._running():
            for node in self._nodes[first : last + 1]:
                for top, weight in zip(node.tops, node.layer.loss_weights):
                    loss += weight * float(top.data.sum()) if weight else 0.0
        return loss

    def _backward(self, first: int, last: int) -> None:
        """Run layers number `first` down to `last` backward."""
        with self._running():
            for i in range(first, last - 1, -1):
                node = self._nodes[i]
                if node.layer.loss_weights and not all(
                    top.has_diff for top, weight in zip(node.tops, node.layer.loss_weights) if weight
                ):
                    node.seed()  # a reshape has lost the loss_weight
                self._call("before_backward", i)
                if node.runs_back:
                    node.backward()
                self._call("after_backward", i)

    def forward_all(self, blobs: Sequence[str] | None = None, **kwargs: Any) -> dict[str, np.ndarray]:
        """Run any number of inputs forward, a batch at a time.

        Parameters
        ----------
        blobs : list of str, optional
            Blobs to return besides the outputs.
        **kwargs : numpy.ndarray
            Content of all input blobs, of one length along the first axis; the last batch is filled up with zeros.

        Returns
        -------
        dict of str to numpy.ndarray
            One entry an input along the first axis.
        """
        outs = [_copied(self.forward(blobs, None, None, **batch)) for batch in _batches(self, kwargs)]
        return _joined(outs, _length(kwargs))

    def forward_backward_all(
        self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None, **kwargs: Any
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Run any number of inputs forward and of output diffs backward, a batch at a time.

        Parameters
        ----------
        blobs, diffs : list of str, optional
            What to return besides the outputs' data and the inputs' diffs.
        **kwargs : numpy.ndarray
            Content of the inputs and diffs of the outputs.

        Returns
        -------
        tuple of dict of str to numpy.ndarray
            Data and diffs, one entry an input along the first axis.
        """
        forwards = _batches(self, {name: kwargs[name] for name in self.inputs if name in kwargs})
        backwards = _batches(self, {name: kwargs[name] for name in self.outputs if name in kwargs})
        outs, backs = [], []
        for inputs, given in zip_longest(forwards, backwards):
            outs.append(_copied(self.forward(blobs, None, None, **(inputs or {}))))
            backs.append(_copied(self.backward(diffs, None, None, **(given or {}))))
        length = _length(kwargs)
        return _joined(outs, length), _joined(backs, length)

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Give a net whose first layer is MemoryData its images and labels.

        Parameters
        ----------
        data : numpy.ndarray
            (N, C, H, W) float32, N a multiple of the batch size.
        labels : numpy.ndarray
            (N,) or (N, 1, 1, 1) float32.
        """
        first = self._net.layers[0] if self._net.layers else None
        if not isinstance(first, MemoryData):
            raise InputError("set_input_arrays needs a net whose first layer is MemoryData")
        first.reset(data, labels)

    def reshape(self) -> None:
        """Size every blob for the inputs' present shapes."""
        with self._running():
            self._net.reshape()

    def clear_param_diffs(self) -> None:
        """Set the parameters' diffs to zero."""
        with self._running():
            for param in self._net.learnable_params:
                param.blob.diff.fill(0)

    before_forward = _hook("before_forward")
    after_forward = _hook("after_forward")
    before_backward = _hook("before_backward")
    after_backward = _hook("after_backward")

    def copy_from(self, weights: str | os.PathLike[str]) -> None:
        """Copy parameters in by layer name, from `.caffemodel` or HDF5."""
        with self._running():
            told = lacking(self._net.copy_from(weights), weights)
        if told and self._net.phase == TEST:  # before training, other layers learn anew
            warn(told)

    def load_hdf5(self, path: str | os.PathLike[str]) -> None:
        """Copy parameters in from an HDF5 file."""
        self.copy_from(path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write net and parameters as `.caffemodel`, whatever the file's suffix."""
        write_caffemodel(path, _arrays(self).items(), self._net.definition())

    def save_hdf5(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters as HDF5, whatever the file's suffix."""
        write_hdf5(path, _arrays(self).items())

    def share_with(self, other: Net) -> None:
        """Use the other net's parameters, by layer name: a change to either is a change to both."""
        with self._running():
            self._net.share_with(other._net)

    @contextmanager
    def _running(self) -> Iterator[None]:
        """On the net's device, and in one thread at a time: another one's call is an error meanwhile."""
        push()
        with device.using(self._backend), as_caffe(), self._net.exclusive(wait=False):
            yield

    def _call(self, when: str, layer: int) -> None:
        for hook in self._hooks.get(when, ()):
            hook(layer)
            push()


def view(net: core.Net) -> Net:
    """A net that a solver made, as pycaffe shows it."""
    shown = Net.__new__(Net)
    shown._show(net)
    return shown


def tell_doubts(net: Net) -> None:
    """Warn, once for each net, of what can hardly be meant; before the first pass, when weights are in place."""
    if not net._told:
        net._told = True
        warn_of_doubts(net._net)


def hooked(net: Net) -> bool:
    """True if a hook is to be called before or after layers."""
    return bool(net._hooks)


def _net_arguments(arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[int, int, Sequence[str], Any]:
    """Phase, level, stages and weights, from either order of arguments."""
    names: tuple[str, ...] = ("phase", "level", "stages", "weights")
    if arguments and isinstance(arguments[0], str | os.PathLike) and arguments[0] not in ("TRAIN", "TEST"):
        names = ("weights", "phase")
    if len(arguments) > len(names):
        raise TypeError(f"Net takes at most {len(names) + 1} arguments, {len(arguments) + 1} were given")
    given = dict(zip(names, arguments))
    for name, value in named.items():
        if name not in ("phase", "level", "stages", "weights"):
            raise TypeError(f"Net has no argument '{name}'; it has phase, level, stages and weights")
        if name in given:
            raise TypeError(f"Net got two values for '{name}'")
        given[name] = value
    if "phase" not in given:
        raise TypeError("Net needs a phase: caffe.TRAIN or caffe.TEST")
    return given["phase"], given.get("level", 0), given.get("stages") or (), given.get("weights")


def _arrays(net: Net) -> dict[str, list[np.ndarray]]:
    """The parameters of each layer, on the host."""
    push()
    with device.using(net._backend):
        tonumpy = net._backend.tonumpy
        return {layer.name: [tonumpy(blob.data) for blob in layer.blobs] for layer in net._net.layers}


def _fill(net: Net, what: str, names: Sequence[str], given: Mapping[str, Any], kind: str) -> None:
    """Write the arrays given for all inputs or outputs into their blobs."""
    if given and set(given) != set(names):
        raise InputError(
            f"give all {what} blobs of the net or none: they are {', '.join(names) or 'none'}, "
            f"given are {', '.join(given)}"
        )
    for name, array in given.items():
        target = getattr(net.blobs[name], kind)
        if np.shape(array)[:1] != target.shape[:1] or not _fits(np.shape(array), target.shape):
            raise InputError(
                f"the array for {what} '{name}' has shape {np.shape(array)}, the blob {target.shape}; "
                f"reshape first: net.blobs['{name}'].reshape(...)"
            )
        target[...] = array


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, wanted) == wanted
    except ValueError:
        return False


def _batches(net: Net, arrays: Mapping[str, Any]) -> Iterator[dict[str, np.ndarray]]:
    """Cut arrays into batches as long as the net's; the last one is filled up with zeros."""
    if not arrays:
        return
    size = next(iter(net.blobs.values())).shape[0]
    for start in range(0, _length(arrays), size):
        batch = {}
        for name, array in arrays.items():
            part = np.asarray(array[start : start + size])
            missing = size - len(part)
            batch[name] = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])
        yield batch


def _length(arrays: Mapping[str, Any]) -> int:
    return len(next(iter(arrays.values()))) if arrays else 0


def _copied(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in arrays.items()}


def _joined(batches: Sequence[Mapping[str, np.ndarray]], length: int) -> dict[str, np.ndarray]:
    """The batches' arrays one after the other, without what filled up the last batch."""
    names = batches[0] if batches else ()
    joined = {name: np.concatenate([np.atleast_1d(batch[name]) for batch in batches]) for name in names}
    return {name: array[:length] if length else array for name, array in joined.items()}
