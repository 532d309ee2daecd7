"""Registers a function and its gradients as operators, each a single node for `torch.compile`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch

LIBRARY = torch.library.Library("trm", "FRAGMENT")  # the operators exist as long as this object


def register(
    name: str,
    tensors: str,
    settings: str,
    function: Callable[..., Any],
    shapes: Callable[..., Any],
    gradients: Callable[..., tuple[torch.Tensor, ...]],
    kept: str = "",
) -> None:
    """Register `trm::NAME`(tensors, settings) and `trm::NAME_gradients`(tensors, dy, kept, settings).

    `tensors`, `settings` and `kept` are names separated by spaces; a setting has its type, as `bool:reverse`.
    `function` returns y, and after it the tensors named in `kept`, which go to the backward pass; `shapes`
    returns empty tensors like them, for tracing. `gradients` returns the gradient of each of `tensors`, dense
    and in its dtype. The arguments of all three are those of the operator.

    Not with `torch.library.custom_op`, whose first call imports the compiler, which takes a second.
    """
    given, saved = tensors.split(), kept.split()
    number = len(given)

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:number], *(output[1:] if saved else ()))
        ctx.settings = inputs[number:]
        ctx.set_materialize_grads(False)  # or autograd would allocate a zero gradient for what is kept

    def backward(ctx: Any, dy: torch.Tensor | None, *_: Any) -> tuple[torch.Tensor | None, ...]:
        if dy is None:
            return (None,) * (number + len(ctx.settings))
        inputs, others = ctx.saved_tensors[:number], ctx.saved_tensors[number:]
        found = getattr(torch.ops.trm, f"{name}_gradients")(*inputs, dy, *others, *ctx.settings)
        return *found, *(None,) * len(ctx.settings)

    def shapes_of_gradients(*arguments: Any) -> tuple[torch.Tensor, ...]:
        return tuple(v.new_empty(v.shape) for v in arguments[:number])

    def backward_of_gradients(*_: Any) -> NoReturn:
        raise RuntimeError(f"{name} has no second derivative: differentiate it only once")

    types = [setting.replace(":", " ") for setting in settings.split()]
    outputs = f"({', '.join(['Tensor'] * (1 + len(saved)))})" if saved else "Tensor"
    _define(name, [*_as_tensors(given), *types], outputs, function, shapes)
    arguments = [*_as_tensors([*given, "dy", *saved]), *types]
    outputs = f"({', '.join(['Tensor'] * number)})"
    _define(f"{name}_gradients", arguments, outputs, gradients, shapes_of_gradients)
    torch.library.register_autograd(f"trm::{name}", backward, setup_context=keep, lib=LIBRARY)
    torch.library.register_autograd(f"trm::{name}_gradients", backward_of_gradients, lib=LIBRARY)


def _as_tensors(names: list[str]) -> list[str]:
    return [f"Tensor {name}" for name in names]


def _define(
    name: str, arguments: list[str], outputs: str, function: Callable[..., Any], shapes: Callable[..., Any]
) -> None:
    LIBRARY.define(f"{name}({', '.join(arguments)}) -> {outputs}")
    LIBRARY.impl(name, function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"trm::{name}", shapes, lib=LIBRARY)
