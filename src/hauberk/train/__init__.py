"""Training: the loop, preprocessing fitted to data, and the reference detectors."""

from hauberk.train.anomaly import train_autoencoder
from hauberk.train.detector import RECORDS, WINDOW, WINDOWS, train_detector
from hauberk.train.image_model import IMAGES, fit_image_space, train_image_model
from hauberk.train.loop import Epoch, Judgement, TrainingResult, train
from hauberk.train.objective import Objective, balanced_weights, cross_entropy, weights_by_kind
from hauberk.train.options import Schedule, TrainingOptions
from hauberk.train.preprocessing import PreprocessingKind, fit_preprocessing, labelled, labelled_images
from hauberk.train.saving import TrainedDetector, prepare_folder, prepared_folder, save_detector
from hauberk.train.substitute import Substitute, train_substitute

__all__ = [
    "IMAGES",
    "RECORDS",
    "WINDOW",
    "WINDOWS",
    "Epoch",
    "Judgement",
    "Objective",
    "PreprocessingKind",
    "Schedule",
    "Substitute",
    "TrainedDetector",
    "TrainingOptions",
    "TrainingResult",
    "balanced_weights",
    "cross_entropy",
    "fit_image_space",
    "fit_preprocessing",
    "labelled",
    "labelled_images",
    "prepare_folder",
    "prepared_folder",
    "save_detector",
    "train",
    "train_autoencoder",
    "train_detector",
    "train_image_model",
    "train_substitute",
    "weights_by_kind",
]
