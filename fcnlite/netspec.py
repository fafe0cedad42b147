"""Nets written as Python: each assignment to a NetSpec names a layer, and the lines read as the architecture.

The language is pycaffe's: `L.Convolution(bottom, kernel_size=3, num_output=64)` makes a layer's output (a
Top), `P.Pooling.MAX` is an enum value, and `NetSpec.to_proto` gives the NetParameter of all layers that
the named Tops need. Scripts written for Caffe's `caffe.net_spec` run on this module unchanged.

Examples
--------
>>> from fcnlite.netspec import NetSpec, layers as L, params as P
>>> n = NetSpec()
>>> n.data = L.Input(shape=dict(dim=[1, 3, 500, 500]))
>>> n.conv1 = L.Convolution(n.data, num_output=64, kernel_size=3, pad=1)
>>> n.relu1 = L.ReLU(n.conv1, in_place=True)
>>> n.pool1 = L.Pooling(n.relu1, pool=P.Pooling.MAX, kernel_size=2, stride=2)
>>> [layer.name for layer in n.to_proto().layer]
['data', 'conv1', 'relu1', 'pool1']
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from fcnlite import proto
from fcnlite.errors import InputError, nearest
from fcnlite.proto.fields import assign_proto, param_name_dict


class Top:
    """One output blob of a layer: number `n` of `fn.tops`."""

    def __init__(self, fn: Function, n: int) -> None:
        self.fn = fn
        self.n = n

    def to_proto(self) -> Message:
        """Return the NetParameter of this blob and all it is computed from, with automatic names."""
        return to_proto(self)

    def _to_proto(self, layers: dict[Function, Any], names: dict[Any, str], autonames: Counter[str]) -> None:
        self.fn._to_proto(layers, names, autonames)


class Function:
    """One layer: its type, the Tops it reads, and its parameters as given.

    Parameters
    ----------
    type_name : str
        Caffe's layer type, such as `"Convolution"`.
    inputs : sequence of Top
    params : dict
        Fields of the layer's own parameter message (`kernel_size=3`), fields of LayerParameter
        (`param=[...]`, `include=...`), whole messages (`convolution_param=dict(...)`), and two words of
        this language: `ntop` (number of outputs, 1 by default) and `in_place` (outputs are the inputs).

    Raises
    ------
    TypeError
        An input is not a Top.
    """

    def __init__(self, type_name: str, inputs: tuple[Top, ...], params: dict[str, Any]) -> None:
        for index, bottom in enumerate(inputs):
            if not isinstance(bottom, Top):
                raise TypeError(f"{type_name} input {index} is not a Top (type is {type(bottom)})")
        self.type_name = type_name
        self.inputs = inputs
        self.params = dict(params)
        self.ntop = self.params.pop("ntop", 1)
        self.in_place = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def _to_proto(self, layers: dict[Function, Any], names: dict[Any, str], autonames: Counter[str]) -> None:
        """Add this layer's message to `layers`, after those of the layers it reads."""
        if self in layers:
            return
        bottoms = []
        for bottom in self.inputs:
            bottom._to_proto(layers, names, autonames)
            bottoms.append(layers[bottom.fn].top[bottom.n])
        layer = proto.LayerParameter(type=self.type_name, bottom=bottoms)
        tops = bottoms if self.in_place else [self._name(top, names, autonames) for top in self.tops]
        layer.top.extend(tops)
        layer.name = self._name(self.tops[0] if self.tops else self, names, autonames)
        for key, value in self.params.items():
            self._assign(layer, key, value)
        layers[self] = layer

    def _name(self, named: Top | Function, names: dict[Any, str], autonames: Counter[str]) -> str:
        """Return the name given in the NetSpec, or the type and a running number."""
        if named not in names:
            autonames[self.type_name] += 1
            names[named] = f"{self.type_name}{autonames[self.type_name]}"
        return names[named]

    def _assign(self, layer: Any, key: str, value: Any) -> None:
        """Put one keyword where it belongs: the layer type's own message first, else LayerParameter."""
        own = _param_names.get(self.type_name)
        target = getattr(layer, f"{own}_param") if own else layer
        fields, general = target.DESCRIPTOR.fields_by_name, layer.DESCRIPTOR.fields_by_name
        where = f"layer '{layer.name}' ({self.type_name})"
        if key.endswith("param") or key not in fields:
            target = layer
            if key not in general:
                hint = nearest(key, [*fields, *general])
                raise FieldError(f"{where} has no field '{key}'{hint}")
        try:
            assign_proto(target, key, value)
        except AttributeError as error:
            raise FieldError(f"{where}, field '{key}': {error}") from error
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}, field '{key}': cannot take {value!r} ({error})") from error


class FieldError(InputError, AttributeError):
    """A layer was given a field that its message lacks (an AttributeError, as in pycaffe)."""


class NetSpec:
    """The named Tops of a net, assigned as attributes or items; `to_proto` writes the net.

    Layers appear in the order of assignment, each after what it reads.
    """

    tops: dict[str, Any]

    def __init__(self) -> None:
        super().__setattr__("tops", {})

    def __setattr__(self, name: str, value: Any) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        # Private and dunder look-ups must fail the ordinary way, for copy and introspection to work.
        if name.startswith("__") or name == "tops":
            raise AttributeError(name)
        return self[name]

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __getitem__(self, name: str) -> Any:
        return self.tops[name]

    def to_proto(self) -> Any:
        """Return the NetParameter of every assigned Top and all it is computed from."""
        return _collect(self.tops.values(), {top: name for name, top in self.tops.items()})


def to_proto(*tops: Top) -> Any:
    """Return the NetParameter of all layers the given Tops need, named by type and number (Convolution1)."""
    return _collect(tops, {})


def _collect(tops: Any, names: dict[Any, str]) -> Any:
    layers: dict[Function, Message] = {}
    autonames: Counter[str] = Counter()
    for top in tops:
        top._to_proto(layers, names, autonames)
    return proto.NetParameter(layer=layers.values())


class Layers:
    """`L.Type(*bottoms, **params)`: a Top, a tuple of Tops if `ntop` > 1, the Function if it is 0."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def layer_fn(*bottoms: Top, **params: Any) -> Any:
            fn = Function(name, bottoms, params)
            if fn.ntop == 0:
                return fn
            return fn.tops[0] if fn.ntop == 1 else fn.tops

        return layer_fn


class Parameters:
    """`P.Pooling.MAX`: the constants of a layer's parameter message."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        message = getattr(proto, f"{name}Parameter", None)
        if message is None:
            raise AttributeError(f"there is no message '{name}Parameter'")
        return message


# Deconvolution has no message of its own in Caffe's schema; pycaffe has callers write convolution_param.
_param_names = param_name_dict() | {"Deconvolution": "convolution", "Im2col": "convolution"}
layers = Layers()
params = Parameters()
