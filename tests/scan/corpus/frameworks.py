"""Everything hostile that is no pickle, no archive and no ONNX model: frameworks, trees, programs, settings."""

from __future__ import annotations

from corpus.frameworks_files import FILE_CASES
from corpus.frameworks_gguf import GGUF_CASES
from corpus.frameworks_graphs import GRAPH_CASES
from corpus.frameworks_hdf5 import HDF5_CASES
from corpus.frameworks_keras import KERAS_CASES
from corpus.frameworks_skops import SKOPS_CASES
from corpus.frameworks_tensorflow import TENSORFLOW_CASES
from corpus.frameworks_text import TEXT_CASES
from corpus.frameworks_tflite import TFLITE_CASES
from corpus.frameworks_trees import TREE_CASES

CASES = (
    *HDF5_CASES,
    *KERAS_CASES,
    *TREE_CASES,
    *SKOPS_CASES,
    *GRAPH_CASES,
    *TFLITE_CASES,
    *GGUF_CASES,
    *TENSORFLOW_CASES,
    *FILE_CASES,
    *TEXT_CASES,
)
