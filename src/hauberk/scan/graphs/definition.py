"""The messages of an ONNX file, field by field (onnx.proto of ONNX 1.23, all of its versions included).

A field that a newer ONNX adds is not here, and makes a file `unknown`, because a newer reader would heed it.
"""

from __future__ import annotations

from hauberk.scan.graphs.wire import Field, Table


def _table(definition: str) -> Table:
    """A table out of lines `number kind name`, the name with `*` for a repeated field and `|choice` for a choice.

    A kind in capitals is a message that nobody reads, by the name of its table; `+*` marks lists that may be long.
    """
    table: Table = {}
    for line in definition.strip().splitlines():
        number, kind, name = line.split()
        name, _, choice = name.partition("|")
        unread = _UNREAD[kind] if kind.isupper() else None
        run = name.endswith("+*")
        name = name.replace("+", "")
        kind = kind if unread is None else "message"
        table[int(number)] = Field(name.rstrip("*"), kind, name.endswith("*"), choice, unread, run)
    return table


_UNREAD: dict[str, Table] = {}

ENTRY = _UNREAD["ENTRY"] = _table("""
    1 text key
    2 bytes value
""")
_UNREAD["ANNOTATION"] = _table("""
    1 text tensor_name
    2 ENTRY quant_parameter_tensor_names*
""")
_UNREAD["SEGMENT"] = _table("""
    1 int64 begin
    2 int64 end
""")
_UNREAD["DEVICES"] = _table("""
    1 text name
    2 int32 num_devices
    3 text device*
""")
_UNREAD["GROUP"] = _table("""
    1 int64 key
    2 int64 value*
""")
_UNREAD["SHARD"] = _table("""
    1 int64 dim_value|dim
    2 text dim_param|dim
    3 int64 num_shards
""")
_UNREAD["SHARDED"] = _table("""
    1 int64 axis
    2 SHARD simple_sharding*
""")
_UNREAD["SHARDING"] = _table("""
    1 text tensor_name
    2 int64 device*
    3 GROUP index_to_device_group_map*
    4 SHARDED sharded_dim*
""")
_UNREAD["PLACING"] = _table("""
    1 text configuration_id
    2 SHARDING sharding_spec*
    3 int32 pipeline_stage
""")
_UNREAD["OPAQUE"] = _table("""
    1 text domain
    2 text name
""")
MODEL = _table("""
    1 int64 ir_version
    2 bytes producer_name
    3 bytes producer_version
    4 bytes domain
    5 int64 model_version
    6 bytes doc_string
    7 message graph
    8 message opset_import*
    14 ENTRY metadata_props*
    20 message training_info*
    25 message functions*
    26 DEVICES configuration*
""")
GRAPH = _table("""
    1 message node*
    2 bytes name
    5 message initializer*
    10 bytes doc_string
    11 message input*
    12 message output*
    13 message value_info*
    14 ANNOTATION quantization_annotation*
    15 message sparse_initializer*
    16 ENTRY metadata_props*
""")
NODE = _table("""
    1 text input*
    2 text output*
    3 text name
    4 text op_type
    5 message attribute*
    6 bytes doc_string
    7 text domain
    8 text overload
    9 ENTRY metadata_props*
    10 PLACING device_configurations*
""")
ATTRIBUTE = _table("""
    1 text name
    2 float f
    3 int64 i
    4 bytes s
    5 message t
    6 message g
    7 float floats+*
    8 int64 ints+*
    9 bytes strings+*
    10 message tensors*
    11 message graphs*
    13 bytes doc_string
    14 message tp
    15 message type_protos*
    20 int32 type
    21 text ref_attr_name
    22 message sparse_tensor
    23 message sparse_tensors*
""")
FUNCTION = _table("""
    1 text name
    4 text input*
    5 text output*
    6 text attribute*
    7 message node*
    8 bytes doc_string
    9 message opset_import*
    10 text domain
    11 message attribute_proto*
    12 message value_info*
    13 text overload
    14 ENTRY metadata_props*
""")
TENSOR = _table("""
    1 int64 dims*
    2 int32 data_type
    3 SEGMENT segment
    4 float float_data*
    5 int32 int32_data*
    6 bytes string_data*
    7 int64 int64_data*
    8 text name
    9 bytes raw_data
    10 double double_data*
    11 uint64 uint64_data*
    12 bytes doc_string
    13 message external_data*
    14 int32 data_location
    16 ENTRY metadata_props*
""")
SPARSE_TENSOR = _table("""
    1 message values
    2 message indices
    3 int64 dims*
""")
OPSET_IMPORT = _table("""
    1 text domain
    2 int64 version
""")
VALUE_INFO = _table("""
    1 text name
    2 message type
    3 bytes doc_string
    4 ENTRY metadata_props*
""")
TYPE = _table("""
    1 message tensor_type|value
    4 message sequence_type|value
    5 message map_type|value
    6 bytes denotation
    7 OPAQUE opaque_type|value
    8 message sparse_tensor_type|value
    9 message optional_type|value
""")
TENSOR_TYPE = _table("""
    1 int32 elem_type
    2 message shape
""")
CONTAINER_TYPE = _table("""
    1 message elem_type
""")
MAP_TYPE = _table("""
    1 int32 key_type
    2 message value_type
""")
SHAPE = _table("""
    1 message dim*
""")
DIMENSION = _table("""
    1 int64 dim_value|value
    2 text dim_param|value
    3 bytes denotation
""")
TRAINING = _table("""
    1 message initialization
    2 message algorithm
    3 ENTRY initialization_binding*
    4 ENTRY update_binding*
""")

ATTRIBUTE_FIELDS = {
    1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 11: "sparse_tensor", 13: "tp",
    6: "floats", 7: "ints", 8: "strings", 9: "tensors", 10: "graphs", 12: "sparse_tensors", 14: "type_protos",
}  # fmt: skip
"""Where each type of attribute (its field 20) has its value."""
