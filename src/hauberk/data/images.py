"""Images as data: a folder a class, PNG or JPEG, split by class.

Files are read with Pillow (extra `images`), one at a time and within limits that are checked on the header, before a
pixel is decoded: a few kilobytes of PNG can claim gigabytes.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hauberk.data.readers import read_bytes
from hauberk.data.splits import stratified_split
from hauberk.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg")
MOST_PIXELS = 1 << 25
"""Of one image file (33 megapixels); what claims to be larger is refused before it is decoded."""

MOST_BYTES = 1 << 26
"""Of one image file (64 MiB)."""

MOST_DECODED = 1 << 33
"""Bytes of all images together, decoded (8 GiB; 57,000 of 3×224×224), as they are all held in memory."""

FEWEST_IMAGES = 50
"""With fewer, no figure measured on the test split would mean anything."""

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # what becomes 8 bits a channel without clipping
_SHARES = (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class ImageDataset:
    """Images of one size with their labels.

    Attributes:
        name: Name of the data set, for reports.
        images: Uint8 [N, H, W, C], C = 1 (grey) or 3 (red, green, blue).
        labels: Int64 [N], index into `classes`.
        classes: Names of the classes.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def take(self, indices: NDArray[np.int64]) -> ImageDataset:
        """The images of these indices, in their order."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])


@dataclass(frozen=True)
class ImageSplits:
    """The three parts of a data set of images.

    Attributes:
        training: What models are fitted on.
        validation: What training stops by.
        test: What is looked at once, at the end.
        digest: SHA-256 (hex) of the source; of a folder, of the listing of its files as `sha256sum` writes it.
        seed: Seed of the split.
        name: Name of the data set.
    """

    training: ImageDataset
    validation: ImageDataset
    test: ImageDataset
    digest: str
    seed: int
    name: str


def split_images(everything: ImageDataset, digest: str, seed: int) -> ImageSplits:
    """60 % of each class for training, 20 % for validation, 20 % for test.

    Raises:
        InputError: Too few images, a class that a split would be without, or a seed that torch does not take.
    """
    if not 0 <= seed < 1 << 63:
        raise InputError(f"the seed of a split is {seed}; a whole number from 0 to 2**63 - 1 is needed")
    if len(everything) < FEWEST_IMAGES:
        raise InputError(f"{everything.name}: {len(everything)} images; at least {FEWEST_IMAGES} are needed")
    rows = stratified_split(everything.labels, _SHARES, seed)
    training, validation, test = (everything.take(part) for part in rows)
    for part, name in ((training, "training"), (validation, "validation"), (test, "test")):
        counts = np.bincount(part.labels, minlength=len(everything.classes))
        if not counts.all():
            absent = everything.classes[int(counts.argmin())]
            raise InputError(f"{everything.name}: no image of class {absent!r} is left for the {name} split")
    return ImageSplits(training, validation, test, digest=digest, seed=seed, name=everything.name)


def load_image_folder(
    folder: Path, *, channels: int = 3, shorter_side: int | None = None, seed: int = 0
) -> ImageSplits:
    """Read `folder/CLASS/*.png|jpg|jpeg` and split it.

    Classes are the folders by name, files are read in the order of their names: the same files give the same splits
    on every machine. Transparency is laid over black; the orientation that a camera noted is applied.

    Args:
        folder: Holds one folder a class, at least two.
        channels: 3 for colour, 1 for grey.
        shorter_side: Resize every image so that its shorter side has this length and crop the centre to a square
            (Pillow's bilinear with antialiasing); `None` where all images have one size already.
        seed: Seed of the split.

    Raises:
        InputError: Pillow is not installed; there is no such folder, too few classes or images; or a file is no image
            of its kind, damaged, too large, or of another size than the first one while `shorter_side` is `None`.
    """
    _require_pillow()
    if channels not in (1, 3):
        raise InputError(f"images of {channels} channels; 1 (grey) or 3 (colour) are known")
    if shorter_side is not None and not 1 <= shorter_side <= int(MOST_PIXELS**0.5):
        raise InputError(f"a shorter side of {shorter_side} pixels; 1 to {int(MOST_PIXELS**0.5)} is right")
    files = _files(folder)
    classes = tuple(dict.fromkeys(file.parent.name for file in files))
    if len(classes) < 2:
        raise InputError(f"{folder}: has images of {len(classes)} classes; give at least two folders with images")
    images: list[NDArray[np.uint8]] = []
    listing = []
    for file in files:
        content = _content(file)
        image = _decode(content, file, channels, shorter_side)
        if images and image.shape != images[0].shape:
            raise InputError(
                f"{file}: is {_size(image)}, {files[0].name} is {_size(images[0])}; give shorter_side to bring all"
                " images to one size"
            )
        if image.nbytes * len(files) > MOST_DECODED:
            raise InputError(
                f"{folder}: {len(files)} images of {_size(image)} are more than {MOST_DECODED} bytes in memory; give"
                " shorter_side to make them smaller, or fewer"
            )
        images.append(image)
        listing.append(f"{hashlib.sha256(content).hexdigest()}  {file.parent.name}/{file.name}\n")
    labels = np.array([classes.index(file.parent.name) for file in files], dtype=np.int64)
    digest = hashlib.sha256("".join(listing).encode()).hexdigest()
    return split_images(ImageDataset(folder.resolve().name, np.stack(images), labels, classes), digest, seed)


def _files(folder: Path) -> list[Path]:
    """The image files of each class, by name of the class and of the file."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
        inside = [sorted(entry.iterdir(), key=lambda file: file.name) for entry in entries if entry.is_dir()]
    except OSError as error:
        raise InputError(f"{folder}: cannot read the folder: {error.strerror or error}") from error
    files = [file for files in inside for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]
    if not files:
        raise InputError(f"{folder}: holds no folder with {', '.join(SUFFIXES)} files; expected one folder a class")
    return files


def _content(file: Path) -> bytes:
    if file.stat().st_size > MOST_BYTES:
        raise InputError(f"{file}: {file.stat().st_size} bytes; at most {MOST_BYTES} are read of one image")
    return read_bytes(file)


def _decode(content: bytes, file: Path, channels: int, shorter_side: int | None) -> NDArray[np.uint8]:
    """One image, uint8 [H, W, C]."""
    from PIL import Image, ImageOps  # noqa: PLC0415 - an extra

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as opened:
            _check_header(opened, file)
            image = _opaque(ImageOps.exif_transpose(opened)).convert("L" if channels == 1 else "RGB")
    except InputError:
        raise
    except Exception as error:  # a decoder fed with damaged bytes raises what it likes
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{file}: not a readable PNG or JPEG image: {reason}") from error
    if shorter_side is not None:
        image = ImageOps.fit(image, (shorter_side, shorter_side), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, channels)


def _check_header(opened: Image.Image, file: Path) -> None:
    """Refuse an image by what its header says; nothing has been decoded yet."""
    width, height = opened.size
    if width * height > MOST_PIXELS:
        raise InputError(f"{file}: claims {width}×{height} pixels; at most {MOST_PIXELS} are decoded")
    if opened.mode not in _MODES:
        raise InputError(f"{file}: pixels of kind {opened.mode!r}; save it with 8 bits a channel")


def _opaque(image: Image.Image) -> Image.Image:
    """An image with transparency, laid over black."""
    from PIL import Image as Images  # noqa: PLC0415 - an extra

    if not image.has_transparency_data:
        return image
    with_alpha = image.convert("RGBA")
    return Images.alpha_composite(Images.new("RGBA", image.size, (0, 0, 0, 255)), with_alpha)


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"


def _require_pillow() -> None:
    try:
        import PIL  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise InputError("images: Pillow is not installed; pip install 'hauberk[images]'") from error
