"""The report as a reader's programs see it: parsed with the standard library's parsers, not with our template."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import msgspec
import pytest
from msgspec import structs

from hauberk.compress.quantize.sensitivity import TradeOff
from hauberk.report import render, to_json, wording
from hauberk.search.findings import Findings

HOSTILE = "</title><script>alert(1)</script>"
VOID = {"meta", "br", "hr", "img", "link", "input"}
SECTIONS = [
    "verdict",
    "requirements",
    "trade-off",
    "candidates",
    "quality",
    "robustness",
    "cost",
    "provenance",
    "conditions",
]


class Page(HTMLParser):
    """Elements with their attributes, the text outside style and graphics, and whether every tag is closed in turn."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "svg"} & set(self.open):
            self.texts.append(data)

    def values(self, attribute):
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


def graphics(text):
    return [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


def with_class(graphic, name):
    return [element for element in graphic.iter() if name in element.get("class", "").split()]


def trade_off(text, identifier="plot"):
    return next(found for found in graphics(text) if found.get("aria-labelledby", "").startswith(f"{identifier}-title"))


def test_every_tag_is_closed_in_turn(any_findings):
    assert Page(render(any_findings)).open == []


def test_graphics_are_well_formed_and_say_what_they_show(any_findings):
    for graphic in graphics(render(any_findings)):
        named = graphic.get("aria-hidden") == "true" or graphic.get("aria-label") or graphic.find("title") is not None
        assert named


def test_the_verdict_stands_first_and_the_sections_in_order(any_findings):
    page = Page(render(any_findings))
    assert [attributes["id"] for tag, attributes in page.elements if tag == "section"] == SECTIONS
    assert [tag for tag, _ in page.elements].count("h1") == 1


def test_identifiers_are_unique_and_every_reference_leads_somewhere(any_findings):
    page = Page(render(any_findings))
    identifiers = page.values("id")
    assert len(identifiers) == len(set(identifiers))
    named = {name for value in page.values("aria-labelledby") for name in value.split()}
    linked = {value.removeprefix("#") for value in page.values("href")}
    assert named | linked <= set(identifiers)


def test_nothing_is_fetched_and_nothing_runs(any_findings):
    text = render(any_findings)
    page = Page(text)
    assert all(value.startswith("#") for value in page.values("href"))
    assert not {"script", "img", "link", "iframe", "object", "embed", "image", "use"} & {
        tag for tag, _ in page.elements
    }
    assert not [
        name for _, attributes in page.elements for name in attributes if name.startswith("on") or name == "src"
    ]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "@import" not in style
    assert re.findall(r"url\((?!#)", text) == []
    policy = next(attributes for tag, attributes in page.elements if attributes.get("http-equiv"))
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_markup_from_outside_is_text(sample):
    findings = sample("hostile")
    page = Page(render(findings))
    text = " ".join(page.texts)
    hostile = findings.detector
    # Title, heading, verdict, requirement and reason, candidate's name, summary and reason, class, threat, …
    assert text.count(hostile) >= 15
    assert hostile in page.values("title")


def test_every_table_has_headers_for_its_columns(any_findings):
    text = render(any_findings)
    for table in re.findall(r"<table.*?</table>", text, re.DOTALL):
        head = re.search(r"<thead>(.*?)</thead>", table, re.DOTALL)[1]
        columns = head.count('scope="col"')
        for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL):
            cells = re.findall(r"<t[hd]\b[^>]*>", row)
            assert sum(int((re.search(r'colspan="(\d+)"', cell) or [0, 1])[1]) for cell in cells) == columns


def numbers_in(text):
    """Numbers as they are written, without signs; digits inside of words (digests, names) are not figures."""
    return {found.replace(",", "") for found in re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)", text)}


def figures_of(value):
    """Every way in which a figure of the findings may be written."""
    if isinstance(value, dict):
        return set().union(
            *(figures_of(part) for pair in value.items() for part in pair), numbers_in(wording.compact(value))
        )
    if isinstance(value, (list, tuple)):
        return set().union(*(figures_of(part) for part in value))
    if isinstance(value, str):
        return numbers_in(value)
    if isinstance(value, bool) or value is None:
        return set()
    written = [wording.figure(value, unit) for unit in ("s", "bytes", "fraction", "records/s", "count")]
    written += [
        wording.duration(value),
        f"{value:.2f}",
        f"{100 * value:.2f}",
        f"{value:.3g}",
        f"{value:.6g}",
        f"{100 * value:g}",
    ]
    return set().union(*(numbers_in(text) for text in written))


@pytest.mark.parametrize("name", ["usual", "missed", "alone", "crowded"])
def test_every_figure_shown_is_one_from_the_findings(sample, name):
    findings = sample(name)
    known = figures_of(msgspec.to_builtins(findings))
    known |= {str(number) for number in range(1, len(findings.candidates) + 1)}
    known |= {"0", "95", "100", "256"}  # ends of bars, the confidence level, SHA-256
    for attack in (True, False):
        classes = [found for found in findings.classes if found.attack is attack]
        alerts, records = sum(found.alerts for found in classes), sum(found.records for found in classes)
        known |= {str(alerts), str(records - alerts)}
    assert numbers_in(Page(render(findings)).text) - known == set()


