"""The paddle partner of optim_torch.py: one right optimiser, and five that are wrong."""

import paddle
from paddle import nn


class Net(nn.Layer):
    def __init__(self, width=16):
        super().__init__()
        self.inp = nn.Linear(8, width)
        self.ln = nn.LayerNorm(width)
        self.mid = nn.Linear(width, width)
        self.out = nn.Linear(width, 4)

    def forward(self, x):
        return self.out(nn.functional.relu(self.mid(self.ln(self.inp(x)))))


def build():
    return Net()


class Scheduled:
    def __init__(self, model, beta2=0.95, eps=1e-8, drops_at=10, decays_all=False, clip=None):
        decayed = {
            parameter.name
            for name, parameter in model.named_parameters()
            if decays_all or not (name.endswith("bias") or "ln" in name)
        }
        self.schedule = paddle.optimizer.lr.LambdaDecay(1e-3, lambda step: 1.0 if step < drops_at else 0.5)
        self.optimizer = paddle.optimizer.AdamW(
            self.schedule,
            beta2=beta2,
            epsilon=eps,
            parameters=model.parameters(),
            weight_decay=0.1,
            apply_decay_param_fun=lambda name: name in decayed,
            grad_clip=clip or nn.ClipGradByGlobalNorm(0.5),
        )

    def step(self):
        self.optimizer.step()
        self.schedule.step()


def right(model):
    return Scheduled(model)


def other_beta2(model):
    return Scheduled(model, beta2=0.96)


def other_eps(model):
    return Scheduled(model, eps=1e-6)


def late_schedule(model):
    return Scheduled(model, drops_at=11)


def decays_norms(model):
    return Scheduled(model, decays_all=True)


def clips_each(model):
    return Scheduled(model, clip=nn.ClipGradByNorm(0.5))
