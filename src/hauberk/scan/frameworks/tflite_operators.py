"""Inputs that an operator of TensorFlow Lite needs: kernels take one that is absent for a tensor."""

from __future__ import annotations

_CONV, _DEPTHWISE, _DENSE = 3, 4, 9
_TRANSPOSED, _CONV_3D, _TRANSPOSED_3D, _LSTM, _LSTM_SEQUENCE, _SVDF = 67, 132, 133, 16, 44, 27
_WITHOUT_INPUT = frozenset({129, 136, 142})  # CALL_ONCE, HASHTABLE, VAR_HANDLE
_WITHOUT_OUTPUT = frozenset({129, 138, 144})  # CALL_ONCE, HASHTABLE_IMPORT, ASSIGN_VARIABLE
_LSTM_PARTS = frozenset({1, 5, 9, 10, 11, 12, 16, 17, 20, 21, 22, 23})
_OPTIONAL = {
    _CONV: frozenset({2}),
    _DEPTHWISE: frozenset({2}),
    _DENSE: frozenset({2}),
    _TRANSPOSED: frozenset({3}),
    _CONV_3D: frozenset({2}),
    _TRANSPOSED_3D: frozenset({3}),
    _SVDF: frozenset({3}),
    _LSTM: _LSTM_PARTS,
    _LSTM_SEQUENCE: _LSTM_PARTS,
}
"""Inputs that an operator may do without, by its number."""


def missing_input(code: int, inputs: list[int], outputs: list[int]) -> str:
    """What an operator lacks; empty where it lacks nothing.

    Args:
        code: Number of the operator.
        inputs: Numbers of tensors; -1 for none.
        outputs: The same.
    """
    if (not inputs and code not in _WITHOUT_INPUT) or (not outputs and code not in _WITHOUT_OUTPUT):
        return f"{len(inputs)} inputs and {len(outputs)} outputs"
    absent = {place for place, tensor in enumerate(inputs) if tensor < 0} - _OPTIONAL.get(code, frozenset())
    return f"no input {min(absent)}" if absent else ""
