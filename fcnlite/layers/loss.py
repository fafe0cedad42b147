"""Losses over pixels whose labels may be ignored: SoftmaxWithLoss, SigmoidCrossEntropyLoss, InfogainLoss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError

from fcnlite import device
from fcnlite.blob import Blob
from fcnlite.errors import mistake, warn
from fcnlite.layers.base import Layer, register
from fcnlite.layers.launch import launch_flat, new_array
from fcnlite.layers.softmax import softmax_rows
from fcnlite.proto import BlobProto, LossParameter

NO_LABEL = -(2**31)  # an ignore_label that no label equals


def check_labels(layer: Layer, labels: Any, channels: int, ignore: int = NO_LABEL) -> None:
    """Refuse labels that are not class numbers.

    A label that is neither a class nor ignored is undefined behaviour in Caffe; on a GPU the kernel answers with NaN,
    and whoever reads the loss sees it. Fractions are refused, too (`check_whole`).
    """
    if device.current().checks_data:
        wrong = ~((labels >= 0) & (labels < channels)) & (labels != ignore)  # NaN too
        if wrong.any():
            void = f", void label {ignore}" if ignore != NO_LABEL else ""
            raise layer.fail(
                f"label {_first(labels, wrong):g} is not a class: there are classes 0 to {channels - 1}{void}"
            )
    check_whole(layer, labels)


def check_whole(layer: Layer, labels: Any) -> None:
    """Refuse labels with fractions, of which Caffe takes the whole part."""
    if _may_look(layer) and (fractions := labels != labels.astype("int32")).any():
        value = _first(labels, fractions)
        whole = round(255 * value)
        scaled = f" (class {whole} divided by 255?)" if value < 1 and abs(255 * value - whole) < 1e-3 else ""
        mistake(str(layer.fail(f"label {value:g} is not a class number but a fraction{scaled}")))


def check_targets(layer: Layer, targets: Any, ignore: int) -> None:
    """Refuse targets that are not probabilities, of which Caffe computes a loss that means nothing."""
    if not _may_look(layer):
        return
    wrong = ~((targets >= 0) & (targets <= 1)) & (targets.astype("int32") != ignore)
    if wrong.any():
        told = f"target {_first(targets, wrong):g} is not a probability, 0 to 1"
        mistake(str(layer.fail(f"{told} (a mask of 0 and 255 has to be divided by 255)")))


def check_similarities(layer: Layer, labels: Any) -> None:
    """Refuse marks of similar pairs that are neither 0 nor 1; to Caffe all but 0 are similar."""
    if _may_look(layer) and (wrong := (labels != 0) & (labels != 1)).any():
        mistake(str(layer.fail(f"label {_first(labels, wrong):g} is neither 0 nor 1 (similar)")))


def _may_look(layer: Layer) -> bool:
    """True where looking at data costs little: always on the CPU, on a GPU in the layer's first pass."""
    first = not getattr(layer, "looked", False)
    vars(layer)["looked"] = True
    return first or device.current().checks_data


def _first(values: Any, chosen: Any) -> float:
    return float(values[chosen].reshape(-1)[0])


class _NormalisedLoss(Layer):
    """A loss over labelled predictions, divided by a normaliser that is never under 1.

    `loss_param`: ignore_label; normalization FULL (all predictions), VALID (those not ignored), BATCH_SIZE
    or NONE, or the older `normalize` (true: VALID, false: BATCH_SIZE).
    """

    bottoms = (2, 2)
    no_gradient = frozenset({1, 2})
    is_loss = True

    def read_loss_param(self, unless_given: int) -> None:
        """Set `ignore` and `normalization`."""
        p = self.param.loss_param
        self.ignore = p.ignore_label if p.HasField("ignore_label") else NO_LABEL
        if p.HasField("normalization"):
            self.normalization = p.normalization
        elif p.HasField("normalize"):
            self.normalization = LossParameter.VALID if p.normalize else LossParameter.BATCH_SIZE
        else:
            self.normalization = unless_given

    def divisor(self, valid: Any, batch: int) -> Any:
        """The normaliser, shape (); `valid` holds 1 for each prediction that counts."""
        backend = device.current()
        if self.normalization == LossParameter.VALID:
            return backend.xp.maximum(backend.total(valid), 1).reshape(())
        fixed = {LossParameter.FULL: valid.size, LossParameter.BATCH_SIZE: batch, LossParameter.NONE: 1}
        return backend.asarray([max(fixed[self.normalization], 1)]).reshape(())

    def mean_loss(self, loss: Any, valid: Any, batch: int) -> Any:
        """The sum of `loss` over the normaliser, which is kept for backward."""
        self.normaliser = self.divisor(valid, batch)
        return (device.current().total(loss) / self.normaliser).reshape(())


