"""What a record is and how it becomes numbers."""

from hauberk.schema.coding import Coded, Coder
from hauberk.schema.decision import Decision, sigmoid
from hauberk.schema.feature_space import FeatureSpace, Preprocessing, Scaling
from hauberk.schema.file import decode_schema, encode_schema, read_schema, write_schema
from hauberk.schema.image import ImageSpace
from hauberk.schema.record import (
    UNKNOWN_CODE,
    BooleanFeature,
    CategoricalFeature,
    Feature,
    IntegerFeature,
    Label,
    NumberFeature,
    NumericFeature,
    RecordSchema,
)

__all__ = [
    "UNKNOWN_CODE",
    "BooleanFeature",
    "CategoricalFeature",
    "Coded",
    "Coder",
    "Decision",
    "Feature",
    "FeatureSpace",
    "ImageSpace",
    "IntegerFeature",
    "Label",
    "NumberFeature",
    "NumericFeature",
    "Preprocessing",
    "RecordSchema",
    "Scaling",
    "decode_schema",
    "encode_schema",
    "read_schema",
    "sigmoid",
    "write_schema",
]
