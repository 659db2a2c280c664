"""hauberk-auto: one attack after the other on what still stands, with nothing to tune; the worst case per record.

With several wrong classes it runs what the standard set of AutoAttack runs (Croce, Hein, ICML 2020, arXiv:2003.01690):
Auto-PGD on cross-entropy, targeted Auto-PGD on the difference-of-logits ratio, targeted FAB, and Square with 5,000
queries. That ratio means nothing for two answers, so a detector meets Auto-PGD on the margin, then on cross-entropy
(whose log-odds are the margin where there is one way to be wrong: another start), FAB and Square.

Where a threat model does more than bound moves, repairs come between a search and the model, and the set is another:
PGD and Auto-PGD each go on from the iterate and from its repair (see `hauberk.attacks.batch`), and an evolution that
needs no gradient follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks.apgd import APGD, TargetedAPGD, has_rivals
from hauberk.attacks.base import Attack, Features, Knowledge
from hauberk.attacks.batch import without_ball
from hauberk.attacks.evolution import Evolution
from hauberk.attacks.fab import FAB
from hauberk.attacks.gradient import WhiteBox
from hauberk.attacks.judge import Judge, Targets
from hauberk.attacks.pgd import PGD
from hauberk.attacks.square import Square
from hauberk.attacks.threat import FeatureThreat
from hauberk.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Ensemble(Attack[WhiteBox]):
    """The strongest figure that one call gives: a record survives if every attack leaves it standing.

    Attributes:
        steps: Steps of each gradient attack, at least 1; 100 in the paper.
        queries: Queries a record of each search without gradients, at least 1; 5,000 in the paper.
        batch_size: Records attacked together, at least 1.
    """

    name: ClassVar[str] = "hauberk-auto"
    knowledge: ClassVar[Knowledge] = "white-box"

    steps: int = 100
    queries: int = 5000
    batch_size: int = 512

    def __post_init__(self) -> None:
        if min(self.steps, self.queries, self.batch_size) < 1:
            raise InputError(
                "attack hauberk-auto: steps, queries and batch size must be at least 1,"
                f" not {self.steps}, {self.queries} and {self.batch_size}"
            )

    def members(self, judge: Judge, threat: FeatureThreat) -> tuple[Attack[WhiteBox], ...]:
        """The attacks that it runs on this model, in turn."""
        steps, size = self.steps, self.batch_size
        if without_ball(threat).constrained:
            return (
                PGD(steps=steps, restarts=2, batch_size=size),
                APGD(steps=steps, restarts=2, batch_size=size),
                Evolution(queries=self.queries, batch_size=size),
            )
        square = Square(queries=self.queries, batch_size=size)
        fab = FAB(steps=steps, early_stopping=True, batch_size=size)
        likely = APGD(objective="cross-entropy", steps=steps, batch_size=size)
        if has_rivals(judge):
            return (likely, TargetedAPGD(steps=steps, batch_size=size), fab, square)
        return (APGD(steps=steps, batch_size=size), likely, fab, square)

    def _search(
        self,
        model: WhiteBox,
        features: Features,
        targets: Targets,
        threat: FeatureThreat,
        generator: np.random.Generator,
    ) -> tuple[Features, NDArray[np.int64]]:
        worst, queries = features.copy(order="C"), np.ones(len(features), dtype=np.int64)
        least = model.headroom(features, targets)
        standing = np.flatnonzero(model.right(features, targets))
        for member in self.members(model.judge, threat):
            if not standing.size:
                break
            seed = int(generator.integers(2**32))
            found = member.run(model, features[standing], targets[standing], threat=threat, seed=seed)
            there = model.headroom(found.adversarial, targets[standing])
            queries[standing] += found.queries + 1  # and one to see how near it came
            lower = ~found.survived | (there < least[standing])
            worst[standing[lower]], least[standing[lower]] = found.adversarial[lower], there[lower]
            standing = standing[found.survived]
        return worst, queries
