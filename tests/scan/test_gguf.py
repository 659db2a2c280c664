"""GGUF headers, and the templates in them and elsewhere."""

from __future__ import annotations

import contextlib
import struct

import jinja2
import jinja2.sandbox
import numpy as np
import pytest
from corpus.frameworks_gguf import GGUF_CASES, gguf, setting, tensor, text
from corpus.honest_frameworks import CHAT
from corpus.messages import FIXTURES, written
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.scan import scan_paths
from hauberk.scan.examination import Examination
from hauberk.scan.frameworks.templates import examine_template


def scanned(path):
    (result,) = scan_paths([path])
    return result


def rules(result):
    return {finding.rule for finding in result.findings if finding.outcome != "note"}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_all_versions(version, tmp_path):
    word = "I" if version == 1 else "Q"
    head = b"GGUF" + struct.pack(f"<I2{word}", version, 0, 1)
    key = struct.pack(f"<{word}", 1) + b"a" + struct.pack("<IB", 7, 1)
    assert scanned(written(tmp_path / "x", head + key)).verdict == "safe"


def test_most_significant_byte_first(tmp_path):
    data = b"GGUF" + struct.pack(">IQQ", 3, 0, 1) + struct.pack(">Q", 1) + b"a" + struct.pack(">IH", 2, 9)
    assert scanned(written(tmp_path / "x", data)).verdict == "safe"


@pytest.mark.parametrize(
    ("tensors", "data", "found"),
    [
        ((tensor("x", (8,)),), 32, set()),
        ((tensor("x", (8,)),), 31, {"gguf-data"}),
        ((tensor("x", (32,), kind=8),), 34, set()),  # a block of 32 takes 34 bytes
        ((tensor("x", (32,), kind=8),), 33, {"gguf-data"}),
        ((tensor("x", (33,), kind=8),), 99, {"gguf-shape"}),
        ((tensor("x", (0,)),), 32, {"gguf-shape"}),
        ((tensor("x", (8,), 4),), 99, {"gguf-data"}),  # no multiple of 32
        ((tensor("x" * 64, (8,)),), 32, {"gguf-shape"}),
        ((tensor("x", (2, 2, 2, 1)),), 32, set()),
        ((tensor("x", (1, 1, 1, 1, 1)),), 32, {"gguf-shape"}),
    ],
)
def test_tensors(tensors, data, found, tmp_path):
    assert rules(scanned(gguf(tensors=tensors, data=data)(tmp_path))) == found


def test_another_alignment(tmp_path):
    alignment = text("general.alignment") + struct.pack("<II", 4, 64)
    two = tensor("x", (8,)), tensor("y", (8,), 64)
    assert scanned(gguf(alignment, tensors=two, data=200)(tmp_path)).verdict == "safe"


def test_a_hidden_part_is_told(tmp_path):
    result = scanned(gguf(setting("a", "b"), tensors=(tensor("x", (8,)),), data=500)(tmp_path))
    assert result.verdict == "safe"
    assert "gguf-gap" in {finding.rule for finding in result.findings}


def test_every_cut_of_a_real_file_is_not_safe(tmp_path):
    data = (FIXTURES / "tiny.gguf").read_bytes()
    for end in range(9, len(data), 37):
        result = scanned(written(tmp_path / "x", data[:end]))
        assert result.verdict != "safe", end
        assert "scan-failed" not in rules(result)


def test_damage_is_no_fault_of_the_scanner(tmp_path):
    data, rng = (FIXTURES / "tiny.gguf").read_bytes(), np.random.default_rng(1)
    for _ in range(200):
        changed = bytearray(data)
        for at in rng.integers(0, 600, 2):
            changed[int(at)] = int(rng.integers(0, 256))
        assert "scan-failed" not in rules(scanned(written(tmp_path / "x", bytes(changed))))


def template_found(code):
    examination = Examination()
    examine_template(code, examination, "template")
    return examination.verdict


SANDBOXED = [
    "{{ cycler.__init__.__globals__ }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ (''|attr('__class__')).__base__ }}",
    "{{ ''['__class__'].__base__ }}",
    "{% set a = joiner.__init__ %}{{ a.__globals__ }}",
]


