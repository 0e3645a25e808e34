"""One of every layer that holds parameters and that torch has too, as independent children of one paddle model.

layers_torch.py is its counterpart: the same names, and in forward the same inputs.
"""

from __future__ import annotations

import paddle
from paddle import nn

SIZE, HEADS, HIDDEN = 8, 2, 16


class Layers(nn.Layer):
    """forward gives every child its own part of the inputs and returns the results by name."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = self.create_parameter([1], default_initializer=nn.initializer.Constant(1.0))
        self.linear = nn.Linear(SIZE, 6)
        self.linear_square = nn.Linear(SIZE, SIZE)
        self.linear_without_bias = nn.Linear(SIZE, 6, bias_attr=False)
        self.bilinear = nn.Bilinear(SIZE, SIZE, 5)
        self.embedding = nn.Embedding(20, SIZE)
        self.conv1d = nn.Conv1D(SIZE, SIZE, 3, stride=2, padding=1, groups=2)
        self.conv2d = nn.Conv2D(SIZE, SIZE, 3, stride=2, padding=1, groups=2)
        self.conv3d = nn.Conv3D(SIZE, SIZE, 3, stride=2, padding=1, groups=2)
        self.conv_transpose1d = nn.Conv1DTranspose(SIZE, SIZE, 3, stride=2, padding=1, groups=2)
        self.conv_transpose2d = nn.Conv2DTranspose(SIZE, SIZE, 3, stride=2, padding=1, groups=2)
        self.conv_transpose3d = nn.Conv3DTranspose(SIZE, SIZE, 3, stride=2, padding=1, groups=2)
        self.layer_norm = nn.LayerNorm(SIZE)
        self.layer_norm_2d = nn.LayerNorm((5, SIZE))
        self.group_norm = nn.GroupNorm(2, SIZE)
        self.batch_norm1d = nn.BatchNorm1D(SIZE)
        self.batch_norm2d = nn.BatchNorm2D(SIZE)
        self.batch_norm3d = nn.BatchNorm3D(SIZE)
        self.instance_norm1d = nn.InstanceNorm1D(SIZE)
        self.instance_norm2d = nn.InstanceNorm2D(SIZE)
        self.instance_norm3d = nn.InstanceNorm3D(SIZE)
        self.prelu = nn.PReLU()
        self.prelu_per_channel = nn.PReLU(SIZE)
        self.lstm = nn.LSTM(SIZE, SIZE)
        self.lstm_deep_bidirectional = nn.LSTM(SIZE, 6, num_layers=2, direction="bidirect")
        self.gru = nn.GRU(SIZE, SIZE)
        self.gru_deep_bidirectional = nn.GRU(SIZE, 6, num_layers=2, direction="bidirect")
        self.rnn = nn.SimpleRNN(SIZE, SIZE)
        self.rnn_deep_bidirectional = nn.SimpleRNN(SIZE, 6, num_layers=2, direction="bidirect")
        self.lstm_cell = nn.LSTMCell(SIZE, SIZE)
        self.gru_cell = nn.GRUCell(SIZE, SIZE)
        self.rnn_cell = nn.SimpleRNNCell(SIZE, SIZE)
        self.attention = nn.MultiHeadAttention(SIZE, HEADS)
        self.attention_other_sizes = nn.MultiHeadAttention(SIZE, HEADS, kdim=5, vdim=6)
        self.encoder_layer = nn.TransformerEncoderLayer(SIZE, HEADS, HIDDEN, dropout=0.0)
        self.decoder_layer = nn.TransformerDecoderLayer(SIZE, HEADS, HIDDEN, dropout=0.0)
        self.transformer = nn.Transformer(SIZE, HEADS, 2, 2, HIDDEN, dropout=0.0)
        self.weight_norm = nn.utils.weight_norm(nn.Conv2D(SIZE, SIZE, 3))
        self.spectral_norm = nn.utils.spectral_norm(nn.Linear(SIZE, 6))
        self.weight_norm_parametrized = nn.utils.weight_norm(nn.Linear(SIZE, SIZE), dim=1)
        self.spectral_norm_parametrized = nn.utils.spectral_norm(nn.Linear(SIZE, 6))

    def forward(
        self,
        ids: paddle.Tensor,
        rows: paddle.Tensor,
        sequence: paddle.Tensor,
        signal: paddle.Tensor,
        image: paddle.Tensor,
        volume: paddle.Tensor,
        key: paddle.Tensor,
        value: paddle.Tensor,
    ) -> dict[str, object]:
        # Through a parameter, so that every layer has to send a gradient back to its inputs.
        rows, sequence, signal, image, volume, key, value = (
            tensor * self.gain for tensor in (rows, sequence, signal, image, volume, key, value)
        )
        inputs = {
            **dict.fromkeys(("linear", "linear_square", "linear_without_bias", "spectral_norm"), (rows,)),
            **dict.fromkeys(("weight_norm_parametrized", "spectral_norm_parametrized"), (rows,)),
            **dict.fromkeys(("layer_norm", "layer_norm_2d", "encoder_layer"), (sequence,)),
            **{name: (sequence,) for name, _ in self.named_children() if name.startswith(("lstm", "gru", "rnn"))},
            **{name: (signal,) for name, _ in self.named_children() if name.endswith("1d")},
            **{name: (image,) for name, _ in self.named_children() if name.endswith("2d") and "layer_norm" not in name},
            **{name: (volume,) for name, _ in self.named_children() if name.endswith("3d")},
            **dict.fromkeys(("group_norm", "prelu", "prelu_per_channel", "weight_norm"), (image,)),
            **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_cell"), (rows,)),
            **dict.fromkeys(("decoder_layer", "transformer"), (sequence, sequence.flip(1))),
            "bilinear": (rows, rows.flip(0)),
            "embedding": (ids,),
            "attention": (sequence, sequence.flip(1), sequence),
            "attention_other_sizes": (sequence, key, value),
        }
        outputs = {name: layer(*inputs[name]) for name, layer in self.named_children()}
        # What torch's layers return too, in one order, so that the loss weighs the same tensors on both sides.
        outputs["lstm_cell"] = outputs["lstm_cell"][1]
        for name in ("gru_cell", "rnn_cell"):
            outputs[name] = outputs[name][0]
        return outputs


class Adaptive(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.loss = nn.AdaptiveLogSoftmaxWithLoss(16, 20, [5, 10], div_value=2.0, head_bias=True)


def build() -> nn.Layer:
    paddle.seed(0)
    return Layers()


def build_adaptive() -> nn.Layer:
    return Adaptive()