class _SoftmaxLoss(_NormalisedLoss):
    """A loss of the softmax over an axis, whose probabilities the second top gets if there is one."""

    tops = (1, 2)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.read_loss_param(LossParameter.VALID)

    def size_tops(self, bottom: Sequence[Blob], top: Sequence[Blob], axis: int) -> None:
        """Set `rows`, (outer, channels, inner rows, width) of the scores, and the tops' shapes."""
        axis = self.axis(axis, bottom[0])
        self.rows = outer, _, inner, width = softmax_rows(bottom[0].shape, axis)
        if bottom[1].count != outer * inner * width:
            raise self.fail(
                f"{bottom[1].count} labels ({bottom[1].shape}) for {outer * inner * width} predictions "
                f"({bottom[0].shape}, softmax over axis {axis})"
            )
        top[0].reshape()
        if len(top) > 1:
            top[1].reshape(*bottom[0].shape)

    def run(self, kernel: str, bottom: Sequence[Blob], top: Sequence[Blob], *arrays: Any) -> None:
        """Forward by a kernel from `arrays`, scores and labels to each pixel's loss, and whether the pixel counts."""
        launch = device.current().launch
        outer, channels, inner, width = self.rows
        scores, labels = bottom[0].data, bottom[1].data
        check_labels(self, labels, channels, self.ignore)
        loss, valid = new_array((2, outer * inner * width))
        numbers = (width, channels, inner, self.ignore)
        launch(kernel, outer * inner, *numbers, *arrays, scores, labels, loss, valid)
        top[0].data = self.mean_loss(loss, valid, outer)
        if len(top) > 1:
            launch("softmax_forward", outer * inner, width, channels, inner, scores, top[1].new_data())

    def run_back(self, kernel: str, bottom: Sequence[Blob], top: Sequence[Blob], *arrays: Any) -> None:
        """Backward by the kernel that belongs to it."""
        outer, channels, inner, width = self.rows
        numbers = (width, channels, inner, self.ignore)
        ends = (top[0].diff, self.normaliser, bottom[0].data, bottom[1].data, bottom[0].new_diff())
        device.current().launch(kernel, outer * inner, *numbers, *arrays, *ends)


@register
class SoftmaxWithLoss(_SoftmaxLoss):
    """loss = -sum log max(p[label], FLT_MIN) / normaliser over the pixels whose label is not ignored.

    Bottoms: scores (N, C, H, W) and labels (N, 1, H, W); top: a scalar, and optionally the probabilities.
    The normaliser is never under 1.

    Parameters
    ----------
    ignore_label : int
        Label of pixels that do not count.
    normalization : str
        The normaliser: "VALID" (default), the pixels that count; "FULL", all; "BATCH_SIZE", the images; "NONE", 1.
    normalize : bool
        The older form: true for VALID, false for BATCH_SIZE.
    axis : int
        The classes' axis.
    loss_weight : float
        Factor of the loss in the objective.

    Notes
    -----
    SegNet's class weights (`weight_by_label_freqs: true` and one `class_weighting` for each class) multiply each
    pixel's loss by its label's weight; the normaliser still counts pixels.
    """

    messages = ("loss_param", "softmax_param")

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().setup(bottom, top)
        p = self.param.loss_param
        self._class_weight: Any = None
        if p.weight_by_label_freqs:
            self._class_weight = device.current().asarray(list(p.class_weighting))
        elif p.class_weighting:
            warn(
                f"layer '{self.name}' (SoftmaxWithLoss): class_weighting has no effect without "
                "weight_by_label_freqs: true"
            )

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.size_tops(bottom, top, self.param.softmax_param.axis)
        if self._class_weight is not None and self._class_weight.size != self.rows[1]:
            raise self.fail(
                f"{self._class_weight.size} values of class_weighting for {self.rows[1]} classes; give one for each"
            )

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.run("softmax_loss_forward", bottom, top, self._class_weight)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            self.run_back("softmax_loss_backward", bottom, top, self._class_weight)


