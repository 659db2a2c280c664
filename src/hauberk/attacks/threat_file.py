"""The threat model as data: `threat.toml`, the shipped ones, and what a schema says where there is none.

A file says how far an adversary may go (norm and radius, or none), what each feature lets them do, which relations
between features have to hold, what they know, how often they may ask, and what they are after. The format, with every
field, is in docs/reference/threat-models.md.
"""

from __future__ import annotations

import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from hauberk.attacks.record_threat import RecordThreat
from hauberk.attacks.threat import FeatureThreat, Norm
from hauberk.attacks.threat_rules import FeatureRule, StatedRelation, bound_relations, choices_of, number_rules
from hauberk.errors import InputError, one_line
from hauberk.files import read_bounded
from hauberk.schema import FeatureSpace, RecordSchema

Knowledge = Literal["white-box", "scores", "labels"]

GOALS = ("evade", "false-alarm", "any")
"""What an adversary can be after, other than a class by its name."""

LARGEST_FILE = 1024 * 1024
"""Bytes; a threat model is a page, so anything larger is some other file."""


class ThreatFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A threat model as it stands in a file. Checked when it is built, and against a schema by `threat`.

    Attributes:
        name: What reports call it.
        about: Who the adversary is, in a sentence or two.
        norm: "linf", "l2" or "none".
        radius: Radius of the ball in feature space, above 0; left out without a norm.
        knowledge: What the adversary knows of the model: its gradients, its scores or its labels.
        queries: Most questions of each attack to the model for one record, at least 1; `None`: as many as the
            budget of the evaluation has.
        goal: "evade" (attack records answered as benign), "false-alarm" (benign ones as attack), "any" wrong answer, or
            the name of the class that is to be named.
        moves: "features": columns of the feature space move freely. "records": whatever is shown to the model is the
            encoding of a record, whole numbers whole and one-hot groups one-hot. `None`: "records" where an entry
            or a relation needs it, else "features".
        others: What features without an entry let the adversary do: what the "schema" says, or "never" move.
        features: What single features let the adversary do.
        relations: What has to hold between features of a record.

    Raises:
        InputError: A value is out of range, or the norm and the radius do not go together.
    """

    name: str = "threat"
    about: str = ""
    norm: Norm = "linf"
    radius: float | None = None
    knowledge: Knowledge = "white-box"
    queries: int | None = None
    goal: str = "any"
    moves: Literal["features", "records"] | None = None
    others: Literal["schema", "never"] = "schema"
    features: tuple[FeatureRule, ...] = ()
    relations: tuple[str | StatedRelation, ...] = ()

    def __post_init__(self) -> None:
        if self.norm == "none" and self.radius is not None:
            raise InputError(f"without a norm there is no ball: take out 'radius' ({self.radius:g}), or name a norm")
        if self.norm != "none" and self.radius is None:
            raise InputError(f"norm {self.norm!r} needs a 'radius', a number above 0; without a ball, norm = \"none\"")
        if self.radius is not None and not (math.isfinite(self.radius) and self.radius > 0):
            raise InputError(f'the radius must be a finite number above 0, not {self.radius:g} (or norm = "none")')
        if self.queries is not None and self.queries < 1:
            raise InputError(f"queries must be at least 1, not {self.queries}; left out, the budget decides")
        needs = self._needs_records()
        if self.moves == "features" and needs:
            raise InputError(f'{needs} needs moves = "records"')
        if self.moves is None and not needs and self.norm == "none":
            raise InputError('norm = "none" needs moves = "records" or "features"; nothing else in the file says which')

    def threat(self, space: FeatureSpace) -> FeatureThreat:
        """The threat model over a feature space: a `RecordThreat`, unless columns move freely.

        Args:
            space: Of records [D].

        Raises:
            InputError: The file names a feature, category or class that the schema lacks, or a rule that does not fit
                the feature's type, or relations that cannot be read, or that contradict one another or the bounds.
        """
        schema = space.schema
        self._check_goal(schema)
        try:
            rules = number_rules(self.features, self.others, schema)
            choices = choices_of(self.features, schema)
            relations = bound_relations(self.relations, schema, rules)
        except InputError as error:
            raise InputError(f"threat model {self.name!r}: {error}") from error
        radius = self.radius or 0.0
        if self.moves == "records" or self._needs_records():
            return RecordThreat.of(space, rules, radius=radius, norm=self.norm, choices=choices, relations=relations)
        low, high = (end.copy() for end in space.bounds)
        count = len(rules.low)
        ends = space.transform(
            np.stack([rules.low, rules.high]).astype(np.float32), np.zeros((2, len(space.groups)), dtype=np.int64)
        )[:, :count]
        low[:count], high[:count] = ends.min(axis=0), ends.max(axis=0)
        mutable = np.zeros(space.width, dtype=np.bool_)
        mutable[:count] = rules.rising
        return FeatureThreat(radius, low, high, mutable, norm=self.norm)

    def describe(self) -> str:
        """The adversary in a few sentences, for reports; what the features let them do, `threat` describes."""
        knows = {"white-box": "the model itself", "scores": "its scores", "labels": "its labels"}[self.knowledge]
        asks = "" if self.queries is None else f", asks at most {self.queries:,} times a record in each attack"
        wants = {
            "evade": "wants attacks to pass as benign",
            "false-alarm": "wants benign records to raise alarms",
            "any": "wants any wrong answer",
        }.get(self.goal, f"wants the answer {self.goal!r}")
        ball = "no ball in feature space" if self.norm == "none" else f"{self.norm} radius {self.radius:g}"
        about = f" {self.about}" if self.about else ""
        return f"Threat model {self.name!r}: the adversary knows {knows}{asks}, and {wants}; {ball}.{about}"

    def _needs_records(self) -> str:
        """The first thing in the file that is about records and not columns of the feature space; empty: nothing."""
        for rule in self.features:
            for given, what in (
                (rule.change in {"increase", "decrease"}, f'change = "{rule.change}"'),
                (rule.integer is not None, "integer"),
                (rule.categories is not None, "categories"),
                ("source" in {rule.low, rule.high}, "a bound from the source"),
            ):
                if given:
                    return f"{what} of {rule.names[0]!r}"
        return "a relation" if self.relations else ""

    def _check_goal(self, schema: RecordSchema) -> None:
        if self.goal not in GOALS and (schema.label is None or self.goal not in schema.label.classes):
            raise InputError(
                f"threat model {self.name!r}: the goal must be one of {', '.join(GOALS)} or a class, not {self.goal!r}"
            )


def inferred(radius: float, norm: Norm = "linf", moves: Literal["features", "records"] = "features") -> ThreatFile:
    """What is assumed where there is no file: what the schema says of each feature, and a ball.

    Args:
        radius: Of the ball; 0 without a norm.
        norm: Of the ball.
        moves: Whether whole numbers stay whole ("records") or not.
    """
    return ThreatFile(
        name="schema",
        about="What the schema says of each column is all that is known.",
        norm=norm,
        radius=None if norm == "none" else radius,
        moves=moves,
    )


def read_threat(path: Path) -> ThreatFile:
    """Read a threat model that a person wrote; one that says no name is called like its file.

    Raises:
        InputError: The file cannot be read, is no TOML, or has an unknown or ill-typed field.
    """
    return decode_threat(read_bounded(path, LARGEST_FILE), str(path), name=path.stem)


def decode_threat(text: bytes, where: str, *, name: str = "threat") -> ThreatFile:
    """Decode the TOML of a threat model.

    Args:
        text: UTF-8.
        where: Begins the message of every error.
        name: What it is called where it does not say.

    Raises:
        InputError: As for `read_threat`.
    """
    try:
        return msgspec.convert({"name": name, **tomllib.loads(text.decode())}, type=ThreatFile)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except (msgspec.MsgspecError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{where}: not a threat model: {one_line(error)}") from error


def shipped_names() -> tuple[str, ...]:
    """The names of the threat models that come with Hauberk."""
    files = (resources.files("hauberk.attacks") / "threats").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def shipped(name: str) -> ThreatFile:
    """A threat model that comes with Hauberk, by its name: "nsl-kdd" or "spambase".

    Raises:
        InputError: There is none of this name.
    """
    if name not in shipped_names():
        raise InputError(f"no threat model {name!r} comes with Hauberk; there are {', '.join(shipped_names())}")
    return decode_threat((resources.files("hauberk.attacks") / "threats" / f"{name}.toml").read_bytes(), name)


def load_threat(source: str | Path) -> ThreatFile:
    """A threat model by its name, where one of this name comes with Hauberk, or from a file.

    Raises:
        InputError: As for `read_threat`.
    """
    if isinstance(source, str) and source in shipped_names():
        return shipped(source)
    path = Path(source)
    if not path.exists():
        names = ", ".join(shipped_names())
        raise InputError(f"{source}: there is no such file, and no threat model of this name ({names}) comes along")
    return read_threat(path)
