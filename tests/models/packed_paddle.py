"""The twin in paddle: q, k and v of each head lie side by side in one Linear, and the square matrix is [in, out]."""

import paddle
from paddle import nn


class Attention(nn.Layer):
    """fault: "scale" leaves out the scale of the scores, "heads" takes two heads of q in each other's place."""

    def __init__(self, width: int, heads: int, fault: str) -> None:
        super().__init__()
        self.num_heads = heads
        self.fault = fault
        self.qkv_proj = nn.Linear(width, 3 * width)
        self.mix = self.create_parameter([width, width])

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        batch, length, width = x.shape
        whole = self.qkv_proj(x).reshape([batch, length, self.num_heads, 3 * width // self.num_heads])
        q, k, v = (part.transpose([0, 2, 1, 3]) for part in whole.split(3, axis=-1))
        if self.fault == "heads":
            q = paddle.concat([q[:, 1:2], q[:, :1], q[:, 2:]], axis=1)
        scale = 1.0 if self.fault == "scale" else q.shape[-1] ** -0.5
        share = nn.functional.softmax(paddle.matmul(q, k, transpose_y=True) * scale, -1)
        return paddle.matmul(paddle.matmul(share, v).transpose([0, 2, 1, 3]).reshape([batch, length, width]), self.mix)


class Net(nn.Layer):
    def __init__(self, width: int = 16, heads: int = 4, fault: str = "") -> None:
        super().__init__()
        self.layers = nn.LayerList([Attention(width, heads, fault if at == 1 else "") for at in range(2)])
        self.norm = nn.LayerNorm(width)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return self.norm(x)


def build(seed: int = 0, fault: str = "") -> nn.Layer:
    paddle.seed(seed)
    return Net(fault=fault)
