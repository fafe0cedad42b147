"""What every layer is: Caffe's life cycle setup, reshape, forward, backward, and the registry of type names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from fcnlite import device
from fcnlite.blob import Blob, Node, launch_flat
from fcnlite.errors import InputError, nearest
from fcnlite.fillers import fill
from fcnlite.proto import TEST, TRAIN, LayerParameter
from fcnlite.proto.fields import assign_proto, param_name_dict

LAYERS: dict[str, type[Layer]] = {}
_MOST_AXES = 32  # Caffe's kMaxBlobAxes
_MOST_NUMBERS = 2**40  # 4 TB; what is more than this machine has is told when it is asked for
MANY = 1 << 20  # bottoms or tops, where there may be any number
_L = TypeVar("_L", bound="type[Layer]")


def register(cls: _L) -> _L:
    """Class decorator: make the layer known under its type name (``cls.type`` or the class's own)."""
    cls.type = cls.__dict__.get("type", cls.__name__)
    LAYERS[cls.type] = cls
    return cls


def create(param: Any, phase: int = TEST) -> Layer:
    """The layer that a LayerParameter describes.

    Raises
    ------
    InputError
        If its type is unknown; the nearest known one is named.
    """
    if param.type not in LAYERS:
        advice = nearest(param.type, LAYERS) or f"; there are {', '.join(sorted(LAYERS))}"
        raise InputError(f"layer '{param.name}': unknown type '{param.type}'{advice}")
    return LAYERS[param.type](param, phase=phase)


def name_loss_top(param: Any) -> None:
    """Give a loss that has no top, as early prototxts write it, one of its own name (Caffe's is nameless)."""
    if param.type in LAYERS and LAYERS[param.type].is_loss and not param.top:
        param.top.append(param.name)


def phase_number(phase: int | str) -> int:
    """TRAIN (0) or TEST (1), given as that or by name."""
    known: dict[int | str, int] = {"TRAIN": TRAIN, "TEST": TEST, TRAIN: TRAIN, TEST: TEST}
    wanted = phase.upper() if isinstance(phase, str) else phase
    if wanted not in known:
        raise InputError(f"phase {phase!r} is unknown; there are TRAIN (0) and TEST (1)")
    return known[wanted]


class Layer:
    """A layer: parameters read from a LayerParameter, and the four steps of its life.

    Layers are also callables, for use without a Net: ``score = Convolution(num_output=21, kernel_size=1)(pool5)``.

    Parameters
    ----------
    param : LayerParameter, optional
        The description, as in a prototxt.
    phase : int or str
        TRAIN (0) or TEST (1), or the name.
    **fields
        Instead of ``param``: fields of LayerParameter or of the type's own parameter message.

    Attributes
    ----------
    blobs : list of Blob
        The learnable parameters, weight first.
    loss_weights : list of float
        One for each top, if the layer is (part of) a loss.
    """

    type: ClassVar[str]
    bottoms: ClassVar[tuple[int, int]] = (1, 1)  # least and most bottoms
    tops: ClassVar[tuple[int, int]] = (1, 1)
    no_gradient: ClassVar[frozenset[int]] = frozenset()  # bottoms that never get one, such as labels
    in_place: ClassVar[bool] = False  # whether top may be bottom
    is_loss: ClassVar[bool] = False
    messages: ClassVar[tuple[str, ...]] = ()  # parameter messages it reads, if not just that of its own name

    def __init__(self, param: Any = None, *, phase: int | str = TEST, **fields: Any):
        self.phase = phase_number(phase)
        self.param = param if param is not None else _describe(type(self), fields)
        self.name = self.param.name or self.type
        self.blobs: list[Blob] = []
        self.loss_weights: list[float] = []
        self.param_propagate_down: list[bool] = []  # which parameters learn; empty: all
        self.folder: Path | None = None  # where paths in param are looked for besides the working folder
        self.new_parameter: Callable[[Sequence[int], Any], Blob] = (
            _filled  # geometry makes them without memory
        )
        self._input: Any = None
        self._ready = False

    # The life cycle; a layer type overrides these.

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the parameters and make the weights; called once."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the tops their shapes for the bottoms' present ones; called before every forward."""
        raise NotImplementedError

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Compute the tops' data."""
        raise NotImplementedError

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Compute the diffs of those bottoms that are wanted, and add to the parameters' diffs."""
        raise NotImplementedError

    def mask_draws(self, bottom: Sequence[Blob]) -> int:
        """Count of numbers that a forward pass draws from the stream of masks (see `fcnlite.random`)."""
        return 0

    # Services for layer types.

    def fail(self, message: str) -> InputError:
        """An error that names this layer, to raise."""
        return InputError(f"layer '{self.name}' ({self.type}): {message}")

    def find_file(self, name: str) -> Path:
        """A file or folder that param names: from the working folder, as in Caffe, or beside the prototxt."""
        for path in (Path(name), (self.folder or Path()) / name):
            if name and path.exists():
                return path
        raise self.fail(f"'{name}' is neither in {Path.cwd()} nor beside the prototxt")

    def learns(self, index: int) -> bool:
        """Whether parameter ``index`` gets a gradient."""
        return index >= len(self.param_propagate_down) or self.param_propagate_down[index]

    def make_blob(self, shape: Sequence[int], filler: Any) -> Blob:
        """A parameter filled as its filler says."""
        self.check_size(shape)
        try:
            return self.new_parameter(shape, filler)
        except InputError as error:
            raise self.fail(str(error)) from None

    def check_size(self, shape: Sequence[int]) -> None:
        """Raise where no machine could hold an array of that shape."""
        if len(shape) > _MOST_AXES or math.prod(shape) > _MOST_NUMBERS:
            axes = _size(shape) if len(shape) <= _MOST_AXES else f"{len(shape)} axes"
            raise self.fail(f"a blob of {axes} is too large; make the layer or its bottom smaller")

    def keep_input(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy a bottom that this forward overwrites, being in place, and that backward needs."""
        self._input = None
        if top[0] is bottom[0]:
            self._input = new_array(bottom[0].shape)
            launch_flat("copy_scaled", bottom[0].count, 1.0, bottom[0].data, self._input)

    def kept_input(self, bottom: Sequence[Blob]) -> Any:
        """What forward read: the bottom's data, or the copy."""
        return bottom[0].data if self._input is None else self._input

    def axis(self, index: int, bottom: Blob) -> int:
        """A possibly negative axis number as one of the bottom's axes."""
        axes = len(bottom.shape)
        if not -axes <= index < axes:
            raise self.fail(f"axis {index} is none of the bottom's {axes} axes ({_size(bottom.shape)})")
        return index % axes

    def same_shape(self, bottom: Sequence[Blob]) -> None:
        """Raise unless all bottoms have the first one's shape."""
        for i, blob in enumerate(bottom[1:], 1):
            if blob.shape != bottom[0].shape:
                raise self.fail(
                    f"bottoms must have one shape; bottom 0 is {_size(bottom[0].shape)}, "
                    f"bottom {i} is {_size(blob.shape)}"
                )

    def check_counts(self, bottoms: int, tops: int) -> None:
        """Raise unless the layer type takes that many bottoms and tops."""
        for what, count, (least, most) in (("bottoms", bottoms, self.bottoms), ("tops", tops, self.tops)):
            if not least <= count <= most:
                wanted = {least: f"{least}", MANY: f"{least} or more"}.get(most, f"{least} to {most}")
                raise self.fail(f"{count} {what} given, {wanted} needed")

    # Use as a function.

    def __call__(self, *bottom: Blob) -> Any:
        """Apply the layer to blobs; returns the top, or a tuple of tops, linked for ``backward()``."""
        stray = next((given for given in bottom if not isinstance(given, Blob)), None)
        if stray is not None:
            raise self.fail(f"it reads blobs, not a {type(stray).__name__}: wrap an array as Blob(array)")
        bottoms = _distinct(bottom)
        tops = [Blob(name=f"{self.name}_{i}" if i else self.name) for i in range(self._top_count())]
        if not self._ready:
            self.check_counts(len(bottoms), len(tops))
            self.setup(bottoms, tops)
            self.loss_weights = list(self.param.loss_weight) or ([1.0] if self.is_loss else [])
            self._ready = True
        # What an application keeps for its backward is its own; parameters, and a data layer's position, are shared.
        node = Node(copy(self) if bottoms else self, bottoms, tops)
        node.forward()
        for top in tops:
            top.node = node
        return tops[0] if len(tops) == 1 else tuple(tops)

    def _top_count(self) -> int:
        return max(self.tops[0], len(self.param.top))


def rows_of(shape: Sequence[int]) -> tuple[int, int]:
    """(rows, width) of an array seen as rows along its last axis."""
    width = shape[-1] if shape else 1
    return (math.prod(shape) // width if width else 0), width


def new_array(shape: Sequence[int], dtype: Any = None) -> Any:
    """An array of the current device with undefined content."""
    return device.current().empty(shape, dtype)


def add_channel_sums(values: Any, outer: int, channels: int, target: Blob) -> None:
    """Add to ``target.diff`` (or, if it holds none yet, write there) each channel's sum.

    ``values`` is (outer, channels, ...) in memory; ``target`` has ``channels`` elements.
    """
    for block in values.reshape(outer, channels, -1):
        diff, held = target.sum_diff()
        device.current().row_sums(block, diff.reshape(-1), held)


def _filled(shape: Sequence[int], filler: Any) -> Blob:
    """A new parameter with the values that a FillerParameter draws."""
    return Blob(fill(filler, shape))


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "a scalar"


def _distinct(bottom: Sequence[Blob]) -> list[Blob]:
    """The bottoms, a repeated one replaced by a copy through a Split so that each has its own diff."""
    distinct: list[Blob] = []
    for blob in bottom:
        distinct.append(LAYERS["Split"]()(blob) if blob in distinct else blob)
    return distinct


def _describe(cls: type[Layer], fields: dict[str, Any]) -> Any:
    """A LayerParameter from keyword arguments."""
    param = LayerParameter(type=cls.type)
    own = cls.messages or tuple(
        f"{stem}_param" for kind, stem in param_name_dict().items() if kind == cls.type
    )
    for key, value in fields.items():
        for message in (param, *(getattr(param, name) for name in own)):
            if key in message.DESCRIPTOR.fields_by_name:
                try:
                    assign_proto(message, key, value)
                except (TypeError, ValueError) as error:
                    raise InputError(f"{cls.type}, '{key}': cannot take {value!r} ({error})") from error
                break
        else:
            raise TypeError(f"{cls.type} has no parameter '{key}'")
    return param
