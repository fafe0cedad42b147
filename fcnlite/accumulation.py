"""The gradients of an update's passes, added up; those of small parameters in the order of the passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fcnlite import device
from fcnlite.backend import Array
from fcnlite.blob import Blob, Node

if TYPE_CHECKING:
    from fcnlite.net import Net

# Bytes up to which a parameter's gradients of all passes of an update count as small. Processes exchange these instead
# of one sum. So much is 21 us on a 100 Gb/s wire, about the latency of four messages, and takes two processes of a
# machine less than 0.1 ms, addition included (`python -m benchmarks.parallel`). Above, the time grows with the bytes,
# which are those of a sum times the passes.
IN_ORDER_BYTES = 1 << 18


class Accumulation:
    """Runs a net's passes of an update in one process: a `fcnlite.net.Runner`.

    Each pass adds to the diff of a large parameter. The gradients of a small one (`IN_ORDER_BYTES` over all passes) are
    kept apart by pass and added up in the order of the passes once all are there, so that the sum has the same bits
    whichever processes have computed them. One process does so too, since a layer rounds otherwise where it adds to
    what earlier passes have left.

    Parameters
    ----------
    net : Net

    Attributes
    ----------
    first, last : dict of Node to list of Blob
        The parameters that a layer is the first or the last to add a gradient to, the largest first.
    """

    def __init__(self, net: Net) -> None:
        self.net = net
        self.first: dict[Node, list[Blob]] = {}
        self.last: dict[Node, list[Blob]] = {}
        users: dict[Blob, list[Node]] = {}
        for node in reversed(net.nodes):
            for index, blob in enumerate(node.layer.blobs):
                if node.runs_back and node.layer.learns(index):
                    users.setdefault(blob, []).append(node)
        for blob, nodes in sorted(users.items(), key=lambda item: -item[0].count):
            self.first.setdefault(nodes[0], []).append(blob)
            self.last.setdefault(nodes[-1], []).append(blob)
        self._number, self._count = 0, 1
        self._apart: dict[Blob, Array] = {}  # gradients by pass, zero where another process computes them

    def run(self, inputs: Callable[[], Mapping[str, Any]], count: int, keep_blobs: bool) -> list[Any]:
        """Make the passes of one update; every parameter's diff then holds the sum of all passes' gradients.

        Parameters
        ----------
        inputs : callable
            Gives the input blobs of the next pass.
        count : int
            Passes of the update.
        keep_blobs : bool
            As for `Net.forward_backward`.

        Returns
        -------
        list of scalar
            The losses of all passes.
        """
        self.start(count)
        losses = []
        for number in range(count):
            self.begin(number)
            losses.append(self.net.forward_backward(keep_blobs, self, **inputs()))
        self.add_up()
        return losses

    def start(self, count: int) -> None:
        """Begin an update of so many passes, over all processes."""
        self._count = count
        bytes_each = device.current().dtype.itemsize * count
        self._apart = {
            blob: device.current().zeros((count, *blob.shape))
            for blobs in self.last.values()
            for blob in blobs
            if count > 1 and blob.count * bytes_each <= IN_ORDER_BYTES
        }

    def begin(self, number: int) -> None:
        """Note which pass comes."""
        self._number = number

    def forward(self, node: Node) -> None:
        self.net.forward_node(node)

    def backward(self, node: Node) -> None:
        node.backward()
        for blob in self.last.get(node, ()):
            if blob in self._apart:
                self._apart[blob][self._number] = blob.diff
                blob.clear_diff()

    def add_up(self) -> None:
        """Give the small parameters' diffs the sums, once all passes are made."""
        for blob, gradients in self._apart.items():
            total = blob.new_diff()
            total[...] = gradients[0]
            for gradient in gradients[1:]:  # one after another: a library's sum may take another order
                total += gradient
        self._apart = {}
