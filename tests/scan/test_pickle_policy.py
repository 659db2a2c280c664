"""The allow-list, against the packages whose names it holds."""

from __future__ import annotations

import _compat_pickle
import importlib
import inspect
import io
import pickle

import joblib
import numpy as np
import pytest
from corpus import UNSAFE
from corpus.pickle_bytes import Raw, built, call, made, name, pickled, value
from corpus.pickle_models import CASES as MODELS
from corpus.pickle_structures import dtype, storage, tensor
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression

from hauberk.scan import scan_paths
from hauberk.scan.content import BytesContent
from hauberk.scan.examination import Examination
from hauberk.scan.pickles import examine_pickle, torch_storage
from hauberk.scan.pickles.policy import GROUPS, allowed
from hauberk.scan.report import Verdict

ENTRIES = {name: entry for _, entries in GROUPS for entry in entries for name in [entry.name]}
_OF_OLDER_PACKAGES = ("numpy.core.", "sklearn.linear_model._sgd_fast.")
_OF_GPU_BUILDS = ("torch.cuda.",)


def real(dotted: str) -> object:
    module, _, attribute = dotted.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def examined(data: bytes) -> Examination:
    examination = Examination()
    examine_pickle(BytesContent(data), examination, persistent=torch_storage)
    return examination


def rules(data: bytes) -> set[str]:
    return {finding.rule for finding in examined(data).findings}


def test_no_name_is_listed_twice():
    listed = [entry.name for _, entries in GROUPS for entry in entries]
    assert len(listed) == len(set(listed)) == len(allowed())


@pytest.mark.filterwarnings("ignore")
def test_every_name_exists():
    missing = []
    for each in ENTRIES:
        if each.startswith((*_OF_OLDER_PACKAGES, *_OF_GPU_BUILDS)):
            continue
        try:
            real(each)
        except (ImportError, AttributeError):
            missing.append(each)
    assert not missing


def test_torch_names_are_those_that_torch_allows():
    """Neither more nor less: every name of torch's own restricted unpickler is known, and no other one of torch."""
    from torch._weights_only_unpickler import _get_allowed_globals

    ours = {each for each in ENTRIES if each.startswith("torch.")}
    theirs = {each for each in _get_allowed_globals() if each.startswith("torch.")}
    assert ours == theirs
    assert {each for each in _get_allowed_globals() if not each.startswith("torch.")} <= set(ENTRIES)


def test_no_name_is_renamed_by_the_mapping_of_python_2():
    for module, attribute in allowed():
        assert (module, attribute) not in _compat_pickle.NAME_MAPPING
        assert module not in _compat_pickle.IMPORT_MAPPING


def test_classes_that_are_made_run_nothing_of_their_own():
    """What NEWOBJ and BUILD reach in scikit-learn's classes: object's, BaseEstimator's, or the few that were read."""
    read = {
        "sklearn.isotonic.IsotonicRegression",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.utils._bunch.Bunch",
    }
    for each, entry in ENTRIES.items():
        if not each.startswith("sklearn.") or entry.new is None or each in read:
            continue
        kind = real(each)
        assert inspect.isclass(kind)
        # A frozen estimator hands on what it is asked for, and has what an unpickler asks for itself.
        assert "__getattr__" not in vars(kind) or each == "sklearn.frozen._frozen.FrozenEstimator", each
        assert "__setattr__" not in vars(kind), each
        assert not any("__reduce__" in vars(base) for base in kind.__mro__[:-1]), each
        warns = kind.__new__.__qualname__.startswith("deprecated.")
        assert kind.__new__ is object.__new__ or issubclass(kind, tuple) or warns, each
        setstate = getattr(kind, "__setstate__", None)
        assert setstate in {None, BaseEstimator.__setstate__}, each


@pytest.mark.parametrize("protocol", range(6))
def test_what_is_only_passed_around_is_never_called(protocol):
    """Every name without a check for calls: calling it with nothing is found, and so is making an object of it."""
    for each, entry in ENTRIES.items():
        module, _, attribute = each.rpartition(".")
        if entry.call is None:
            assert "pickle-call" in rules(pickled(call(f"{module}:{attribute}"), protocol)), each
        if entry.new is None:
            assert "pickle-call" in rules(pickled(made(f"{module}:{attribute}"), protocol)), each


def test_every_call_survives_arguments_of_any_kind():
    """Checks object to what they do not expect; nothing makes them stumble without a word."""
    odd = [(), (None,), ("x",), (b"x",), (1,), ([],), ({},), ((),), ([[]], {}), ({"a": []}, [], ()), (1.5,) * 4,
           (name("builtins:set"),) * 3, ([],) * 4, ({},) * 7, ((1, []), {}, [], "", None, 0)]  # fmt: skip
    for each, entry in ENTRIES.items():
        module, _, attribute = each.rpartition(".")
        for arguments in odd:
            target = call(f"{module}:{attribute}", *arguments)
            if entry.call:
                examined(pickled(target, 2))
            if entry.build and entry.new:
                examined(pickled(built(made(f"{module}:{attribute}"), arguments), 2))
            if entry.build and entry.call:
                examined(pickled(built(target, arguments), 2))


_TABLES = [
    case for case in MODELS if "pipeline" not in case.name and case.reference.endswith(("/125.html", "/835.html"))
]


@pytest.mark.parametrize("case", _TABLES, ids=lambda case: case.name)
def test_tables_are_refused_for_what_is_in_them(case, tmp_path):
    (report,) = scan_paths([case.make(tmp_path)])
    found = {finding.rule for finding in report.findings}
    unknown = {"pickle-unchecked"}  # so is a model whose tables were refused
    assert found <= {"pickle-memory", "pickle-tensor-bounds"} | unknown, report.findings
    assert found - unknown if case.expected == UNSAFE else found


