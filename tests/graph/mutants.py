"""Passes that are wrong on purpose, one rewrite each: what a harness is worth is how many of them it catches.

Each mutant is a graph and what a wrong pass makes of it, in onnx's text form. Weights are drawn with a seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import helper, numpy_helper, parser

from hauberk.recipe import Close, Contract, Exact

HEADER = '<ir_version: 10, opset_import: ["" : 20]> g '

CLOSE = Close()

WEIGHTS = {
    "w": (16, 8),
    "b": (8,),
    "v": (8, 4),
    "k": (4, 3, 3, 3),
    "scale": (8,),
    "mean": (8,),
    "six": (6, 6),
    "r": (1, 32, 4),
    "recurrence": (1, 32, 8),
}


@dataclass(frozen=True)
class Mutant:
    """A wrong rewrite.

    Attributes:
        name: What is wrong, in words.
        inputs: Declarations of the inputs, as text.
        outputs: Declarations of the outputs.
        before: Nodes of the graph.
        after: Nodes of what the pass makes of it.
        contract: What the pass promises.
        integers: Integer initializers by name.
    """

    name: str
    inputs: str
    outputs: str
    before: str
    after: str
    contract: Contract = CLOSE
    integers: dict[str, list[int]] | None = None
    floats: dict[str, float] | None = None

    def models(self) -> tuple[bytes, bytes]:
        """Both graphs, serialised."""
        return self._model(self.before), self._model(self.after)

    def _model(self, nodes: str) -> bytes:
        model = parser.parse_model(f"{HEADER} ({self.inputs}) => ({self.outputs}) {{ {nodes} }}")
        random = np.random.default_rng(0)
        used = {name for node in model.graph.node for name in node.input}
        for name, shape in WEIGHTS.items():
            values = random.normal(size=shape).astype(np.float32)
            if name in used:
                model.graph.initializer.append(numpy_helper.from_array(values, name))
        for name, whole in (self.integers or {}).items():
            model.graph.initializer.append(numpy_helper.from_array(np.array(whole, np.int64), name))
        for name, value in (self.floats or {}).items():
            model.graph.initializer.append(helper.make_tensor(name, 1, [], [value]))
        return bytes(model.SerializeToString())


ROW, WIDE, MAP = "float[n,16] x", "float[n,8] x", "float[n,3,h,h2] x"

MUTANTS = (
    Mutant("a bias is dropped", ROW, "float[n,8] y", "y = Gemm(x, w, b)", "y = Gemm(x, w)"),
    Mutant(
        "a transposition of other axes",
        "float[n,4,4] x",
        "float[n,4,4] y",
        "y = Transpose<perm = [0, 2, 1]>(x)",
        "y = Identity(x)",
    ),
    Mutant(
        "a slice that is off by one",
        WIDE,
        "float[n,m] y",
        "y = Slice(x, from, to, axis)",
        "y = Slice(x, from1, to1, axis)",
        Exact(),
        {"from": [1], "to": [5], "from1": [2], "to1": [6], "axis": [1]},
    ),
    Mutant(
        "another epsilon",
        WIDE,
        "float[n,8] y",
        "y = LayerNormalization<epsilon = 0.00001>(x, scale)",
        "y = LayerNormalization<epsilon = 0.001>(x, scale)",
    ),
    Mutant("operands of a difference change places", WIDE, "float[n,8] y", "y = Sub(x, b)", "y = Sub(b, x)"),
    Mutant(
        "0 times anything is taken for 0",
        WIDE,
        "float[n,8] y",
        "y = Mul(x, zero)",
        "a = Sub(x, x) s = Shape(a) y = Expand(zero, s)",
        Exact(),
        None,
        {"zero": 0.0},
    ),
    Mutant(
        "adding 0 is taken for nothing",
        WIDE,
        "float[n,8] y",
        "y = Add(x, zero)",
        "y = Identity(x)",
        Exact(),
        None,
        {"zero": 0.0},
    ),
    Mutant(
        "a scale is taken through an overflow",
        WIDE,
        "float[n,8] y",
        "y = Identity(x)",
        "a = Mul(x, four) y = Mul(a, quarter)",
        Exact(),
        None,
        {"four": 4.0, "quarter": 0.25},
    ),
    Mutant(
        "denormals are lost on the way",
        WIDE,
        "float[n,8] y",
        "y = Identity(x)",
        "a = Mul(x, quarter) y = Mul(a, four)",
        Exact(),
        None,
        {"four": 4.0, "quarter": 0.25},
    ),
    Mutant(
        "a bound is dropped that only aligned inputs reach",
        ROW,
        "float[n,8] y",
        "a = Gemm(x, w, b) y = Clip(a, low, high)",
        "a = Gemm(x, w, b) y = Clip(a, low)",
        Close(),
        None,
        {"low": -900.0, "high": 900.0},
    ),
    Mutant(
        "reshapes [6, 2] and [0, -1] are merged",
        "float[3,4] x",
        "float[p,q] y",
        "a = Reshape(x, pairs) y = Reshape(a, keep)",
        "y = Reshape(x, merged)",
        Exact(),
        {"pairs": [6, 2], "keep": [0, -1], "merged": [2, 6]},
    ),
    Mutant(
        "a cast to integers and back is taken for nothing",
        WIDE,
        "float[n,8] y",
        "a = Cast<to = 7>(x) y = Cast<to = 1>(a)",
        "y = Identity(x)",
    ),
    Mutant(
        "a strict comparison becomes a weak one",
        WIDE,
        "bool[n,8] y",
        "y = Greater(x, half)",
        "y = GreaterOrEqual(x, half)",
        Exact(),
        None,
        {"half": 0.5},
    ),
    Mutant(
        "a comparison is negated though NaN compares with nothing",
        WIDE,
        "bool[n,8] y",
        "a = Less(x, half) y = Not(a)",
        "y = GreaterOrEqual(x, half)",
        Exact(),
        None,
        {"half": 0.5},
    ),
    Mutant(
        "a mean over another axis",
        "float[n,5,5] x",
        "float[n,5] y",
        "y = ReduceMean<keepdims = 0>(x, one)",
        "y = ReduceMean<keepdims = 0>(x, two)",
        Close(),
        {"one": [1], "two": [2]},
    ),
    Mutant(
        "a softmax over another axis",
        "float[n,5,5] x",
        "float[n,5,5] y",
        "y = Softmax<axis = 1>(x)",
        "y = Softmax<axis = 2>(x)",
    ),
    Mutant(
        "parts are joined in another order",
        "float[n,4] x, float[n,4] z",
        "float[n,8] y",
        "y = Concat<axis = 1>(x, z)",
        "y = Concat<axis = 1>(z, x)",
        Exact(),
    ),
    Mutant(
        "edges are padded with zeros",
        "float[n,8] x",
        "float[n,10] y",
        'y = Pad<mode = "edge">(x, pads)',
        "y = Pad(x, pads)",
        Exact(),
        {"pads": [0, 1, 0, 1]},
    ),
    Mutant(
        "padding counts in an average",
        MAP,
        "float[n,3,p,q] y",
        "y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x)",
        "y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1>(x)",
    ),
    Mutant(
        "a convolution loses its padding and a crop makes up for the shape",
        MAP,
        "float[n,4,p,q] y",
        "y = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, k)",
        'a = Pad<mode = "edge">(x, pads) y = Conv<kernel_shape = [3, 3]>(a, k)',
        Close(),
        {"pads": [0, 0, 1, 1, 0, 0, 1, 1]},
    ),
    Mutant(
        "negative indices are clipped",
        "float[9] x, int64[m] index",
        "float[m] y",
        "y = Gather(x, index)",
        "a = Cast<to = 1>(index) c = Relu(a) i2 = Cast<to = 7>(c) y = Gather(x, i2)",
        Exact(),
    ),
    Mutant(
        "all dimensions of size 1 are squeezed, the batch among them",
        "float[n,1,4] x",
        "float[n,4] y",
        "y = Squeeze(x, one)",
        "y = Squeeze(x)",
        Exact(),
        {"one": [1]},
    ),
    Mutant(
        "a reshape forgets that a batch can be empty",
        "float[n,4,2] x",
        "float[n,8] y",
        "y = Reshape(x, rows)",
        "s = Shape<start = 0, end = 1>(x) m = Max(s, one) t = Concat<axis = 0>(m, eight) y = Reshape(x, t)",
        Exact(),
        {"rows": [-1, 8], "one": [1], "eight": [8]},
    ),
    Mutant(
        "a batch is fixed",
        "float[n,4,2] x",
        "float[n,8] y",
        "y = Flatten(x)",
        "y = Reshape(x, rows)",
        Exact(),
        {"rows": [3, 8]},
    ),
    Mutant(
        "a dead end of a Relu leaks",
        ROW,
        "float[n,8] y",
        "a = Gemm(x, w, b) y = Relu(a)",
        "a = Gemm(x, w, b) y = LeakyRelu<alpha = 0.0001>(a)",
    ),
    Mutant("GELU is approximated", WIDE, "float[n,8] y", "y = Gelu(x)", 'y = Gelu<approximate = "tanh">(x)'),
    Mutant(
        "a whole division rounds down instead of towards 0",
        "int64[n] x",
        "int64[n] y",
        "y = Div(x, two)",
        "m = Mod(x, two) a = Sub(x, m) y = Div(a, two)",
        Exact(),
        {"two": [2]},
    ),
    *(
        Mutant(
            f"a cast of {kind} to {narrow} and back is taken for nothing, {promise.__struct_config__.tag}",
            f"{kind}[n,3] x",
            f"{kind}[n,3] y",
            f"a = Cast<to = {between}>(x) y = Cast<to = {element}>(a)",
            "y = Identity(x)",
            promise,
        )
        for kind, element, narrow, between, promise in (
            ("int64", 7, "int32", 6, Exact()),
            ("int64", 7, "int32", 6, CLOSE),
            ("int64", 7, "float32", 1, Exact()),
            ("int64", 7, "float16", 10, Exact()),
            ("int64", 7, "float64", 11, Exact()),
            ("int32", 6, "int8", 3, Exact()),
        )
    ),
    Mutant(
        "a bound on bytes is dropped",
        "uint8[n,3] x",
        "uint8[n,3] y",
        "low = Constant<value = uint8 {0}>() high = Constant<value = uint8 {10}>() y = Clip(x, low, high)",
        "y = Identity(x)",
        Exact(),
    ),
    Mutant(
        "a layer's unit that wakes up only far out is pruned",
        ROW,
        "float[n,4] y",
        "a = Gemm(x, w, b) c = Sub(a, far) d = Relu(c) y = MatMul(d, v)",
        "a = Gemm(x, w, b) c = Sub(a, far) d = Relu(c) e = Sub(d, d) y = MatMul(e, v)",
        Close(),
        None,
        {"far": 700.0},
    ),
    Mutant(
        "two gates of an LSTM change places",
        "float[t,n,4] x",
        "float[t,d,n,8] y",
        "y = LSTM<hidden_size = 8>(x, r, recurrence)",
        "f, o, c, e = Split<axis = 1, num_outputs = 4>(r) s = Concat<axis = 1>(o, f, c, e)"
        " y = LSTM<hidden_size = 8>(x, s, recurrence)",
    ),
    Mutant(
        "another epsilon in a batch norm",
        "float[n,8] x",
        "float[n,8] y",
        "v2 = Mul(mean, mean) y = BatchNormalization<epsilon = 0.00001>(x, scale, b, mean, v2)",
        "v2 = Mul(mean, mean) y = BatchNormalization<epsilon = 0.00005>(x, scale, b, mean, v2)",
    ),
)

HARMLESS = (
    Mutant(
        "a MatMul and an Add become a Gemm", ROW, "float[n,8] y", "a = MatMul(x, w) y = Add(a, b)", "y = Gemm(x, w, b)"
    ),
    Mutant(
        "an identity goes between nodes that ONNX Runtime fuses",
        ROW,
        "float[n,8] y",
        "a = MatMul(x, w) i = Identity(a) y = Add(i, b)",
        "a = MatMul(x, w) y = Add(a, b)",
        Exact(),
    ),
    Mutant(
        "a weak comparison is written in two parts",
        WIDE,
        "bool[n,8] y",
        "y = GreaterOrEqual(x, half)",
        "a = Greater(x, half) c = Equal(x, half) y = Or(a, c)",
        Exact(),
        None,
        {"half": 0.5},
    ),
    Mutant(
        "two layers become one, whose sums cancel in another order",
        ROW,
        "float[n,4] y",
        "a = Gemm(x, w, b) y = MatMul(a, v)",
        "p = MatMul(w, v) q = MatMul(b, v) y = Gemm(x, p, q)",
    ),
    Mutant(
        "a convolution's padding becomes a node",
        MAP,
        "float[n,4,p,q] y",
        "y = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, k)",
        "a = Pad(x, pads) y = Conv<kernel_shape = [3, 3]>(a, k)",
        Close(),
        {"pads": [0, 0, 1, 1, 0, 0, 1, 1]},
    ),
    Mutant(
        "a division by a power of two",
        WIDE,
        "float[n,8] y",
        "y = Div(x, four)",
        "y = Mul(x, quarter)",
        Exact(),
        None,
        {"four": 4.0, "quarter": 0.25},
    ),
    Mutant(
        "a softmax in parts",
        WIDE,
        "float[n,8] y",
        "y = Softmax(x)",
        "m = ReduceMax(x, last) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, last) y = Div(e, s)",
        Close(),
        {"last": [-1]},
    ),
)
