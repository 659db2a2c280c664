"""Data sets: readers, the known ones, and splits."""

from hauberk.data.dataset import Dataset
from hauberk.data.known import KnownDataSet, SourceFile
from hauberk.data.load import KNOWN, check_files, load_splits
from hauberk.data.splits import Splits, stratified_split

__all__ = ["KNOWN", "Dataset", "KnownDataSet", "SourceFile", "Splits", "check_files", "load_splits", "stratified_split"]
