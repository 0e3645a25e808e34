"""Layers over the NumPy autograd. Weights are laid out as in torch, except LinearIO's, which is as in paddle."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from padiff_rpc.numpy_framework import functions as F
from padiff_rpc.numpy_framework.autograd import Tensor

PreHook = Callable[[tuple[Any, ...], dict[str, Any]], "tuple[tuple[Any, ...], dict[str, Any]] | None"]
PostHook = Callable[[tuple[Any, ...], dict[str, Any], Any], Any]


class Parameter(Tensor):
    """A tensor that a layer lists among its parameters once it is set as an attribute."""

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)


class Layer:
    """Base of all layers: children, parameters and buffers, in the order in which they were set as attributes.

    A subclass calls super().__init__() first and defines forward(). Calling the layer runs forward between its hooks.
    """

    def __init__(self) -> None:
        self.__dict__.update(_children={}, _parameters={}, _buffers={}, _transient=set(), _hooks=[])
        self.training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the layer's output; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run forward between the hooks, and return its output."""
        for before, _ in tuple(self._hooks):
            replaced = before(args, kwargs)
            if replaced is not None:
                args, kwargs = replaced
        output = self.forward(*args, **kwargs)
        for _, after in tuple(self._hooks):
            replaced = after(args, kwargs, output)
            if replaced is not None:
                output = replaced
        return output

    def register_hook(self, before: PreHook, after: PostHook) -> Callable[[], None]:
        """Call `before(args, kwargs)` and `after(args, kwargs, output)` around forward, and return their removal.

        A result of `before` other than None replaces (args, kwargs), and a result of `after` other than None replaces the
        output. The removal may be called again.
        """
        entry = (before, after)
        self._hooks.append(entry)

        def remove() -> None:
            self._hooks[:] = [other for other in self._hooks if other is not entry]

        return remove

    def register_buffer(self, name: str, tensor: Tensor, persistent: bool = True) -> None:
        """Hold a tensor that belongs to the layer's state but is not trained; a checkpoint leaves it out if not persistent."""
        self._buffers[name] = tensor
        (self._transient.discard if persistent else self._transient.add)(name)

    def children(self) -> dict[str, Layer]:
        """Return the direct sublayers by name."""
        return dict(self._children)

    def parameters(self) -> dict[str, Parameter]:
        """Return the parameters that this layer holds itself, by name."""
        return dict(self._parameters)

    def buffers(self) -> dict[str, Tensor]:
        """Return the buffers that this layer holds itself, by name."""
        return dict(self._buffers)

    def transient_buffers(self) -> set[str]:
        """Return the names of this layer's own buffers that a checkpoint leaves out."""
        return self._transient & self._buffers.keys()

    def walk(self) -> Iterator[Layer]:
        """Yield this layer and all layers below it, pre-order; a layer that is registered twice comes twice."""
        yield self
        for child in self._children.values():
            yield from child.walk()

    def train(self, training: bool = True) -> Layer:
        """Put this layer and all layers below it into training mode, or into evaluation mode, and return it."""
        for layer in self.walk():
            layer.training = training
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        kind = self.__dict__
        if isinstance(value, Layer):
            kind = self._children
        elif isinstance(value, Parameter):
            kind = self._parameters
        elif isinstance(value, Tensor) and name in self._buffers:
            kind = self._buffers
        for place in (self.__dict__, self._children, self._parameters, self._buffers):
            if place is not kind:
                place.pop(name, None)
        kind[name] = value

    def __getattr__(self, name: str) -> Any:
        for place in ("_children", "_parameters", "_buffers"):
            if name in self.__dict__.get(place, ()):
                return self.__dict__[place][name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


class Linear(Layer):
    """Affine map with a weight [out, in] and a bias [out]; `bias` is None where there is none."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features: int = in_features
        self.out_features: int = out_features
        self.weight: Parameter = _uniform((out_features, in_features), in_features)
        self.bias: Parameter | None = _uniform((out_features,), in_features) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., in] to [..., out]."""
        return F.linear(x, self.weight.transpose(1, 0), self.bias)


class LinearIO(Layer):
    """Affine map with a weight [in, out]: Linear, as a framework with the other layout has it."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features: int = in_features
        self.out_features: int = out_features
        self.weight: Parameter = _uniform((in_features, out_features), in_features)
        self.bias: Parameter | None = _uniform((out_features,), in_features) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., in] to [..., out]."""
        return F.linear(x, self.weight, self.bias)


class Conv2D(Layer):
    """Convolution of [N, C, H, W] with a weight [out, in, kernel, kernel]."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels: int = in_channels
        self.out_channels: int = out_channels
        self.kernel_size: int = kernel_size
        self.stride: int = stride
        self.padding: int = padding
        fan_in = in_channels * kernel_size * kernel_size
        self.weight: Parameter = _uniform((out_channels, in_channels, kernel_size, kernel_size), fan_in)
        self.bias: Parameter | None = _uniform((out_channels,), fan_in) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x [N, in, H, W], padded with zeros."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class Embedding(Layer):
    """Table of vectors; weight [num_embeddings, embedding_dim]."""

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__()
        self.num_embeddings: int = num_embeddings
        self.embedding_dim: int = embedding_dim
        self.weight: Parameter = Parameter(
            F.generator().standard_normal((num_embeddings, embedding_dim)).astype(np.float32)
        )

    def forward(self, ids: Tensor) -> Tensor:
        """Look up ids [...] as [..., embedding_dim]."""
        return F.embedding(ids, self.weight)


class LayerNorm(Layer):
    """Normalisation over the last axis."""

    def __init__(self, normalized_shape: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.normalized_shape: int = normalized_shape
        self.eps: float = eps
        self.weight: Parameter = Parameter(np.ones(normalized_shape, np.float32))
        self.bias: Parameter = Parameter(np.zeros(normalized_shape, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [..., normalized_shape]."""
        return F.layer_norm(x, self.weight, self.bias, self.eps)


class BatchNorm(Layer):
    """Normalisation over all axes of [N, C, ...] but C; by the batch in training, by the running statistics otherwise.

    running = (1 - momentum) * running + momentum * batch, with the unbiased variance, as in torch.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.num_features: int = num_features
        self.eps: float = eps
        self.momentum: float = momentum
        self.weight: Parameter = Parameter(np.ones(num_features, np.float32))
        self.bias: Parameter = Parameter(np.zeros(num_features, np.float32))
        self.register_buffer("running_mean", Tensor(np.zeros(num_features, np.float32)))
        self.register_buffer("running_var", Tensor(np.ones(num_features, np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [N, C, ...], and update the running statistics in training."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)
        axes = (0, *range(2, x.ndim))
        mean = x.mean(axes)
        centred = x - x.mean(axes, keepdims=True)
        variance = (centred * centred).mean(axes)
        count = x.values.size // x.shape[1]
        self._track(self.running_mean, mean.values)
        self._track(self.running_var, variance.values * (count / max(count - 1, 1)))
        return F.batch_norm(x, mean, variance, self.weight, self.bias, self.eps)

    def _track(self, running: Tensor, batch: np.ndarray) -> None:
        running.overwrite(((1 - self.momentum) * running.data + self.momentum * batch).astype(running.data.dtype))


class ReLU(Layer):
    """Rectifier, in place where asked for."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        """Return max(element, 0)."""
        return x.relu_() if self.inplace else x.relu()


class GELU(Layer):
    """Gaussian error linear unit, exact ("none") or by "tanh"."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """Apply functions.gelu."""
        return F.gelu(x, self.approximate)


class Tanh(Layer):
    """Hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the hyperbolic tangent of each element."""
        return x.tanh()


class Softmax(Layer):
    """Softmax along one axis."""

    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        """Apply functions.softmax along the axis."""
        return F.softmax(x, self.axis)


class Dropout(Layer):
    """Zero elements in training, by the thread's generator (functions.seed_generator)."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements in training; return x itself otherwise."""
        return F.dropout(x, self.p) if self.training else x


class LayerList(Layer):
    """Children named 0, 1, ...; the layer that holds the list runs them."""

    def __init__(self, *layers: Layer) -> None:
        super().__init__()
        for index, layer in enumerate(layers):
            setattr(self, str(index), layer)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._children.values())


