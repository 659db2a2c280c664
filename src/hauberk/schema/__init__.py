"""What a record is and how it becomes numbers."""

from hauberk.schema.decision import Decision, logit, sigmoid
from hauberk.schema.feature_space import FeatureSpace, Preprocessing, Scaling
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
    "Decision",
    "Feature",
    "FeatureSpace",
    "IntegerFeature",
    "Label",
    "NumberFeature",
    "NumericFeature",
    "Preprocessing",
    "RecordSchema",
    "Scaling",
    "logit",
    "sigmoid",
]
