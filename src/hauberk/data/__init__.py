"""Data sets: readers, the known ones, splits, windows and images."""

from hauberk.data.dataset import Dataset
from hauberk.data.digits import load_digits
from hauberk.data.images import ImageDataset, ImageSplits, load_image_folder
from hauberk.data.known import KnownDataSet, SourceFile
from hauberk.data.load import KNOWN, check_files, load_splits
from hauberk.data.splits import Splits, block_split, stratified_split
from hauberk.data.windows import BLOCK_WINDOWS, newest_records, windows_of

__all__ = [
    "BLOCK_WINDOWS",
    "KNOWN",
    "Dataset",
    "ImageDataset",
    "ImageSplits",
    "KnownDataSet",
    "SourceFile",
    "Splits",
    "block_split",
    "check_files",
    "load_digits",
    "load_image_folder",
    "load_splits",
    "newest_records",
    "stratified_split",
    "windows_of",
]
