"""One of every layer that holds parameters and that paddle has too, as independent children of one torch model.

layers_paddle.py is its counterpart: the same names, and in forward the same inputs.
"""

from __future__ import annotations

import torch
from torch import nn

SIZE, HEADS, HIDDEN = 8, 2, 16


class Layers(nn.Module):
    """forward gives every child its own part of the inputs and returns the results by name."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.linear = nn.Linear(SIZE, 6)
        self.linear_square = nn.Linear(SIZE, SIZE)
        self.linear_without_bias = nn.Linear(SIZE, 6, bias=False)
        self.bilinear = nn.Bilinear(SIZE, SIZE, 5)
        self.embedding = nn.Embedding(20, SIZE)
        self.conv1d = nn.Conv1d(SIZE, SIZE, 3, stride=2, padding=1, groups=2)
        self.conv2d = nn.Conv2d(SIZE, SIZE, 3, stride=2, padding=1, groups=2)
        self.conv3d = nn.Conv3d(SIZE, SIZE, 3, stride=2, padding=1, groups=2)
        self.conv_transpose1d = nn.ConvTranspose1d(SIZE, SIZE, 3, stride=2, padding=1, groups=2)
        self.conv_transpose2d = nn.ConvTranspose2d(SIZE, SIZE, 3, stride=2, padding=1, groups=2)
        self.conv_transpose3d = nn.ConvTranspose3d(SIZE, SIZE, 3, stride=2, padding=1, groups=2)
        self.layer_norm = nn.LayerNorm(SIZE)
        self.layer_norm_2d = nn.LayerNorm((5, SIZE))
        self.group_norm = nn.GroupNorm(2, SIZE)
        self.batch_norm1d = nn.BatchNorm1d(SIZE)
        self.batch_norm2d = nn.BatchNorm2d(SIZE)
        self.batch_norm3d = nn.BatchNorm3d(SIZE)
        self.instance_norm1d = nn.InstanceNorm1d(SIZE, affine=True)
        self.instance_norm2d = nn.InstanceNorm2d(SIZE, affine=True)
        self.instance_norm3d = nn.InstanceNorm3d(SIZE, affine=True)
        self.prelu = nn.PReLU()
        self.prelu_per_channel = nn.PReLU(SIZE)
        self.lstm = nn.LSTM(SIZE, SIZE, batch_first=True)
        self.lstm_deep_bidirectional = nn.LSTM(SIZE, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(SIZE, SIZE, batch_first=True)
        self.gru_deep_bidirectional = nn.GRU(SIZE, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.rnn = nn.RNN(SIZE, SIZE, batch_first=True)
        self.rnn_deep_bidirectional = nn.RNN(SIZE, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.lstm_cell = nn.LSTMCell(SIZE, SIZE)
        self.gru_cell = nn.GRUCell(SIZE, SIZE)
        self.rnn_cell = nn.RNNCell(SIZE, SIZE)
        self.attention = nn.MultiheadAttention(SIZE, HEADS, batch_first=True)
        self.attention_other_sizes = nn.MultiheadAttention(SIZE, HEADS, kdim=5, vdim=6, batch_first=True)
        self.encoder_layer = nn.TransformerEncoderLayer(SIZE, HEADS, HIDDEN, dropout=0.0, batch_first=True)
        self.decoder_layer = nn.TransformerDecoderLayer(SIZE, HEADS, HIDDEN, dropout=0.0, batch_first=True)
        self.transformer = nn.Transformer(SIZE, HEADS, 2, 2, HIDDEN, dropout=0.0, batch_first=True)
        self.weight_norm = nn.utils.weight_norm(nn.Conv2d(SIZE, SIZE, 3))
        self.spectral_norm = nn.utils.spectral_norm(nn.Linear(SIZE, 6))
        self.weight_norm_parametrized = nn.utils.parametrizations.weight_norm(nn.Linear(SIZE, SIZE))
        self.spectral_norm_parametrized = nn.utils.parametrizations.spectral_norm(nn.Linear(SIZE, 6))

    def forward(
        self,
        ids: torch.Tensor,
        rows: torch.Tensor,
        sequence: torch.Tensor,
        signal: torch.Tensor,
        image: torch.Tensor,
        volume: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
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
        # What paddle's layers return too, in one order, so that the loss weighs the same tensors on both sides.
        for name in ("attention", "attention_other_sizes"):
            outputs[name] = outputs[name][0]
        return outputs


class Adaptive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.loss = nn.AdaptiveLogSoftmaxWithLoss(16, 20, [5, 10], div_value=2.0, head_bias=True)


def build() -> nn.Module:
    """Every parameter is random: zeros and ones, as norms and biases start, would hide that two were crossed."""
    torch.manual_seed(0)
    model = Layers()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.5, 0.5)
        model.gain.fill_(1.0)
    return model


def build_adaptive() -> nn.Module:
    return Adaptive()
