# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A GPU that does not exist, which counts how often the host waits for it.

Tensors on it have a shape, a type and a device but no numbers
(:class:`torch._subclasses.FakeTensorMode`), so a model of full size takes a
step in seconds on any machine, and whatever mixes devices fails there as on a
GPU. Tensors on the CPU are real, so what the host does with numbers, it does.

The device is called ``pretend``, since a PyTorch without CUDA refuses to
differentiate anything on ``cuda``. Tensors on it say that ``is_cuda``, and
autocast follows CUDA's rules.
"""

import traceback
from collections import Counter
from contextlib import ExitStack
from functools import cache, partial
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

__all__ = ['DEVICE', 'PretendGPU', 'Wait', 'register_device']

DEVICE = 'pretend'
aten = torch.ops.aten
_NOT_CALLERS = (__file__, 'unittest/mock.py')
#: Operators whose result has a size, or is a value, that the host must know.
_READ_BACK = {
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.unique_consecutive.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
}
_INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
# What autocast does on CUDA (aten/src/ATen/autocast_mode.h): operators that
# run in half precision, in float32, and in the widest type of their inputs.
_IN_HALF = """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d.input
    conv_transpose3d.input convolution prelu addmm addmv addr matmul einsum
    mm mv linear addbmm baddbmm bmm scaled_dot_product_attention
"""
_IN_FLOAT32 = """
    acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh
    tan pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar softplus layer_norm
    native_layer_norm group_norm cosine_similarity nll_loss kl_div l1_loss
    smooth_l1_loss huber_loss mse_loss binary_cross_entropy_with_logits dist
    cdist renorm logsumexp prod softmax.int log_softmax.int cumprod cumsum
    linalg_vector_norm sum sum.dim_IntList norm.Scalar norm.ScalarOpt_dim
"""
_IN_WIDEST = """
    addcdiv addcmul atan2 bilinear cross dot grid_sampler index_put tensordot
    scatter_add
"""


class Wait(NamedTuple):
    """A moment at which the host waits for the device.

    Attributes:
        what (str): Kind of operation.
        where (str): File and line outside of PyTorch.
    """

    what: str
    where: str


# -- the device ---------------------------------------------------------------


class _Backend(_DummyBackendModule):
    """What PyTorch asks the module of a device for."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.zeros(16, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        pass

    def device(self, device: Any) -> ExitStack:
        return ExitStack()


@cache
def register_device() -> torch.library.Library:
    """Make the device known to this process.

    It has to happen before the first backward pass of the process: PyTorch
    counts the devices then, and once.

    Returns:
        torch.library.Library: The rules of autocast, which it keeps alive.
    """
    _setup_privateuseone_for_python_backend(DEVICE, backend_module=_Backend())
    key = 'AutocastPrivateUse1'
    fall_through = torch.library.Library('_', 'IMPL', key)
    fall_through.fallback(torch.library.fallthrough_kernel)
    rules = torch.library.Library('aten', 'IMPL', key)
    for names, rule in (
        (_IN_HALF, _half),
        (_IN_FLOAT32, _float32),
        (_IN_WIDEST, _widest),
    ):
        for name in names.split():
            packet, _, overload = name.partition('.')
            op = getattr(getattr(aten, packet), overload or 'default')
            rules.impl(op, partial(_call_cast, op, rule))
    rules.fall_through = fall_through
    return rules


def _half(tensors: list[Tensor]) -> torch.dtype:
    return torch.get_autocast_dtype(DEVICE)


def _float32(tensors: list[Tensor]) -> torch.dtype:
    return torch.float32


def _widest(tensors: list[Tensor]) -> torch.dtype:
    return max((t.dtype for t in tensors), key=lambda d: d.itemsize)


def _call_cast(op: Any, rule: Any, *args: Any, **kwargs: Any) -> Any:
    """Call an operator with its inputs cast by a rule of autocast."""

    def is_castable(value: Any) -> bool:
        return (
            isinstance(value, Tensor)
            and value.is_floating_point()
            and value.dtype != torch.float64
            and _on_gpu(value)
        )

    found = [x for x in tree_leaves((args, kwargs)) if is_castable(x)]
    key = torch._C.DispatchKey.AutocastPrivateUse1
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(key)):
        if found:
            dtype = rule(found)
            args, kwargs = tree_map(
                lambda x: x.to(dtype) if is_castable(x) else x, (args, kwargs)
            )
        return op(*args, **kwargs)


