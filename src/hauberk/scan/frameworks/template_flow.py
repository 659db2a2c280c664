"""What a template asks objects for, and where the names of that come from.

Jinja looks up `x[name]` among the attributes of `x`, too, so a name put together at run time reaches what `__class__`
reaches when it is written out. Honest templates subscript by numbers, slices, plain constants, and names that hold one
of these or come from the messages. Everything else is told apart here: texts that are joined, filtered, formatted or
returned by something, used at once or by way of names, loops, macros and lists.

A text of which a template takes every second letter, or that it turns round, is put together, too. So names are of
three sorts: what comes from outside or counts, what may hold a text of the template, what may hold one put together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from hauberk.scan.frameworks.template_code import Code, Token


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORDS = _words("in if else and or not is elif for set recursive do print")
_PLAIN_FILTERS = _words("length count int list items dictsort reverse sort first last selectattr rejectattr")
_PLAIN_CALLS = _words(
    "range namespace items keys values get append extend insert update setdefault index count startswith endswith"
    " selectattr rejectattr dictsort sort length"
)
_ATTRIBUTE_FILTERS = _words("map selectattr rejectattr groupby sum unique min max sort select reject")
_STATEMENTS = _words("macro call with endset true false none True False None")
_GROWING = _words("append extend insert update setdefault add")
_ARITHMETIC = _words("+ - // * : ( ) .")
_ROUNDS_MOST = 20


def joined_underscores(tokens: Sequence[Token]) -> bool:
    """Whether constants are put together so that two underscores meet, or one is repeated."""
    last = ""
    for index, token in enumerate(tokens):
        if token.kind == "text":
            if "__" in last + token.value:
                return True
            last = token.value[-1:] or last
            nearby = (tokens[max(0, index - 1)].value, tokens[min(len(tokens) - 1, index + 1)].value)
            if "_" in token.value and "*" in nearby:
                return True
        elif token.value not in {"~", "+", "(", ")"}:
            last = ""
    return False


def lookups(tokens: Sequence[Token]) -> Iterator[tuple[str, Sequence[Token]]]:
    """What stands in subscripts, and what filters are handed that look up attributes.

    Yields:
        `subscript` or the name of the filter, and the words in the brackets.
    """
    for index, token in enumerate(tokens):
        before = tokens[index - 1] if index else Token("sign", "")
        if token == ("sign", "["):
            follows = before.kind in {"text", "number"} or before.value in {")", "]", "}"}
            if follows or (before.kind == "name" and before.value not in _WORDS):
                yield "subscript", inside(tokens, index)
        elif token == ("sign", "(") and before.kind == "name" and index > 1 and tokens[index - 2].value == "|":
            held = inside(tokens, index)
            if before.value in _ATTRIBUTE_FILTERS or (
                before.value == "join" and any(each.value in {"attribute", ","} for each in held)
            ):
                yield before.value, held


def inside(tokens: Sequence[Token], opening: int) -> Sequence[Token]:
    """The words between a bracket and the one that closes it."""
    depth = 0
    for index in range(opening, len(tokens)):
        if tokens[index].kind == "sign":
            depth += (tokens[index].value in "([{") - (tokens[index].value in ")]}")
        if not depth:
            return tokens[opening + 1 : index]
    return tokens[opening + 1 :]


class Names(NamedTuple):
    """Names of a template that hold more than what comes from outside.

    Attributes:
        built: May hold texts which the template put together.
        texts: May hold texts which stand in the template.
    """

    built: set[str]
    texts: set[str]


def is_plain(what: str, held: Sequence[Token], names: Names) -> bool:
    """Whether what is looked up is a number, a constant or a name that was not put together.

    Args:
        what: As `lookups` calls it.
        held: The words in the brackets.
        names: That hold texts.
    """
    if any(name_is_in(name, names.built) for name in dotted_names(held)) or composes(held, names.texts):
        return False
    if any(token.kind == "text" and _reaches(token.value) for token in held):
        return False
    if what != "subscript":
        signs = {token.value for token in held if token.kind == "sign"}
        joined = any(left.kind == right.kind == "text" for left, right in pairwise(held))
        return not joined and signs <= {",", "=", ".", "-", "(", ")", "[", "]"} and not _calls(held, _PLAIN_CALLS)
    held = _without_subscripts(held)
    if any(token.kind == "text" for token in held):  # alone, or one of two by a condition
        between = {token.value for token in held if token.kind == "sign"}
        joined = any(left.kind == right.kind == "text" for left, right in pairwise(held))
        return not joined and between <= {".", "==", "!="}
    if _calls(held, frozenset()):
        return False
    return all(
        token.kind != "sign" or token.value in _ARITHMETIC or _is_length(held, index)
        for index, token in enumerate(held)
    )


def _without_subscripts(tokens: Sequence[Token]) -> list[Token]:
    """The words without what stands in subscripts among them; each of these is judged on its own."""
    kept: list[Token] = []
    until = 0
    for index, token in enumerate(tokens):
        if index < until:
            continue
        before = tokens[index - 1] if index else Token("sign", "")
        if token == ("sign", "[") and _is_value(before):
            until = index + len(inside(tokens, index)) + 2
        else:
            kept.append(token)
    return kept


def _reaches(text: str) -> bool:
    """Whether a text is the name of something inward, alone or behind a point; `attr` looks up another one."""
    return text == "attr" or text.startswith("_") or "._" in text


def _is_length(tokens: Sequence[Token], index: int) -> bool:
    """Whether a sign is the bar of a filter that gives a number."""
    following = tokens[index + 1].value if index + 1 < len(tokens) else ""
    return tokens[index].value == "|" and following in {"length", "count", "int"}


def _calls(tokens: Sequence[Token], allowed: frozenset[str]) -> bool:
    """Whether anything but what is allowed is called."""
    return any(
        right == ("sign", "(")
        and ((left.kind == "name" and left.value not in _WORDS | allowed) or left.value in {")", "]"})
        for left, right in pairwise(tokens)
    )


def dotted_names(tokens: Sequence[Token]) -> Iterator[str]:
    """Names with what is asked of them behind points: `ns.last`."""
    name = ""
    for index, token in enumerate(tokens):
        if token.kind == "name" and name.endswith("."):
            name += token.value
        elif token == ("sign", ".") and name:
            name += "."
        else:
            if name:
                yield name.rstrip(".")
            name = token.value if token.kind == "name" and (not index or tokens[index - 1].value != ".") else ""
    if name:
        yield name.rstrip(".")


def name_is_in(name: str, built: set[str]) -> bool:
    """Whether a name, something in it or what it lies in is among those that were marked by `_mark`."""
    parts = name.split(".")
    return f"{name}." in built or any(".".join(parts[:count]) in built for count in range(1, len(parts) + 1))


def _mark(names: set[str], built: set[str]) -> None:
    """Add names; what they lie in is kept with a point behind."""
    for name in names:
        parts = name.split(".")
        built.add(name)
        built.update(".".join(parts[:count]) + "." for count in range(1, len(parts)))


def names_of(codes: Sequence[Code]) -> Names:
    """Names that may hold a text of the template, and those that may hold one which it put together itself.

    Any statement or expression that does more than copy and count marks what it binds; so does one that mentions a
    name which is marked. Repeated until nothing more is marked; where that takes long, all names are.
    """
    parameters: dict[str, set[str]] = {}
    for code in codes:
        words = [token.value for token in code.tokens]
        if code.statement and words[:1] == ["macro"] and len(words) > 1:
            held = {each.value for each in code.tokens[2:] if each.kind == "name"}
            parameters.setdefault(words[1], set()).update(held, {"varargs", "kwargs"})
        if code.statement and words[:2] == ["call", "("]:
            held = {each.value for each in inside(code.tokens, 1) if each.kind == "name"}
            parameters.setdefault("caller", set()).update(held)
    handed = [each for code in codes for each in _handed(code, parameters)]
    bound = [(code, names) for code, names in (*((code, _bound(code)) for code in codes), *handed) if names]
    texts: set[str] = set()
    alike = _alike(bound)
    _spread([(code, names, _has_text(code.tokens)) for code, names in bound], texts, alike)
    built: set[str] = set()
    for code in codes:
        for name in _passed_around(code, parameters):
            _mark(parameters[name], built)
    _spread([(code, names, _builds(code) or composes(code.tokens, texts)) for code, names in bound], built, alike)
    return Names(built, texts)


def _spread(bound: Sequence[tuple[Code, set[str], bool]], marked: set[str], alike: dict[str, list[str]]) -> None:
    """Mark what is bound by code that is marked itself or mentions a marked name, until nothing more is marked."""
    done: set[tuple[int, str]] = set()
    for _ in range(_ROUNDS_MOST):
        before = len(marked)
        for code, names, begins in bound:
            if begins or any(name_is_in(name, marked) for name in dotted_names(code.tokens)):
                _mark(names, marked)
                for name in names:
                    _mark(_also_changed(code, name, alike, done), marked)
        if len(marked) == before:
            return
    for _, names, _ in bound:
        _mark(names, marked)


def _also_changed(code: Code, name: str, alike: dict[str, list[str]], done: set[tuple[int, str]]) -> set[str]:
    """What changes with a name that may be one of several: an attribute of a namespace, or what `append` adds to.

    Args:
        code: That binds it.
        name: That is marked.
        alike: See `_alike`.
        done: Groups of names that were marked already; this one is added.
    """
    tokens = code.tokens
    root, _, attribute = name.partition(".")
    grows = any(right == ("sign", "(") and left.value in _GROWING for left, right in pairwise(tokens))
    if not grows and not (attribute and code.statement and tokens[:1] == [Token("name", "set")]):
        return set()
    group = alike.get(root, [])
    key = (id(group), "" if grows else attribute)
    if key in done:
        return set()
    done.add(key)
    return set(group) if grows else {f"{other}.{attribute}" for other in group}


def _alike(bound: Sequence[tuple[Code, set[str]]]) -> dict[str, list[str]]:
    """Names that may be names of one thing: those that are bound together, and by mentioning one another."""
    groups: dict[str, list[str]] = {}
    for code, names in bound:
        head = next(iter(names)).partition(".")[0]
        for name in {name.partition(".")[0] for name in (*names, *dotted_names(code.tokens))} - _WORDS - _STATEMENTS:
            first = groups.setdefault(head, [head])
            other = groups.setdefault(name, [name])
            if other is not first:
                small, large = sorted((first, other), key=len)
                large.extend(small)
                groups.update(dict.fromkeys(small, large))
    return groups


def _passed_around(code: Code, parameters: dict[str, set[str]]) -> Iterator[str]:
    """Macros that are mentioned without being called: whoever gets them may hand them anything."""
    for index, token in enumerate(code.tokens):
        before, after = code.tokens[index - 1] if index else None, code.tokens[index + 1 : index + 2]
        defined = code.statement and index == 1 and code.tokens[0].value == "macro"
        mentioned = token.kind == "name" and token.value in parameters and before != ("sign", ".")
        if mentioned and not defined and after != [Token("sign", "(")]:
            yield token.value


def _has_text(tokens: Sequence[Token]) -> bool:
    """Whether a text stands in code, but for plain subscripts."""
    return any(token.kind == "text" for token in _without_subscripts(tokens))


def composes(tokens: Sequence[Token], texts: set[str]) -> bool:
    """Whether code makes another text of one: joins two, or takes letters of one in another order.

    Args:
        tokens: Of the code.
        texts: Names that may hold texts of the template.
    """
    held = _has_text(tokens) or any(name_is_in(name, texts) for name in dotted_names(tokens))
    for index, token in enumerate(tokens):
        before = tokens[index - 1] if index else Token("sign", "")
        after = tokens[index + 1] if index + 1 < len(tokens) else Token("sign", "")
        if token == ("sign", "+") and "number" not in {before.kind, after.kind}:
            return True  # a text and a number cannot be added
        if token == ("sign", "*") and held:
            return True
        turned = token == ("sign", "|") and after.value == "reverse"
        sliced = token == ("sign", "[") and _is_value(before) and Token("sign", ":") in inside(tokens, index)
        if (turned or sliced) and held and _is_text(tokens, index, texts):
            return True
        if token == ("name", "loop") and before != ("sign", ".") and after != ("sign", "."):
            return True  # holds the elements beside this one
    return False


def _is_value(token: Token) -> bool:
    return (
        token.kind == "text" or token.value in {")", "]", "}"} or (token.kind == "name" and token.value not in _WORDS)
    )


def _is_text(tokens: Sequence[Token], index: int, texts: set[str]) -> bool:
    """Whether what stands before a place may be a text of the template."""
    name = ""
    while index and (tokens[index - 1].kind == "name" or tokens[index - 1] == ("sign", ".")):
        index -= 1
        name = tokens[index].value + name
        if index and tokens[index].kind == tokens[index - 1].kind == "name":
            break
    return not name or name.startswith(".") or name_is_in(name, texts)


def _builds(code: Code) -> bool:
    """Whether code may give a text that stands nowhere: whatever is not known only to copy and count."""
    tokens = code.tokens
    if code.statement and tokens[:1] == [Token("name", "set")] and Token("sign", "=") not in tokens:
        return True  # all output up to `endset`
    for index, token in enumerate(tokens):
        before = tokens[index - 1] if index else Token("sign", "")
        after = tokens[index + 1] if index + 1 < len(tokens) else Token("sign", "")
        if token.value in {"~", "%"} and token.kind == "sign":
            return True
        if token.kind == "sign" and token.value in {"+", "*"} and "text" in {before.kind, after.kind}:
            return True
        if token.kind == "text" and (token.value.startswith("_") or after.kind == "text"):
            return True
        if token.kind == "sign" and token.value == "|" and after.value not in _PLAIN_FILTERS:
            return True
    macro = code.statement and [token.value for token in tokens[:1]] in (["macro"], ["call"])
    return not macro and _calls(tokens, _PLAIN_CALLS)


def _handed(code: Code, parameters: dict[str, set[str]]) -> Iterator[tuple[Code, set[str]]]:
    """What macros are called with, and the names that it gets there."""
    for index, (left, right) in enumerate(pairwise(code.tokens)):
        defined = code.statement and index == 1 and code.tokens[0].value == "macro"
        if right == ("sign", "(") and left.value in parameters and not defined:
            yield Code(code.source, code.statement, list(inside(code.tokens, index + 1))), parameters[left.value]


def _bound(code: Code) -> set[str]:
    """Names that get a value by a piece of code itself."""
    tokens, names = code.tokens, set()
    first = tokens[0].value if tokens and code.statement else ""
    if first in {"set", "for"}:
        end = next((i for i, token in enumerate(tokens) if token.value in {"=", "in"} and i), len(tokens))
        names |= set(dotted_names(tokens[1:end]))
        names |= {"loop.previtem", "loop.nextitem"} if first == "for" else set()
    elif first in {"with", "macro"}:
        names |= {left.value for left, right in pairwise(tokens) if right == ("sign", "=") and left.kind == "name"}
    for index, (left, right) in enumerate(pairwise(tokens)):
        if right == ("sign", "(") and left.value in _GROWING:
            names |= set(dotted_names(tokens[:index])) - _WORDS  # whichever of them it stands behind
    return names
