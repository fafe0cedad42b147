"""Several processes as one: MPI between processes, NCCL between their GPUs.

Process (rank) r of N takes the passes r, r + N, r + 2 N .. of a run. Their gradients are summed before each update,
so that every process makes the same update and holds the same weights as one process would.

>>> world = fcnlite.parallel.world()                                    # doctest: +SKIP
>>> solver = get_solver("solver.prototxt", source=items, world=world)   # doctest: +SKIP
"""

from __future__ import annotations

import atexit
import os
import platform
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import numpy as np

import fcnlite.random
from fcnlite import device
from fcnlite.accumulation import Accumulation
from fcnlite.blob import Blob, Node
from fcnlite.errors import InputError
from fcnlite.launcher import launched, unconnected

if TYPE_CHECKING:
    from fcnlite.layers import Layer
    from fcnlite.net import Net

T = TypeVar("T")
Shapes = Mapping[str, tuple[int, ...]]  # of inputs, by name
_INSTALL = "pip install 'fcnlite[mpi]' (mpi4py, and the mpich wheel, which brings mpiexec)"
_ITEM, _ALARM, _ANSWER = 32767, 32766, 32765  # tags of what is no gradient; the largest that every MPI has
_FIRST_WORD = 1.0  # seconds in which rank 0 tells a mistake that all processes make
_HEARD, _SAVED = 8.0, 20.0  # seconds that a failing process gives rank 0 to hear of it, and then to save


@cache
def world() -> World:
    """All processes of this run; the first call starts MPI, if a launcher started several processes.

    Raises
    ------
    InputError
        Several processes were started, but mpi4py or an MPI library is missing, or MPI does not connect them.
    """
    size, _ = launched()
    if unconnected() > 1:
        raise InputError(
            f"Slurm started {unconnected()} processes that do not know of each other, and each would do the same "
            "work: use srun --mpi=pmi2"
        )
    if size == 1:
        return World(None)
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"mpiexec started {size} processes, which need MPI to work together ({reason}): {_INSTALL}"
        ) from None
    if MPI.COMM_WORLD.size != size:
        raise InputError(
            f"the launcher started {size} processes, but MPI connects {MPI.COMM_WORLD.size}: start them with the "
            "mpiexec of the MPI library that mpi4py uses"
        )
    made = World(MPI.COMM_WORLD)
    sys.excepthook = made.report_and_abort
    return made


def end_all(line: str, status: int) -> int:
    """Print a line, once even if several processes fail alike, and end all processes; returns the status if alone."""
    size, rank = launched()
    if size > 1 and world.cache_info().currsize:
        world().abort(line, status)
    if rank == 0:
        print(line, file=sys.stderr)
    return status


class OthersFailed(InputError):
    """Raised in process 0 where another process has failed, which tells why and ends all once it has an answer."""


