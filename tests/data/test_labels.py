import numpy as np
import pytest

from hauberk.data.labels import class_names, encode_labels, find_label, make_label
from hauberk.data.table import Table
from hauberk.errors import InputError


def table(**columns):
    return Table({name: np.asarray(column) for name, column in columns.items()}, "a.csv")


def texts(*values):
    return np.array(values, dtype=object)


@pytest.mark.parametrize(
    ("columns", "asked", "expected"),
    [
        (("bytes", "label"), None, "label"),
        (("Class", "bytes"), None, "Class"),
        (("bytes", "verdict"), None, "verdict"),
        (("label", "verdict"), "verdict", "verdict"),
    ],
)
def test_the_label_is_found(columns, asked, expected):
    assert find_label(table(**dict.fromkeys(columns, (1,))), asked) == expected


@pytest.mark.parametrize(
    ("columns", "asked", "complaint"),
    [
        (("bytes", "label"), "lable", "no column 'lable'; the columns are 'bytes', 'label'"),
        (("bytes", "label", "attack_cat"), None, "'label', 'attack_cat' all look like labels"),
        (("label",), None, "only the column 'label'"),
    ],
)
def test_a_label_that_cannot_be_told_is_an_error(columns, asked, complaint):
    with pytest.raises(InputError, match=complaint):
        find_label(table(**dict.fromkeys(columns, (1,))), asked)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([0, 1], ["0", "1"]),
        ([0.0, 1.0], ["0", "1"]),
        ([False, True], ["false", "true"]),
        (texts("ham", " spam "), ["ham", "spam"]),
    ],
)
def test_classes_are_texts(column, expected):
    assert class_names(table(label=column), "label").tolist() == expected


@pytest.mark.parametrize(
    ("column", "complaint"),
    [
        ([0.0, np.nan], "missing in 1 of 2 records"),
        (texts("a", None), "missing in 1 of 2 records"),
        ([0.0, 0.5], "real numbers"),
        ([0.0, np.inf], "real numbers"),
    ],
)
def test_labels_that_are_no_classes_are_refused(column, complaint):
    with pytest.raises(InputError, match=complaint):
        class_names(table(label=column), "label")


@pytest.mark.parametrize(
    ("values", "asked", "classes", "benign"),
    [
        (("1", "0"), None, ("0", "1"), "0"),
        (("10", "9", "0"), None, ("0", "9", "10"), "0"),
        (("spam", "ham"), None, ("ham", "spam"), "ham"),
        (("BENIGN", "DDoS"), None, ("BENIGN", "DDoS"), "BENIGN"),
        (("bad", "fine"), "fine", ("bad", "fine"), "fine"),
    ],
)
def test_classes_are_in_order_and_the_benign_one_is_known(values, asked, classes, benign):
    label = make_label("label", texts(*values), asked, "a.csv")
    assert (label.classes, label.benign) == (classes, benign)


@pytest.mark.parametrize(
    ("values", "asked", "complaint"),
    [
        (("a", "a"), None, "every record has the label 'a'"),
        (("a", "b"), None, "--benign; the classes are 'a', 'b'"),
        (("normal", "benign", "x"), None, "--benign"),
        (("a", "b"), "c", "no record has the benign class 'c'"),
        ([str(number) for number in range(50)], None, "50 different values"),
    ],
)
def test_classes_that_make_no_detector_are_refused(values, asked, complaint):
    with pytest.raises(InputError, match=complaint):
        make_label("label", texts(*values), asked, "a.csv")


def test_a_class_that_the_label_does_not_list_is_named():
    label = make_label("label", texts("0", "1"), None, "a.csv")
    assert encode_labels(label, texts("1", "0"), "a.csv").tolist() == [1, 0]
    with pytest.raises(InputError, match="the class '2'"):
        encode_labels(label, texts("1", "2"), "a.csv")


def test_classes_that_only_look_like_numbers_are_ordered_as_text():
    label = make_label("label", texts("--5", "normal", "10", "-", "9" * 5000, "-2"), None, "a.csv")
    assert label.classes == ("-2", "10", "-", "--5", "9" * 5000, "normal")
