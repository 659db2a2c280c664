"""A threat model of records: what is shown to the model is always the encoding of a record that could be sent.

Attacks move points of the feature space; `project` decodes them to raw numbers and categories, repairs the record
there, and encodes it again with the arithmetic of `FeatureSpace.transform`. So whole numbers are whole, one-hot groups
are one-hot, directions, bounds and relations hold in raw units, and whoever wants the record itself decodes the point:
`raw` gives the very record that was encoded.

What a record breaks to begin with is left to it: a relation that it breaks may be broken as far as it was, and no
further; a value outside the bounds may stay, or move towards them. The record itself therefore satisfies its threat
model always, and is what a point falls back to where nothing else helps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hauberk.attacks.decoding import Decoder
from hauberk.attacks.raw_limits import feature_bounds, raw_limits
from hauberk.attacks.record_sources import NumberRules, Sources
from hauberk.attacks.relations import Raw, Relation
from hauberk.attacks.repair import Limits, broken, excesses, repair, undo
from hauberk.attacks.threat import Features, FeatureThreat, Norm
from hauberk.errors import InputError
from hauberk.schema import Coded, FeatureSpace

_RETREATS = (1.0, 0.5, 0.25)
"""Shares of the wanted move that are tried before anything is put back."""


@dataclass(frozen=True, kw_only=True)
class RecordThreat(FeatureThreat):
    """A ball around the numbers of a record in feature space, within what a record can be. Build it with `of`.

    Attributes:
        space: The feature space.
        rules: What each number lets the adversary do.
        choices: For each categorical, the codes that it may be moved to; none: it never moves. The radius does not
            count such moves, which are all of one size.
        relations: What has to hold between features of a record.
    """

    space: FeatureSpace
    rules: NumberRules
    choices: tuple[tuple[int, ...], ...]
    relations: tuple[Relation, ...] = field(default=())

    @classmethod
    def of(
        cls,
        space: FeatureSpace,
        rules: NumberRules,
        *,
        radius: float = 0.0,
        norm: Norm = "none",
        choices: tuple[tuple[int, ...], ...] | None = None,
        relations: tuple[Relation, ...] = (),
    ) -> RecordThreat:
        """The threat model of these rules.

        Args:
            space: The feature space, of records [D].
            rules: For its F numbers.
            radius: Radius of the ball around the numbers in feature space; 0 without a norm.
            norm: Of the ball.
            choices: For each of its C categoricals, the codes that it may be moved to; `None`: none moves.
            relations: Bound to the schema of the space.

        Raises:
            InputError: As for `FeatureThreat`, or choices that are no codes.
        """
        if choices is None:
            choices = ((),) * len(space.groups)
        for feature, group, codes in zip(space.schema.categoricals, space.groups, choices, strict=True):
            if not all(0 <= code < len(group) for code in codes):
                raise InputError(f"threat model: {feature.name!r} has no code outside 0 to {len(group) - 1}")
        count = len(rules.low)
        low, high = np.zeros(space.width, dtype=np.float32), np.ones(space.width, dtype=np.float32)
        low[:count], high[:count] = feature_bounds(Decoder(space, rules.whole), rules.low, rules.high)
        mutable = np.zeros(space.width, dtype=np.bool_)
        mutable[:count] = rules.rising | rules.falling
        for group, codes in zip(space.groups, choices, strict=True):
            mutable[group.start : group.stop] = bool(codes)
        return cls(
            radius=radius,
            low=low,
            high=high,
            mutable=mutable,
            norm=norm,
            space=space,
            rules=rules,
            choices=choices,
            relations=relations,
        )

    @property
    def groups(self) -> tuple[range, ...]:
        """The columns of each one-hot group that may move."""
        return tuple(group for group, codes in zip(self.space.groups, self.choices, strict=True) if codes)

    @property
    def constrained(self) -> bool:
        """Always: every point has to be the encoding of a record."""
        return True

    def describe(self) -> str:
        """The threat model in a few sentences, for reports."""
        rules, count = self.rules, len(self.rules.low)
        moving = rules.rising | rules.falling
        limit = {
            "linf": f"by at most {self.radius:g} each in the feature space (L-infinity)",
            "l2": f"by at most {self.radius:g} together in the feature space (L2)",
            "none": "as far as bounds and relations let them",
        }[self.norm]
        kinds = [
            (int((moving & ~rules.falling).sum()), "only upwards"),
            (int((moving & ~rules.rising).sum()), "only downwards"),
            (int((moving & rules.whole).sum()), "in whole numbers"),
        ]
        remarks = "".join(f", {number} {kind}" for number, kind in kinds if number)
        categories = f"{len(self.groups)} of {len(self.space.groups)} categories" if self.space.groups else ""
        return (
            f"The adversary sends records: {int(moving.sum())} of {count} numbers move {limit}{remarks}"
            f"{'; ' + categories + ' can be exchanged' if categories else ''}"
            f"{f'; {_relations(len(self.relations))}' if self.relations else ''}."
        )

    def limits(self, records: Features) -> tuple[Features, Features]:
        """The box around all that each record can become; relations and the L2 ball leave less than that.

        Args:
            records: Float32 [N, D].

        Returns:
            Float32 [N, D] twice. Columns that never move have their own value as both ends, those of groups that may
            move 0 and 1.
        """
        sources, moving = self._sources(records), self._moving
        lowest, highest = records.copy(), records.copy()
        lowest[:, moving], highest[:, moving] = sources.lowest, sources.highest
        # Real numbers may lie anywhere up to the limit; whole ones reach the last whole one.
        places = np.flatnonzero(self.rules.whole[moving])
        whole, own = moving[places], sources.own[:, places]
        raw = raw_limits(
            self._decoder,
            sources.lowest[:, places],
            sources.highest[:, places],
            own,
            sources.raw.numeric[:, whole],
            whole,
        )
        ends = np.sort(np.stack([self._encode(raw.low, whole), self._encode(raw.high, whole)]), axis=0)
        lowest[:, whole], highest[:, whole] = np.where(ends == own, own, ends)
        for group in self.groups:
            lowest[:, group.start : group.stop], highest[:, group.start : group.stop] = 0, 1
        return lowest, highest

    def project(self, adversarial: Features, records: Features) -> Features:
        """A legal point near each adversarial one: decoded, repaired as a raw record, and encoded again.

        Numbers are clipped to the limits and rounded to the nearest value within them; a category is the most wanted
        one among those allowed (the record's own, where it is wanted as much); relations are repaired
        (`hauberk.attacks.repair`). Where that leaves something broken, half and a quarter of the move are tried, then
        the features of broken relations go back to the record's, and finally the whole record does. A legal point
        comes out as it is; NaN falls back to the record's value.

        Args:
            adversarial: Float32 [N, D]; anything.
            records: Float32 [N, D], the records that they came from.

        Returns:
            Float32 [N, D]; columns that did not move are bit-identical to those of `records`.
        """
        sources = self._sources(records)
        found = np.where(adversarial == records, records, adversarial)
        rows = np.flatnonzero(self._outside(found, sources).any(axis=1))
        if rows.size:
            found[rows] = self._repaired(found[rows], sources.take(rows))
        return found

    def violations(self, adversarial: Features, records: Features) -> NDArray[np.bool_]:
        """Bool [N, D]: where adversarial records leave the threat model, exactly.

        A column does where it left its limits, is the encoding of no raw number that it may have, or belongs to a
        group that is not one-hot at an allowed category. A broken relation counts in all of its columns that moved.
        """
        return self._outside(adversarial, self._sources(records))

    def legal(self, adversarial: Features, records: Features) -> NDArray[np.bool_]:
        """Bool [N]: whether each adversarial record satisfies the threat model, exactly."""
        legal: NDArray[np.bool_] = np.asarray(~self.violations(adversarial, records).any(axis=1))
        return legal

    def raw(self, points: Features) -> Coded:
        """The raw records that points encode: `space.transform` of them is `points`, but for the sign of a zero.

        Of several raw numbers with one encoding (large ones on a logarithmic scale), the plainest is given; see
        `hauberk.attacks.decoding`.

        Args:
            points: Float32 [N, D] that came from `FeatureSpace.transform` or from `project`.

        Returns:
            Numbers float32 [N, F] and codes int64 [N, C].

        Raises:
            InputError: A point is the encoding of no record; the message names record and column.
        """
        raw = self._decoded(points, np.arange(len(self.rules.low)))
        coded = Coded(raw.numeric.astype(np.float32), raw.codes)
        wrong = np.argwhere(self.space.transform(*coded) != points)
        if wrong.size:
            row, column = wrong[0]
            raise InputError(f"threat model: point {row} is the encoding of no record in column {column}")
        return coded

    def excess(self, records: Features) -> NDArray[np.float64]:
        """By how much each record breaks each relation, float64 [R, N] in the units of the relation; 0: it holds."""
        return self._sources(records).excess

    def remarks(self, records: Features) -> tuple[str, ...]:
        """One line for each relation that some of these clean records break, with their share."""
        shares = (self.excess(records) > 0).sum(axis=1)
        return tuple(
            f"relation {relation.text!r}: {count:,} of {len(records):,} clean records ({count / len(records):.2%})"
            " break it already; they may move, but not break it any further"
            for relation, count in zip(self.relations, shares.tolist(), strict=True)
            if count
        )

    @cached_property
    def _moving(self) -> NDArray[np.int64]:
        """The numbers that may move."""
        return np.flatnonzero(self.rules.rising | self.rules.falling)

    @cached_property
    def _needed(self) -> NDArray[np.int64]:
        """The numbers that have to be decoded: those that may move, and those in relations."""
        related = [column for relation in self.relations for column in relation.numbers]
        return np.union1d(self._moving, np.array(related, dtype=np.int64))

    @cached_property
    def _decoder(self) -> Decoder:
        return Decoder(self.space, self.rules.whole)

    @cached_property
    def _ball(self) -> FeatureThreat:
        """The ball and the box of the numbers that may move, and of nothing else."""
        moving = self._moving
        everything = np.ones(len(moving), dtype=np.bool_)
        return FeatureThreat(self.radius, self.low[moving], self.high[moving], everything, norm=self.norm)

    def _sources(self, records: Features) -> Sources:
        """What has to be known of the records themselves."""
        moving = self._moving
        own = records[:, moving]
        lowest, highest = self._ball.limits(own)
        rising, falling = self.rules.rising[moving], self.rules.falling[moving]
        turned = ~self._decoder.rising[moving]
        lowest = np.where(np.where(turned, rising, falling), lowest, own)
        highest = np.where(np.where(turned, falling, rising), highest, own)
        raw = self._decoded(records, self._needed)
        return Sources(records, own, lowest, highest, raw, excesses(self.relations, raw))

    def _decoded(self, points: Features, columns: NDArray[np.int64]) -> Raw:
        """Raw records with these numbers; the others are 0."""
        numeric = np.zeros((len(points), len(self.rules.low)))
        found, _ = self._decoder.decode_any(points[:, columns].ravel(), np.tile(columns, len(points)))
        numeric[:, columns] = found.reshape(len(points), len(columns))
        codes = np.zeros((len(points), len(self.space.groups)), dtype=np.int64)
        for place, group in enumerate(self.space.groups):
            codes[:, place] = points[:, group.start : group.stop].argmax(axis=1)
        return Raw(numeric, codes)

    def _encode(self, numbers: NDArray[np.float64], columns: NDArray[np.int64]) -> Features:
        """The features [N, M] of raw numbers [N, M] of these columns [M]."""
        flat = numbers.astype(np.float32).ravel()
        return self._decoder.encode(flat, np.tile(columns, len(numbers))).reshape(numbers.shape)

    def _reach(self, sources: Sources) -> Limits:
        """How far raw numbers may go, [N, F]; those that never move stay."""
        low, high, moving = sources.raw.numeric.copy(), sources.raw.numeric.copy(), self._moving
        own = sources.raw.numeric[:, moving]
        found = raw_limits(self._decoder, sources.lowest, sources.highest, sources.own, own, moving)
        low[:, moving], high[:, moving] = found.low, found.high
        return Limits(low, high)

    def _outside(self, points: Features, sources: Sources) -> NDArray[np.bool_]:
        """Where points [N, D] leave the threat model."""
        same = np.ascontiguousarray(points).view(np.uint32) == np.ascontiguousarray(sources.features).view(np.uint32)
        found: NDArray[np.bool_] = ~same
        raw = Raw(sources.raw.numeric.copy(), sources.raw.codes.copy())
        moving = self._moving
        values = points[:, moving]
        within = (values >= sources.lowest) & (values <= sources.highest) & ~self._ball.violations(values, sources.own)
        found[:, moving] = ~within
        rows, places = np.nonzero(within & ~same[:, moving])
        if rows.size:
            columns = moving[places]
            raw.numeric[rows, columns], exact = self._decoder.decode(values[rows, places], columns)
            found[rows, columns] |= ~exact
        for place, (group, choices) in enumerate(zip(self.space.groups, self.choices, strict=True)):
            if not choices:
                continue
            block = slice(group.start, group.stop)
            moved = ~same[:, block].all(axis=1)
            codes = np.nan_to_num(points[:, block]).argmax(axis=1)
            one_hot = (points[:, block] == np.eye(len(group), dtype=np.float32)[codes]).all(axis=1)
            known = np.isin(codes, choices) | (codes == raw.codes[:, place])
            found[:, block] = (moved & ~(one_hot & known))[:, None]
            raw.codes[moved, place] = codes[moved]
        for relation, wrong in zip(self.relations, broken(self.relations, raw, sources.excess), strict=True):
            columns = self._columns(relation)
            found[:, columns] |= wrong[:, None] & ~same[:, columns]
        return found

    def _columns(self, relation: Relation) -> NDArray[np.int64]:
        """The columns of the feature space that belong to a relation."""
        groups = [self.space.groups[place] for place in relation.categoricals]
        return np.array([*relation.numbers, *(column for group in groups for column in group)], dtype=np.int64)

    def _repaired(self, points: Features, sources: Sources) -> Features:
        """Legal points [N, D] near illegal ones."""
        goal, reach = self._goal(points, sources), self._reach(sources)
        tried = found = sources.features
        rest = np.arange(len(points))
        for share in _RETREATS:
            some, limits = sources.take(rest), reach.take(rest)
            raw = self._towards(goal.numeric[rest], share, some.raw, limits)
            raw.codes[:] = goal.codes[rest]
            repair(self.relations, raw, limits, some.excess, self._decoder)
            points = self._encoded(raw, some)
            legal = ~self._outside(points, some).any(axis=1)
            if share == _RETREATS[0]:
                tried, found = points, found.copy()
            found[rest[legal]] = points[legal]
            rest = rest[~legal]
            if not rest.size:
                return found
        some = sources.take(rest)
        raw = self._decoded(tried[rest], self._needed)
        undo(self.relations, raw, some.raw, some.excess)
        points = self._encoded(raw, some)
        legal = ~self._outside(points, some).any(axis=1)
        found[rest[legal]] = points[legal]
        return found

    def _goal(self, points: Features, sources: Sources) -> Raw:
        """The raw records that points are nearest to, as if nothing but the ball and the categories were limits."""
        moving = self._moving
        near = self._ball.project(points[:, moving], sources.own)
        wanted = self._decoder.nearest(near.ravel(), np.tile(moving, len(near))).reshape(near.shape)
        raw = Raw(sources.raw.numeric.copy(), sources.raw.codes.copy())
        stays = near == sources.own
        raw.numeric[:, moving] = np.where(stays, raw.numeric[:, moving], wanted)
        for place, (group, choices) in enumerate(zip(self.space.groups, self.choices, strict=True)):
            if choices:
                values = np.nan_to_num(points[:, group.start : group.stop], nan=-np.inf)
                own = raw.codes[:, place].copy()
                allowed = np.isin(np.arange(len(group)), choices) | (np.arange(len(group)) == own[:, None])
                values = np.where(allowed, values, -np.inf)
                stays_here = np.take_along_axis(values, own[:, None], axis=1)[:, 0] >= values.max(axis=1)
                raw.codes[:, place] = np.where(stays_here, own, values.argmax(axis=1))
        return raw

    def _towards(self, goal: NDArray[np.float64], share: float, source: Raw, limits: Limits) -> Raw:
        """Records that move by a share of what is wanted, within the limits."""
        numeric = source.numeric + share * (np.clip(goal, limits.low, limits.high) - source.numeric)
        whole = self._moving[self.rules.whole[self._moving]]
        numeric[:, whole] = np.rint(numeric[:, whole])
        return Raw(np.clip(numeric, limits.low, limits.high), source.codes.copy())

    def _encoded(self, raw: Raw, sources: Sources) -> Features:
        """The points of raw records; what did not move keeps the source's bits."""
        found, moving = sources.features.copy(), self._moving
        moved = raw.numeric[:, moving] != sources.raw.numeric[:, moving]
        encoded = self._encode(raw.numeric[:, moving], moving)
        found[:, moving] = np.where(moved & (encoded != sources.own), encoded, sources.own)
        for place, (group, choices) in enumerate(zip(self.space.groups, self.choices, strict=True)):
            rows = np.flatnonzero(raw.codes[:, place] != sources.raw.codes[:, place]) if choices else ()
            found[rows, group.start : group.stop] = np.eye(len(group), dtype=np.float32)[raw.codes[rows, place]]
        return found


def _relations(count: int) -> str:
    return "1 relation between features holds" if count == 1 else f"{count} relations between features hold"
