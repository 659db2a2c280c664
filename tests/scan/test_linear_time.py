"""No bytes make a search slow, and where a hostile pickle may begin, the usual ways to write a name are seen."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from observed import LIMITS, observe, watching

from hauberk.scan.archives import torch_script
from hauberk.scan.examination import Examination, ScanLimits
from hauberk.scan.frameworks import templates
from hauberk.scan.pickles.signs import signs
from hauberk.scan.report import Verdict

NAMES = st.one_of(
    st.sampled_from(["os", "system", "V.U", "UU", "VV", "q", "Xq", "x" * 101]),
    st.from_regex(r"[A-Za-z_][\w.]{0,40}", fullmatch=True).filter(lambda name: name.isascii() and name.count("V") < 3),
)
WAYS = (
    lambda name: b"\x8c" + bytes([len(name)]) + name,
    lambda name: b"U" + bytes([len(name)]) + name,
    lambda name: b"X" + len(name).to_bytes(4, "little") + name,
    lambda name: b"V" + name + b"\n",
    lambda name: b"S'" + name + b"'\n",
    lambda name: b'S"' + name + b'"\n',
)
MEMO = st.one_of(st.just(b""), st.just(b"\x94"), st.binary(min_size=1, max_size=1).map(lambda index: b"q" + index))
TEXTS = st.builds(lambda name, way, memo: way(name.encode()) + memo, NAMES, st.sampled_from(WAYS), MEMO)


def places(window: bytes) -> list[int]:
    return [sign.start for sign in signs(window, lambda: None)]


@given(junk=st.binary(max_size=40), module=TEXTS, name=TEXTS, rest=st.binary(max_size=10))
def test_two_texts_that_become_a_name_are_seen_behind_anything(junk, module, name, rest):
    assert len(junk) in places(junk + module + name + b"\x93" + rest)


@given(junk=st.binary(max_size=40), module=NAMES, name=NAMES, code=st.sampled_from([b"c", b"(i", b"i"]))
def test_names_in_lines_are_seen_behind_anything(junk, module, name, code):
    assume(len(re.findall("[ci](?=[A-Za-z_])", module)) < 8)  # so many may be the instruction
    found = places(junk + code + f"{module}\n{name}\n".encode())
    assert len(junk) in found or (junk.endswith(b"(") and len(junk) - 1 in found)


@pytest.mark.parametrize("junk", [b"c", b"cc", b"cfoo\n", b"ci\nfoo\n", b"iccic", b"\n(c"])
def test_what_looks_like_the_beginning_of_another_name_hides_none(junk):
    assert len(junk) in places(junk + b"cos\nsystem\n")


@pytest.mark.parametrize(
    "unit",
    [
        b"V",
        b"U",
        b"c",
        b"S'",
        b"X\x05\0\0\0",
        b"a\x93",
        b"V" * 199 + b"\x93",
        b"V" * 100 + b"\n\x93",
        b"c" * 100 + b"\n",
        b"Vq\x93",
    ],
    ids=repr,
)
def test_no_text_makes_the_search_slow(unit):
    """An expression that tries every split took 5 s for 12 kB of the first, and is not ended by a deadline."""
    data = b"t~" + unit * ((1 << 18) // len(unit))
    with watching() as faults:
        seen = observe(data, faults)
    assert not seen.fault
    assert seen.seconds < LIMITS.seconds
    assert seen.report.verdict is not Verdict.SAFE or seen.report.format == "text"


def test_no_text_makes_other_expressions_slow():
    """Each took time that grows with the square of these."""
    started = time.process_time()
    assert not list(torch_script._FULL_NAME.finditer(b"w" * (1 << 17)))
    assert templates._without_text("'" + "\\'" * (1 << 16)).startswith("'\\'")
    assert time.process_time() - started < 1  # it was minutes


@pytest.mark.parametrize(
    "template",
    [
        lambda n: f"{{% set {_names(n // 14)} = [{'x,' * (n // 4)}] %}}",
        lambda n: f"{{% set {_names(n // 14)} = [{_names(n // 14)}] %}}",
        lambda n: f"{{% macro f({_names(n // 14)}) %}}{{% endmacro %}}" + "{{ f(a1=x) }}" * (n // 26),
        lambda n: "{% set l = [] %}{{ [" + "l.append(l)," * (n // 12) + "] }}",
        lambda n: "{{ [" + "x[y]," * (n // 5) + "] }}",
        lambda n: "{% if a %}" + "{% elif a %}" * (n // 12) + "{% endif %}",
        lambda n: "".join(f"{{% set n.b{i} = n.b{i} ~ n %}}" for i in range(n // 26)) + "{% set n = namespace() %}",
        lambda n: f"{{% set x = ({_names(n // 7).replace(',', '~')}){'|trim' * 150}{' if c' * 40} %}}",
    ],
    ids=["one-list", "one-list-of-names", "macro", "appended", "one-code", "branches", "namespace", "depth"],
)
def test_templates_take_time_that_grows_with_the_text(template):
    """Many names that get one list of many names took a minute in 64 KiB, past any deadline."""
    started = time.process_time()
    examination = Examination(ScanLimits(seconds=60))
    templates.examine_template(template(1 << 16), examination, "template")
    assert "scan-out-of-time" not in {finding.rule for finding in examination.findings}
    assert time.process_time() - started < 5


def _names(count: int) -> str:
    return ",".join(f"a{i}" for i in range(count))


def test_what_an_open_quote_begins_is_not_taken_for_text():
    assert templates._without_text("a + 'os' + \"b\" + 'c\\'d' + os") == "a + '' + '' + '' + os"
    assert templates._without_text('a + \'os + "b" + os') == 'a + \'os + "b" + os'