@pytest.mark.parametrize("name", ["usual", "missed", "crowded", "spread"])
def test_nothing_that_was_found_is_left_out(sample, name):
    findings = sample(name)
    text = Page(render(findings)).text
    for found in findings.candidates:
        assert found.name in text
        assert found.summary in text
        assert all(reason in text for reason in found.reasons)
    for outcome in findings.outcomes:
        assert outcome.requirement in text
        assert outcome.reason in text
    for found in findings.classes:
        assert found.name in text
    for record in findings.history:
        assert record.step in text
        assert record.before in text
        assert record.after in text
    for words in (findings.verdict, findings.threat, findings.origin, findings.threshold.rule, findings.data.digest):
        assert words in text


@pytest.mark.parametrize(
    ("name", "words"),
    [("usual", "Every requirement is met"), ("missed", "A requirement is missed"), ("alone", "No requirement was set")],
)
def test_the_verdict_says_whether_requirements_hold(sample, name, words):
    text = Page(render(sample(name))).text
    assert words in text
    assert ("✗ missed" in text) is (name == "missed")


def test_missed_requirements_stand_before_those_that_are_met(sample):
    text = Page(render(sample("missed"))).text
    assert text.index("✗ missed") < text.index("✓ met")


@pytest.mark.parametrize("identifier", ["plot", "plot-narrow"])
def test_the_recommended_candidate_is_marked_and_refused_ones_are_hollow(sample, identifier):
    findings = sample("usual")
    plot = trade_off(render(findings), identifier)
    assert len(with_class(plot, "halo")) == 1
    assert len(with_class(plot, "hole")) == 1  # distilled-16; the other refused ones were never measured
    assert len(with_class(plot, "outline")) == 5


def test_a_plot_without_anything_to_show_is_left_out(sample):
    text = render(sample("unmeasured"))
    assert not [found for found in graphics(text) if found.get("aria-labelledby")]
    assert "Not in the plot" in Page(text).text


def test_a_step_that_was_undone_is_marked(sample):
    findings = sample("usual")
    page = Page(render(findings))
    assert [attributes.get("class") for tag, attributes in page.elements if tag == "li"].count("undone") == 1
    undone = next(record for record in findings.history if not record.kept)
    assert f"{undone.step} undone" in page.text
    assert undone.verdict.reason in page.text


def test_the_curve_of_mixed_precision_is_shown_where_there_is_one(sample):
    findings = sample("usual")
    assert "Mixed precision" not in Page(render(findings)).text
    points = (TradeOff((), 0.08, 0.97, 80_000, 6e-6), TradeOff((HOSTILE,), 0.02, 0.99, 120_000, 7e-6))
    text = render(structs.replace(findings, trade_off=points))
    page = Page(text)
    assert page.open == []
    assert "Mixed precision" in page.text
    assert HOSTILE not in text
    assert trade_off(text, "mixed-curve").find("desc") is not None
    identifiers = page.values("id")
    assert len(identifiers) == len(set(identifiers))


def test_notes_of_a_step_are_told(sample):
    findings = sample("usual")
    first, *others = findings.history
    noted = structs.replace(first, notes=("two layers <stay> in float32",))
    assert (
        "Note: two layers <stay> in float32" in Page(render(structs.replace(findings, history=(noted, *others)))).text
    )


def test_classes_that_training_never_saw_are_marked(sample):
    findings = sample("usual")
    assert Page(render(findings)).text.count("never seen in training") == sum(
        not found.seen for found in findings.classes
    )


def test_bars_are_as_long_as_their_figures(sample):
    findings = sample("usual")
    text = render(findings)
    quality = text[text.index('id="quality"') : text.index('id="robustness"')]
    drawn = sorted(float(width) for width in re.findall(r'<span style="width:([\d.]+)%"', quality))
    assert drawn == pytest.approx(sorted(100 * found.rate.value for found in findings.classes), abs=0.01)


def test_the_json_report_is_the_findings(any_findings):
    assert msgspec.json.decode(to_json(any_findings), type=Findings) == any_findings


def test_the_same_findings_give_the_same_report(sample):
    assert render(sample("usual")) == render(sample("usual"))


def luminance(colour):
    """Relative luminance of `#rrggbb`, WCAG 2.2."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(sample, scheme):
    colours = dict(
        re.findall(
            r"--([\w-]+): (#[0-9a-f]{6})", re.findall(r":root \{(.*?)\}", render(sample("alone")), re.DOTALL)[scheme]
        )
    )
    pairs = [
        (text, ground) for text in ("text", "muted", "accent") for ground in ("page", "surface", "raised", "good-tint")
    ]
    pairs += [
        ("good", "good-tint"),
        ("good", "surface"),
        ("bad", "bad-tint"),
        ("bad", "surface"),
        ("text", "plain-tint"),
    ]
    for text, ground in pairs:
        light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
