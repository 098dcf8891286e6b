"""Photographs through TensorFlow Datasets' own builders, without TensorFlow to read.

The data are prepared as array_record files, which NumPy reads. To *prepare* them most
of these builders call TensorFlow (measured with tensorflow-datasets 4.9.10); it is
then asked for before anything is downloaded, and not needed again afterwards.
"""

import dataclasses
import importlib.util
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from experiments.data.source import Contents, Example, Source
from experiments.errors import InputError

# It warns of every data set that is not prepared yet, which is no news here.
logging.set_verbosity(logging.ERROR)


@dataclasses.dataclass(frozen=True)
class Official:
    """A data set of TensorFlow Datasets.

    Attributes:
      builder: its name there.
      host: where it is downloaded from; nothing is tried without a connection to it.
      splits: our name of each split, and theirs.
      tensorflow: whether preparing it calls TensorFlow.
    """

    builder: str
    host: str
    splits: Mapping[str, str]
    tensorflow: bool = True


_TEST = {"train": "train", "test": "test"}
_VALIDATION = {"train": "train", "test": "validation"}
_ALL_THREE = {"train": "train", "validation": "validation", "test": "test"}
OFFICIAL = {
    "caltech101": Official("caltech101", "data.caltech.edu", _TEST),
    "cifar10": Official("cifar10", "www.cs.toronto.edu", _TEST),
    "cifar100": Official("cifar100", "www.cs.toronto.edu", _TEST),
    # The test images of these have no public labels: the validation images stand in.
    "imagenet2012": Official("imagenet2012", "image-net.org", _VALIDATION),
    "imagenet64": Official("imagenet_resized/64x64", "image-net.org", _VALIDATION),
    "imagenette": Official("imagenette", "s3.amazonaws.com", _VALIDATION),
    "stanford_dogs": Official("stanford_dogs", "vision.stanford.edu", _TEST),
    "oxford_flowers102": Official(
        "oxford_flowers102", "www.robots.ox.ac.uk", _ALL_THREE
    ),
    "food101": Official(
        "food101", "data.vision.ee.ethz.ch", _VALIDATION, tensorflow=False
    ),
    "places365_small": Official(
        "places365_small", "data.csail.mit.edu", _VALIDATION, tensorflow=False
    ),
}


def official_source(name: str, data_dir: Path, manual_dir: Path) -> Source:
    """An official data set, prepared under ``data_dir`` or to be prepared there.

    Args:
      name: a key of ``OFFICIAL``.
      data_dir: as TensorFlow Datasets uses it.
      manual_dir: where archives lie that one has to ask for (ImageNet's).

    Raises:
      InputError: from ``open``, where it can be neither found nor prepared.
    """
    chosen = OFFICIAL[name]
    builder = tfds.builder(
        chosen.builder, data_dir=str(data_dir), file_format="array_record"
    )

    def open_() -> Contents:
        if not builder.is_prepared():
            _check_preparable(chosen, data_dir)
        prepare(builder, manual_dir)
        return contents(builder, chosen.splits)

    return Source(name, {"tfds": builder.info.full_name}, open_)


def prepare(builder: Any, manual_dir: Path) -> None:
    """Downloads and prepares what is not yet there.

    Raises:
      InputError: with the reason that the builder gives.
    """
    # Their bucket holds tfrecord files only, and being offline it is asked for minutes.
    config = tfds.download.DownloadConfig(
        manual_dir=str(manual_dir), try_download_gcs=False
    )
    try:
        builder.download_and_prepare(download_config=config, file_format="array_record")
    except InputError:
        raise
    except Exception as error:  # builders raise whatever they meet
        raise InputError(
            f"{builder.info.full_name} was not prepared: {error}"
        ) from error


def contents(builder: Any, splits: Mapping[str, str]) -> Contents:
    """What a prepared builder holds; ``splits`` maps our names to the builder's."""
    sizes = {
        ours: builder.info.splits[theirs].num_examples
        for ours, theirs in splits.items()
    }
    classes = tuple(builder.info.features["label"].names)
    origin = {"tfds": builder.info.full_name, "path": str(builder.data_path)}
    return Contents(classes, sizes, _examples(builder, splits), origin)


def _examples(builder: Any, splits: Mapping[str, str]) -> Iterator[Example]:
    undecoded = {"image": tfds.decode.SkipDecoding()}
    for ours, theirs in splits.items():
        try:
            rows = builder.as_data_source(split=theirs, decoders=undecoded)
        except (NotImplementedError, ValueError) as error:
            raise InputError(
                f"{builder.data_path} cannot be read without TensorFlow: {error}"
            ) from error
        for number in range(len(rows)):
            row = rows[number]
            name = f"{theirs} {number}"
            yield Example(name, ours, int(row["label"]), bytes(row["image"]))


def _check_preparable(chosen: Official, data_dir: Path) -> None:
    instead = (
        f"Or prepare it elsewhere, with file_format='array_record', and put it under "
        f"{data_dir}; or name an archive of CLASS/x.jpg files: folder:PATH"
    )
    missing = importlib.util.find_spec("tensorflow") is None
    if chosen.tensorflow and missing:
        raise InputError(
            f"{chosen.builder} is not prepared under {data_dir}, and its builder needs "
            f"TensorFlow, once: pip install tensorflow. {instead}"
        )
    check_connection(chosen.host, instead)


def check_connection(host: str, instead: str, seconds: float = 10) -> None:
    """Raises an ``InputError`` that ends in ``instead`` if a host cannot be reached.

    Through the same proxies as a download, and never longer than ``seconds``: looking
    up a name without a network can take minutes, and has no time limit of its own.
    """
    failure: list[str] = [f"no answer in {seconds:g} s"]

    def attempt() -> None:
        try:
            urllib.request.urlopen(f"http://{host}/", timeout=seconds).close()
        except urllib.error.HTTPError:
            pass  # it answered
        except OSError as error:
            failure[0] = str(error)
            return
        failure.clear()

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise InputError(f"cannot download from {host}: {failure[0]}. {instead}")
