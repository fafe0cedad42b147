"""The base of every layer, Caffe's life cycle of setup, reshape, forward and backward, and the registry of types."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from keyword import iskeyword
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from fcnlite import device
from fcnlite.blob import Blob, Node, recording
from fcnlite.errors import InputError, nearest
from fcnlite.fillers import fill
from fcnlite.layers.launch import copied
from fcnlite.layers.window import POINT, Window
from fcnlite.proto import TEST, TRAIN, LayerParameter, Message
from fcnlite.proto.fields import assign_proto, default_of, param_name_dict, plain_value
from fcnlite.proto.foreign import foreign_type

LAYERS: dict[str, type[Layer]] = {}
_MOST_AXES = 32  # Caffe's kMaxBlobAxes
_MOST_NUMBERS = 2**40  # 4 TB; smaller requests beyond this machine's memory fail when allocated
MANY = 1 << 20  # bottoms or tops, where there may be any number
_L = TypeVar("_L", bound="type[Layer]")


def register(cls: _L) -> _L:
    """Class decorator: make the layer known under its type name (`cls.type` or the class's own)."""
    cls.type = cls.__dict__.get("type", cls.__name__)
    cls.__signature__ = _signature(cls)
    LAYERS[cls.type] = cls
    return cls


def create(param: Message, phase: int = TEST) -> Layer:
    """The layer that a LayerParameter describes.

    Raises
    ------
    InputError
        If its type is unknown; the nearest known one is named.
    """
    if param.type not in LAYERS:
        advice = (
            foreign_type(param.type)
            or nearest(param.type, LAYERS)
            or f"; there are {', '.join(sorted(LAYERS))}"
        )
        raise InputError(f"layer '{param.name}': unknown type '{param.type}'{advice}")
    return LAYERS[param.type](param, phase=phase)


def name_loss_top(param: Message) -> None:
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
    """A layer: parameters read from a LayerParameter, and the four steps of its life (Caffe's layer.hpp).

    Layers are also callables, for use without a Net: `score = Convolution(num_output=21, kernel_size=1)(pool5)`. Each
    call is remembered, so that `backward` on a result finds the way back, unless `no_tape` is active.

    A layer type overrides, in the order in which they run:

    * `setup`, once: reads `self.param` and makes the parameters. The bottoms have shapes, but no data yet.
    * `reshape`, before every forward, and alone when only sizes are wanted: gives the tops their shapes.
    * `forward`: reads the bottoms' data and writes the tops'.
    * `backward`: reads the tops' diffs, overwrites the diffs of the wanted bottoms, adds to those of the parameters.

    Parameters
    ----------
    param : LayerParameter, optional
        The description, as in a prototxt.
    phase : int or str
        TRAIN (0) or TEST (1), or the name.
    **fields
        Instead of `param`: fields of LayerParameter or of the type's own parameter message, which the signature of each
        type names.

    Attributes
    ----------
    blobs : list of Blob
        The learnable parameters, weight first.
    loss_weights : list of float
        One for each top, if the layer is (part of) a loss.
    """

    type: ClassVar[str]
    __signature__: ClassVar[inspect.Signature]
    bottoms: ClassVar[tuple[int, int]] = (1, 1)  # least and most bottoms
    tops: ClassVar[tuple[int, int]] = (1, 1)
    no_gradient: ClassVar[frozenset[int]] = frozenset()  # bottoms that never get one, such as labels
    in_place: ClassVar[bool] = False  # whether top may be bottom
    is_loss: ClassVar[bool] = False
    pointwise: ClassVar[bool] = (
        False  # whether a top's pixel depends on the bottom's pixel at its place alone
    )
    messages: ClassVar[tuple[str, ...]] = ()  # parameter messages it reads, if not just that of its own name

    def __init__(self, param: Message = None, *, phase: int | str = TRAIN, **fields: Any) -> None:
        self.phase = phase
        self.param = param if param is not None else _describe(type(self), fields)
        self.name = self.param.name or self.type
        self.blobs: list[Blob] = []
        self.loss_weights: list[float] = []
        self.param_propagate_down: list[bool] = []  # which parameters learn; empty: all
        self.folder: Path | None = None  # where paths in param are looked for besides the working folder
        # Makes a parameter of a shape by its filler; geometry puts one here that takes no memory.
        self.new_parameter: Callable[[Sequence[int], Any], Blob] = _filled
        self._input: Any = None
        self._ready = False

    @property
    def phase(self) -> int:
        """TRAIN (0) or TEST (1); may be set to the name, too."""
        return self._phase

    @phase.setter
    def phase(self, phase: int | str) -> None:
        self._phase = phase_number(phase)

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

    def size_up(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Set up and reshape where sizes alone are wanted: a layer that reads files reads what these take."""
        self.setup(bottom, top)
        self.reshape(bottom, top)

    def sight(self) -> Window | None:
        """The window through which a top's pixel sees the bottom's, if it depends on nothing else; None if unknown.

        Equal windows then give equal pixels, which `fcnlite.net` computes only once.
        """
        return POINT if self.pointwise else None

    def running(self) -> list[Blob]:
        """Parameters that forward passes change, as a batch normalisation's moving sums."""
        return []

    def mask_draws(self, bottom: Sequence[Blob]) -> int:
        """Count of numbers that a forward pass draws from the stream of masks (see `fcnlite.random`)."""
        return 0

    def fail(self, message: str) -> InputError:
        """An error that names this layer, to raise; a layer without a name is told by its arguments."""
        who = f"'{self.name}' ({self.type})" if self.param.name else repr(self)
        return InputError(f"layer {who}: {message}")

    def __repr__(self) -> str:
        return f"{self.type}({', '.join(_arguments(self))})"

    def find_file(self, name: str) -> Path:
        """A file or folder that param names: from the working folder, as in Caffe, or beside the prototxt."""
        for path in (Path(name), (self.folder or Path()) / name):
            if name and path.exists():
                return path
        raise self.fail(f"'{name}' is neither in {Path.cwd()} nor beside the prototxt")

    def learns(self, index: int) -> bool:
        """True if parameter `index` gets a gradient."""
        planned = index >= len(self.param_propagate_down) or self.param_propagate_down[index]
        return planned and self.blobs[index].needs_diff

    def make_blob(self, shape: Sequence[int], filler: Message) -> Blob:
        """A parameter filled as its filler says."""
        self.check_size(shape)
        try:
            blob = self.new_parameter(shape, filler)
        except InputError as error:
            raise self.fail(str(error)) from None
        blob.needs_diff = True
        return blob

    def check_size(self, shape: Sequence[int]) -> None:
        """Raise where no machine could hold an array of that shape."""
        if len(shape) > _MOST_AXES or math.prod(shape) > _MOST_NUMBERS:
            axes = _size(shape) if len(shape) <= _MOST_AXES else f"{len(shape)} axes"
            raise self.fail(f"a blob of {axes} is too large; make the layer or its bottom smaller")

    def keep_input(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy a bottom that this forward overwrites, being in place, and that backward needs."""
        self._input = None
        if top[0] is bottom[0]:
            self._input = copied(bottom[0].data)

    def kept_input(self, bottom: Sequence[Blob]) -> Any:
        """The data that forward read: the bottom's, or the copy."""
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

    def is_in_place(self, number: int) -> bool:
        """Tell whether top `number` is the bottom at its place; another bottom there is refused, as Caffe does."""
        name, bottoms = self.param.top[number], list(self.param.bottom)
        if name not in bottoms:
            return False
        if self.in_place and bottoms[number : number + 1] == [name]:
            return True
        reason = (
            f"it is bottom {bottoms.index(name)}; in place top {number} must be bottom {number}"
            if self.in_place
            else f"{self.type} does not work in place"
        )
        raise self.fail(f"top '{name}' is one of its bottoms: {reason}. Give the top a name of its own")

    def build(self, *shapes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """Make the parameters for bottoms of these shapes, before any data is there.

        Returns
        -------
        tuple of tuple of int
            The shapes of the tops.
        """
        bottoms, tops = [Blob(shape=shape) for shape in shapes], self._new_tops()
        self._set_up(bottoms, tops)
        Node(copy(self), bottoms, tops).reshape()
        return tuple(top.shape for top in tops)

    def __call__(self, *bottom: Blob) -> Any:
        """Apply the layer to blobs; returns the top, or a tuple of tops, linked for `backward`."""
        stray = next((given for given in bottom if not isinstance(given, Blob)), None)
        if stray is not None:
            raise self.fail(f"it reads blobs, not a {type(stray).__name__}: wrap an array as Blob(array)")
        bottoms, tops = list(bottom), self._new_tops()
        self._set_up(bottoms, tops)
        # A shallow copy: state kept for backward belongs to this call, parameters stay shared. A layer without
        # bottoms is not copied, so that its position in the data advances.
        node = Node(copy(self) if bottoms else self, bottoms, tops)
        node.propagate_down = [
            blob.needs_diff and wanted for blob, wanted in zip(bottoms, node.propagate_down)
        ]
        node.forward()
        learns = any(self.learns(i) for i in range(len(self.blobs)))
        if recording() and (learns or any(node.propagate_down)):
            for top in tops:
                top.node, top.needs_diff = node, True
        return tops[0] if len(tops) == 1 else tuple(tops)

    def _set_up(self, bottoms: list[Blob], tops: list[Blob]) -> None:
        """Call setup, once."""
        if not self._ready:
            self.check_counts(len(bottoms), len(tops))
            self.setup(bottoms, tops)
            self.loss_weights = list(self.param.loss_weight) or ([1.0] if self.is_loss else [])
            self._ready = True

    @property
    def is_built(self) -> bool:
        """True if the layer has been set up, and so has its parameters."""
        return self._ready

    def _new_tops(self) -> list[Blob]:
        return [Blob(name=f"{self.name}_{i}" if i else self.name) for i in range(self._top_count())]

    def _top_count(self) -> int:
        return max(self.tops[0], len(self.param.top))


def _filled(shape: Sequence[int], filler: Message) -> Blob:
    """A parameter with memory of its own, filled."""
    blob = Blob(shape=shape)
    blob.data = device.current().asarray(fill(filler, shape))
    return blob


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "a scalar"


def build(*layers: Layer, shape: Sequence[int]) -> tuple[int, ...]:
    """Make the parameters of layers that are applied one after another to a blob of this shape.

    Without it parameters are made at a layer's first call.

    Returns
    -------
    tuple of int
        Shape of the last layer's top.

    Examples
    --------
    >>> from fcnlite.layers import Convolution, ReLU
    >>> conv = Convolution(num_output=8, kernel_size=3, pad=1)
    >>> build(conv, ReLU(), shape=(1, 3, 32, 32))
    (1, 8, 32, 32)
    >>> [blob.shape for blob in conv.blobs]
    [(8, 3, 3, 3), (8,)]
    """
    shape = tuple(shape)
    for layer in layers:
        shape = layer.build(shape)[0]
    return shape


def parameters(*layers: Layer) -> list[Blob]:
    """The learnable parameters of layers, each once, in order.

    Raises
    ------
    InputError
        A layer has not been built yet, by `build` or by its first call.
    """
    found: dict[Blob, None] = {}
    for layer in layers:
        if not layer.is_built:
            raise layer.fail("its parameters are not made yet; call it, or build(...), first")
        found.update(dict.fromkeys(layer.blobs))
    return list(found)


def _own_messages(cls: type[Layer]) -> tuple[str, ...]:
    """Fields of LayerParameter that hold the type's own parameters."""
    own = tuple(f"{stem}_param" for kind, stem in param_name_dict().items() if kind == cls.type)
    return cls.messages or own


_GENERAL = ("name", "bottom", "top", "loss_weight", "param", "propagate_down")


def _signature(cls: type[Layer]) -> inspect.Signature:
    """The keywords of a layer type, read from its messages: what completion and `inspect.signature` show."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    made = [
        inspect.Parameter("param", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None),
        inspect.Parameter("phase", keyword, default="TRAIN"),
    ]
    described = LayerParameter.DESCRIPTOR
    fields = [described.fields_by_name[name].message_type.fields for name in _own_messages(cls)]
    general = [described.fields_by_name[name] for name in _GENERAL]
    seen = {"param", "phase"}
    for field in [*(field for own in fields for field in own), *general]:
        if field.name not in seen and field.name.isidentifier() and not iskeyword(field.name):
            seen.add(field.name)
            made.append(inspect.Parameter(field.name, keyword, default=default_of(field)))
    return inspect.Signature(made)


def _arguments(layer: Layer) -> Iterator[str]:
    """The keyword arguments that would make a layer like this one."""
    if layer.param.name:
        yield f"name={layer.param.name!r}"
    for message in (getattr(layer.param, name) for name in _own_messages(type(layer))):
        for field, value in message.ListFields():
            yield f"{field.name}={plain_value(field, value)!r}"


def _describe(cls: type[Layer], fields: dict[str, Any]) -> Any:
    """A LayerParameter from keyword arguments."""
    param = LayerParameter(type=cls.type)
    messages = [*(getattr(param, name) for name in _own_messages(cls)), param]
    for key, value in fields.items():
        message = next((m for m in messages if key in m.DESCRIPTOR.fields_by_name), None)
        if message is None:
            known = [name for name in inspect.signature(cls).parameters if name != "param"]
            raise TypeError(f"{cls.type} has no parameter '{key}'{nearest(key, known)}")
        try:
            assign_proto(message, key, value)
        except (TypeError, ValueError) as error:
            raise InputError(f"{cls.type}, '{key}': cannot take {value!r} ({error})") from error
    return param
