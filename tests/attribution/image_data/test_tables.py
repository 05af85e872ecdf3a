"""Parquet files and saved datasets, written by Hugging Face datasets and by others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import picture
from PIL import Image

from attribution.image_data.opening import listed, open_image_data, reopen
from attribution.image_data.sample import ImageDataError, Refused, Sample

SHADES = range(5)


def hugging_face(**columns: Any) -> datasets.Dataset:
    """A dataset with images and whose artists are classes."""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "artist": datasets.ClassLabel(names=["Ada", "Bob"]),
            "caption": datasets.Value("string"),
        }
    )
    rows = {
        "image": [Image.new("RGB", (4, 4), (shade,) * 3) for shade in SHADES],
        "artist": [shade % 2 for shade in SHADES],
        "caption": [f"shade {shade}" for shade in SHADES],
    }
    return datasets.Dataset.from_dict(rows | columns, features=features)


def shade_of(content: bytes) -> int:
    import io

    with Image.open(io.BytesIO(content)) as image:
        pixel = image.getpixel((0, 0))
        assert isinstance(pixel, tuple)
        return int(pixel[0])


@pytest.mark.parametrize("form", ["parquet", "saved"])
def test_what_hugging_face_datasets_write(tmp_path: Path, form: Any) -> None:
    if form == "parquet":
        hugging_face().to_parquet(tmp_path / "train-00000-of-00001.parquet", batch_size=2)
        assert pq.ParquetFile(next(tmp_path.iterdir())).num_row_groups == 3
    else:
        hugging_face().save_to_disk(tmp_path, num_shards=2)
    data = open_image_data(tmp_path, {"creator": "artist"})
    samples, refused = listed(data)
    assert (data.form, refused) == (form, [])
    assert [sample.creator for sample in samples] == ["Ada", "Bob", "Ada", "Bob", "Ada"]
    assert [sample.text for sample in samples] == [f"shade {shade}" for shade in SHADES]
    again = reopen(form, tmp_path)
    for shade in (4, 0, 2, 1, 3):
        assert shade_of(again.read(samples[shade])) == shade


def test_splits_are_told_apart(tmp_path: Path) -> None:
    whole = hugging_face()
    splits = {"train": whole.select([0, 1]), "test": whole.select([4])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path)
    samples, _ = listed(open_image_data(tmp_path))
    assert [sample.key.split("/")[0] for sample in samples] == ["test", "train", "train"]
    assert shade_of(reopen("saved", tmp_path).read(samples[0])) == 4


def test_rows_that_were_chosen_are_written_out(tmp_path: Path) -> None:
    """``select`` and ``shuffle`` keep an index until a dataset is saved."""
    hugging_face().select([3, 1]).save_to_disk(tmp_path)
    samples, _ = listed(open_image_data(tmp_path))
    assert [shade_of(open_image_data(tmp_path).read(sample)) for sample in samples] == [3, 1]


def test_tables_of_others(tmp_path: Path) -> None:
    """Bytes in a column of the usual name; metadata under ours; every row has every column."""
    table = pa.table(
        {
            "hash": [b"1", b"2"],
            "jpg": [picture(1, "JPEG"), picture(2, "JPEG")],
            "licence": [["MIT", "CC0-1.0"], None],
            "opt_out": [{"cawg.data_mining": "notAllowed"}, {"cawg.data_mining": None}],
            "seed": [7, None],
            "label": [0, 1],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    samples, _ = listed(open_image_data(tmp_path / "x.parquet"))
    assert samples == [
        Sample(
            "x.parquet/00000000",
            "0",
            licence="MIT AND CC0-1.0",
            opt_out={"cawg.data_mining": "notAllowed"},
            seed=7,
        ),
        Sample("x.parquet/00000001", "1"),
    ]
    assert reopen("parquet", tmp_path / "x.parquet").read(samples[1]) == picture(2, "JPEG")


def test_a_table_of_pictures_alone(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [picture(1), picture(2)]}), tmp_path / "x.parquet")
    samples, _ = listed(open_image_data(tmp_path))
    assert [sample.key for sample in samples] == ["x.parquet/00000000", "x.parquet/00000001"]


def test_faulty_rows_are_named(tmp_path: Path) -> None:
    table = pa.table({"image": [picture(1), picture(2)], "seed": [-1, 1]})
    pq.write_table(table, tmp_path / "x.parquet")
    samples, refused = listed(open_image_data(tmp_path), skip=True)
    assert [sample.key for sample in samples] == ["x.parquet/00000001"]
    assert refused == [Refused("x.parquet/00000000", "seed must be a whole number in 0..2^63-1")]


@pytest.mark.parametrize(
    "key", ["x.parquet/9", "x.parquet/-1", "x.parquet/a", "y.parquet/0", "../x.parquet/0", "0"]
)
def test_rows_that_are_not_there(tmp_path: Path, key: str) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"image": [picture(1)]}), tmp_path / "data" / "x.parquet")
    shutil.copy(tmp_path / "data" / "x.parquet", tmp_path)
    with pytest.raises(OSError, match=r"no such row|holds no image|outside|No such file|directory"):
        reopen("parquet", tmp_path / "data").read(Sample(key))


def test_images_that_lie_elsewhere(tmp_path: Path) -> None:
    rows = [{"bytes": None, "path": "/etc/passwd"}, {"bytes": picture(1), "path": None}]
    pq.write_table(pa.table({"image": rows}), tmp_path / "x.parquet")
    data = open_image_data(tmp_path)
    with pytest.raises(OSError, match="holds no image"):
        data.read(Sample("x.parquet/00000000"))
    assert data.read(Sample("x.parquet/00000001")) == picture(1)


def test_tables_without_images_and_damaged_ones(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"url": ["https://example.org/1.png"]}), file)
    with pytest.raises(ImageDataError, match=r"none of its columns \(url\) has images"):
        listed(open_image_data(tmp_path))
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ImageDataError, match="no Parquet file"):
        listed(open_image_data(tmp_path))


def test_saved_datasets_that_are_not_whole(tmp_path: Path) -> None:
    hugging_face().save_to_disk(tmp_path)
    state = json.loads((tmp_path / "state.json").read_bytes())
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(ImageDataError, match="no dataset that was saved whole"):
        listed(open_image_data(tmp_path))
    state["_data_files"] = [{"filename": "../../outside.arrow"}]
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(FileNotFoundError, match="outside the folder"):
        listed(open_image_data(tmp_path))
