"""Operators of ai.onnx.ml: trees, linear models, support vectors, encoders."""

from __future__ import annotations

from collections.abc import Sequence

from hauberk.scan.graphs.call import Call, rule
from hauberk.scan.graphs.elements import BOOL, FLOAT, INT64, STRING
from hauberk.scan.graphs.model import Numbers, Weights
from hauberk.scan.graphs.operations.arithmetic import together
from hauberk.scan.graphs.operations.elementwise import like
from hauberk.scan.graphs.values import Tensor, TensorSequence, UnmodelledError

_ML = "ai.onnx.ml"


def _count(call: Call, *names: str) -> int:
    """Length of the first of these attributes that is given."""
    for name in names:
        value = call.attribute(name)
        if isinstance(value, Numbers):
            return value.count
        if isinstance(value, list):
            return len(value)
        if isinstance(value, Weights):
            return value.dims[0] if value.dims else 1
    return 0


def _longest(call: Call, *names: str) -> int:
    values = [call.attribute(name) for name in names]
    texts = [each for value in values if isinstance(value, list) for each in value if isinstance(each, bytes)]
    return max([*map(len, texts), _default(call)], default=0)


def _default(call: Call) -> int:
    """Bytes of the text that stands for what an encoder does not know."""
    return len(call.text("default_string"))


def _records(source: Tensor) -> int:
    return source.shape[0] if source.rank > 1 else 1


def _labels(call: Call, records: int) -> Tensor:
    texts = call.attribute("classlabels_strings") or call.attribute("classlabels_string")
    if isinstance(texts, list) and texts:
        return call.result(STRING, (records,), text=max(len(text) for text in texts))
    return call.result(INT64, (records,))


@rule("TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble", domain=_ML)
def trees(call: Call) -> Sequence[Tensor]:
    """Every record walks down every tree: at most all nodes of all trees."""
    source = call.input(0)
    records = _records(source)
    nodes = _count(call, "nodes_nodeids", "nodes_featureids")
    call.operations = float(records) * max(1, nodes)
    if call.operator == "TreeEnsembleClassifier":
        classes = _count(call, "classlabels_int64s", "classlabels_strings")
        return [_labels(call, records), call.result(FLOAT, (records, max(2, classes)))]
    targets = max(1, call.integer("n_targets", 1))
    return [call.result(source.element if call.operator == "TreeEnsemble" else FLOAT, (records, targets))]


