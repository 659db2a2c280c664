"""The reader of templates finds what Jinja's own parser finds, also where Jinja takes its words for names."""

from __future__ import annotations

import random
from collections import Counter

import jinja2
import pytest
from jinja2 import nodes

from hauberk.scan.frameworks.template_code import code_of
from hauberk.scan.frameworks.template_grammar import walk
from hauberk.scan.frameworks.template_reading import Reading

WORDS = (
    "is in not if else and or x y a 'b' 'in' ')' 1 2.5 [ ] ( ) { } , : . | ~ + - * ** % / // == < none True defined"
    " divisibleby upper join loop range = ; self recursive [ ( ."
)
FORMS = (
    "{{ %s }}",
    "{%% if %s %%}{%% elif %s: %%}{%% endif %%}",
    "{%% set x = %s %%}",
    "{%% set %s %%}",
    "{%% set x | %s %%}{%% endset %%}",
    "{%% for x in %s %%}{%% endfor %%}",
    "{%% for %s %%}{%% endfor %%}",
    "{%% for x in y if %s %%}{%% endfor %%}",
    "{%% do %s %%}",
    "{%% macro f(%s) %%}{%% endmacro %%}",
    "{%% call(%s) f() %%}{%% endcall %%}",
    "{%% call f(%s) %%}{%% endcall %%}",
    "{%% filter %s %%}{%% endfilter %%}",
)
JINJA = jinja2.Environment(extensions=["jinja2.ext.do"])


def _of_jinja(code):
    found = Counter()
    for node in JINJA.parse(code).find_all((nodes.Expr,)):
        match node:
            case nodes.Getattr(attr=name):
                found["attribute", name] += 1
            case nodes.Getitem(arg=nodes.Const(value=str() as key)):
                found["subscript", key] += 1
            case nodes.Getitem(arg=key):
                found["subscript", "slice" if isinstance(key, nodes.Slice) else ""] += 1
            case nodes.Filter(name=name) | nodes.Test(name=name):
                found[type(node).__name__.lower(), name] += 1
            case nodes.Name(ctx="load", name=name):
                found["name", name] += 1
            case nodes.Call():
                found["call", ""] += 1
    return found


def _of_ours(code):
    found = Counter()
    reading = Reading(list(code_of(code, lambda: None)), lambda: None)
    for node in (each for expression in reading.expressions for each in walk(expression.node)):
        match node.kind:
            case "attribute" | "filter" | "test":
                found[node.kind, node.value] += 1
            case "subscript":
                key = node.parts[1]
                found["subscript", key.value if key.kind == "text" else "slice" if key.kind == "slice" else ""] += 1
            case "name" | "foreign":
                found["name", node.value] += 1
            case "call":
                found["call", ""] += 1
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_reader_finds_in_random_code_what_jinja_finds(seed):
    rng, taken = random.Random(seed), 0
    for _ in range(3000):
        form = rng.choice(FORMS)
        parts = (" ".join(rng.choices(WORDS.split(), k=rng.randint(1, 5))) for _ in range(form.count("%s")))
        code = form % tuple(parts)
        try:
            expected = _of_jinja(code)
        except jinja2.TemplateError:
            continue
        taken += 1
        assert _of_ours(code) == expected, code
    assert taken > 200


@pytest.mark.parametrize(
    "code",
    [
        "{{ 1 is sameas in['a' ~ b] }}",
        "{{ 1 + not['a' ~ b] }}",
        "{{ x is defined if['a' ~ b] }}",
        "{{ x['a', 'b'] }}{{ x[] }}{{ x[1:2, 'a':] }}",
        "{{ a, ')' }}{{ (')') }}{{ [']'] }}",
        "{% set (a, (b, c)), n.d = x %}{% set () = x %}{% for (a, b), c in x: %}{% endfor %}",
        "{% macro f(not, in=''[x]) %}{% endmacro %}",
        "{{ x['gi\\\r_frame'] }}{{ x['gi\\\r\n_frame'] }}",
        "{{ a\u00b7b }}",
        "{{ x[a ~ b] }}{#",
        "{{ x[a ~ b] }}{% raw -%}\n",
    ],
)
def test_the_reader_finds_in_rare_code_what_jinja_finds(code):
    reading = Reading(list(code_of(code, lambda: None)), lambda: None, whole=False)
    assert len(reading.read) == len(list(code_of(code, lambda: None)))
    if code.isascii():
        assert _of_ours(code) == _of_jinja(code)
