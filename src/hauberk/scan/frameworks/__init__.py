"""Formats of other frameworks, in the order of asking; Keras and skops archives are kinds of zip archives."""

from hauberk.scan.formats import Format
from hauberk.scan.frameworks import (
    catboost,
    executables,
    lightgbm,
    tensorflow,
    tensorflow_checkpoint,
    tflite,
    xgboost,
)
from hauberk.scan.frameworks.documents import JSON
from hauberk.scan.frameworks.hdf5 import HDF5

FORMATS: tuple[Format, ...] = (
    *executables.FORMATS,
    HDF5,
    *xgboost.FORMATS,
    *lightgbm.FORMATS,
    *catboost.FORMATS,
    *tflite.FORMATS,
    JSON,
    *tensorflow.FORMATS,
    *tensorflow_checkpoint.FORMATS,
)
