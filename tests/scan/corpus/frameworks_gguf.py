"""GGUF files, and chat templates in them, that do what they should not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from corpus import UNKNOWN, UNSAFE, Case
from corpus.messages import FIXTURES, written

NVD = "https://nvd.nist.gov/vuln/detail/"


def text(value: str | bytes) -> bytes:
    """A text of GGUF."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def setting(key: str, value: str) -> bytes:
    """A setting of GGUF that is a text."""
    return text(key) + struct.pack("<I", 8) + text(value)


def tensor(name: str, dims: tuple[int, ...], offset: int = 0, kind: int = 0) -> bytes:
    """Where a tensor of GGUF lies."""
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def gguf(
    *settings: bytes, tensors: tuple[bytes, ...] = (), counts: tuple[int, int] | None = None, data: int = 0
) -> Callable[[Path], Path]:
    """Writes a GGUF file."""

    def make(folder: Path) -> Path:
        head = b"GGUF" + struct.pack("<IQQ", 3, *(counts or (len(tensors), len(settings))))
        head += b"".join(settings) + b"".join(tensors)
        return written(folder / "model.gguf", head + bytes(-len(head) % 32 + data))

    return make


def _in_rounds(code: str) -> str:
    return "{% set n = namespace(a='a', b=[]) %}{% for i in range(99) %}" + code + "{% endfor %}"


ONE_LIST = "{% set l = ['a'] %}{% set k = l %}{% set d = {'l': l} %}{% for i in range(99) %}"
GROWING = (
    ("list-of-its-own", ONE_LIST + "{% if l.append(l | join) %}{% endif %}{% endfor %}"),
    ("list-in-a-dictionary", ONE_LIST + "{% if d['l'].append(d['l'] | join) %}{% endif %}{% endfor %}"),
    ("list-by-attribute", ONE_LIST + "{% if d.l.append(d.l | join) %}{% endif %}{% endfor %}"),
    ("list-by-another-name", ONE_LIST + "{% if k.append(l | join) %}{% endif %}{% endfor %}"),
    ("list-by-a-loop", ONE_LIST + "{% for x in [l] %}{% if x.append(l | join) %}{% endif %}{% endfor %}{% endfor %}"),
    ("list-by-a-filter", ONE_LIST + "{% if ([l] | first).append(l | join) %}{% endif %}{% endfor %}"),
    ("list-that-is-handed-in", _in_rounds("{% if messages[0].append(messages[0] | join) %}{% endif %}")),
    (
        "list-by-a-macro",
        "{% macro f(x, y) %}{% if x.append(y | join) %}{% endif %}{% endmacro %}"
        + ONE_LIST
        + "{{ f(l, l) }}{% endfor %}",
    ),
    ("list-of-a-macro", ONE_LIST + "{% macro f() %}{{ l | join }}{% endmacro %}{{ l.append(f()) }}{% endfor %}"),
    ("by-subscript", _in_rounds("{% set n.a = n['a'] ~ n['a'] %}")),
    ("by-map", _in_rounds("{% set n.a = [n, n] | map(attribute='a') | join %}")),
    ("by-the-whole", _in_rounds("{% set n.a = n ~ n %}")),
    ("by-a-parameter", "{% macro f(x) %}{% set n.a = x ~ x %}{% endmacro %}" + _in_rounds("{{ f(n.a) }}")),
    ("by-a-namespace-handed-on", "{% macro f(x) %}{% set n.a = x.a ~ x.a %}{% endmacro %}" + _in_rounds("{{ f(n) }}")),
    ("by-a-macro", "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}" + _in_rounds("{% set n.a = f(n.a) %}")),
    ("by-a-macro-in-itself", "{% macro f(x) %}{{ f(x ~ x) if x | length < 999 }}{% endmacro %}{{ f('a') }}"),
    (
        "by-a-caller",
        "{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}"
        + _in_rounds("{% set n.a %}{% call f() %}{{ n.a }}{% endcall %}{% endset %}"),
    ),
    ("by-elements-before", _in_rounds("{% for x in [n.a, ''] %}{% set n.a = n.a ~ loop.previtem %}{% endfor %}")),
    ("by-quotes", _in_rounds("{% set n.a = n.a | tojson %}")),
    ("by-a-filter-of-a-block", _in_rounds("{% set n.a | replace('a', 'aa') %}{{ n.a }}{% endset %}")),
    ("by-signs-between", _in_rounds("{% set n.a = n.a | list | string %}")),
    ("by-escapes", _in_rounds("{% set n.a = n.a | replace('a', '&') | e | replace('m', 'a') %}")),
)
"""Each was twice as long after each round, at least, in plain Jinja."""


