"""Fitted models of scikit-learn: what its native code takes on trust, asked of pickles and skops archives alike.

A reader of a format translates what its file holds into the plain figures of this package, and reports what is held
against them. It judges nothing of it on its own, so that no format is stricter than another.
"""
