"""What can be chosen about robust training."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from hauberk.errors import InputError

Method = Literal["pgd", "trades", "mart", "fast", "free"]
Start = Literal["noise", "random", "record"]

_BETAS = {"trades": 6.0, "mart": 5.0}  # of the two papers
_MULTI_STEP = ("pgd", "trades", "mart")


class RobustOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How records are attacked while a model learns, and what it learns from them.

    Lengths are shares of the threat's radius, so that one set of options suits any threat.

    Attributes:
        method: "pgd" learns from records attacked in several steps (Madry et al. 2018, arXiv:1706.06083), "trades"
            from the records and from how far answers move under attack (Zhang et al. 2019, arXiv:1901.08573), "mart"
            likewise, with weight on what is answered wrong (Wang et al. 2020, "Improving Adversarial Robustness
            Requires Revisiting Misclassified Examples"), "fast" from one step, "free" from one step that shares its
            gradient with the learning (Shafahi et al. 2019, arXiv:1904.12843).
        radius: The radius that training attacks with, as a multiple of the threat's; above 0.
        steps: Gradient steps of an attack, at least 1; of "pgd", "trades" and "mart".
        step_size: Length of a step in radii; `None` for 2.5 / steps, 1 for "fast" from noise or from the record, 1.25
            for "fast" from a random point, 1 for "free".
        beta: Weight of the divergence between the answers to a record and to the attacked one; `None` for 6 of
            "trades" and 5 of "mart".
        start: Where the step of "fast" starts: "noise", uniform noise of `noise` radii around the record, and the ball
            is not enforced afterwards (N-FGSM; de Jorge et al. 2022, arXiv:2202.01181); "random", a point of the
            threat model, to which the step returns (Wong et al. 2020, arXiv:2001.03994); "record", the record itself
            (FGSM), which overfits to its own attack unless `alignment` keeps it from that.
        noise: Half the width of that noise, in radii; above 0.
        alignment: Weight of gradient alignment (Andriushchenko and Flammarion 2020, arXiv:2007.02617), at least 0; of
            "fast".
        replays: How often "free" goes over a batch, at least 1; an epoch takes so many times as many steps.
        clean: Share of the loss of the records as they are, in [0, 1); of "pgd" and "fast".
        label_smoothing: Share of the right answer's weight that all answers share, in [0, 1).
        weight_perturbation: How far weights are moved against the model while it learns, as a share of their norm, at
            least 0 (AWP; Wu et al. 2020, arXiv:2004.05884); 0.005 is usual. Not of "free".
        validation_steps: Gradient steps of the attack on validation records, after every epoch; at least 1.
        validation_records: The most validation records that are attacked, at least 1.

    Raises:
        InputError: A value out of its range, or one that the method knows nothing of.
    """

    method: Method = "pgd"
    radius: float = 1.0
    steps: int = 5
    step_size: float | None = None
    beta: float | None = None
    start: Start = "noise"
    noise: float = 2.0
    alignment: float = 0.0
    replays: int = 4
    clean: float = 0.0
    label_smoothing: float = 0.0
    weight_perturbation: float = 0.0
    validation_steps: int = 10
    validation_records: int = 2000

    def __post_init__(self) -> None:
        for name in ("radius", "noise", "step_size"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"robust: {name} is {value}; a number above 0 is needed")
        for name in ("steps", "replays", "validation_steps", "validation_records"):
            if getattr(self, name) < 1:
                raise InputError(f"robust: {name} is {getattr(self, name)}; a whole number of at least 1 is needed")
        for name in ("beta", "alignment", "weight_perturbation"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"robust: {name} is {value}; a number from 0 is needed")
        for name in ("clean", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"robust: {name} is {getattr(self, name)}; a number from 0 to below 1 is needed")
        self._check_method()

    def _check_method(self) -> None:
        """Refuse what would have no effect: a number that is set and ignored is a number that misleads."""
        for asked, name, methods in (
            (self.beta is not None, "beta", ("trades", "mart")),
            (self.alignment > 0, "alignment", ("fast",)),
            (self.start != "noise", "start", ("fast",)),
            (self.clean > 0, "clean", ("pgd", "fast")),
            (self.weight_perturbation > 0, "weight_perturbation", (*_MULTI_STEP, "fast")),
        ):
            if asked and self.method not in methods:
                raise InputError(f"robust: {name} is for {' and '.join(methods)}; the method is {self.method}")

    @property
    def weight_of_divergence(self) -> float:
        """`beta`, or the paper's value."""
        return _BETAS.get(self.method, 0.0) if self.beta is None else self.beta

    @property
    def length(self) -> float:
        """Of a step, in radii."""
        if self.step_size is not None:
            return self.step_size
        if self.method in _MULTI_STEP:
            return 2.5 / self.steps
        return 1.25 if self.method == "fast" and self.start == "random" else 1.0