class World:
    """The processes of a run. Methods that exchange something must be called by all of them, in the same order.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm or None
        None for a single process, which needs no MPI.

    Attributes
    ----------
    rank, size : int
        Number of this process, from 0, and how many there are.
    local_rank, local_size : int
        The same among the processes of this machine.
    """

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self._sends: list[Any] = []
        self._alarm: Any = None  # in process 0: completes when another process fails
        self._failed: int | None = None  # that process
        self._is_ending = False
        self.rank: int = 0 if comm is None else comm.rank
        self.size: int = 1 if comm is None else comm.size
        self.local_rank, self.local_size = 0, 1
        if comm is not None and self.size > 1:
            from mpi4py import MPI

            here = comm.Split_type(MPI.COMM_TYPE_SHARED, key=self.rank)
            self.local_rank, self.local_size = here.rank, here.size
            here.Free()

    @property
    def leads(self) -> bool:
        """True if this process writes the files and the messages."""
        return self.rank == 0

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum of every process's array, element by element."""
        total = np.array(values)
        if self.size > 1:
            from mpi4py import MPI

            self.wait(self._comm.Iallreduce(MPI.IN_PLACE, total))
        return total

    def any(self, flag: object) -> bool:
        """True if the flag is true in any process."""
        return bool(self.sum(np.array([bool(flag)], np.int64))[0])

    def from_leader(self, make: Callable[[], T]) -> T:
        """Return the result of `make()` in process 0, which alone calls it; it must be plain data."""
        if self.size == 1:
            return make()
        made = make() if self.leads else None
        told = self.broadcast(made, 0)
        return made if self.leads else told  # type: ignore[return-value]

    def broadcast(self, item: T, root: int) -> T:
        """The item of process `root`, which must be plain data."""
        if self.size == 1:
            return item
        self.meet()
        return self._comm.bcast(item, root)

    def send(self, item: Any, to: int) -> None:
        """Begin to send plain data to another process."""
        self._sends.append(self._comm.isend(item, to, _ITEM))

    def receive(self, source: int) -> Any:
        """The next item that another process has sent."""
        while not self._comm.Iprobe(source=source, tag=_ITEM):
            self.listen()
            time.sleep(0)  # lets other threads and processes on this core go on
        return self._comm.recv(source=source, tag=_ITEM)

    def finish_sending(self) -> None:
        """Wait until what was sent has left."""
        for request in self._sends:
            request.wait()
        self._sends.clear()

    def gather(self, item: T) -> list[T]:
        """Every process's item, which must be plain data, in order of rank."""
        if self.size == 1:
            return [item]
        self.meet()
        return self._comm.allgather(item)

    def leader_first(self, make: Callable[[], T]) -> T:
        """Return the result of `make()`, called in process 0 first, where it may write what the others then find."""
        made = make() if self.leads else None
        self.meet()
        return made if self.leads else make()  # type: ignore[return-value]

    def meet(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            self.wait(self._comm.Ibarrier())

    def wait(self, *requests: Any) -> None:
        """Wait for transfers that have begun.

        Raises
        ------
        OthersFailed
            In process 0: another process fails meanwhile.
        """
        from mpi4py import MPI

        for request in filter(None, requests):  # those that are done count as false
            if self._alarm is None:
                request.Wait()
            elif MPI.Request.Waitany([self._alarm, request], status := MPI.Status()) == 0:
                self._hear(status)

    def listen(self) -> None:
        """As `wait`, for nothing: called wherever process 0 computes for long."""
        if self._alarm is not None:
            from mpi4py import MPI

            if self._alarm.Test(status := MPI.Status()):
                self._hear(status)

    def _hear(self, status: Any) -> NoReturn:
        self._alarm, self._failed = None, status.source
        self._comm.isend(True, self._failed, _ANSWER)
        raise OthersFailed(f"process {self._failed} has failed")

    @contextmanager
    def ending(self) -> Iterator[bool]:
        """Around what process 0 saves before an error ends the run: true unless it can be of no use.

        All processes hold the same weights between two updates. One that fails tells process 0, and waits within this
        block until that one, in such a block of its own, has saved; it comes too late if process 0 does not hear it.
        """
        self._is_ending = True
        if not self.leads:
            self._comm.isend(None, 0, _ALARM)
            yield self._is_answered(_HEARD) and self._is_answered(_SAVED)
            return
        is_saved = False
        try:
            yield True
            is_saved = True
        finally:
            if self._failed is not None:
                self._comm.isend(is_saved, self._failed, _ANSWER)

    def _is_answered(self, seconds: float) -> bool:
        """True if process 0 says yes within some seconds."""
        end = time.monotonic() + seconds
        while not self._comm.Iprobe(source=0, tag=_ANSWER):
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return bool(self._comm.recv(source=0, tag=_ANSWER))

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """The items of a sequence that are this process's share: every `size`-th."""
        return items[self.rank :: self.size]

    def rounds(self, net: Net, count: int, apart: Sequence[Layer] = ()) -> Iterator[int]:
        """The numbers of this process's forward passes among `count`.

        Layers that fetch data, but for those `apart`, are brought past what the other processes take.
        """
        feeds = [node for node in feeds_of(net) if node.layer not in apart]
        done = 0
        for number in range(self.rank, count, self.size):
            self.listen()
            _pass_over(net, feeds, number - done)
            yield number
            done = number + 1
        _pass_over(net, feeds, count - done)

    def in_turn(self, items: Sequence[T]) -> list[T]:
        """The items of all processes in the order of their rounds: each process has every `size`-th."""
        shares = self.gather(list(items))
        return [share[i] for i in range(len(shares[0])) for share in shares if i < len(share)]

    def cores(self) -> int:
        """Cores for this process: those it may run on, divided by the processes that may run on the same ones."""
        allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
        here = (platform.node(), sorted(allowed))
        return max(1, len(allowed) // self.gather(here).count(here))

    def share(self, iter_size: int) -> None:
        """Check that the passes of an update can be shared out evenly.

        Raises
        ------
        InputError
        """
        if iter_size % self.size:
            raise InputError(
                f"iter_size {iter_size} cannot be shared out to {self.size} processes evenly: give a multiple of "
                f"{self.size}, or --scale-batch, which makes it {iter_size * self.size}, or start fewer processes"
            )

    def copy_parameters(self, net: Net) -> None:
        """Give every process the parameters of process 0.

        Raises
        ------
        InputError
            The processes have different nets.
        """
        if self.size == 1:
            return
        shapes = [(p.layer, p.index, p.blob.shape) for p in net.learnable_params]
        if self.gather(shapes).count(shapes) != self.size:
            raise InputError("the processes train different nets; give every one the same prototxt")
        backend = device.current()
        for param in net.learnable_params:
            array = backend.tonumpy(param.blob.data)
            array = array if array.flags.writeable else array.copy()
            self._comm.Bcast(array)
            param.blob.data[...] = backend.asarray(array)

    def join(self, net: Net, iter_size: int) -> None:
        """Begin to train a net together: check that the passes can be shared out, and that all start alike."""
        if self.leads and self._alarm is None and self.size > 1:
            from mpi4py import MPI

            self._alarm = self._comm.irecv(source=MPI.ANY_SOURCE, tag=_ALARM)
            atexit.register(self._stop_listening)
        self.share(iter_size)
        self.copy_parameters(net)
        self.copy_masks()

    def _stop_listening(self) -> None:
        if self._alarm is not None:
            self._alarm.Cancel()
            self._alarm.Wait()

    def writes(self, net: Net) -> bool:
        """True if this process saves the net, after checking that all have the same, unless an error ends the run."""
        if not self._is_ending:
            self.check_same(net)
        return self.leads

    def copy_masks(self) -> None:
        """Give every process the stream of dropout masks of process 0."""
        fcnlite.random.set_mask_state(self.from_leader(fcnlite.random.mask_state))

    def check_same(self, net: Net) -> None:
        """Raise where the processes' parameters have come to differ, which an update must not let happen."""
        if self.size == 1:
            return
        sums = [zlib.crc32(device.current().tonumpy(p.blob.data).tobytes()) for p in net.learnable_params]
        for rank, others in enumerate(self.gather(sums)):
            wrong = [p for p, a, b in zip(net.learnable_params, sums, others) if a != b]
            if wrong:
                raise InputError(
                    f"parameter {wrong[0].index} of layer '{wrong[0].layer}' differs between processes {self.rank} "
                    f"and {rank}: they were given different data or settings"
                )

    def transport(self) -> Transport:
        """The transport that moves arrays of the current device between the processes."""
        if device.current().name.startswith("cuda"):
            return NCCLTransport(self)
        return MPITransport(self, self._comm)

    def passes(self, net: Net, exact: bool = False) -> Passes:
        """The share of a net's passes that falls to this process."""
        return Passes(self, net, exact)

    def own_items(self, source: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """An iterator over the items of this process's passes; a source with `take_every` prepares only those."""
        if self.size == 1:
            return iter(source)
        if hasattr(source, "take_every"):
            source.take_every(self.size, self.rank)
            return iter(source)
        return OwnItems(source, self)

    def abort(self, line: str, status: int) -> NoReturn:
        """End all processes with a line on stderr."""
        self._give_others_time()
        print(line, file=sys.__stderr__, flush=True)
        self._abort(status)

    def report_and_abort(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """End all processes, which would wait for this one, with the traceback of an error that nobody caught."""
        self._give_others_time()
        sys.__excepthook__(kind, error, trace)
        self._abort(1)

    def _give_others_time(self) -> None:
        """Wait for the process that failed first, or else for process 0, to tell why and to end this one."""
        if self._failed is not None:
            time.sleep(_SAVED)
        elif not self.leads:
            time.sleep(_FIRST_WORD * (1 + min(self.rank, 8) / 2))

    def _abort(self, status: int) -> NoReturn:
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(0.1)  # for the launcher to pass on what was printed
        self._comm.Abort(status)
        os._exit(status)  # where Abort comes back before the launcher has ended this process


class Transport(Protocol):
    """Moves arrays of one kind of device between processes; what is begun ends with `finish`.

    Attributes
    ----------
    in_order : bool
        Whether each transfer of a process waits for those it began before, so that two processes must not wait for
        each other's.
    """

    in_order: bool

    def begin_sum(self, array: Any) -> None:
        """Begin to replace the array, in every process, by the sum of all processes' ones."""

    def begin_send(self, array: Any, to: int, tag: int) -> None:
        """Begin to send the array, which must stay as it is until `receive` overwrites it, or `finish`."""

    def receive(self, array: Any, source: int, tag: int) -> None:
        """Overwrite the array by what another process sends with that tag, when it has itself been sent."""

    def begin_broadcast(self, array: Any, root: int) -> None:
        """Begin to overwrite the array in every process by that of process `root`."""

    def progress(self) -> None:
        """Get on with what was begun."""

    def finish(self) -> None:
        """Wait for everything begun."""


class MPITransport:
    """Moves arrays in the host's memory by MPI."""

    in_order = False

    def __init__(self, world: World, comm: Any) -> None:
        from mpi4py import MPI

        self._world, self._comm, self._mpi = world, comm, MPI
        self._sums: list[Any] = []
        self._sends: dict[int, Any] = {}  # by the array's identity

    def begin_sum(self, array: Any) -> None:
        self._sums.append(self._comm.Iallreduce(self._mpi.IN_PLACE, array))

    def begin_send(self, array: Any, to: int, tag: int) -> None:
        self._sends[id(array)] = self._comm.Isend(array, to, tag)

    def receive(self, array: Any, source: int, tag: int) -> None:
        if id(array) in self._sends:
            self._world.wait(self._sends.pop(id(array)))
        self._world.wait(self._comm.Irecv(array, source, tag))

    def begin_broadcast(self, array: Any, root: int) -> None:
        self._sums.append(self._comm.Ibcast(array, root))

    def progress(self) -> None:
        if self._sums or self._sends:
            self._mpi.Request.Testall([*self._sums, *self._sends.values()])

    def finish(self) -> None:
        self._world.wait(*self._sums, *self._sends.values())
        self._sums.clear()
        self._sends.clear()


class NCCLTransport:
    """Moves arrays between GPUs by NCCL, on a stream beside the one that computes.

    Raises
    ------
    InputError
        CuPy finds no NCCL.
    """

    in_order = True

    def __init__(self, world: World) -> None:
        cupy: Any = device.current().xp
        if not cupy.cuda.nccl.available:
            raise InputError(
                "several GPUs need NCCL: pip install nvidia-nccl-cu12 (or -cu13, as CuPy's own version)"
            )
        reals = {"f": cupy.cuda.nccl.NCCL_FLOAT32, "d": cupy.cuda.nccl.NCCL_FLOAT64}
        self._real, self._plus = reals[device.current().dtype.char], cupy.cuda.nccl.NCCL_SUM
        meeting = world.from_leader(cupy.cuda.nccl.get_unique_id)
        self._comm = cupy.cuda.nccl.NcclCommunicator(world.size, meeting, world.rank)
        self._aside = cupy.cuda.Stream(non_blocking=True)
        self._world, self._cupy = world, cupy

    def begin_sum(self, array: Any) -> None:
        self._after_computing()
        address = array.data.ptr
        self._comm.allReduce(address, address, array.size, self._real, self._plus, self._aside.ptr)

    def begin_send(self, array: Any, to: int, tag: int) -> None:
        self._after_computing()
        self._comm.send(array.data.ptr, array.size, self._real, to, self._aside.ptr)

    def receive(self, array: Any, source: int, tag: int) -> None:
        self._after_computing()
        self._comm.recv(array.data.ptr, array.size, self._real, source, self._aside.ptr)
        self._wait()

    def begin_broadcast(self, array: Any, root: int) -> None:
        self._after_computing()
        self._comm.bcast(array.data.ptr, array.size, self._real, root, self._aside.ptr)

    def progress(self) -> None:
        pass  # a GPU needs no help

    def finish(self) -> None:
        self._world.meet()  # a sum that another process has not begun would never end
        self._wait()

    def _wait(self) -> None:
        """Let what is launched wait for what comes on the stream aside."""
        done = self._cupy.cuda.Event(disable_timing=True)
        done.record(self._aside)
        self._cupy.cuda.get_current_stream().wait_event(done)

    def _after_computing(self) -> None:
        """Let what comes on the stream aside wait for what has been launched."""
        computed = self._cupy.cuda.Event(disable_timing=True)
        computed.record()
        self._aside.wait_event(computed)


class Passes:
    """The passes of each update that are this process's share, with their gradients summed over all processes.

    Parameters
    ----------
    world : World
    net : Net
        The same in every process.
    exact : bool
        Hand the gradients of large parameters from pass to pass instead of summing them at the end: slower, but with
        the bits of one process.
    """

    def __init__(self, world: World, net: Net, exact: bool = False) -> None:
        self._world, self._net = world, net
        self._transport = world.transport()
        self._runner = (_Chain if exact else _Sums)(world, net, self._transport)
        self._draws = any(node.layer.mask_draws(node.bottoms) for node in net.nodes)
        feeds = feeds_of(net)
        self._fetches = bool(feeds)
        self._feeds = [node for node in feeds if not _takes_every(node.layer, world.size, world.rank)]
        self._known: dict[Any, int] = {}

    def run(
        self,
        inputs: Callable[[], Mapping[str, Any]],
        count: int,
        keep_blobs: bool,
        shapes: Callable[[int], Sequence[Shapes] | None] | None = None,
    ) -> list[Any]:
        """Make the passes of one update; every parameter's diff then holds the sum of all passes' gradients.

        Parameters
        ----------
        inputs : callable
            Gives the input blobs of this process's next pass.
        count : int
            Passes of the update, over all processes.
        keep_blobs : bool
            As for `Net.forward_backward`.
        shapes : callable, optional
            Tells in advance, alike in every process, the shapes of the inputs of the next `count` passes of all
            processes, or None.

        Returns
        -------
        list of scalar
            The losses of all passes, in order.
        """
        size, rank = self._world.size, self._world.rank
        losses = device.current().zeros((count,))
        self._runner.start(count)
        ahead: list[Mapping[str, Any]] = []
        masks = _Masks(self._world, count)
        known = shapes(count) if shapes is not None and self._draws and not self._fetches else None
        if known is not None:
            masks.know([self._count_draws(given) for given in known])
        elif (
            self._draws and not self._fetches
        ):  # the others' inputs show when they are taken, all of them at first
            ahead = [inputs() for _ in range(rank, count, size)]
            masks.exchange(0, [self._count_draws(_shapes(given)) for given in ahead])
        for turn, number in enumerate(range(rank, count, size)):
            given = ahead[turn] if ahead else inputs()
            _pass_over(self._net, self._feeds, rank)
            if self._fetches and self._draws:
                masks.exchange(turn * size, [self._count_draws(_shapes(given))])
            masks.begin(number)
            self._runner.begin(number)
            losses[number] = self._net.forward_backward(keep_blobs, self._runner, **given)
            masks.end(number)
            _pass_over(self._net, self._feeds, size - 1 - rank)
        masks.finish()
        self._runner.finish()
        self._transport.begin_sum(losses)
        self._transport.finish()
        self._runner.add_up()
        return list(losses)

    def _count_draws(self, given: Shapes) -> int:
        """Count the numbers of the stream of masks that a pass over inputs of these shapes draws."""
        shapes = tuple(given.items())
        if self._fetches or shapes not in self._known:
            for name, shape in shapes:
                blob = self._net.blobs.get(name)
                if blob is None or len(blob.shape) != len(shape):
                    return 0  # the pass itself says what is wrong
                blob.reshape(*shape)
            self._net.reshape()
            self._known[shapes] = sum(node.layer.mask_draws(node.bottoms) for node in self._net.nodes)
        return self._known[shapes]


def _shapes(given: Mapping[str, Any]) -> Shapes:
    return {name: np.shape(value) for name, value in given.items()}


def feeds_of(net: Net) -> list[Node]:
    """The layers of a net that fetch data."""
    return [node for node in net.nodes if not node.bottoms and node.layer.type != "Input"]


def _takes_every(layer: Layer, step: int, first: int) -> bool:
    """Let a layer fetch every `step`-th item only; false if it cannot."""
    take_every = getattr(layer, "take_every", None)
    return take_every is not None and take_every(step, first)


def _pass_over(net: Net, feeds: Sequence[Node], items: int) -> None:
    """Let layers that fetch data go past what other processes take."""
    for _ in range(items):
        for node in feeds:
            net.forward_node(node)


class _Masks:
    """Brings the stream of dropout masks to where one process would have it at each pass of an update."""

    def __init__(self, world: World, count: int) -> None:
        self._world = world
        self._counts = np.zeros(count, np.int64)  # numbers that each pass draws
        self._passed = 0  # passes that the stream is past

    def exchange(self, first: int, own: Sequence[int]) -> None:
        """Tell the other processes what the passes `first + rank`, `first + rank + size` .. draw."""
        size, rank = self._world.size, self._world.rank
        counts = np.zeros(len(own) * size, np.int64)
        counts[rank::size] = own
        self._counts[first : first + len(counts)] = self._world.sum(counts)

    def know(self, counts: Sequence[int]) -> None:
        """Be told what every pass draws."""
        self._counts[:] = counts

    def begin(self, number: int) -> None:
        """Go past the passes before this one."""
        fcnlite.random.skip_masks(int(self._counts[self._passed : number].sum()))
        self._before = fcnlite.random.masks_drawn()

    def end(self, number: int) -> None:
        """Note that the stream is past this pass.

        Raises
        ------
        InputError
            A layer has drawn other than it had said.
        """
        self._passed = number + 1
        drawn = fcnlite.random.masks_drawn() - self._before
        if drawn != self._counts[number]:
            raise InputError(
                f"the pass drew {drawn} random numbers, not the {self._counts[number]} that its layers had announced: "
                "a layer that draws cannot be shared out to several processes unless its mask_draws says how many"
            )

    def finish(self) -> None:
        """Go past the update's last pass."""
        fcnlite.random.skip_masks(int(self._counts[self._passed :].sum()))


class _Sums(Accumulation):
    """Sums each parameter's gradient over the processes once the last pass has computed it.

    A small parameter's message holds the gradients of all passes, each from the process that computed it and zero
    from the others. What forward passes change, such as the moving sums of a batch normalisation, is handed from each
    pass to the next.
    """

    def __init__(self, world: World, net: Net, transport: Transport) -> None:
        super().__init__(net)
        self.world, self.transport = world, transport
        self._running = {node: node.layer.running() for node in net.nodes if node.layer.running()}

    def forward(self, node: Node) -> None:
        self.world.listen()
        if node in self._running and self._number:
            self._update(self._running[node], self.world.receive(self._before))
        super().forward(node)
        if node in self._running and self._number + 1 < self._count:
            values = [device.current().tonumpy(blob.data) for blob in self._running[node]]
            self.world.send(values, self._after)

    def backward(self, node: Node) -> None:
        self.world.listen()
        super().backward(node)
        self._exchange(node)

    def _exchange(self, node: Node) -> None:
        """Begin to exchange what a layer's backward pass has completed."""
        if self._number + self.world.size >= self._count:
            for blob in self.last.get(node, ()):
                self.transport.begin_sum(self._apart[blob] if blob in self._apart else blob.diff)
            self.transport.progress()

    def finish(self) -> None:
        """Called after the last of this process's passes."""
        for blobs in self._running.values():
            values = [device.current().tonumpy(blob.data) for blob in blobs]
            self._update(blobs, self.world.broadcast(values, (self._count - 1) % self.world.size))
        self.world.finish_sending()

    def _update(self, blobs: Sequence[Blob], values: Sequence[np.ndarray]) -> None:
        for blob, array in zip(blobs, values):
            blob.data[...] = device.current().asarray(array)

    @property
    def _before(self) -> int:
        """The process of the pass before."""
        return (self._number - 1) % self.world.size

    @property
    def _after(self) -> int:
        """The process of the pass behind."""
        return (self._number + 1) % self.world.size


class _Chain(_Sums):
    """Hands a large parameter's gradient, summed up so far, from the process of one pass to that of the next.

    A process begins the backward pass of a layer with such parameters as soon as the one before it is done with that
    layer. Small parameters are summed in order as ever.
    """

    def __init__(self, world: World, net: Net, transport: Transport) -> None:
        super().__init__(world, net, transport)
        self._tags = {blob: tag for tag, blob in enumerate(b for blobs in self.first.values() for b in blobs)}
        if transport.in_order and self._tags:  # layer by layer, two processes would wait for each other
            order = [node for node in reversed(net.nodes) if node in self.first or node in self.last]
            self.first, self.last = {order[0]: list(self._tags)}, {order[-1]: list(self._tags)}

    def backward(self, node: Node) -> None:
        if self._number:
            for blob in self._handed_on(self.first, node):
                self.transport.receive(blob.new_diff(), self._before, self._tags[blob])
        super().backward(node)

    def _exchange(self, node: Node) -> None:
        if self._number + 1 < self._count:
            for blob in self._handed_on(self.last, node):
                self.transport.begin_send(blob.diff, self._after, self._tags[blob])
            self.transport.progress()

    def _handed_on(self, users: Mapping[Node, Sequence[Blob]], node: Node) -> list[Blob]:
        return [blob for blob in users.get(node, ()) if blob not in self._apart]

    def finish(self) -> None:
        super().finish()
        self.transport.finish()
        for blob in self._tags:
            if blob in self._apart:
                self.transport.begin_sum(self._apart[blob])
            else:
                self.transport.begin_broadcast(blob.new_diff(), (self._count - 1) % self.world.size)


class OwnItems(Iterator[Mapping[str, Any]]):
    """Of a source's items, those of this process's passes.

    Parameters
    ----------
    source : iterable
        The same in every process. One with `seek(position)` is told where to go on, others are read through.
    world : World
    """

    def __init__(self, source: Iterable[Mapping[str, Any]], world: World) -> None:
        self._source, self._world = source, world
        self._items = iter(source)
        self._position = 0  # in passes of all processes

    def __next__(self) -> Mapping[str, Any]:
        wanted = self._position + self._world.rank
        if hasattr(self._items, "seek"):
            self._items.seek(wanted)
        else:
            for _ in range(self._world.rank):
                next(self._items)
        item = next(self._items)
        if not hasattr(self._items, "seek"):
            for _ in range(self._world.size - 1 - self._world.rank):
                next(self._items, None)
        self._position += self._world.size
        return item

    def seek(self, position: int) -> None:
        """Go on as if all processes together had taken `position` items."""
        self._position = position  # a source that cannot seek goes on from where its maker has it
