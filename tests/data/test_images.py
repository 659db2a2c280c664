"""Folders of images: read as Pillow reads them, split by class, refused where they are bombs, damaged or uneven."""

from __future__ import annotations

import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from hauberk.data import ImageDataset, load_image_folder
from hauberk.data.images import MOST_PIXELS, split_images
from hauberk.errors import InputError


def pixels(seed, height=6, width=5):
    return np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two classes of 30 images; the seed of an image is its number."""
    for label, name in enumerate(("dirt", "clean")):
        (tmp_path / name).mkdir()
        for number in range(30):
            Image.fromarray(pixels(100 * label + number)).save(tmp_path / name / f"{number:02}.png")
    return tmp_path


def rows(part: ImageDataset) -> set[bytes]:
    return {image.tobytes() for image in part.images}


def test_every_image_is_in_one_split_with_its_class(folder):
    splits = load_image_folder(folder)
    parts = (splits.training, splits.validation, splits.test)
    assert [len(part) for part in parts] == [36, 12, 12]
    assert all(part.classes == ("clean", "dirt") for part in parts)
    for part in parts:
        assert part.images.dtype == np.uint8
        assert np.bincount(part.labels).tolist() == [len(part) // 2] * 2
    expected = {
        "clean": {pixels(100 + n).tobytes() for n in range(30)},
        "dirt": {pixels(n).tobytes() for n in range(30)},
    }
    for label, name in enumerate(("clean", "dirt")):
        assert set().union(*(rows(part.take(np.flatnonzero(part.labels == label))) for part in parts)) == expected[name]


def test_more_than_memory_holds_is_refused_at_the_first_image(folder, monkeypatch):
    """Each image is small enough; 60 of 5×6 with 3 channels are 5,400 bytes."""
    monkeypatch.setattr("hauberk.data.images.MOST_DECODED", 5399)
    with pytest.raises(InputError, match="60 images of 5×6 are more than 5399 bytes in memory; give shorter_side"):
        load_image_folder(folder)
    assert len(load_image_folder(folder, shorter_side=5).training) == 36


def test_a_side_below_one_pixel_is_refused(folder):
    with pytest.raises(InputError, match="a shorter side of -5 pixels"):
        load_image_folder(folder, shorter_side=-5)


def test_the_same_files_give_the_same_splits_whatever_the_order_of_the_disk(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for file in sorted(folder.glob("*/*.png"), reverse=True):
        (other / file.parent.name).mkdir(exist_ok=True)
        (other / file.parent.name / file.name).write_bytes(file.read_bytes())
    first, second = load_image_folder(folder, seed=3), load_image_folder(other, seed=3)
    assert first.digest == second.digest
    assert np.array_equal(first.training.images, second.training.images)
    assert not np.array_equal(first.training.images, load_image_folder(folder, seed=4).training.images)


def test_another_pixel_is_another_digest(folder):
    before = load_image_folder(folder).digest
    Image.fromarray(pixels(999)).save(folder / "dirt" / "07.png")
    assert load_image_folder(folder).digest != before


def test_images_of_many_sizes_are_brought_to_one(folder):
    Image.fromarray(pixels(5, 40, 20)).save(folder / "dirt" / "large.jpg", quality=95)
    with pytest.raises(InputError, match=r"large\.jpg: is 20×40, 00\.png is 5×6; give shorter_side"):
        load_image_folder(folder)
    assert load_image_folder(folder, shorter_side=8).training.images.shape[1:] == (8, 8, 3)


def test_grey_is_what_pillow_calls_grey(folder):
    splits = load_image_folder(folder, channels=1)
    expected = {np.asarray(Image.fromarray(pixels(n)).convert("L")).tobytes() for n in (*range(30), *range(100, 130))}
    assert rows(splits.training) | rows(splits.validation) | rows(splits.test) == expected


def test_transparency_lies_over_black(folder):
    for file in folder.glob("*/*.png"):
        Image.fromarray(np.full((6, 5, 4), (200, 100, 50, 128), np.uint8)).save(file)
    image = load_image_folder(folder).training.images[0]
    np.testing.assert_allclose(image, np.broadcast_to([100, 50, 25], (6, 5, 3)), atol=1)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that claims any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(MOST_PIXELS + 1, 1), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(folder, size):
    (folder / "dirt" / "00.png").write_bytes(bomb(*size))
    with pytest.raises(InputError, match=r"00\.png: (claims \d+×\d+ pixels; at most|not a readable)") as raised:
        load_image_folder(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"GIF89a" + bytes(40), "not a readable PNG or JPEG"),
        (bomb(6, 5)[:43], "not a readable PNG or JPEG"),
        (bomb(400, 400), "not a readable PNG or JPEG"),  # 100,000 bytes of 480,400 are there
    ],
)
def test_a_file_that_is_no_image_is_named(folder, content, says):
    (folder / "clean" / "03.png").write_bytes(content)
    with pytest.raises(InputError, match=r"03\.png.*" + says):
        load_image_folder(folder, shorter_side=6)


def test_sixteen_bits_a_channel_are_refused_rather_than_clipped(folder):
    Image.fromarray(np.full((6, 5), 40_000, np.uint16)).save(folder / "clean" / "03.png")
    with pytest.raises(InputError, match=r"03\.png: pixels of kind 'I;16'; save it with 8 bits"):
        load_image_folder(folder)


def test_a_folder_without_classes_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot read the folder"):
        load_image_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="expected one folder a class"):
        load_image_folder(tmp_path)
    (tmp_path / "only").mkdir()
    Image.fromarray(pixels(0)).save(tmp_path / "only" / "0.png")
    with pytest.raises(InputError, match="images of 1 classes; give at least two"):
        load_image_folder(tmp_path)


def test_a_class_of_two_images_cannot_be_split():
    labels = np.array([0] * 60 + [1] * 2)
    everything = ImageDataset("photos", np.zeros((62, 4, 4, 1), np.uint8), labels, ("many", "few"))
    with pytest.raises(InputError, match="photos: no image of class 'few' is left for the validation split"):
        split_images(everything, "0" * 64, 0)


def test_without_pillow_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match=r"hauberk\[images\]"):
        load_image_folder(folder)


def test_a_photograph_taken_sideways_is_turned(folder):
    for file in folder.glob("*/*.png"):
        file.unlink()
    upright = np.zeros((8, 16, 3), np.uint8)
    upright[:, 8:] = 255  # the right half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotate a quarter clockwise to view
    for name in ("dirt", "clean"):
        for number in range(30):
            Image.fromarray(upright).save(folder / name / f"{number}.jpg", exif=exif, quality=100)
    image = load_image_folder(folder).training.images[0]
    assert image.shape == (16, 8, 3)
    assert image[:7].max() < 30
    assert image[9:].min() > 225
