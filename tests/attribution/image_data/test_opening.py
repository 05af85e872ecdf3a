"""Which form of data a path has, and what is said where it has none."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import picture

from attribution.image_data.opening import listed, open_image_data
from attribution.image_data.sample import ImageDataError


def test_forms_are_not_mixed_unless_the_metadata_says_what_is_meant(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(picture(1))
    pq.write_table(pa.table({"image": [picture(2)]}), tmp_path / "x.parquet")
    with pytest.raises(ImageDataError, match=r"holds folder and parquet files: give it a metadata"):
        open_image_data(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.png"}')
    samples, _ = listed(open_image_data(tmp_path))
    assert [sample.key for sample in samples] == ["1.png"]


def test_compressed_archives_are_to_be_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.writestr("1.png", picture(1))
    for path in (tmp_path, tmp_path / "pictures.zip"):
        with pytest.raises(ImageDataError, match=r"; unpack pictures\.zip first"):
            open_image_data(path)


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(picture(1))
    with pytest.raises(ImageDataError, match=r"1\.png is neither a \.tar nor a \.parquet file$"):
        open_image_data(tmp_path / "1.png")