def _on_gpu(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == DEVICE


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE


def _caller() -> str:
    """The innermost line that is neither PyTorch's nor of this file."""
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.endswith(_NOT_CALLERS) and (
            '/torch/' not in frame.filename
        ):
            return f'{frame.filename}:{frame.lineno}: {frame.line}'
    return '?'


# -- the modes ----------------------------------------------------------------


class _Operators(TorchDispatchMode):
    """Real operators on the CPU, fake ones on the device, waits counted."""

    def __init__(self, gpu: 'PretendGPU') -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [
            x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)
        ]
        target = kwargs.get('device')
        if not any(map(_on_gpu, tensors)) and not _is_gpu(target):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            self.gpu.wait('read a number')
            return False if args[0].dtype == torch.bool else 0
        if func is aten._to_copy.default:
            if not _on_gpu(args[0]):
                return self.gpu.receive(args[0], False, kwargs.get('dtype'))
            if target is not None and not _is_gpu(target):
                self.gpu.wait('copy to the host')
                dtype = kwargs.get('dtype') or args[0].dtype
                with unset_fake_temporarily():
                    return torch.zeros(tuple(args[0].shape), dtype=dtype)
        if func is aten.copy_.default and not _on_gpu(args[0]):
            self.gpu.wait('copy to the host')
            return args[0]
        if func is aten.copy_.default and not _on_gpu(args[1]):
            self.gpu.receive(args[1], len(args) > 2 and args[2])
            return args[0]
        if func in _READ_BACK:
            self.gpu.wait(f'find out the result of {func}')
        if func in _INDEXING:
            args = (args[0], [self._index(i) for i in args[1]], *args[2:])
        for tensor in tree_leaves((args, kwargs)):
            if (
                isinstance(tensor, Tensor)
                and tensor.ndim
                and not _on_gpu(tensor)
            ):
                raise RuntimeError(
                    f'{func} takes tensors on more than one device: '
                    f'{DEVICE} and {tensor.device}'
                )
        return func(*args, **kwargs)

    def _index(self, index: Tensor | None) -> Tensor | None:
        """Note what an index costs; it is on the device then."""
        if index is None:
            return None
        if not _on_gpu(index):
            index = self.gpu.receive(index, False)
        if index.dtype == torch.bool:
            self.gpu.wait('count what a mask selects')
        return index


class _Functions(TorchFunctionMode):
    """What never comes to be an operator of the device."""

    def __init__(self, gpu: 'PretendGPU') -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor):
            if not _is_gpu(kwargs.get('device')):
                return func(*args, **kwargs)
            del kwargs['device']
            made = func(*args, **kwargs)
            return made if _on_gpu(made) else self.gpu.receive(made, False)
        if func is Tensor.pin_memory:
            pinned = args[0].clone()
            pinned.pretends_pinned = True
            return pinned
        if func is Tensor.to and not _on_gpu(args[0]):
            device, dtype, non_blocking, _ = torch._C._nn._parse_to(
                *args[1:], **kwargs
            )
            if _is_gpu(device):
                return self.gpu.receive(args[0], non_blocking, dtype)
        if not (args and _on_gpu(args[0])):
            return func(*args, **kwargs)
        if func == Tensor.is_cuda.__get__:
            return True
        if func is Tensor.new_tensor:
            dtype = kwargs.get('dtype', args[0].dtype)
            return self.gpu.receive(torch.tensor(args[1], dtype=dtype), False)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(
                self.gpu.receive(torch.tensor(part), False)
                if isinstance(part, list)
                else part
                for part in index
            )
            return func(args[0], index, *args[2:])
        return func(*args, **kwargs)


class PretendGPU:
    """Context in which a GPU seems to exist.

    .. code-block:: python

        with PretendGPU() as gpu:
            gpu.take(model)
            model.test_step(data)
            print(gpu.report())

    Attributes:
        waits (list[Wait]): Every wait so far; may be cleared.
    """

    def __init__(self) -> None:
        self.waits: list[Wait] = []
        self._stack = ExitStack()

    def __enter__(self) -> 'PretendGPU':
        register_device()
        enter = self._stack.enter_context
        enter(
            mock.patch(
                'torch.cuda.synchronize',
                side_effect=lambda *_: self.wait('torch.cuda.synchronize'),
            )
        )
        enter(
            mock.patch.object(FakeTensor, 'tolist', lambda x: x.cpu().tolist())
        )
        enter(FakeTensorMode(allow_non_fake_inputs=True))
        enter(_Operators(self))
        enter(_Functions(self))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def wait(self, what: str) -> None:
        """Note that the host waits.

        Args:
            what (str): Kind of operation.
        """
        self.waits.append(Wait(what, _caller()))

    def receive(
        self,
        tensor: Tensor,
        non_blocking: bool,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Copy a tensor from the host.

        Args:
            tensor (Tensor): Real tensor.
            non_blocking (bool): Whether the host goes on at once if it can.
            dtype (torch.dtype, optional): Another type.

        Returns:
            Tensor: On the device.
        """
        if not (non_blocking and hasattr(tensor, 'pretends_pinned')):
            self.wait('copy to the device')
        dtype = dtype or tensor.dtype
        return torch.empty(tuple(tensor.shape), dtype=dtype, device=DEVICE)

    def report(self) -> str:
        """Waits, by place, with how often they occurred."""
        return '\n'.join(
            f'{times} x {wait.what}, {wait.where}'
            for wait, times in Counter(self.waits).most_common()
        )

    def take(self, model: nn.Module) -> nn.Module:
        """Move a model to the device, in place.

        Args:
            model (nn.Module): The model, on the CPU.

        Returns:
            nn.Module: The same.
        """
        moved: dict[int, Tensor] = {}

        def move(tensor: Tensor) -> Tensor:
            if id(tensor) not in moved:
                there = torch.empty(
                    tuple(tensor.shape), dtype=tensor.dtype, device=DEVICE
                )
                if isinstance(tensor, nn.Parameter):
                    there = nn.Parameter(there, tensor.requires_grad)
                moved[id(tensor)] = there
            return moved[id(tensor)]

        places = [
            (held, name, tensor)
            for module in model.modules()
            for held in (module._parameters, module._buffers)
            for name, tensor in held.items()
            if tensor is not None
        ]
        for held, name, tensor in places:
            held[name] = move(tensor)
        for module in model.modules():
            if hasattr(module, 'cast_data'):  # a data preprocessor
                module._device = torch.device(DEVICE)
        return model