def template(code: str) -> Callable[[Path], Path]:
    """A GGUF file with a chat template."""
    return gguf(setting("tokenizer.chat_template", code))


def _array_bomb() -> bytes:
    return text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 1 << 61)


def _nested_arrays() -> bytes:
    return text("x") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 40


KEPT = "{{% set d = {{'index': {}}} %}}"
"""Jinja takes what a dictionary holds for its method."""
METHODS_KEPT = (
    "{% set d = {'index': 'ZZglobalsZZ'.replace, 'find': 'ZZinitZZ'.replace} %}"
    "{% set i = d.find('Z', x) %}{% set g = namespace[i][d.index('Z', x)] %}"
    "{% set b = {'strip': g['print']} %}{{ b.strip('x') }}"
)
MAPPED = "{% set l = ['ZZclassZZ'] | map(attribute='replace') | list %}"
CALLED = "{% set k = d.index('Z', '_') %}{{ ''[k] }}"
JOINED_BY_IT = "{% set k = d.index(('_', '_class_', '_') | join) %}{{ ''[k] }}"
GENERATOR = "{% set u = ([1] | select('defined') | string).split('select')[1][0] %}"
PLACE = "{% set s = [1] | select('defined') | string %}{% set i = s.find('or') - 1 %}{% set u = s[i : i + 1] %}"

