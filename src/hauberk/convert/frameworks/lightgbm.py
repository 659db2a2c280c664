"""LightGBM itself, asked whether the graph answers as it does."""

from __future__ import annotations

import lightgbm
import numpy as np
from numpy.typing import NDArray

from hauberk.convert.inside import Feeds
from hauberk.convert.messages import Setup
from hauberk.errors import InputError


class Boosted:
    """A booster. Its answer is what its trees add up to on the scale of the graph, or the prediction."""

    notes: tuple[str, ...] = ()

    def __init__(self, model: bytes, *, margins: bool) -> None:
        self.version = f"lightgbm {lightgbm.__version__}"
        text = model.decode()
        self._booster = lightgbm.Booster(model_str=text, params={"verbose": -1, "num_threads": 1})
        self._margins = margins
        self._scale = 1.0
        for line in text.partition("Tree=0")[0].splitlines():
            if line.startswith("objective="):
                options = (option.partition(":") for option in line.split())
                self._scale *= next((float(value) for name, _, value in options if name == "sigmoid"), 1.0)
            if line == "average_output":  # raw scores are not averaged, predictions are
                self._scale /= self._booster.current_iteration()

    def convert(self) -> tuple[bytes, tuple[str, ...]]:
        """Trees are converted from the file itself (`hauberk.convert.trees`)."""
        raise InputError("trees are converted from their file, not by the library")

    def answer(self, feeds: Feeds) -> list[NDArray[np.generic]]:
        """Margins or predictions, float32 [N, K]."""
        (features,) = feeds.values()
        if not len(features):
            raise InputError("LightGBM takes no empty batch")
        answer = np.asarray(self._booster.predict(features, raw_score=self._margins, num_threads=1))
        scaled = answer * self._scale if self._margins else answer
        return [scaled.astype(np.float32).reshape(len(features), -1)]


def load(setup: Setup) -> Boosted:
    """Read an admitted model."""
    return Boosted(setup.model, margins=setup.options.get("margins") == "yes")
