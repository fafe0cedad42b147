"""Classifiers made fully convolutional: inner products become convolutions (paper, section 3.1 and figure 2)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fcnlite import models
from fcnlite.errors import InputError
from fcnlite.fillers import fill
from fcnlite.geometry import Parameter, measure
from fcnlite.io import read_weights
from fcnlite.io.caffemodel import write_caffemodel
from fcnlite.io.convert import Watch
from fcnlite.io.hdf5 import write_hdf5
from fcnlite.io.weights import names_hdf5
from fcnlite.proto import TEST, NetParameter, read_net, to_text, upgrade
from fcnlite.surgery import Transplant, Weights, transplant


def fresh(net: NetParameter, phase: int = TEST) -> dict[str, list[np.ndarray]]:
    """Return the parameters that a new net has, filled as its description says: the target of a transplant.

    Parameters
    ----------
    net : NetParameter
    phase : int
        TRAIN or TEST: whose layers.

    Returns
    -------
    dict of str to list of numpy.ndarray
        For every layer with parameters, weight first, float32. What starts at zero takes no memory until
        written.
    """
    return {
        layer.name: [_filled(parameter) for parameter in layer.parameters]
        for layer in measure(net, phase=phase)
        if layer.parameters
    }


def _filled(parameter: Parameter) -> np.ndarray:
    filler = parameter.filler
    if filler is None or (filler.type == "constant" and filler.value == 0):
        return np.zeros(parameter.shape, np.float32)
    return fill(filler, parameter.shape)


def convolutionalise(net: NetParameter, size: tuple[int, int] | None = None) -> NetParameter:
    """Return a classifier's net with its inner products as convolutions, to run on images of any size.

    The kernel of each is the map it covered, so at the classifier's own input size it computes the same
    scores, and on larger images a map of them (paper, section 3.1 and figure 2). Names stay: `transplant`
    fits the weights.

    Parameters
    ----------
    net : NetParameter
    size : (int, int), optional
        The classifier's input height and width, where its description does not say.

    Raises
    ------
    InputError
        An inner product that works on another axis than the channels, or with a transposed weight.
    """
    net = upgrade(net)
    maps = {name: shape for layer in measure(net, size) for name, shape in zip(layer.tops, layer.shapes)}
    converted: set[str] = set()  # blobs that now are maps of one position
    for layer in net.layer:
        if layer.type != "InnerProduct":
            continue
        p = layer.inner_product_param
        if p.axis != 1 or p.transpose:
            raise InputError(
                f"layer '{layer.name}': only an InnerProduct of axis 1, not transposed, is a convolution"
            )
        below = maps[layer.bottom[0]]
        kernel = (1, 1) if layer.bottom[0] in converted or len(below) < 3 else below[2:]
        convolution = layer.convolution_param
        convolution.num_output, convolution.bias_term = p.num_output, p.bias_term
        convolution.kernel_size.extend(kernel[:1] if len(set(kernel)) == 1 else kernel)
        for filler in ("weight_filler", "bias_filler"):
            if p.HasField(filler):
                getattr(convolution, filler).CopyFrom(getattr(p, filler))
        layer.type = "Convolution"
        layer.ClearField("inner_product_param")
        converted.update(layer.top)
    return net


def classifier_to_fcn(
    weights: Weights, net: NetParameter | None = None
) -> tuple[NetParameter, dict[str, list[np.ndarray]], Transplant]:
    """Turn a classifier's weights into those of its fully convolutional form, all scores included.

    Parameters
    ----------
    weights : mapping of str to list of numpy.ndarray
        As `fcnlite.io.read_weights` gives them.
    net : NetParameter, optional
        The classifier; without it, the net of the catalogue that has these layers.

    Returns
    -------
    net : NetParameter
        The convolutional form (`convolutionalise`).
    weights : dict of str to list of numpy.ndarray
        Its parameters; views of those given, in other shapes.
    report : Transplant

    Raises
    ------
    InputError
        The weights are those of no net in the catalogue, or do not fit `net`.
    """
    if net is None:
        net = models.recognise({layer: [tuple(a.shape) for a in arrays] for layer, arrays in weights.items()})
    if net is None:
        raise InputError(
            "these weights are those of no net in the catalogue; give the classifier's prototxt too"
        )
    if not any(layer.type == "InnerProduct" for layer in net.layer):
        raise InputError(f"the net '{net.name}' has no inner products: it is fully convolutional as it is")
    convolutional = convolutionalise(net)
    params = fresh(convolutional)
    return convolutional, params, transplant(params, weights)


def convert_classifier(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    prototxt: str | os.PathLike[str] | None = None,
    watch: Watch = iter,
) -> str:
    """Write a classifier's weights as those of its fully convolutional form (paper, section 3.1).

    Inner products become convolutions over the maps they covered, so that the net takes images of any size and
    gives a map of the classifier's scores.

    Parameters
    ----------
    source, target : path
        `.caffemodel` or HDF5; the net's new form goes along in either.
    prototxt : path, optional
        The classifier; without it, the net of the catalogue that has these layers.
    watch : callable
        Hands the layers on, one after the other, as they are written: a place for a progress bar.

    Returns
    -------
    str
        What was copied and what reshaped.

    Raises
    ------
    FileNotFoundError, InputError
        A file is missing or damaged, or the weights fit no classifier known.
    """
    target = Path(target)
    net = upgrade(read_net(Path(prototxt))) if prototxt is not None else None
    try:
        convolutional, params, report = classifier_to_fcn(read_weights(source), net)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    if names_hdf5(target):
        write_hdf5(target, watch(params.items()), to_text(convolutional))
    else:
        write_caffemodel(target, watch(params.items()), convolutional)
    return str(report)