GGUF_CASES = (
    Case("gguf-many-settings", gguf(counts=(0, 1 << 62)), UNSAFE, NVD + "CVE-2024-23605"),
    Case("gguf-many-tensors", gguf(counts=(1 << 62, 0)), UNSAFE, NVD + "CVE-2024-21836"),
    Case("gguf-long-text", gguf(struct.pack("<Q", 1 << 63)), UNSAFE, NVD + "CVE-2024-23496"),
    Case("gguf-long-array", gguf(_array_bomb()), UNSAFE, NVD + "CVE-2024-21825"),
    Case("gguf-nested-arrays", gguf(_nested_arrays()), UNSAFE),
    Case("gguf-many-dimensions", gguf(tensors=(tensor("x", (1,) * 9),), data=64), UNSAFE, NVD + "CVE-2024-21802"),
    Case(
        "gguf-overflowing-shape",
        gguf(tensors=(tensor("x", (1 << 40, 1 << 40)),), data=64),
        UNSAFE,
        NVD + "CVE-2024-21802",
    ),
    Case("gguf-overlap", gguf(tensors=(tensor("x", (8,)), tensor("y", (8,))), data=64), UNSAFE),
    Case("gguf-beyond", gguf(tensors=(tensor("x", (8,), 1 << 20),), data=64), UNSAFE),
    Case("gguf-two-settings", gguf(setting("a", "1"), setting("a", "2")), UNSAFE),
    Case("gguf-two-tensors", gguf(tensors=(tensor("x", (8,)), tensor("x", (8,), 32)), data=64), UNSAFE),
    Case("gguf-alignment", gguf(text("general.alignment") + struct.pack("<II", 4, 0)), UNSAFE),
    Case("gguf-alignment-of-another-type", gguf(text("general.alignment") + struct.pack("<IQ", 10, 32)), UNKNOWN),
    Case("gguf-unknown-type", gguf(tensors=(tensor("x", (8,), kind=99),), data=64), UNKNOWN),
    Case("gguf-version", lambda folder: written(folder / "m.gguf", b"GGUF" + struct.pack("<IQQ", 9, 0, 0)), UNKNOWN),
    Case(
        "gguf-cut",
        lambda folder: written(folder / "m.gguf", (FIXTURES / "tiny.gguf").read_bytes()[:200]),
        frozenset({"unsafe", "unknown"}),
    ),
    *(
        Case(f"gguf-template-{name}", template(code), UNSAFE, NVD + "CVE-2024-34359")
        for name, code in (
            ("globals", "{{ cycler.__init__.__globals__.os.popen('true').read() }}"),
            ("subclasses", "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}"),
            ("subscript", "{{ ''['__cl' 'ass__'] }}"),
            ("attribute-filter", "{{ '' | attr('\\x5f\\x5fclass\\x5f\\x5f') }}"),
            ("self", "{{ self._TemplateReference__context }}"),
            ("lipsum", "{{ lipsum['__globals__'] }}"),
            ("statement", "{% set x = namespace.__init__ %}"),
            ("open-ended", "{{ cycler.__init__"),
            ("joined", "{{ cycler[('_'~'_in')~('it_'~'_')] }}"),
            ("behind-quoted-end", "{{ '}}' ~ cycler[('_'~'_in') ~ x] }}"),
            ("in-quoted-comment", "{{ '{#' ~ cycler.__init__ ~ '#}' }}"),
            ("behind-raw", "{% raw %}{{ ' {% endraw %}{{ cycler['_''_init__'] }}"),
            ("mapped", "{{ [x] | map(attribute='_'~'_class_'~'_') | list }}"),
            ("mapped-attribute-filter", "{{ [x] | map('attr', y) | list }}"),
            ("repeated", "{{ x['_' * 2 ~ 'class'] }}"),
            ("joined-list", "{{ x[['_', '_class'] | join] }}"),
            ("sorted-by-several", "{{ [x | map('upper')] | sort(attribute='a,gi_frame') }}"),
            ("return-in-a-name", "{{ (x | map('upper'))['gi\\\r_frame'] }}"),
            ("words-as-names", "{% set in = x %}{{ 1 is sameas in['_' ~ 'class_'] }}"),
            ("frame", "{{ (x | map('upper'))['gi_frame']['f_builtins']['print']('x') }}"),
            ("every-second-letter", "{{ ''['x_x_xcxlxaxsxsx_x_'[1::2]] }}"),
        )
    ),
    *(
        Case(f"gguf-template-{name}", template(code), UNKNOWN, NVD + "CVE-2024-34359")
        for name, code in (
            ("formatted", "{{ x['%c' | format(95)] }}"),
            ("by-name", "{% set u = '%c' | format(95) %}{% set d = u ~ u %}{{ x[d] }}"),
            ("by-loop", "{% for k in ['%c' | format(95)] %}{{ x[k] }}{% endfor %}"),
            ("by-macro", "{% macro f(k) %}{{ x[k] }}{% endmacro %}{{ f('%c' | format(95)) }}"),
            ("by-output", "{% set k %}{{ '%c' | format(95) }}{% endset %}{{ x[k] }}"),
            ("by-namespace", "{% set ns = namespace(k='') %}{% set ns.k = '%c' % 95 %}{{ x[ns.k] }}"),
            ("by-list", "{% set l = [] %}{% if l.append('%c' % 95) %}{% endif %}{{ x[l[0]] }}"),
            ("unreadable", "{{ x[ }}"),
            ("by-step", "{% set k = 'x_x_xcxlxaxsxsx_x_'[1::2] %}{{ ''[k] }}"),
            ("by-step-of-element", "{% set s = ('x_x_xcx',) %}{% set k = s[0][1::2] %}{{ ''[k] }}"),
            ("turned", "{% set k = 'emarf_ig' | reverse %}{{ x[k] }}"),
            ("added-names", "{% set u = 'x_'[1] %}{% set c = 'class' %}{% set k = u+u+c+u+u %}{{ ''[k] }}"),
            (
                "added-letters",
                "{% set ns = namespace(k='') %}{% for c in 'x_x' %}{% set ns.k = ns.k + c %}{% endfor %}{{ x[ns.k] }}",
            ),
            ("name-in-other-letters", "{% set \uff4b = 'x_'[1] * 2 ~ 'class' %}{{ ''[k] }}"),
            ("loop-that-calls-itself", "{% for c in x recursive %}{{ ''[c] }}{{ loop(['x_x_x'[1::2]]) }}{% endfor %}"),
            ("more-arguments", "{% macro f() %}{{ ''[varargs[0]] }}{% endmacro %}{{ f('x_x_x'[1::2]) }}"),
            ("macro-by-another-name", "{% macro f(k) %}{{ ''[k] }}{% endmacro %}{% set g = f %}{{ g('x_x'[1::2]) }}"),
            (
                "namespace-by-another-name",
                "{% set ns = namespace() %}{% for a in [ns] %}{% set a.k = 'x_x'[1::2] %}{% endfor %}{{ ''[ns.k] }}",
            ),
            (
                "list-by-another-name",
                "{% set l = [] %}{% set m = l %}{% set q = m.append('x_x'[1::2]) %}{{ ''[l[0]] }}",
            ),
            ("element-before", "{% for c in ['x_x_x'[1::2], 'b'] %}{{ ''[loop.previtem] }}{% endfor %}"),
            (
                "element-before-by-subscript",
                "{% for c in ['x_x_x'[1::2], 'b'] %}{{ ''[loop['previtem']] }}{% endfor %}",
            ),
            ("macro-called-get", "{% macro get() %}__init__{% endmacro %}{% set n = get() %}{{ cycler[n] }}"),
            ("block-called-get", "{% block get %}__init__{% endblock %}{% set n = self.get() %}{{ cycler[n] }}"),
            ("special-tokens", "{{ cycler[bos_token][eos_token[0:11]][eos_token[11:]]('true') }}"),
            ("token-by-a-free-name", "{% for k in [] %}{% endfor %}{{ cycler[k] }}"),
            ("token-by-one-branch", "{% if messages %}{% set k = 1 %}{% endif %}{{ cycler[k] }}"),
            ("asked-by-message", "{{ cycler[messages[0].a][messages[0].b] }}"),
            ("loop-of-its-own", "{% set loop = namespace(index='x_x'[1::2]) %}{{ cycler[loop.index] }}"),
            ("range-of-its-own", "{% macro range() %}__init__{% endmacro %}{{ cycler[range()] }}"),
            ("call-of-what-is-looked-up", "{{ messages[0]['run']('true') }}"),
            ("sum-by-name", "{{ messages | sum('%c' % 95) }}"),
            ("text-to-a-width", "{{ '%09999999d' | format(1) }}{{ '%09999999d' % 1 }}"),
            ("many-rounds", "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
            ("large-number", "{% set n = 99999999 %}{% for a in range(n) %}{% endfor %}"),
            ("deep-loops", "{% for a in messages %}" * 7 + "{% endfor %}" * 7),
            ("power", "{{ 9 ** 9 ** 9 }}"),
            ("repeated-text", "{{ 'x' * 99999999 }}"),
            ("rounded", "{{ 1.5 | round(99999999, 'floor') }}"),
            ("filled-in", "{% set a = 'x' %}{{ (a ~ '{0.x}').format(x) }}"),
            ("formatting-kept", "{% set d = {'strip': '{0.x}'.format} %}{{ d.strip(x) }}"),
            ("formatting-by-subscript", "{% set d = {'strip': '{0.x}'['format_map']} %}{{ d.strip({'0': x}) }}"),
            ("methods-in-dictionary", METHODS_KEPT),
            ("method-in-dictionary", KEPT.format("'ZZclassZZ'.replace") + CALLED),
            ("method-by-subscript", KEPT.format("'ZZclassZZ'['replace']") + CALLED),
            ("method-by-map", MAPPED + KEPT.format("l[0]") + CALLED),
            ("function-in-dictionary", KEPT.format("strftime_now") + JOINED_BY_IT),
            ("cycle-in-dictionary", "{% for a in [1] %}" + KEPT.format("loop.cycle") + JOINED_BY_IT + "{% endfor %}"),
            ("method-in-namespace", "{% set n = namespace(strip='Z'.replace) %}{{ n.strip('Z', x) }}"),
            (
                "method-set-in-namespace",
                "{% set n = namespace() %}{% set n.strip = 'Z'.replace %}{{ n.strip('Z', x) }}",
            ),
            (
                "method-in-arguments",
                "{% macro f() %}{{ kwargs.strip('Z', x) }}{% endmacro %}{{ f(strip='Z'.replace) }}",
            ),
            ("method-under-a-name-put-together", "{% set d = {'st' ~ x: 'Z'.replace} %}{{ d.strip('Z', x) }}"),
            ("underscore-of-a-generator", GENERATOR + "{{ [1][u ~ u ~ ['class'][0] ~ u ~ u] }}"),
            ("place-in-a-generator", PLACE + "{{ [1][u ~ u ~ ['class'][0] ~ u ~ u] }}"),
            ("escapes-of-json", "{{ [1][(['\"\\\\u00'][0] ~ ['5fclass\"'][0]) | from_json] }}"),
            ("name-by-a-runtime", "{{ ''[functions] }}"),
            (
                "name-by-cycle",
                "{% for a in [1] %}{% set k = loop.cycle(('_', '_class_') | join) %}{{ ''[k] }}{% endfor %}",
            ),
            ("loop-as-parameter", "{% macro f(loop) %}{{ ''[loop.index] }}{% endmacro %}{{ f({'index': x}) }}"),
            ("number-in-one-macro", "{% macro f(k=1) %}{{ ''[k] }}{% endmacro %}{{ f() }}{{ f(x) }}"),
            ("number-unless-it-is-none", "{{ ''['x' | int(y)] }}"),
            ("rounds-by-products", "{% set n = 999 * 999 %}{% set m = n * 999 %}{% for a in range(m) %}{% endfor %}"),
            ("doubled", _in_rounds("{% set n.a = n.a ~ n.a %}")),
            ("doubled-by-two-names", _in_rounds("{% set n.b = n.a ~ n.b %}{% set n.a = n.b %}")),
            ("doubled-in-a-block", _in_rounds("{% set n.a %}{% for x in y %}{{ n.a }}{% endfor %}{% endset %}")),
            ("doubled-by-a-list", _in_rounds("{% if n.b.append(n.a) %}{% endif %}{% set n.a = n.b | join %}")),
            ("doubled-by-a-loop", _in_rounds("{% for x in [n.a ~ n.a] %}{% set n.a = x %}{% endfor %}")),
            ("doubled-by-itself", _in_rounds("{% set n.a = n.a.replace('a', n.a) %}")),
            ("doubled-by-letters", _in_rounds("{% set n.a = n.a | replace('a', 'aa') %}")),
            ("doubled-by-format", _in_rounds("{% set n.a = '{0}{0}'.format(n.a) %}")),
            *((f"doubled-{name}", code) for name, code in GROWING),
            (
                "rounds-that-grow",
                "{% set n = namespace(a=9) %}{% set n.a = n.a + n.a %}{% for a in range(n.a) %}{% endfor %}",
            ),
        )
    ),
    Case("gguf-template-include", template("{% include '/etc/passwd' %}"), UNKNOWN),
)
