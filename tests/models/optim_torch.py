"""A network with norms, and its optimisers as a port has them; optim_paddle.py has right partners and wrong ones."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.inp = nn.Linear(8, width)
        self.ln = nn.LayerNorm(width)
        self.mid = nn.Linear(width, width)
        self.out = nn.Linear(width, 4)

    def forward(self, x):
        return self.out(torch.relu(self.mid(self.ln(self.inp(x)))))


def build():
    torch.manual_seed(0)
    return Net()


class Scheduled:
    """Clips, steps, and goes on in its schedule."""

    def __init__(self, model):
        named = list(model.named_parameters())
        plain = [parameter for name, parameter in named if name.endswith("bias") or "ln" in name]
        decayed = [parameter for name, parameter in named if not (name.endswith("bias") or "ln" in name)]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
        self.model = model
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1.0 if step < 10 else 0.5)

    def step(self):
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimizer.step()
        self.schedule.step()
