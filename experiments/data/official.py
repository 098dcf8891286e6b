"""Photographs prepared by TensorFlow Datasets, read as array_record without it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from experiments.data.cache import Contents, Example, Source
from experiments.errors import InputError

# It warns about every data set that is not prepared yet, which we report ourselves.
logging.set_verbosity(logging.ERROR)

# The test split. It is "validation" if "test" has no public labels.
OFFICIAL = {
    "caltech101": "test", "cifar10": "test", "cifar100": "test",
    "food101": "validation", "imagenet2012": "validation",
    "imagenet_resized/64x64": "validation", "imagenette": "validation",
    "oxford_flowers102": "test", "places365_small": "validation",
    "stanford_dogs": "test",
}  # fmt: skip


def official_source(name: str, data_dir: Path) -> Source:
    """A data set of ``OFFICIAL``. If it is missing, ``open`` says how to prepare it."""
    builder: Any = tfds.builder(
        name, data_dir=str(data_dir), file_format="array_record"
    )

    def open_(_: Path) -> Contents:
        if not builder.is_prepared():
            raise InputError(
                f"{name} is not prepared under {data_dir}; run this once, where "
                f"TensorFlow is installed: tfds build {name} "
                f"--file_format=array_record --data_dir={data_dir}. Or pass an archive "
                "of CLASS/x.jpg files: folder:PATH"
            )
        theirs = {"train": "train", "test": OFFICIAL[name]}
        if "validation" in builder.info.splits.keys() - theirs.values():
            theirs["validation"] = "validation"
        sizes = {x: builder.info.splits[y].num_examples for x, y in theirs.items()}
        return builder.info.features["label"].names, sizes, examples(theirs), []

    def examples(theirs: dict[str, str]) -> Iterator[Example]:
        undecoded = {"image": tfds.decode.SkipDecoding()}
        for split, of in theirs.items():
            try:
                rows = builder.as_data_source(split=of, decoders=undecoded)
            except (NotImplementedError, ValueError) as error:
                where = f"{builder.data_path} cannot be read without TensorFlow"
                raise InputError(f"{where}: {error}") from error
            for i, row in enumerate(rows):
                yield split, int(row["label"]), f"{of} {i}", bytes(row["image"])

    return Source(name, builder.info.full_name, open_)