class Sequential(LayerList):
    """Children that run one after the other."""

    def forward(self, x: Any) -> Any:
        """Pass x through the children in turn."""
        for layer in self:
            x = layer(x)
        return x


class MultiHeadAttention(Layer):
    """Attention with projections of query, key, value and output."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.embed_dim: int = embed_dim
        self.num_heads: int = num_heads
        self.q_proj: Linear = Linear(embed_dim, embed_dim)
        self.k_proj: Linear = Linear(embed_dim, embed_dim)
        self.v_proj: Linear = Linear(embed_dim, embed_dim)
        self.out_proj: Linear = Linear(embed_dim, embed_dim)

    def forward(
        self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Attend from `query` [N, L, E] to `key` and `value` [N, S, E].

        Args:
            query: The queries.
            key: The keys; the queries where it is None.
            value: The values; the keys where it is None.
            mask: Boolean, broadcast to [N, heads, L, S]; true where a position may be attended to.
        """
        key = query if key is None else key
        value = key if value is None else value
        scale = 1 / math.sqrt(self.embed_dim // self.num_heads)
        heads = F.attention(self.q_proj(query), self.k_proj(key), self.v_proj(value), self.num_heads, scale, mask)
        return self.out_proj(heads)


def _uniform(shape: tuple[int, ...], fan_in: int) -> Parameter:
    bound = 1 / math.sqrt(fan_in)
    return Parameter(F.generator().uniform(-bound, bound, shape).astype(np.float32))
