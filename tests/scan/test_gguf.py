"""GGUF headers, and the templates in them and elsewhere."""

from __future__ import annotations

import struct

import jinja2
import jinja2.sandbox
import numpy as np
import pytest
from corpus.frameworks_gguf import GGUF_CASES, gguf, setting, tensor, text
from corpus.honest_frameworks import CHAT
from corpus.messages import FIXTURES, written

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
        "{% set i = messages | length - 1 - loop.index0 %}{{ messages[i].role }}{{ messages[loop.index0 - 1]['x'] }}",
        "{% set ns = namespace(last=-1) %}{% set ns.last = loop.index0 %}{{ messages[ns.last:] }}{{ messages[::-1] }}",
        "{% for t in tools %}{% for k in t.parameters %}{{ t.parameters[k]['type'][0] ~ '_' }}{% endfor %}{% endfor %}",
        "{% macro f(p) %}{% for k, v in p | dictsort %}{{ p[k] + p[v['a_b']] }}{% endfor %}{% endmacro %}{{ f(tools)}}",
        "{{ tool.items() | map(attribute='name') | join(', ') }}{{ id[-9:] }}{{ x[0]['a' if y else 'b'] }}",
        "{{ '{\"a\": {' }}{{- '}}' -}}{% raw %}{{ x[ }{% endraw %}",
        "{% set text = text.split('</think>')[-1].lstrip('\\n') %}{% set t = '<' + text + '>' %}{{ t[:-1] }}",
        "{% for m in messages | reverse %}{{ messages[loop.index0 + 1] }}{{ {'user': 'U'}[m.role] }}{% endfor %}",
        "{% set n = {'user': 'U'} %}{% for m in messages %}{{ n[m.role] + n['a'] }}{% endfor %}",
        "{% set ns = namespace(x='') %}{% for m in messages %}{% set ns.x = ns.x + m.x %}{% endfor %}{{ ns.x }}",
        "{% set k = ['a', 'b'] %}{% for i in k %}{{ messages[i] }}{% endfor %}{{ '{} of {}'.format(1, 2) }}",
        (
            "{% macro f(s) %}{% set m = {'string': 'str'} %}{{ m[s.type] }}{% for t in s.type %}{{ f({'type': t}) }}"
            "{% endfor %}{% endmacro %}{% for tool in tools %}{{ f(tool.parameters) }}{% endfor %}"
        ),
        (
            "{% macro next(state) %}{{ messages[state.at] }}{% set state.at = state.at + 1 %}{% endmacro %}"
            "{% set ns = namespace(at=0) %}{{ next(ns) }}"
        ),
        (
            "{% if tools is not defined %}{% set tools = none %}{% endif %}{% if messages[0].role == 'system' %}"
            "{% set rest = messages[1:] %}{% else %}{% set rest = messages %}{% endif %}"
            "{% for i in range(rest | length) %}{{ rest[i]['content'] if rest[i].x is string else '' }}{% endfor %}"
        ),
        "os.system in plain text, {{ 'popen' }} in quotes",
    ],
)
def test_templates_as_models_have_them_are_notes(code):
    assert template_found(code) == "safe"


def test_all_hostile_templates_of_the_corpus_are_about_the_template(tmp_path):
    for case in GGUF_CASES:
        if case.name.startswith("gguf-template"):
            assert {rule.split("-")[0] for rule in rules(scanned(case.make(tmp_path)))} == {"template"}