@pytest.mark.parametrize("code", SANDBOXED)
def test_what_the_sandbox_of_jinja_refuses_is_unsafe(code):
    with pytest.raises(jinja2.exceptions.SecurityError):
        jinja2.sandbox.SandboxedEnvironment().from_string(code).render()
    assert template_found(code) == "unsafe"


@pytest.mark.parametrize(
    "code",
    [
        CHAT,
        "{{ bos_token }}{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}",
        "{% set ns = namespace(found=false) %}{% if ns.found %}x{% endif %}",
        "{{ messages | selectattr('role', 'equalto', 'user') | list | tojson }}",
        "{# __class__ in a comment #}plain",
        "{% for m in messages %}{% set i = messages | length - 1 - loop.index0 %}{{ messages[i].role }}{% endfor %}",
        "{% set ns = namespace(last=-1) %}{% set ns.last = loop.index0 %}{{ messages[ns.last:] }}{{ messages[::-1] }}",
        "{% for k, v in tools | dictsort %}{{ v['type'][0] ~ '_' }}{% endfor %}{{ f | map(attribute='a_b') | list }}",
        "{{ tool.items() | map(attribute='name') | join(', ') }}{{ id[-9:] }}{{ x[0][-1 if y else 0] }}",
        "{{ '{\"a\": {' }}{{- '}}' -}}{% raw %}{{ x[ }{% endraw %}",
        "{% set text = text.split('</think>')[-1].lstrip('\\n') %}{% set t = '<' + text + '>' %}{{ t[:-1] }}",
        "{% for m in messages | reverse %}{{ messages[loop.index0 + 1] }}{{ {'user': 'U'}.get(m.role) }}{% endfor %}",
        "{% set ns = namespace(x='') %}{% for m in messages %}{% set ns.x = ns.x + m.x %}{% endfor %}{{ ns.x }}",
        "{{ '{} of {}'.format(1, 2) }}{% for i in range(2) %}{{ messages[i] }}{% endfor %}{{ x['1' | int] }}",
        (
            "{% macro next(state) %}{{ messages[state.at] }}{% set state.at = state.at + 1 %}{% endmacro %}"
            "{% set ns = namespace(at=0) %}{{ next(ns) }}"
        ),
        (
            "{% if tools is not defined %}{% set tools = none %}{% endif %}{% if messages[0].role == 'system' %}"
            "{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}"
            "{% for i in range(rest | length) %}{{ rest[i]['content'] if rest[i].x is string else '' }}{% endfor %}"
        ),
        "{% set l, n = [], namespace(l=[]) %}{% for m in messages %}{{ l.append(m) or n.l.append(m.id) }}{% endfor %}",
        "{% macro f(m) %}{% for k, v in m.items() %}{{ k ~ f(v) }}{{ f(v) }}{% endfor %}{% endmacro %}{{ f(tools) }}",
        (
            "{% macro f(m) %}{% set n = namespace(x='') %}{% for p in m %}{% set n.x = n.x ~ p.text %}{% endfor %}"
            "{{ n.x }}{% endmacro %}{% for m in messages %}{% set content = f(m.content) %}{{ content }}{% endfor %}"
        ),
        "{% set tools = tools | tojson %}{% set l = l | map('trim') | list %}{% set a = a ~ b | replace('c', 'd') %}",
        "os.system in plain text, {{ 'popen' }} in quotes",
    ],
)
def test_templates_as_models_have_them_are_notes(code):
    assert template_found(code) == "safe"


@pytest.mark.parametrize(
    "code",
    [
        "{% for k in tools %}{{ tools[k] }}{% endfor %}",
        "{% set names = {'user': 'U'} %}{% for m in messages %}{{ names[m.role] }}{% endfor %}",
        "{{ message['a' if y else 'b'] }}",
    ],
)
def test_keys_that_are_not_written_out_are_unknown_though_honest_templates_have_them(code):
    assert template_found(code) == "unknown"