@rule("LinearClassifier", "SVMClassifier", domain=_ML)
def classifier(call: Call) -> Sequence[Tensor]:
    """A label and a score a class for each record."""
    source = call.input(0)
    records = _records(source)
    classes = _count(call, "classlabels_ints", "classlabels_strings")
    weights = _count(call, "coefficients") + _count(call, "support_vectors")
    call.operations = float(records) * max(1, weights) * 4
    pairs = max(2, classes, classes * (classes - 1) // 2 if call.operator == "SVMClassifier" else 0)
    return [_labels(call, records), call.result(FLOAT, (records, pairs))]


@rule("LinearRegressor", "SVMRegressor", domain=_ML)
def regressor(call: Call) -> Sequence[Tensor]:
    """Numbers for each record."""
    source = call.input(0)
    records = _records(source)
    call.operations = float(records) * max(1, _count(call, "coefficients") + _count(call, "support_vectors")) * 4
    return [call.result(FLOAT, (records, max(1, call.integer("targets", 1))))]


@rule("LabelEncoder", "CategoryMapper", domain=_ML)
def encoder(call: Call) -> Sequence[Tensor]:
    """Another value for each."""
    source = call.input(0)
    names = {"values_strings": STRING, "values_int64s": INT64, "values_floats": FLOAT}
    element = INT64 if source.element == STRING else STRING
    for name, kind in names.items():
        if call.attribute(name) is not None:
            element = kind
    values = call.attribute("values_tensor")
    text = _longest(call, "values_strings", "cats_strings", "classes_strings")
    if isinstance(values, Weights):
        element, text = values.element, values.longest
    return [like(call, source, element, text=max(text, 16) if element == STRING else 0)]


@rule("OneHotEncoder", domain=_ML)
def one_hot_encoder(call: Call) -> Sequence[Tensor]:
    """A new last axis with a place a category."""
    source = call.input(0)
    return [call.result(FLOAT, (*source.shape, _count(call, "cats_int64s", "cats_strings")))]


@rule("FeatureVectorizer", domain=_ML)
def vectorizer(call: Call) -> Sequence[Tensor]:
    """Columns side by side."""
    inputs = call.tensors()
    if not inputs:
        raise UnmodelledError("nothing to join")
    sizes = call.integers("inputdimensions") or []
    if min(sizes, default=1) < 1:
        raise UnmodelledError(f"an input of {min(sizes)} columns")
    width = sum(max([*sizes[at : at + 1], each.shape[-1] if each.shape else 1]) for at, each in enumerate(inputs))
    return [call.result(FLOAT, (_records(inputs[0]), width))]


@rule("ZipMap", domain=_ML)
def zip_map(call: Call) -> Sequence[TensorSequence]:
    """A dictionary for each record: a label and a number for every class."""
    source = call.input(0)
    records, classes = _records(source), source.shape[-1] if source.shape else 1
    call.operations = 100.0 * records * classes
    item = call.result(STRING, (classes,), text=64 + _longest(call, "classlabels_strings"))
    return [TensorSequence(item, records, exact=source.exact)]


@rule("CastMap", "DictVectorizer", domain=_ML)
def of_dictionaries(call: Call) -> Sequence[Tensor]:
    """A row for a dictionary; what it holds is the caller's."""
    names = ("string_vocabulary", "int64_vocabulary")
    width = max(1, _count(call, *names), call.integer("max_map", 1))
    return [call.result(FLOAT, (1, width))]


@rule("StringNormalizer")
def normalizer(call: Call) -> Sequence[Tensor]:
    """Texts in other letters, some left out."""
    source = call.input(0)
    stop = _count(call, "stopwords")
    call.operations = float(source.elements) * max(1, source.text + stop)
    return [call.result(STRING, source.shape, exact=source.exact and not stop, text=4 * source.text)]


@rule("StringConcat")
def string_concat(call: Call) -> Sequence[Tensor]:
    """Texts behind one another: their lengths add up."""
    first, second = call.input(0), call.input(1)
    result = together(call, [first, second], STRING)
    text = first.text + second.text
    call.operations = float(result.elements) * max(1, text)
    return [like(call, result, STRING, text=text)]


@rule("StringSplit")
def string_split(call: Call) -> Sequence[Tensor]:
    """Texts in pieces: at most one a letter, every text as many as the one with most."""
    source = call.input(0)
    most = source.text + 1
    if "maxsplit" in call.attributes:
        most = min(most, max(0, call.integer("maxsplit")) + 1)
    call.operations = float(source.elements) * (source.text + 1)
    pieces = call.result(STRING, (*source.shape, most), exact=False, text=source.text)
    return [pieces, call.result(INT64, source.shape)]


@rule("RegexFullMatch")
def regex(call: Call) -> Sequence[Tensor]:
    """A truth value a text. RE2 takes time in proportion to the text and the pattern, and bounds its memory."""
    source = call.input(0)
    call.operations = float(source.elements) * (source.text + 1) * (len(call.text("pattern")) + 1)
    call.scratch = float(8 << 20)
    return [like(call, source, BOOL)]


def _grams(call: Call) -> int:
    """N-grams in a pool, which says where those of each length begin.

    Raises:
        UnmodelledError: It does not say that, or they do not come out even.
    """
    starts = call.integers("ngram_counts") or []
    ends = [*starts[1:], _count(call, "pool_int64s", "pool_strings")]
    sizes = [end - start for start, end in zip(starts, ends, strict=True)] if starts else []
    if not sizes or starts[0] < 0 or min(sizes) < 0 or any(size % length for length, size in enumerate(sizes, 1)):
        raise UnmodelledError("a pool of n-grams that do not come out even")
    return sum(size // length for length, size in enumerate(sizes, 1))


@rule("TfIdfVectorizer")
def tf_idf(call: Call) -> Sequence[Tensor]:
    """A place for each n-gram of a pool."""
    source = call.input(0)
    places = call.attribute("ngram_indexes")
    if not isinstance(places, Numbers):
        raise UnmodelledError("no pool")
    if places.count != _grams(call):  # ONNX Runtime writes outside its memory where there are fewer places
        raise UnmodelledError(f"{places.count} places for {_grams(call)} n-grams")
    grams = max(1, call.integer("max_gram_length", 1)) * max(1, call.integer("max_skip_count") + 1)
    call.operations = 20.0 * source.elements * grams
    return [call.result(FLOAT, (*source.shape[:-1], int(min(places.largest, 1 << 60)) + 1))]


@rule("Tokenizer", domain="com.microsoft")
def tokenizer(call: Call) -> Sequence[Tensor]:
    """Words of texts: at most one a letter."""
    source = call.input(0)
    call.operations = 100.0 * source.elements * (source.text + 1)
    dims = (*source.shape, source.text + 2)
    return [call.result(STRING, dims, exact=False, text=source.text)]


@rule("MurmurHash3", domain="com.microsoft")
def murmur(call: Call) -> Sequence[Tensor]:
    """A number a value."""
    source = call.input(0)
    call.operations = float(source.elements) * (source.text + 8)
    return [like(call, source, 6 if not call.integer("positive", 1) else 12)]
