"""Fitted models of scikit-learn: what its native code takes on trust, asked of pickles and skops archives alike.

A reader of a format translates what its file holds into the plain figures of this package, and reports what is held
against them. What may stand where stands here alone: nodes (`node_tables`), trees and their ensembles (`trees`), what
may be called and what holds it (`callables`). How far a format asks stands with the format: a pickle's reader puts the
question of callables to every estimator, a skops archive's to those that are looked at.
"""
