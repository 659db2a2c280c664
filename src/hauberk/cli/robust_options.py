"""The options of `hauberk train --robust`, and what they mean."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from hauberk.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hauberk.attacks import FeatureThreat
    from hauberk.schema import FeatureSpace, ImageSpace
    from hauberk.train.robust import RobustOptions, UnderAttack

_RADIUS = 0.05
_OF_METHODS = (
    "steps",
    "step_size",
    "beta",
    "start",
    "noise",
    "alignment",
    "replays",
    "clean",
    "label_smoothing",
    "weight_perturbation",
    "validation_steps",
    "validation_records",
)
_ONLY_OF = {
    "steps": ("pgd", "trades", "mart"),
    "step_size": ("pgd", "trades", "mart", "fast", "free"),
    "noise": ("fast",),
    "replays": ("free",),
}
"""Options that have a value by default, so that the options of training cannot tell that one was asked for."""
_OF_THREATS = ("radius", "norm", "threat", "every_column", "training_radius", "balance_kinds")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options; none of them has a default here, so that one that is given without `--robust` is seen."""
    group = parser.add_argument_group("robust training (with --robust)")
    group.add_argument(
        "--robust",
        choices=("pgd", "trades", "mart", "fast", "free"),
        help="learn from attacked records, by this method",
    )
    group.add_argument("--radius", type=float, metavar="R", help="how far a column may be moved (default: 0.05)")
    group.add_argument("--norm", choices=("linf", "l2"), help="what the radius bounds (default: linf)")
    group.add_argument("--threat", metavar="FILE", help="threat model of records, a file or a shipped one's name")
    group.add_argument(
        "--every-column", action="store_true", help="move all columns: immutable numbers and one-hot ones, too"
    )
    group.add_argument("--training-radius", type=float, metavar="X", help="attack X times as far (default: 1)")
    group.add_argument("--balance-kinds", type=float, metavar="E", help="weigh rare kinds of attack more, 0 to 1")
    group.add_argument("--steps", type=int, help="of pgd, trades and mart (default: 5)")
    group.add_argument("--step-size", type=float, metavar="X", help="in radii (default: the method's)")
    group.add_argument("--beta", type=float, help="weight of the divergence, of trades (6) and mart (5)")
    group.add_argument("--start", choices=("noise", "random", "record"), help="of fast (default: noise)")
    group.add_argument("--noise", type=float, metavar="X", help="of fast, in radii (default: 2)")
    group.add_argument(
        "--alignment", type=float, metavar="W", help="weight of gradient alignment, of fast (default: 0)"
    )
    group.add_argument("--replays", type=int, help="of free (default: 4)")
    group.add_argument("--clean", type=float, metavar="S", help="share of unattacked records' loss, of pgd and fast")
    group.add_argument("--label-smoothing", type=float, metavar="S", help="(default: 0)")
    group.add_argument("--weight-perturbation", type=float, metavar="S", help="of the weights' norm (default: 0)")
    group.add_argument("--validation-steps", type=int, metavar="N", help="of the attack it stops by (default: 10)")
    group.add_argument("--validation-records", type=int, metavar="N", help="attacked after an epoch (default: 2000)")


def of_records(options: argparse.Namespace) -> UnderAttack[FeatureSpace] | None:
    """What was asked for, for a detector of records; `None` without `--robust`.

    Raises:
        InputError: Options that do not go together, values out of range, or a threat model that cannot be read.
    """
    robust = _method(options)
    if robust is None:
        return None
    from hauberk.attacks import FeatureThreat
    from hauberk.train.robust import UnderAttack, every_column

    radius, norm = _ball(options)
    threat: Callable[[FeatureSpace], FeatureThreat]
    if options.threat is not None:
        threat = _read(options)
    elif options.every_column:

        def threat(space: FeatureSpace) -> FeatureThreat:
            return every_column(space, radius, norm=norm)
    else:

        def threat(space: FeatureSpace) -> FeatureThreat:
            return FeatureThreat.from_space(space, radius, norm=norm)

    return UnderAttack(robust, threat, options.balance_kinds or 0.0)


def of_images(options: argparse.Namespace) -> UnderAttack[ImageSpace] | None:
    """What was asked for, for a model of images; `None` without `--robust`.

    Raises:
        InputError: Options that do not go together, or values out of range.
    """
    robust = _method(options)
    if robust is None:
        return None
    from hauberk.train import robust as training

    for name in ("threat", "every_column", "balance_kinds"):
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')} is for records; --data {options.data} is none")
    radius, norm = _ball(options)
    return training.UnderAttack(robust, lambda space: training.of_images(space, radius, norm=norm))


def _method(options: argparse.Namespace) -> RobustOptions | None:
    given: dict[str, Any] = {name: getattr(options, name) for name in _OF_METHODS}
    given = {name: value for name, value in given.items() if value is not None}
    if options.robust is None:
        asked = [*given, *(name for name in _OF_THREATS if getattr(options, name))]
        if asked:
            raise InputError(f"--{asked[0].replace('_', '-')} is for training under attack; say how with --robust")
        return None
    from hauberk.train.robust import RobustOptions

    for name, methods in _ONLY_OF.items():
        if name in given and options.robust not in methods:
            raise InputError(f"--{name.replace('_', '-')} is for {', '.join(methods)}; --robust is {options.robust}")
    if options.training_radius is not None:
        given["radius"] = options.training_radius
    return RobustOptions(method=options.robust, **given)


def _ball(options: argparse.Namespace) -> tuple[float, Any]:
    radius = _RADIUS if options.radius is None else options.radius
    if not 0 < radius < float("inf"):
        raise InputError(f"--radius is {radius}; a number above 0 is needed, or nothing is attacked")
    return radius, options.norm or "linf"


def _read(options: argparse.Namespace) -> Callable[[FeatureSpace], FeatureThreat]:
    for name in ("radius", "norm", "every_column"):
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')} and --threat exclude each other: the threat model says it")
    from hauberk.attacks.threat_file import load_threat

    return load_threat(options.threat).threat
