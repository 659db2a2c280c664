"""Attacks on a detector in feature space, under one threat model; `ATTACKS` is what the shared checks run over."""

from hauberk.attacks.apgd import APGD, TargetedAPGD
from hauberk.attacks.base import Attack, AttackResult, Labelled, Scored, ScoredModel
from hauberk.attacks.boundary import Boundary
from hauberk.attacks.carlini_wagner import CarliniWagner
from hauberk.attacks.ensemble import Ensemble
from hauberk.attacks.evolution import Evolution
from hauberk.attacks.fab import FAB
from hauberk.attacks.fgsm import FGSM
from hauberk.attacks.finite_differences import FiniteDifferences
from hauberk.attacks.gradient import GradientAttack, WhiteBox
from hauberk.attacks.hop_skip_jump import HopSkipJump
from hauberk.attacks.judge import Classes, Judge
from hauberk.attacks.mimicry import Mimicry
from hauberk.attacks.pgd import PGD
from hauberk.attacks.record_sources import NumberRules
from hauberk.attacks.record_threat import RecordThreat
from hauberk.attacks.square import Square
from hauberk.attacks.threat import FeatureThreat
from hauberk.attacks.threat_file import ThreatFile, load_threat

ATTACKS: dict[str, type[Attack[WhiteBox]]] = {
    attack.name: attack
    for attack in (
        FGSM,
        PGD,
        APGD,
        TargetedAPGD,
        FAB,
        CarliniWagner,
        Ensemble,
        Square,
        FiniteDifferences,
        Evolution,
        HopSkipJump,
        Boundary,
        Mimicry,
    )
}
"""Every attack, by name. A `WhiteBox` answers scores, too, so each of them runs on one."""

__all__ = [
    "APGD",
    "ATTACKS",
    "FAB",
    "FGSM",
    "PGD",
    "Attack",
    "AttackResult",
    "Boundary",
    "CarliniWagner",
    "Classes",
    "Ensemble",
    "Evolution",
    "FeatureThreat",
    "FiniteDifferences",
    "GradientAttack",
    "HopSkipJump",
    "Judge",
    "Labelled",
    "Mimicry",
    "NumberRules",
    "RecordThreat",
    "Scored",
    "ScoredModel",
    "Square",
    "TargetedAPGD",
    "ThreatFile",
    "WhiteBox",
    "load_threat",
]