def test_all_hostile_templates_of_the_corpus_are_about_the_template(tmp_path):
    cases = [case for case in GGUF_CASES if case.name.startswith("gguf-template")]
    assert len(cases) > 50
    for case in cases:
        assert {rule.split("-")[0] for rule in rules(scanned(case.make(tmp_path)))} == {"template"}


class Recording(jinja2.Environment):
    """Plain Jinja that notes each name with an underscore in front that a template looks up."""

    def __init__(self):
        super().__init__()
        self.inward = []

    def getattr(self, obj, attribute):
        return super().getattr(obj, self._noted(attribute))

    def getitem(self, obj, argument):
        return super().getitem(obj, self._noted(argument))

    def _noted(self, name):
        if isinstance(name, str) and name.startswith("_"):
            self.inward.append(name)
        return name

    def rendered(self, code):
        """All names with an underscore that were looked up; templates may fail."""
        message = {"role": "__class__", "content": "x_y"}
        with contextlib.suppress(Exception):
            self.from_string(code).render(messages=[message], x="_", y="__class__", strftime_now=lambda text: text)
        return self.inward


NAMES = st.sampled_from(["a", "b", "n.a", "n.index", "x", "y", "messages", "messages[0].role", "loop.index", "loop"])
TEXTS = st.sampled_from(["'ZZclassZZ'", "'Z'", "'_'", "'x_y'[1]", "'class'", "'index'", "'__class'[1:]", "0", "1"])
METHODS = st.sampled_from(["replace", "index", "find", "split", "strip", "join", "get", "pop", "format", "cycle"])
FILTERS = st.sampled_from(
    ["string", "first", "list", "join", "length", "int", "map('upper')", "map(attribute='replace')", "lower", "reverse"]
)
FORMS = (
    "{0}.{3}",
    "{0}.{3}({1})",
    "{0}.{3}({1}, {2})",
    "{0} | {4}",
    "{0}[{1}]",
    "{0}[0:{1}]",
    "{0} ~ {1}",
    "[{0}, {1}]",
)
FORMS += (
    "({0} + {1})",
    "({0} if {1} else {2})",
    "{{'{3}': {0}, 'get': {1}}}",
    "namespace(index={0})",
    "f({0})",
    "{0} == 1",
)
CALLED = st.builds("{{'index': 'ZZclassZZ'.{0}}}.{1}('Z', '_')".format, METHODS, METHODS)
EXPRESSIONS = st.recursive(
    NAMES | TEXTS,
    lambda inner: st.builds(str.format, st.sampled_from(FORMS), inner, inner, inner, METHODS, FILTERS),
    max_leaves=5,
)
STATEMENTS = st.builds(
    str.format,
    st.sampled_from(
        [
            "{{% set a = {0} %}}",
            "{{% set b = {0} %}}",
            "{{% set n.a = {0} %}}",
            "{{% set n.index = {0} %}}",
            "{{% for a in [{1}] %}}{{{{ ''[{0}] }}}}{{% endfor %}}",
            "{{% if {0} %}}{{% set b = 1 %}}{{% endif %}}",
            "{{{{ ''[{0}] }}}}",
        ]
    ),
    NAMES | TEXTS | CALLED | EXPRESSIONS,
    EXPRESSIONS,
)
BEFORE = "{% macro f(p) %}{{ ''[p] }}{{ p }}{% endmacro %}{{ f(0) }}{% set n = namespace(a=0) %}{% set a = 1 %}"


def test_plain_jinja_shows_what_a_hostile_template_looks_up():
    assert Recording().rendered("{% set d = {'index': 'ZclassZ'.replace} %}{{ ''[d.index('Z', '__')] }}") == [
        "__class__"
    ]


@settings(max_examples=200, deadline=None)
@given(statements=st.lists(STATEMENTS, min_size=1, max_size=3), key=st.sampled_from(["0", "a", "n.a", "n.index"]))
def test_no_safe_template_looks_up_a_name_with_an_underscore_in_front(statements, key):
    code = BEFORE + "".join(statements) + f"{{{{ ''[{key}] }}}}"
    assert template_found(code) != "safe" or not Recording().rendered(code)
