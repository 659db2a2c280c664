"""Findings become one self-contained HTML file, or a JSON document.

The HTML needs no network, no script and no other file: styles and graphics are inline, and its content security policy
forbids everything else. Text from outside (names of models, classes, columns) is escaped by the template engine.
"""

from __future__ import annotations

import jinja2
import msgspec

from hauberk.report import trade_off, wording
from hauberk.report.plot import Frame, draw
from hauberk.report.view import make_view
from hauberk.search.findings import Findings

WIDE = Frame(width=1020, height=440, left=62, right=20, top=34, bottom=46, names=True)
"""The trade-off plot on a laptop."""

NARROW = Frame(width=340, height=320, left=50, right=14, top=34, bottom=46, names=False)
"""The same on a phone: numbers instead of names, so that text keeps its size."""


def render(findings: Findings) -> str:
    """The report as HTML."""
    view = make_view(findings)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            view=view,
            plots=(draw(view, WIDE), draw(view, NARROW)),
            curve=trade_off.draw(findings.trade_off, identifier="mixed-curve") if findings.trade_off else "",
            run_time=wording.duration(findings.seconds),
            memory=wording.figure(findings.machine.memory, "bytes"),
        )
    )


def to_json(findings: Findings) -> bytes:
    """The report as indented JSON: the findings, nothing added, nothing left out."""
    return msgspec.json.format(msgspec.json.encode(findings), indent=2) + b"\n"


def environment() -> jinja2.Environment:
    """Where templates come from; what is undefined in one is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("hauberk.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