def test_a_second_state_of_a_trees_estimator_is_refused():
    """What was held against one another stays."""
    estimator = made("sklearn.tree._classes:DecisionTreeClassifier")
    once = built(estimator, {"max_depth": 3})
    assert rules(pickled(once)) == set()
    assert rules(pickled(built(once, {"n_features_in_": 1}))) == {"pickle-build"}


def test_predictors_that_come_later_are_looked_at():
    """A list of an estimator may grow behind its state."""
    model = made("sklearn.ensemble._hist_gradient_boosting.gradient_boosting:HistGradientBoostingClassifier")
    state = Raw(b"}(" + value("_predictors") + b"]q\x07" + value("n_features_in_") + b"K\x01u")
    assert rules(pickled(built(model, state))) == set()
    assert rules(pickled(Raw(built(model, state) + b"h\x07]Naa0"))) == {"pickle-unchecked"}


@pytest.mark.parametrize(
    ("pickle_", "rule"),
    [
        (tensor(storage(4), (4,), (1,)), ""),
        (tensor(storage(4), (2, 2), (2, 1)), ""),
        (tensor(storage(4), (2, 2), (0, 1), offset=2), ""),
        (tensor(storage(0), (0, 1000), (1000, 1)), ""),
        (tensor(storage(4), (), (), offset=3), ""),
        (tensor(storage(4), (), (), offset=4), "pickle-tensor-bounds"),
        (tensor(storage(4), (5,), (1,)), "pickle-tensor-bounds"),
        (tensor(storage(4), (2,), (4,)), "pickle-tensor-bounds"),
        (tensor(storage(4), (2,), (1, 1)), "pickle-tensor-bounds"),
        (tensor(storage(4), (1 << 62, 1 << 62), (0, 0)), ""),  # one number, shown often: takes no memory
        (call("torch:Size", (1, 2)), ""),
        (call("torch:Size", (1, -2)), "pickle-call"),
        (call("torch:device", "cuda", 0), ""),
        (call("collections:defaultdict", name("builtins:list")), ""),
        (call("builtins:set", [1, 2]), ""),
        (call("builtins:set", call("builtins:range", 0, 9)), "pickle-call"),
        (call("_codecs:encode", "x", "latin1"), ""),
        (call("_codecs:encode", "x", "utf-16"), "pickle-call"),
        (dtype("f8"), ""),
        (dtype("O8"), ""),
        (dtype("V16", (3, "|", None, ("a", "b"), {"a": (dtype("f8"), 0), "b": (dtype("O8"), 8)}, 16, 1, 27)), ""),
        (dtype("V16", (3, "|", None, ("a", "b"), {"a": (dtype("f8"), 0), "b": (dtype("O8"), 8)}, 16, 1, 16)),
         "pickle-memory"),
        (dtype("V48", (3, "|", (dtype("f8"), (2, 3)), None, None, 48, 8, 0)), ""),
        (dtype("V8", (3, "|", (dtype("f8"), (2, 3)), None, None, 8, 8, 0)), "pickle-memory"),
        (call("numpy:dtype", "V99999999999", False, True), "pickle-call"),
        (built(made("sklearn.pipeline:Pipeline"), {"steps": []}), ""),
        (built(made("sklearn.pipeline:Pipeline"), {"__dict__": {}}), "pickle-build"),
        (built(made("sklearn.pipeline:Pipeline"), (None, {"__class__": 1})), "pickle-build"),
        (call("sklearn.pipeline:Pipeline", []), "pickle-call"),
        (made("sklearn.pipeline:Pipeline", 1), "pickle-call"),
    ],
)  # fmt: skip
def test_arguments_are_held_to_what_they_are_for(pickle_, rule):
    assert rules(pickled(pickle_, 2)) == ({rule} if rule else set())


def test_flags_of_dtypes_decide_over_memory():
    """Why they are checked: numpy believes a dtype that says that its objects are none."""
    kind = np.dtype("O8", copy=True)
    assert kind.hasobject
    kind.__setstate__((3, "|", None, None, None, -1, -1, 0))
    assert not kind.hasobject


def test_allowed_estimators_load_and_predict_as_before():
    records = np.random.default_rng(0).normal(size=(40, 3))
    model = LogisticRegression().fit(records, records[:, 0] > 0)
    out = io.BytesIO()
    joblib.dump(model, out)
    assert examined(pickle.dumps(model)).verdict is Verdict.SAFE
    out.seek(0)
    assert np.array_equal(joblib.load(out).predict(records), model.predict(records))


def test_a_class_of_ones_own_is_named_in_the_finding():
    class_of_ours = Raw(b"cdetectors.mine\nModel\n)\x81" + value({"weights": [1.0]}) + b"b")
    found = [finding.what for finding in examined(pickled(class_of_ours, 4)).findings]
    assert found == ["asks for detectors.mine.Model", "calls detectors.mine.Model"]


def test_the_documentation_lists_what_is_allowed():
    """Every name of the list that has no rule of its own stands in the documentation; torch's are torch's."""
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs/reference/scan-pickles.md").read_text(encoding="utf-8")
    for each in ENTRIES:
        module, _, attribute = each.rpartition(".")
        if each.startswith(("torch.", "numpy.")):
            continue
        assert (f"| `{module}` |" in page and f"`{attribute}`" in page) or f"`{each}`" in page, each
    listed = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `sklearn.")}
    assert listed == {each.rpartition(".")[0] for each in ENTRIES if each.startswith("sklearn.")}
