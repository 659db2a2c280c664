"""The report of a hardening run: one HTML file to read, one JSON document to compute with."""

from hauberk.report.render import render, to_json

__all__ = ["render", "to_json"]
