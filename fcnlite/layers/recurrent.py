"""RNN, LSTM and LSTMUnit: Caffe's recurrent layers (RecurrentLayer), unrolled in time on the tape.

Sequences run along axis 0, independent streams along axis 1. `cont` (T, N) says for each step whether it goes on with
its stream's state (1) or begins a sequence (0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from fcnlite import device
from fcnlite.backend import Array
from fcnlite.blob import Blob
from fcnlite.layers.base import Layer, register
from fcnlite.layers.concat import Concat, Slice
from fcnlite.layers.eltwise import Eltwise
from fcnlite.layers.inner_product import InnerProduct
from fcnlite.layers.launch import launch_flat
from fcnlite.layers.neuron import TanH
from fcnlite.layers.scale import Scale


@register
class LSTMUnit(Layer):
    """One step of an LSTM: bottoms c (1, N, D), gates (1, N, 4D) as i f o g, cont (1, N); tops c and h (1, N, D).

    i, o = sigmoid, f = cont * sigmoid, g = tanh of the gates; c' = f * c + i * g; h' = o * tanh(c').
    """

    bottoms = (3, 3)
    tops = (2, 2)
    no_gradient = frozenset({2})

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) != 3 or shape[0] != 1:
            raise self.fail(f"the cell state has shape {shape}; 1 x N x D is needed")
        streams, size = shape[1:]
        for what, blob, needed in zip(("gates", "cont"), bottom[1:], ((1, streams, 4 * size), (1, streams))):
            if blob.shape != needed:
                raise self.fail(f"{what} of shape {blob.shape} for a cell state of {shape}; needed: {needed}")
        for blob in top:
            blob.reshape(*shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        arrays = [*(blob.data for blob in bottom), *(blob.new_data() for blob in top)]
        device.current().launch("lstm_unit_forward", *bottom[0].shape[1:], *arrays)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        if any(propagate_down):
            read = [*(blob.data for blob in bottom), top[0].data, top[0].diff, top[1].diff]
            written = [blob.new_diff() for blob in bottom[:2]]
            device.current().launch("lstm_unit_backward", *bottom[0].shape[1:], *read, *written)


class Recurrent(Layer):
    """A layer that runs over time: subclasses say what one step computes.

    `recurrent_param`: num_output D; weight_filler and bias_filler of all its products; expose_hidden.

    Bottoms: x (T, N, ...); cont (T, N); optionally an input (N, ...) that is the same in every step; with expose_hidden
    the state to begin with, (1, N, D) each. Tops: the outputs (T, N, D); with expose_hidden the state at the end.

    Without expose_hidden the state goes on from one forward pass to the next where cont is not 0. Neither the state to
    begin with gets a gradient nor does the state at the end pass one on, as in Caffe.
    """

    messages = ("recurrent_param",)
    states: ClassVar[int]  # blobs of state
    no_gradient = frozenset({1})

    def products(self) -> Sequence[tuple[int, bool]]:
        """Further products of a step, beside those of x and of the static input: (outputs, with a bias) of each."""
        raise NotImplementedError

    def step(self, x: Sequence[Blob], cont: Blob, state: Sequence[Blob]) -> tuple[Blob, list[Blob]]:
        """Compute a step's output and new state from the products of its inputs, to be added up, and its old state."""
        raise NotImplementedError

    gates: ClassVar[int] = 1  # x is taken to as many times num_output

    def check_counts(self, bottoms: int, tops: int) -> None:
        exposed = self.states if self.param.recurrent_param.expose_hidden else 0
        for what, count, least, most in (
            ("bottoms", bottoms, 2 + exposed, 3 + exposed),
            ("tops", tops, 1 + exposed, 1 + exposed),
        ):
            if not least <= count <= most:
                needed = f"{least} or {most}" if most > least else f"{least}"
                shown = "with" if exposed else "without"
                raise self.fail(f"{count} {what} given, {needed} needed {shown} expose_hidden")

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        p = self.param.recurrent_param
        self.size = int(p.num_output)
        if self.size < 1:
            raise self.fail("num_output is missing or 0")
        self._exposed = self.states if p.expose_hidden else 0
        self._static = len(bottom) == 3 + self._exposed
        self._check(bottom)
        x, streams = bottom[0].shape, bottom[0].shape[1]
        shapes = [(x, self.gates * self.size, 2, True)]
        if self._static:
            shapes.append((bottom[2].shape, self.gates * self.size, 1, False))
        shapes += [((1, streams, self.size), outputs, 2, bias) for outputs, bias in self.products()]
        self._products = [self._product(*described) for described in shapes]
        self._state: list[Array] = []  # shared with copies of the layer
        self._run: tuple[Blob, Blob | None, Blob] | None = None

    def _product(self, shape: Sequence[int], outputs: int, axis: int, bias: bool) -> InnerProduct:
        p = self.param.recurrent_param
        product = InnerProduct(
            num_output=outputs,
            axis=axis,
            bias_term=bias,
            weight_filler=p.weight_filler,
            bias_filler=p.bias_filler,
        )
        product.new_parameter = self.new_parameter
        product.build(shape)
        self.blobs += product.blobs
        return product

    def _check(self, bottom: Sequence[Blob]) -> None:
        x, cont = bottom[0].shape, bottom[1].shape
        if len(x) < 2:
            raise self.fail(f"the bottom has shape {x}; T x N x ... is needed, steps of streams")
        if cont != x[:2]:
            raise self.fail(
                f"cont has shape {cont}; {x[:2]} is needed, a number for each step of each stream"
            )
        if self._static and bottom[2].shape[:1] != x[1:2]:
            raise self.fail(
                f"the static input has shape {bottom[2].shape}; its first axis counts the {x[1]} streams"
            )
        for blob in bottom[len(bottom) - self._exposed :]:
            if blob.shape != (1, x[1], self.size):
                raise self.fail(f"a state of shape {blob.shape} is given; {(1, x[1], self.size)} is needed")

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self._check(bottom)
        steps, streams = bottom[0].shape[:2]
        top[0].reshape(steps, streams, self.size)
        for blob in top[1:]:
            blob.reshape(1, streams, self.size)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        self._hand_on_parameters()
        steps, streams = bottom[0].shape[:2]
        x = _leaf(bottom[0], needs_diff=True)
        fixed = _leaf(bottom[2], needs_diff=True) if self._static else None
        inputs = _cut(self._products[0](x), steps)
        still = [] if fixed is None else [self._products[1](fixed)]
        for blob in still:
            blob.reshape(1, *blob.shape)
        conts, state = _cut(_leaf(bottom[1]), steps), self._first_state(bottom, streams)
        outputs = []
        for one, cont in zip(inputs, conts):
            output, state = self.step([one, *still], cont, state)
            outputs.append(output)
        joined = Concat(axis=0)(*outputs)
        top[0].data = joined.data
        for blob, last in zip(top[1:], state):
            blob.data = last.data
        self._state[:] = [blob.data for blob in state]
        self._run = x, fixed, joined

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        assert self._run is not None  # forward comes first
        x, fixed, joined = self._run
        joined.backward(top[0].diff)
        for i, blob in enumerate(bottom):
            if propagate_down[i]:
                source = x if i == 0 else fixed if i == 2 and self._static else None
                if source is None:
                    blob.new_diff().fill(0)
                else:
                    launch_flat("copy_scaled", blob.count, 1.0, source.diff, blob.new_diff())

    def _hand_on_parameters(self) -> None:
        """Give the products the layer's parameters, which the net may have replaced (shared) or frozen."""
        first = 0
        for product in self._products:
            last = first + len(product.blobs)
            product.blobs = self.blobs[first:last]
            product.param_propagate_down = list(self.param_propagate_down[first:last])
            first = last

    def _first_state(self, bottom: Sequence[Blob], streams: int) -> list[Blob]:
        if self._exposed:
            return [_leaf(blob) for blob in bottom[len(bottom) - self._exposed :]]
        shape = (1, streams, self.size)
        held = [array for array in self._state if tuple(array.shape) == shape]
        state = [Blob(shape=shape) for _ in range(self.states)]
        for blob, array in zip(state, held):
            blob.data = array
        return state


@register
class RNN(Recurrent):
    """h' = tanh(W_hh (cont * h) + W_x x + b_h [+ W_s s]); output = tanh(W_ho h' + b_o).

    Parameters: W_x (D, ...), b_h, [W_s], W_hh (D, D), W_ho (D, D), b_o (D,).
    """

    states = 1

    def products(self) -> Sequence[tuple[int, bool]]:
        return ((self.size, False), (self.size, True))

    def step(self, x: Sequence[Blob], cont: Blob, state: Sequence[Blob]) -> tuple[Blob, list[Blob]]:
        recur, out = self._products[-2:]
        hidden = TanH()(Eltwise()(recur(Scale(axis=0)(state[0], cont)), *x))
        return TanH()(out(hidden)), [hidden]


@register
class LSTM(Recurrent):
    """Long short-term memory without peepholes: an `LSTMUnit` on gates = W_h (cont * h) + W_x x + b [+ W_s s].

    Parameters: W_x (4D, ...), b (4D,), [W_s], W_h (4D, D); the gates in the order i f o g. State: h and c.
    """

    states = 2
    gates = 4

    def products(self) -> Sequence[tuple[int, bool]]:
        return ((4 * self.size, False),)

    def step(self, x: Sequence[Blob], cont: Blob, state: Sequence[Blob]) -> tuple[Blob, list[Blob]]:
        hidden, cell = state
        gates = Eltwise()(self._products[-1](Scale(axis=0)(hidden, cont)), *x)
        cell, hidden = LSTMUnit()(cell, gates, cont)
        return hidden, [hidden, cell]


def _leaf(blob: Blob, needs_diff: bool = False) -> Blob:
    """A blob with this one's data from which a tape of its own begins."""
    leaf = Blob(shape=blob.shape, needs_diff=needs_diff)
    leaf.data = blob.data
    return leaf


def _cut(blob: Blob, steps: int) -> Sequence[Blob]:
    """The blob in single steps along axis 0."""
    return Slice(axis=0, top=[f"{step}" for step in range(steps)])(blob) if steps > 1 else [blob]
