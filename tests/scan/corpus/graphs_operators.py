"""Hostile ONNX files: operators that act, functions that expand, names that readers mix up."""

from __future__ import annotations

from collections.abc import Callable

from onnx import ModelProto, helper

from corpus import UNKNOWN, UNSAFE, Case
from corpus.onnx_models import BOOL, attribute, calling, case, function, graph, model, node, numbers, value

RECURSION = "https://cwe.mitre.org/data/definitions/674.html"
ENDLESS = "https://cwe.mitre.org/data/definitions/835.html"
EXTENSIONS = "https://github.com/microsoft/onnxruntime-extensions/blob/main/docs/custom_ops.md"


def changed(change: Callable[[ModelProto], object]) -> Callable[[], ModelProto]:
    """A plain model with a change."""

    def make() -> ModelProto:
        made = model()
        change(made)
        return made

    return make


# Operators.


def operator(
    name: str,
    kind: str,
    domain: str,
    expected: frozenset[str] = UNSAFE,
    reference: str = EXTENSIONS,
    /,
    **given: object,
) -> Case:
    return case(
        f"operator-{name}",
        model([node(kind, ["x"], domain=domain, **given)], domains=[domain] if domain else []),
        expected,
        reference,
    )


def _in_nested_default() -> ModelProto:
    body = function("F", [node("Identity", ["x"])])
    body.attribute_proto.append(attribute("body", graph([node("PyOp", ["x"], domain="ai.onnx.contrib")])))
    return calling(body)


def _settings(made: ModelProto) -> None:
    made.metadata_props.add(key="ort_config", value='{"session_options": {"optimized_model_filepath": "/tmp/x"}}')


PROGRAMS = "https://onnxruntime.ai/docs/execution-providers/EP-Context-Design.html"

OPERATORS = (
    operator("python", "PyOp", "ai.onnx.contrib", module="m", compute="f"),
    operator("python-in-training", "PythonOp", "com.microsoft", func_name="f"),
    operator("aten", "ATen", "org.pytorch.aten", operator="aten::from_file"),
    operator("image-reader", "ImageReader", "ai.onnx.contrib"),
    operator("remote-service", "OpenAIAudioToText", "com.microsoft.extensions", model_uri="https://example.org"),
    operator(
        "program-by-path", "EPContext", "com.microsoft", UNSAFE, PROGRAMS, embed_mode=0, ep_cache_context="../../x.so"
    ),
    operator(
        "program-by-absolute-path", "EPContext", "com.microsoft", UNSAFE, PROGRAMS, embed_mode=0, ep_cache_context="/x"
    ),
    operator(
        "program-inside", "EPContext", "com.microsoft", UNKNOWN, PROGRAMS, embed_mode=1, ep_cache_context="binary"
    ),
    operator("program-of-snpe", "Snpe", "com.microsoft", UNKNOWN, PROGRAMS, DLC="binary"),
    operator("of-a-library", "Decode", "com.example", UNKNOWN),
    operator("unknown", "Shell", "", UNKNOWN),
    operator("unknown-of-the-runtime", "Shell", "com.microsoft", UNKNOWN),
    operator("plugin", "Plugin", "trt.plugins", UNKNOWN),
    case("operator-in-default-of-function", _in_nested_default, UNSAFE, EXTENSIONS),
    case("opset-999", model(opset=999), UNKNOWN),
    case("settings-for-the-runtime", changed(_settings)),
    case("training", changed(lambda made: made.training_info.add()), UNKNOWN),
)

# Functions and names.


def _doubling(levels: int) -> ModelProto:
    bodies = [
        function(
            f"F{level}", [node(f"F{level + 1}", ["x"], "h", domain="own"), node(f"F{level + 1}", ["h"], domain="own")]
        )
        for level in range(levels)
    ]
    return calling(*bodies, function(f"F{levels}", [node("Relu", ["x"])]))


def _recursion_in_branch() -> ModelProto:
    branch = graph([node("F", ["x"], "z", domain="own")], outputs=[value("z", None)])
    nodes = [node("ReduceMax", ["x"], "m", keepdims=0), node("Cast", ["m"], "c", to=BOOL)]
    return calling(function("F", [*nodes, node("If", ["c"], then_branch=branch, else_branch=branch)]))


def _hiding_function() -> ModelProto:
    made = model()
    made.functions.append(
        helper.make_function("", "Relu", ["x"], ["y"], [node("Neg", ["x"])], [helper.make_opsetid("", 20)])
    )
    return made


def _hiding_runtime() -> ModelProto:
    body = helper.make_function(
        "com.microsoft", "Gelu", ["x"], ["y"], [node("Neg", ["x"])], [helper.make_opsetid("", 20)]
    )
    return model([node("Gelu", ["x"], domain="com.microsoft")], functions=[body], domains=["com.microsoft"])


def _overloaded() -> ModelProto:
    """The function is called like the operator, but for an overload that nobody asks for."""
    opsets = [helper.make_opsetid("", 20)]
    body = helper.make_function("ai.onnx.contrib", "PyOp", ["x"], ["y"], [node("Neg", ["x"])], opsets)
    body.overload = "other"
    return model([node("PyOp", ["x"], domain="ai.onnx.contrib")], functions=[body], domains=["ai.onnx.contrib"])


STRUCTURE = (
    case("function-itself", calling(function("F", [node("F", ["x"], domain="own")])), UNSAFE, RECURSION),
    case(
        "functions-each-other",
        calling(function("F", [node("G", ["x"], domain="own")]), function("G", [node("F", ["x"], domain="own")])),
        UNSAFE,
        RECURSION,
    ),
    case("function-itself-in-branch", _recursion_in_branch, UNSAFE, RECURSION),
    case("function-bomb", _doubling(40), UNSAFE, "https://cwe.mitre.org/data/definitions/776.html"),
    case("function-twice", calling(function("F", [node("Relu", ["x"])]), function("F", [node("Neg", ["x"])]))),
    case("function-hides-operator", _hiding_function),
    case("function-of-another-overload", _overloaded, UNSAFE, EXTENSIONS),
    case("function-hides-operator-of-the-runtime", _hiding_runtime),
    case("name-twice", model([node("Relu", ["x"]), node("Neg", ["x"])])),
    case("name-of-input-twice", model([node("Relu", ["x"], "x"), node("Neg", ["x"])])),
    case("weight-twice", model(weights=[numbers("w", 1), numbers("w", 2)])),
    case("input-missing", model([node("Relu", ["nowhere"])]), UNKNOWN),
    case("output-missing", model(outputs=[value("nowhere", None)]), UNKNOWN),
    case("cycle", model([node("Add", ["x", "b"], "a"), node("Relu", ["a"], "b"), node("Neg", ["b"])]), UNSAFE, ENDLESS),
    case("cycle-of-one", model([node("Add", ["x", "a"], "a"), node("Neg", ["a"])]), UNSAFE, ENDLESS),
)
