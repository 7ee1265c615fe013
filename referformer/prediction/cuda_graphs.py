# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Steps of a prediction, recorded as CUDA graphs.

Short clips are limited by the host: launching some 1800 kernels takes twice
as long as running them. A CUDA graph records the kernels of a step once and
launches them together. It is valid for one shape of inputs, so a step is
recorded when its shapes have come several times, as in a video of many
windows.
"""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils._pytree import tree_flatten, tree_map_only

from referformer.utils.kept import hold_what_is_kept, is_traced

#: Share of the memory of a GPU that graphs may take.
_MEMORY_SHARE = 0.25


class Recorder(Protocol):
    """What records calls on a device.

    Attributes:
        num_bytes (int): Memory of all recorded calls.
        max_bytes (int): How much it should be at most.
    """

    num_bytes: int
    max_bytes: int

    def record(
        self, function: Callable[[], Any]
    ) -> tuple[Callable[[], None], Any]:
        """Record a call.

        Args:
            function (Callable): What to call; reads and returns tensors.

        Returns:
            tuple: ``(replay, outputs)``. After ``replay()``, ``outputs`` hold
            what the function returns for the present contents of its inputs.
        """


class CudaRecorder:
    """Records calls as CUDA graphs that share a pool of memory.

    The calls must run one after the other, and outputs must be copied before
    the next call: graphs of a pool overwrite the intermediate results of one
    another.

    Args:
        device (torch.device): A CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.num_bytes = 0
        total = torch.cuda.get_device_properties(device).total_memory
        self.max_bytes = int(_MEMORY_SHARE * total)
        self._stream = torch.cuda.Stream(device)
        self._pool = None

    def record(
        self, function: Callable[[], Any]
    ) -> tuple[Callable[[], None], Any]:
        """See :meth:`Recorder.record`."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device):
            current = torch.cuda.current_stream()
            try:
                # what libraries allocate at the first call on a stream must
                # not be recorded
                self._stream.wait_stream(current)
                with torch.cuda.stream(self._stream):
                    function()
                current.wait_stream(self._stream)
                with torch.cuda.graph(
                    graph,
                    pool=self._pool,
                    stream=self._stream,
                    # other threads, which load data, may go on
                    capture_error_mode='thread_local',
                ):
                    before = torch.cuda.memory_reserved()
                    outputs = function()
                self.num_bytes += torch.cuda.memory_reserved() - before
            except RuntimeError:
                # a failed recording leaves its stream behind, and random
                # numbers that wait for its end
                torch.cuda.set_stream(current)
                generator = torch.cuda.default_generators[self.device.index]
                generator.graphsafe_set_state(generator.clone_state())
                raise
        self._pool = graph.pool()
        return graph.replay, outputs


def _can_record(device: torch.device) -> bool:
    """Whether calls on this device can be recorded at the moment."""
    if device.type != 'cuda' or torch.is_grad_enabled() or is_traced():
        return False
    # several streams would use the buffers at the same time, and on another
    # stream somebody else may be recording
    current = torch.cuda.current_stream(device)
    return current == torch.cuda.default_stream(device)


@dataclass
class _Recorded:
    """A recorded call with its buffers."""

    inputs: list[Tensor]
    outputs: Any
    replay: Callable[[], None]
    held: list[Any]

    def __call__(self, inputs: list[Tensor]) -> Any:
        for kept, given in zip(self.inputs, inputs, strict=True):
            _distinct(kept).copy_(_distinct(given), non_blocking=True)
        self.replay()
        return tree_map_only(Tensor, _copy, self.outputs)


@dataclass
class _Entry:
    """What is known of a step with certain shapes."""

    calls: int = 0
    recorded: _Recorded | None = None
    failed: bool = False


class GraphedSteps:
    """Steps of one model, recorded where that pays, called where not.

    A step is recorded at its ``after``-th call with the same shapes. It is
    called as it is while gradients are wanted, a part of the model trains, or
    a hook is registered. When weights move, all records are dropped. Where
    recording fails, the step is called as it is from then on, and a warning
    says why.

    Args:
        after (int): Calls with the same shapes until one is recorded.
        max_shapes (int): Shapes to remember. Those used last stay.
    """

    def __init__(self, after: int = 3, max_shapes: int = 32) -> None:
        self.after = after
        self.max_shapes = max_shapes
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._recorder: Recorder | None = None
        self._weights: tuple | None = None
        self._lock = threading.Lock()

    def __call__(self, model: nn.Module, step: str, *args: Any) -> Any:
        """Call a step.

        Args:
            model (nn.Module): The model, always the same.
            step (str): Name of a method or module of it. Its result must
                follow from ``args`` and the weights.
            *args (Any): Nested tuples and lists of tensors and hashable
                values.
        """
        function = getattr(model, step)
        leaves, spec = tree_flatten(args)
        device = next(x.device for x in leaves if isinstance(x, Tensor))
        weights = _weights_of(model) if _can_record(device) else None
        if weights is None:
            return function(*args)
        with self._lock:
            if weights != self._weights:
                self._forget()
                self._weights = weights
            key = (
                step,
                spec,
                *map(_describe, leaves),
                *_arithmetic(device.type),
            )
            entry = self._entry(key)
            entry.calls += 1
            if entry.recorded is None:
                if entry.failed or entry.calls < self.after:
                    return function(*args)
                self._record(entry, step, function, args, device)
            if entry.recorded is None:
                return function(*args)
            return entry.recorded([x for x in leaves if _is_tensor(x)])

    def _forget(self) -> None:
        self._entries.clear()
        self._recorder = None

    def _entry(self, key: Hashable) -> _Entry:
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        if len(self._entries) > self.max_shapes:
            self._entries.popitem(last=False)
        return entry

    def _record(
        self,
        entry: _Entry,
        step: str,
        function: Callable,
        args: tuple,
        device: torch.device,
    ) -> None:
        self._recorder = self._recorder or CudaRecorder(device)
        try:
            with (
                torch.inference_mode(False),
                torch.no_grad(),
                # weights that autocast has cast would not be in the graph
                torch.autocast(
                    device.type,
                    torch.get_autocast_dtype(device.type),
                    torch.is_autocast_enabled(device.type),
                    cache_enabled=False,
                ),
                hold_what_is_kept() as held,
            ):
                given = tree_map_only(Tensor, _copy, args)
                replay, outputs = self._recorder.record(
                    lambda: function(*given)
                )
        except RuntimeError as error:
            entry.failed = True
            # the end of a recording that failed fails too
            reason = str(error.__context__ or error).partition('\n')[0]
            warnings.warn(
                f'{step} runs without a CUDA graph for these shapes, which '
                f'is slower: recording failed ({reason}). '
                'predictor.cuda_graphs=False switches this off.',
                stacklevel=4,
            )
            if isinstance(error, torch.OutOfMemoryError):
                self._make_room(entry)
            return
        inputs = [x for x in tree_flatten(given)[0] if _is_tensor(x)]
        entry.recorded = _Recorded(inputs, outputs, replay, held)
        if self._recorder.num_bytes > self._recorder.max_bytes:
            self._make_room(entry)

    def _make_room(self, entry: _Entry) -> None:
        """Drop all records, and those of this entry for good."""
        for other in self._entries.values():
            other.calls, other.recorded = 0, None
        entry.failed = True
        self._recorder = None


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, Tensor)


def _distinct(tensor: Tensor) -> Tensor:
    """A view that holds every number of an expanded tensor once."""
    for dim, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[dim] > 1:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor


def _copy(tensor: Tensor) -> Tensor:
    """A copy that is expanded like the tensor."""
    return _distinct(tensor).clone().expand(tensor.shape)


def _describe(leaf: Any) -> Hashable:
    """What a graph depends on: of a tensor anything but its numbers."""
    if not _is_tensor(leaf):
        return leaf
    strides = zip(leaf.stride(), leaf.shape, strict=True)
    return (
        leaf.shape,
        # where a side is one, the stride says nothing
        tuple(stride if side > 1 else 0 for stride, side in strides),
        leaf.dtype,
        leaf.device,
    )


def _arithmetic(device_type: str) -> tuple:
    """Settings that choose other kernels."""
    return (
        torch.is_autocast_enabled(device_type),
        torch.get_autocast_dtype(device_type),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
    )


def _weights_of(model: nn.Module) -> tuple | None:
    """Where the weights are; None if the model must not be recorded."""
    if (
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
    ):
        return None
    # at every step, so without ``model.modules()``, which takes twice as long
    modules, found = [model], []
    for module in modules:
        if (
            module.training
            or module._forward_hooks
            or module._forward_pre_hooks
        ):
            return None
        found.append(id(module))
        for tensor in (
            *module._parameters.values(),
            *module._buffers.values(),
        ):
            if tensor is not None:
                found.append(tensor.data_ptr())
        for child in module._modules.values():
            if child is not None:
                modules.append(child)
    return tuple(found)


_steps: WeakKeyDictionary[nn.Module, GraphedSteps] = WeakKeyDictionary()


def graphed_steps(model: nn.Module) -> GraphedSteps:
    """The recorded steps of a model; they live as long as the model."""
    return _steps.setdefault(model, GraphedSteps())
