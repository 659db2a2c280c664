"""Training: the loop, preprocessing fitted to data, and the reference detector."""

from hauberk.train.anomaly import train_autoencoder
from hauberk.train.detector import TrainedDetector, prepare_folder, save_detector, train_detector
from hauberk.train.loop import Epoch, TrainingResult, train
from hauberk.train.objective import Objective, balanced_weights, cross_entropy
from hauberk.train.options import TrainingOptions
from hauberk.train.preprocessing import PreprocessingKind, fit_preprocessing, labelled, labelled_images

__all__ = [
    "Epoch",
    "Objective",
    "PreprocessingKind",
    "TrainedDetector",
    "TrainingOptions",
    "TrainingResult",
    "balanced_weights",
    "cross_entropy",
    "fit_preprocessing",
    "labelled",
    "labelled_images",
    "prepare_folder",
    "save_detector",
    "train",
    "train_autoencoder",
    "train_detector",
]
