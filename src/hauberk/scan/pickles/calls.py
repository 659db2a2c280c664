"""What a pickle asks others to do: names that it looks up, calls, items that it puts into objects, persistent ids.

Each is answered by the allow-list (`policy`), or refused.
"""

from __future__ import annotations

from collections.abc import Callable

from hauberk.scan.content import Content, CutError
from hauberk.scan.pickles import rules
from hauberk.scan.pickles.costs import Costs, TooComplexError
from hauberk.scan.pickles.entries import ATTRIBUTES, CALLED_ONLY, DEEP, Call, Entry, Objection, Reporter
from hauberk.scan.pickles.given import everything_in
from hauberk.scan.pickles.notorious import runs_code
from hauberk.scan.pickles.policy import resolve
from hauberk.scan.pickles.values import EXTERNAL, REFUSED, Made, Mapping, Name, Opaque, Storage, described
from hauberk.scan.report import Outcome, shown

SHARE = 6
"""Instructions themselves count as values, one for 64 bytes (a shift), as they may be names and short texts."""
_KEY_TYPES = frozenset({str, int, bytes, float, bool, type(None)})

Persistent = Callable[[object], Storage | None]
"""What a persistent id stands for; `None` where it is nothing known."""
Admitted = Callable[[str, str], bool]
"""Whether a name (module, name) that is not on the allow-list is harmless to this content's own reader."""


class Calls(Costs):
    """Answers what is asked.

    Args:
        content: Holds the pickle.
        reporter: Is told what is found.
        start: Where it begins.
        persistent: Reads persistent ids.
        admitted: Names that are allowed besides the allow-list.

    Attributes:
        names: Every name that was asked for, each once.
        refused: Those of them that are not allowed, or not as anything but what is called in one way.
        storages: Tensor storages that were referred to.
        calls: Refused calls.
        protocol: Of the pickle; names are renamed where it is below 3.
        made: Values that were made and may be kept, besides those on the stack.
    """

    def __init__(
        self,
        content: Content,
        reporter: Reporter,
        start: int,
        *,
        persistent: Persistent | None,
        admitted: Admitted | None,
    ) -> None:
        super().__init__(content, reporter, start)
        self.names: dict[str, None] = {}
        self.refused: dict[str, None] = {}
        self.storages: list[Storage] = []
        self.calls = 0
        self.protocol = 0
        self.made = 0
        self.persistent = persistent
        self.admitted = admitted

    def ask(self, module: str, name: str, at: int) -> Name:
        """A name is looked up: by GLOBAL, STACK_GLOBAL or INST."""
        asked = resolve(module, name, self.protocol)
        self.names[str(asked)] = None
        self.made += len(name) + len(module) >> SHARE
        if asked.entry is None and not self._is_admitted(module, name):
            self.refused[str(asked)] = None
            rule = rules.CODE if runs_code(asked.module, asked.name) else rules.IMPORT
            self.find(rule, f"asks for {shown(str(asked))}", at)
        elif asked.entry is not None and asked.entry.data == CALLED_ONLY:
            self.refused[str(asked)] = None  # in another reading it may be called with anything
            self.at_end(lambda: self._check_kept(asked), key=asked.entry)
        return asked

    def _check_kept(self, name: Name) -> None:
        for value in everything_in((given for _, given in self.given), self.reporter):
            if type(value) is Name and value.entry is name.entry:
                raise Objection(f"keeps {shown(str(name))}", rules.CODE)

    def _is_admitted(self, module: str, name: str) -> bool:
        return self.admitted is not None and self.admitted(module, name)

    def call(self, callee: object, arguments: object, at: int) -> object:
        """What a call gives."""
        entry = callee.entry if type(callee) is Name else None
        return self._made(entry, None if entry is None else entry.call, callee, arguments, at)

    def new(self, callee: object, arguments: object, at: int) -> object:
        """What making an object without initialising it gives (NEWOBJ)."""
        entry = callee.entry if type(callee) is Name else None
        return self._made(entry, None if entry is None else entry.new, callee, arguments, at)

    def _made(self, entry: Entry | None, rule: Call | None, callee: object, arguments: object, at: int) -> object:
        """What the allow-list's rule for a name makes of arguments; without a rule it is refused."""
        if entry is None or rule is None or type(arguments) is not tuple:
            self.refuse_call(callee, at)
            return REFUSED
        try:
            return rule(entry, arguments, self)
        except (Objection, TypeError, ValueError) as objection:
            return self.object_to(objection, str(callee), at) or Made(entry)

    def refuse_call(self, callee: object, at: int) -> None:
        """Something is called that must not be."""
        self.calls += 1
        if type(callee) is Name and self._is_admitted(callee.module, callee.name):
            return
        self.find(rules.CALL, f"calls {shown(described(callee))}", at)

    def object_to(self, objection: Exception, what: str, at: int) -> Opaque | None:
        """A check of the policy objects, or stumbles over what it was given.

        Returns:
            What stands for the result; `None` where it is not known to be bad, and the check's own object does.
        """
        if isinstance(objection, CutError | TooComplexError):
            raise objection
        if not isinstance(objection, Objection):
            objection = Objection("with arguments of a kind that no pickler writes")
        self.find(objection.rule, f"{shown(what)}: {objection}", at)
        if objection.rule.outcome is not Outcome.UNSAFE:
            return None
        self.calls += 1
        return REFUSED

    def set_items(self, target: object, items: list[object], at: int) -> None:
        """Keys and values in turn go into a dictionary."""
        if len(items) % 2:
            raise IndexError("a key without a value")
        keys = items[::2]
        kinds = set(map(type, keys))
        if int in kinds or not kinds <= _KEY_TYPES:
            self.check_keys(keys, at)
        if isinstance(target, Mapping | Made) and target.kept:
            self.find(rules.MEMORY, f"changes {shown(described(target))} that is in use", at)
        if type(target) is Mapping:
            target += items
            self.made += len(keys)
        elif type(target) is Made and target.entry.items == "mapping":
            self.given.append((target, items))
            self.made += len(keys)
            target.ready = True
            if target.entry.data == DEEP:
                self._hold(target, items[1::2], at)
            elif target.entry.data == ATTRIBUTES and any(str(key).startswith("__") for key in keys):
                self.find(rules.BUILD, f"sets an attribute with a special name of {target.entry.name}", at)
        elif target is not REFUSED:
            self.find(rules.BUILD, f"sets items of {shown(described(target))}", at)

    def append_items(self, target: object, items: list[object], at: int) -> None:
        """Items go to the end of a list."""
        if type(target) is list:
            target += items
            self.made += len(items)
        elif type(target) is Made and target.entry.items == "list":
            self.given.append((target, items))
            self.made += len(items)
            self._hold(target, items, at)
        elif target is not REFUSED:
            self.find(rules.BUILD, f"appends to {shown(described(target))}", at)

    def _hold(self, target: Made, items: list[object], at: int) -> None:
        try:
            self.nests(target, items)
        except Objection as objection:
            self.object_to(objection, target.entry.name, at)

    def load_persistent(self, identifier: object, at: int) -> object:
        """PERSID and BINPERSID."""
        storage = self.persistent(identifier) if self.persistent else None
        if storage is None:
            self.find(rules.PERSISTENT, f"refers to {shown(described(identifier))} outside it", at)
            return EXTERNAL
        self.storages.append(storage)
        return storage
