"""Images in tar files are those of a folder, and a tar that is not whole is refused by its name."""

import contextlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from attar.errors import InvalidInput
from attar.training.data import webdataset
from attar.training.reading import read

KINDS = {"link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE}


def png(seed: int, side: int = 6) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def tar(files: Mapping[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if kind != tarfile.REGTYPE and name.startswith("odd"):
                member.type, member.linkname, member.size = kind, "/etc/passwd", 0
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def samples(first: int, count: int, *, labelled: bool = True) -> dict[str, bytes]:
    files = {}
    for i in range(first, first + count):
        files[f"x/{i:04d}.png"] = png(i)
        files[f"x/{i:04d}.json"] = b"{}"
        if labelled:
            files[f"x/{i:04d}.cls"] = str(i % 2).encode()
    return files


def every(items: object, count: int) -> torch.Tensor:
    images: torch.Tensor = items[torch.arange(count)]  # type: ignore[index]
    return images


def test_the_shards_of_a_part_are_read_as_a_folder_of_their_images_is(tmp_path: Path) -> None:
    packed, plain = tmp_path / "packed", tmp_path / "plain"
    for folder in (packed, plain / "0", plain / "1"):
        folder.mkdir(parents=True)
    (packed / "train-000000.tar").write_bytes(tar(samples(0, 3)))
    (packed / "train-000001.tar").write_bytes(tar(samples(3, 3)))
    (packed / "test-000000.tar").write_bytes(tar(samples(6, 2)))
    for i in range(6):
        (plain / f"{i}.png").write_bytes(png(i))
    source = read(str(packed))

    assert torch.equal(every(source.train, 6), every(read(str(plain), labels="none").train, 6))
    assert source.train_labels is not None
    assert source.train_labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert source.test is not None
    assert len(source.test) == 2
    assert source.summary is not None
    assert source.summary.passed_over == {"named *.json": 8}
    assert [path.name for path in packed.iterdir() if path.is_dir()] == []


def test_one_tar_is_read_alone_and_its_labels_can_be_left(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar(samples(0, 10)))

    assert len(read(str(path)).train) == 6  # two of each class test
    source = read(str(path), labels="none", side=4)
    assert source.train_labels is None
    assert every(source.train, 10).shape == (10, 3, 4, 4)
    assert torch.equal(
        source.train[torch.tensor([7, 2])], every(source.train, 10)[torch.tensor([7, 2])]
    )


def test_damaged_images_are_skipped_with_their_classes_and_named(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar({**samples(0, 4), "x/0001.png": png(1)[:40]}))

    source = read(str(path), skip_bad=True, test_last=1)

    assert source.train_labels is not None
    assert source.train_labels.tolist() == [0, 0]  # of 0 and 2; 3 tests
    assert source.summary is not None
    assert source.summary.passed_over["images that cannot be decoded"] == 1
    assert "skipped: x/0001.png of" in "\n".join(source.summary.notes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tar(samples(0, 2))[:700], "cannot be read as a tar (unexpected end of data)"),
        (tar({"a.txt": b"no image"}), "holds no images"),
        (tar({"a.png": png(0), "odd.png": b""}, KINDS["link"]), "odd.png of"),
        (tar({"a.png": png(0), "odd.png": b""}, KINDS["hard"]), "is a link or no plain file"),
        (tar({"a.png": png(0), "odd.png": b""}, KINDS["pipe"]), "is a link or no plain file"),
        (tar({"a.png": png(0), "a.seg.png": png(1)}), "two images of one sample"),
        (tar({"a.png": b""}), "a.png of"),
        (tar({"a.png": png(0), "a.cls": b"cat"}), "must be the number of a class"),
        (tar({"a.png": png(0), "a.cls": b"1", "b.png": png(1)}), "x.tar has no class (b.cls)"),
        (b"\x1f\x8b" + bytes(2000), "without compression"),
        (tar(samples(0, 1))[:-9000] + b"x" * 600, "damaged at byte"),
    ],
)
def test_a_tar_that_is_not_whole_is_refused_with_the_reason(
    content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(content)

    with pytest.raises(InvalidInput) as refused:
        read(str(path))

    assert words in str(refused.value)
    assert "x.tar" in str(refused.value)


def test_a_compressed_tar_in_a_folder_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "train-0.tar.gz").write_bytes(b"")
    (tmp_path / "train-1.tar").write_bytes(tar(samples(0, 1)))
    with pytest.raises(InvalidInput, match=r"train-0.tar.gz.*convert to a tar without compress"):
        read(str(tmp_path))


def test_a_header_that_claims_gigabytes_is_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    member = tarfile.TarInfo("pax")
    member.type, member.size = tarfile.XHDTYPE, 2**33
    with path.open("wb") as file:
        file.write(member.tobuf(format=tarfile.GNU_FORMAT))
        file.truncate(2**34)  # a hole: nothing lies on the disk

    with pytest.raises(InvalidInput, match="a header of more than 1,048,576 bytes"):
        read(str(path))


def test_a_file_of_negative_size_does_not_read_for_ever(tmp_path: Path) -> None:
    member = tarfile.TarInfo("a.txt")
    member.size = -512
    path = tmp_path / "x.tar"
    path.write_bytes(member.tobuf(format=tarfile.GNU_FORMAT) + bytes(1024))

    with pytest.raises(InvalidInput, match="a file of less than nothing"):
        read(str(path))


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 4095), byte=st.integers(0, 255), cut=st.integers(0, 4096))
def test_a_changed_tar_is_read_or_refused(
    at: int, byte: int, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(tar(samples(0, 2)))
    content[at] = byte
    path = tmp_path_factory.mktemp("changed") / "x.tar"
    path.write_bytes(content[: len(content) - cut])
    with contextlib.suppress(InvalidInput):
        part = webdataset.tar_images([path], side=4, labelled=True, skip_bad=True)
        assert len(part.items) >= 1


def test_a_damaged_image_that_is_met_is_named_with_how_to_leave_out_all_such(
    tmp_path: Path,
) -> None:
    (tmp_path / "x.tar").write_bytes(tar({"a.png": png(0), "b.png": b"<html>"}))
    images = read(str(tmp_path / "x.tar"), side=4).train

    with pytest.raises(
        InvalidInput, match=r"b.png of .*x.tar .*\(it is in no format .*skip_bad=tr"
    ):
        images[torch.tensor([1])]
