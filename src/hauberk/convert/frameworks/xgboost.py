"""XGBoost itself, asked whether the graph answers as it does."""

from __future__ import annotations

import numpy as np
import xgboost
from numpy.typing import NDArray

from hauberk.convert.inside import Feeds
from hauberk.convert.messages import Setup
from hauberk.errors import InputError


class Boosted:
    """A booster. Its answer is the sum of the trees (margins), or the prediction where the graph gives that."""

    notes: tuple[str, ...] = ()

    def __init__(self, model: bytes, *, margins: bool) -> None:
        self.version = f"xgboost {xgboost.__version__}"
        self._booster = xgboost.Booster({"nthread": 1})
        self._booster.load_model(bytearray(model))
        self._margins = margins
        self._types = self._booster.feature_types

    def convert(self) -> tuple[bytes, tuple[str, ...]]:
        """Trees are converted from the file itself (`hauberk.convert.trees`)."""
        raise InputError("trees are converted from their file, not by the library")

    def answer(self, feeds: Feeds) -> list[NDArray[np.generic]]:
        """Margins or predictions, float32 [N, K]."""
        (features,) = feeds.values()
        if not len(features):
            raise InputError("XGBoost takes no empty batch")
        matrix = xgboost.DMatrix(features, feature_types=self._types, enable_categorical=True, nthread=1)
        answer = self._booster.predict(matrix, output_margin=self._margins, validate_features=False)
        return [np.asarray(answer, dtype=np.float32).reshape(len(features), -1)]


def load(setup: Setup) -> Boosted:
    """Read an admitted model."""
    return Boosted(setup.model, margins=setup.options.get("margins") == "yes")
