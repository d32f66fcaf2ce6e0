"""AdamW, and Muon for the matrices inside the layers.

Muon takes the momentum's nearest orthogonal matrix as the step, so that all directions of a matrix learn at one speed;
embeddings, the output matrix, routers, norms, biases and sinks are AdamW's in both cases.
Source: Jordan et al., Muon: an optimizer for hidden layers in neural networks (the quintic's coefficients).
"""

import torch

MATRICES = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight", "gate_up_proj", "down_proj")


def orthogonalise(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """[..., rows, columns]: each with its singular values brought near 1 (0.7 to 1.2), by Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    return (x.mT if tall else x).float()


class Optimizer:
    """kind "muon" or "adamw"; state tensors go by "moment.NAME" and "variance.NAME".

    A step's learning rates are the factor times `matrix_rate` (Muon's, in units of the spectral norm) and `rate`.
    """

    def __init__(self, named_parameters, kind: str, rate: float, matrix_rate: float, weight_decay: float,
                 betas: tuple[float, float] = (0.9, 0.95), momentum: float = 0.95) -> None:
        if kind not in ("muon", "adamw"):
            raise ValueError(f"an optimizer is muon or adamw, got {kind!r}")
        self.rate, self.matrix_rate, self.weight_decay = rate, matrix_rate, weight_decay
        self.betas, self.momentum = betas, momentum
        self.count = 0  # steps since AdamW's moments were zero
        self.plain, self.groups = {}, {}
        for name, parameter in named_parameters:
            if kind == "muon" and name.endswith(MATRICES):
                self.groups.setdefault(parameter.shape[-2:], {})[name] = parameter
            else:
                self.plain[name] = parameter
        matrices = [name for group in self.groups.values() for name in group]
        parameters = {**self.plain, **{name: p for group in self.groups.values() for name, p in group.items()}}
        self.moments = {name: torch.zeros_like(parameters[name]) for name in [*self.plain, *matrices]}
        self.variances = {name: torch.zeros_like(parameter) for name, parameter in self.plain.items()}

    @torch.no_grad()
    def step(self, factor: float) -> None:
        self.count += 1
        self._adamw(self.rate * factor)
        for shape, group in self.groups.items():
            self._muon(group, self.matrix_rate * factor * max(1.0, shape[0] / shape[1]) ** 0.5)

    def _adamw(self, rate: float) -> None:
        parameters = list(self.plain.values())
        gradients = [parameter.grad for parameter in parameters]
        moments, variances = ([state[name] for name in self.plain] for state in (self.moments, self.variances))
        first, second = self.betas
        torch._foreach_lerp_(moments, gradients, 1 - first)
        torch._foreach_mul_(variances, second)
        torch._foreach_addcmul_(variances, gradients, gradients, 1 - second)
        sizes = torch._foreach_sqrt(variances)
        torch._foreach_div_(sizes, (1 - second**self.count) ** 0.5)
        torch._foreach_add_(sizes, 1e-8)
        decayed = [parameter for parameter in parameters if parameter.ndim >= 2]
        torch._foreach_mul_(decayed, 1 - rate * self.weight_decay)
        torch._foreach_addcdiv_(parameters, moments, sizes, -rate / (1 - first**self.count))

    def _muon(self, group: dict[str, torch.nn.Parameter], rate: float) -> None:
        parameters, moments = list(group.values()), [self.moments[name] for name in group]
        gradients = [parameter.grad for parameter in parameters]
        torch._foreach_lerp_(moments, gradients, 1 - self.momentum)
        ahead = torch._foreach_lerp(gradients, moments, self.momentum)  # Nesterov's
        stacked = torch.cat([a.reshape(-1, *a.shape[-2:]) for a in ahead])
        steps = orthogonalise(stacked).split([p.numel() // (p.shape[-2] * p.shape[-1]) for p in parameters])
        torch._foreach_mul_(parameters, 1 - rate * self.weight_decay)
        torch._foreach_add_(parameters, [step.view_as(p) for step, p in zip(steps, parameters)], alpha=-rate)

    def state(self) -> dict[str, torch.Tensor]:
        return {f"{kind}.{name}": tensor for kind, tensors in (("moment", self.moments), ("variance", self.variances))
                for name, tensor in tensors.items()}

    def load(self, state: dict[str, torch.Tensor], count: int) -> None:
        mine = self.state()
        if state.keys() != mine.keys():
            raise ValueError("the optimizer's state is that of another model or optimizer: "
                             f"{sorted(state.keys() ^ mine.keys())[:3]} ...")
        for name, tensor in state.items():
            mine[name].copy_(tensor)
        self.count = count
