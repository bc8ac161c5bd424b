"""Profiles: together they take every shape that the encoder takes, and no shape twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import InvalidInput
from attar.export.targets.tensorrt.profiles import LIKELY_TOKENS, buckets, profiles
from attar.manifest import TensorSpec

TEXT = tuple(
    TensorSpec(name=name, dtype="int64", shape=("batch", "length"))
    for name in ("input_ids", "attention_mask")
)
IMAGE = (TensorSpec(name="image", dtype="float32", shape=("batch", 3, 8, 8)),)


@given(st.integers(1, 10_000), st.integers(1, 300), st.data())
def test_every_batch_of_every_length_fits_one_profile_and_one_only(
    longest: int, max_batch: int, data: st.DataObject
) -> None:
    ranges = profiles(TEXT, max_batch=max_batch, lengths=buckets(longest))
    shape = (
        data.draw(st.integers(1, max_batch), "batch"),
        data.draw(st.integers(1, longest), "length"),
    )

    assert sum(p.takes({"input_ids": shape, "attention_mask": shape}) for p in ranges) == 1


@given(st.integers(1, 10_000), st.integers(1, 300))
def test_what_no_text_is_fits_no_profile(longest: int, max_batch: int) -> None:
    ranges = profiles(TEXT, max_batch=max_batch, lengths=buckets(longest))

    for shape in ((0, 1), (1, 0), (max_batch + 1, 1), (1, longest + 1), (1,)):
        assert not any(p.takes({"input_ids": shape, "attention_mask": shape}) for p in ranges)
    assert not any(p.takes({"input_ids": (1, 1)}) for p in ranges)


@given(st.integers(1, 10_000), st.integers(1, 300))
def test_what_is_tuned_for_lies_within_the_profile(longest: int, max_batch: int) -> None:
    for profile in profiles(TEXT, max_batch=max_batch, lengths=buckets(longest)):
        assert profile.takes(profile.least)
        assert profile.takes(profile.likely)
        assert profile.takes(profile.largest)
        batch, length = profile.likely["input_ids"]
        assert batch == 1 or batch * length <= LIKELY_TOKENS


def test_buckets_are_quarters_of_the_longest() -> None:
    assert buckets(512) == (32, 128, 512)
    assert buckets(256) == (16, 64, 256)
    assert buckets(10) == (10,)


def test_inputs_of_fixed_size_have_one_profile() -> None:
    (profile,) = profiles(IMAGE, max_batch=4, lengths=())

    assert profile.least == {"image": (1, 3, 8, 8)}
    assert profile.likely == profile.largest == {"image": (4, 3, 8, 8)}


@pytest.mark.parametrize(
    ("inputs", "max_batch", "lengths", "message"),
    [
        (TEXT, 0, (8,), "max_batch must be 1 or more; got 0"),
        (TEXT, 1, (), "axis 'length' is free; pass lengths"),
        (TEXT, 1, (0, 8), r"lengths must rise from 1 or more; got \[0, 8\]"),
        (TEXT, 1, (8, 8), r"lengths must rise from 1 or more; got \[8, 8\]"),
        (IMAGE, 1, (8,), r"lengths \[8\] have no axis to apply to"),
        (
            (TensorSpec(name="x", dtype="float32", shape=("batch", "height", "width")),),
            1,
            (8,),
            r"know one free axis besides batch; the inputs have \['height', 'width'\]",
        ),
    ],
)
def test_profiles_that_cannot_be_are_refused(
    inputs: tuple[TensorSpec, ...], max_batch: int, lengths: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        profiles(inputs, max_batch=max_batch, lengths=lengths)
