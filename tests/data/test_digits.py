"""scikit-learn's digits at 32×32: the same pictures, only larger."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits as reference

from hauberk.data import load_digits
from hauberk.errors import InputError


def test_every_digit_is_there_once_and_enlarged_as_pillow_enlarges():
    splits = load_digits(seed=1)
    parts = (splits.training, splits.validation, splits.test)
    assert sum(map(len, parts)) == 1797
    found = {
        (image.tobytes(), int(label)) for part in parts for image, label in zip(part.images, part.labels, strict=True)
    }
    known = reference()
    for image, label in list(zip(known.images, known.target, strict=True))[::97]:
        enlarged = Image.fromarray(image.astype(np.float32)).resize((32, 32), Image.Resampling.BILINEAR)
        pixels = np.rint(np.asarray(enlarged) * (255 / 16)).astype(np.uint8)
        near = [
            np.abs(np.frombuffer(other, np.uint8).reshape(32, 32).astype(int) - pixels).max()
            for other, same in found
            if same == label
        ]
        assert min(near) <= 1


def test_without_scikit_learn_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match="scikit-learn is not installed"):
        load_digits()