@register
class SigmoidCrossEntropyLoss(_NormalisedLoss):
    """loss = -sum (t log p + (1 - t) log(1 - p)) / normaliser with p = sigmoid(x), for each value by itself.

    Bottoms: scores x and targets t in [0, 1], as many; top: a scalar. `loss_param` as in SoftmaxWithLoss,
    but BATCH_SIZE is the default normalization, and targets equal to ignore_label do not count.
    """

    messages = ("loss_param",)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.read_loss_param(LossParameter.BATCH_SIZE)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        if bottom[0].count != bottom[1].count or not bottom[0].shape:
            raise self.fail(f"{bottom[1].shape} targets for {bottom[0].shape} scores; there must be as many")
        top[0].reshape()

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        count = bottom[0].count
        loss, valid = new_array((2, count))
        check_targets(self, bottom[1].data, self.ignore)
        arrays = (bottom[0].data, bottom[1].data, loss, valid)
        launch_flat("sigmoid_loss_forward", count, self.ignore, *arrays)
        top[0].data = self.mean_loss(loss, valid, bottom[0].shape[0])

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            scales = (top[0].diff, self.normaliser)
            arrays = (*scales, bottom[0].data, bottom[1].data, bottom[0].new_diff())
            launch_flat("sigmoid_loss_backward", bottom[0].count, self.ignore, *arrays)


@register
class InfogainLoss(_SoftmaxLoss):
    """loss = -sum over l of H[label, l] log max(p[l], 1e-20), summed over the pixels, / normaliser.

    p is the softmax over `infogain_loss_param.axis`; the matrix H, (C, C), is the third bottom or read from
    `source`, a file with a binary BlobProto. With H the unit matrix this is SoftmaxWithLoss.
    """

    bottoms = (2, 3)
    messages = ("loss_param", "infogain_loss_param")

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        super().setup(bottom, top)
        if len(bottom) < 3:
            self._matrix = self._read_matrix(self.param.infogain_loss_param.source)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.size_tops(bottom, top, self.param.infogain_loss_param.axis)
        channels = self.rows[1]
        size = bottom[2].count if len(bottom) > 2 else self._matrix.size
        if size != channels * channels:
            raise self.fail(f"the infogain matrix has {size} values; {channels} x {channels} are needed")

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self.run("infogain_loss_forward", bottom, top, self._gain(bottom))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if propagate_down[0]:
            channels = self.rows[1]
            gain, sums = self._gain(bottom), new_array((channels,))
            device.current().row_sums(gain.reshape(channels, channels), sums)
            self.run_back("infogain_loss_backward", bottom, top, gain, sums)

    def _gain(self, bottom: Sequence[Blob]) -> Any:
        return bottom[2].data if len(bottom) > 2 else self._matrix

    def _read_matrix(self, path: str) -> Any:
        if not path:
            raise self.fail(
                "the infogain matrix is missing: give infogain_loss_param.source, or a third bottom"
            )
        try:
            blob = BlobProto.FromString(self.find_file(path).read_bytes())
        except (DecodeError, OSError):
            raise self.fail(f"infogain_loss_param.source '{path}' holds no BlobProto") from None
        return device.current().asarray(list(blob.data or blob.double_data))
