"""Samplers: who meets whom, as the step and the seed say and nothing else."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attar.errors import InvalidInput
from attar.training.data.source import Labels
from attar.training.sampler import Sampler
from attar.training.samplers.clusters import DisjointClusters
from attar.training.samplers.labels import BalancedLabels, label_lists
from attar.training.samplers.stream import DomainStream

seeds = st.integers(0, 10**6)
# One cluster or class an item, of few or many.
clusters = st.integers(1, 30).flatmap(
    lambda many: st.lists(st.integers(0, many), min_size=1, max_size=60)
)


def array(values: list[int]) -> Labels:
    return np.array(values, dtype=np.int64)


LABELS = array([3, 1, 3, 1, 3, 1, 3, 3, 7, 7] * 8)
DOMAINS = torch.arange(30), torch.arange(30, 90)
SAMPLERS: dict[str, Callable[[int], Callable[[int], Tensor]]] = {
    "uniform": lambda seed: Sampler(items=80, batch_size=8, seed=seed),
    "clusters": lambda seed: DisjointClusters(clusters=LABELS, batch_size=8, seed=seed),
    "labels": lambda seed: BalancedLabels(
        labels=LABELS, rows=np.arange(80), per_class=3, seed=seed
    ),
    "stream": lambda seed: DomainStream(domains=DOMAINS, steps=(10, 10), batch_size=8, seed=seed),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_rows_depend_on_the_step_and_the_seed_alone(name: str) -> None:
    one, other = SAMPLERS[name](3), SAMPLERS[name](3)
    other(0)
    assert torch.equal(one(17), other(17))
    assert one(17).dtype == torch.int64
    assert not torch.equal(one(17), one(18))
    assert not torch.equal(one(17), SAMPLERS[name](4)(17))


def test_a_later_start_meets_the_rows_of_an_unbroken_run() -> None:
    unbroken = [Sampler(items=50, batch_size=7, seed=3)(step).tolist() for step in range(20)]
    resumed = [Sampler(items=50, batch_size=7, seed=3)(step).tolist() for step in range(11, 20)]
    assert resumed == unbroken[11:]


def most_in_a_batch(sizes: list[int], batch_size: int) -> int:
    """Fill a batch by hand: one of every cluster, then a second of those that have it, and on."""
    most = 0
    while batch_size > 0:
        batch_size -= sum(size > most for size in sizes)
        most += 1
    return most


@given(drawn=clusters, seed=seeds, data=st.data())
def test_a_batch_has_as_few_of_a_cluster_as_can_be(
    drawn: list[int], seed: int, data: st.DataObject
) -> None:
    batch_size = data.draw(st.integers(1, len(drawn)))
    sampler = DisjointClusters(clusters=array(drawn), batch_size=batch_size, seed=seed)
    sizes = list(Counter(drawn).values())
    least = most_in_a_batch(sizes, batch_size)
    assert sampler.most == least
    assert (least == 1) == (len(sizes) >= batch_size)
    for epoch in range(2):
        steps = range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch)
        batches = [sampler(step).tolist() for step in steps]
        assert all(len(batch) == batch_size for batch in batches)
        assert max(Counter(row for batch in batches for row in batch).values()) == 1
        assert max(max(Counter(drawn[row] for row in batch).values()) for batch in batches) <= least


@given(drawn=clusters, data=st.data())
def test_an_epoch_has_as_many_batches_as_can_be(drawn: list[int], data: st.DataObject) -> None:
    batch_size = data.draw(st.integers(1, len(drawn)))
    sampler = DisjointClusters(clusters=array(drawn), batch_size=batch_size, seed=0)
    sizes = Counter(drawn).values()
    possible = [
        batches
        for batches in range(1, len(drawn) // batch_size + 1)
        if sum(min(size, sampler.most * batches) for size in sizes) >= batches * batch_size
    ]
    assert sampler.steps_per_epoch == max(possible)


def test_even_clusters_are_served_whole() -> None:
    drawn = array(list(range(16)) * 10)
    sampler = DisjointClusters(clusters=drawn, batch_size=8, seed=0)
    assert sampler.steps_per_epoch == 20
    rows = torch.cat([sampler(step) for step in range(20)])
    assert sorted(rows.tolist()) == list(range(160))


def test_every_item_of_a_large_cluster_has_its_turn() -> None:
    sampler = DisjointClusters(clusters=array([0] * 30 + [1] * 10), batch_size=2, seed=0)
    assert sampler.steps_per_epoch == 10
    served = Counter(torch.cat([sampler(step) for step in range(600)]).tolist())
    assert all(served[row] == 60 for row in range(30, 40))
    assert all(5 < served[row] < 40 for row in range(30))  # 20 on average


def test_clusters_keep_false_negatives_out_of_a_batch() -> None:
    """Pairs of one of ten classes, when each class is split into four clusters."""
    classes = np.repeat(np.arange(10), 40)
    clusters = classes * 4 + np.tile(np.arange(4), 100)
    pairs = []
    for sampler in (
        DisjointClusters(clusters=clusters, batch_size=20, seed=0),
        Sampler(items=400, batch_size=20, seed=0),
    ):
        batches = [classes[sampler(step)] for step in range(40)]
        pairs.append(sum(int((b[:, None] == b).sum()) - len(b) for b in batches))
    assert pairs[0] < pairs[1]


@pytest.mark.parametrize("batch_size", [0, 5])
def test_clusters_too_few_for_a_batch_are_refused(batch_size: int) -> None:
    with pytest.raises(InvalidInput, match=f"shape \\(4,\\) and batch_size {batch_size}"):
        DisjointClusters(clusters=array([1, 2, 3, 4]), batch_size=batch_size, seed=0)


@given(drawn=clusters, share=st.floats(0.01, 1), seed=seeds)
def test_a_label_list_is_balanced_and_has_every_class(
    drawn: list[int], share: float, seed: int
) -> None:
    rows = label_lists(array(drawn), share, seed).rows
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert len(rows) == max(len(set(drawn)), round(share * len(drawn)))
    listed, there = Counter(array(drawn)[rows].tolist()), Counter(drawn)
    most = max(listed.values())
    assert all(listed[label] >= min(there[label], most - 1, 1) for label in there)
    assert all(
        listed[label] in {most, most - 1} or listed[label] == there[label] for label in there
    )


@given(drawn=clusters, ends=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), seed=seeds)
def test_a_smaller_share_is_part_of_a_larger_one(
    drawn: list[int], ends: tuple[float, float], seed: int
) -> None:
    few, many = (label_lists(array(drawn), share, seed).rows for share in sorted(ends))
    assert set(few.tolist()) <= set(many.tolist())


def test_label_lists_are_known_by_their_hash() -> None:
    one, again, other = (label_lists(LABELS, 0.2, seed) for seed in (0, 0, 1))
    assert one.sha256 == again.sha256 != other.sha256
    # printf '\0\0\0\0\0\0\0\0' | sha256sum
    assert label_lists(array([5]), 1.0, 0).sha256 == (
        "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc"
    )


def test_a_label_list_stays_what_it_was() -> None:
    """Accuracies at 1 % of the labels can only be compared while NumPy keeps its random numbers."""
    rows = label_lists(array(list(range(10)) * 20), 0.05, 0).rows
    assert rows.tolist() == [14, 38, 47, 70, 75, 79, 103, 121, 136, 162]


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_of_labels_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InvalidInput, match=rf"share in \(0, 1\]; got .* and share {share}"):
        label_lists(LABELS, share, 0)


@given(drawn=clusters, per_class=st.integers(1, 6), seed=seeds, data=st.data())
def test_a_balanced_batch_has_n_of_every_listed_class_in_turn(
    drawn: list[int], per_class: int, seed: int, data: st.DataObject
) -> None:
    listed = data.draw(st.sets(st.integers(0, len(drawn) - 1), min_size=1))
    labels, rows = array(drawn), array(sorted(listed))
    sampler = BalancedLabels(labels=labels, rows=rows, per_class=per_class, seed=seed)
    classes = sorted({drawn[row] for row in listed})
    batches = [sampler(step).tolist() for step in range(8)]
    for batch in batches:
        assert set(batch) <= listed
        assert [drawn[row] for row in batch] == [name for name in classes for _ in range(per_class)]
    served = Counter(row for batch in batches for row in batch)
    for name in classes:
        often = [served[row] for row in rows[labels[rows] == name].tolist()]
        assert max(often) - min(often) <= 1


def test_balanced_batches_refuse_what_they_cannot_do() -> None:
    with pytest.raises(InvalidInput, match="got 0 and 80 rows"):
        BalancedLabels(labels=LABELS, rows=np.arange(80), per_class=0, seed=0)
    with pytest.raises(InvalidInput, match="got 2 and 0 rows"):
        BalancedLabels(labels=LABELS, rows=array([]), per_class=2, seed=0)


@given(
    sizes=st.lists(st.integers(4, 12), min_size=1, max_size=4),
    batch_size=st.integers(1, 4),
    seed=seeds,
    data=st.data(),
)
def test_a_stream_keeps_to_a_domain_for_its_steps(
    sizes: list[int], batch_size: int, seed: int, data: st.DataObject
) -> None:
    steps = data.draw(st.lists(st.integers(1, 6), min_size=len(sizes), max_size=len(sizes)))
    ends = np.cumsum(sizes)[:-1]
    domains = tuple(torch.from_numpy(part) for part in np.split(np.arange(sum(sizes)), ends))
    stream = DomainStream(domains=domains, steps=tuple(steps), batch_size=batch_size, seed=seed)
    expected = [domain for domain, count in enumerate(steps) for _ in range(count)]
    expected += [len(sizes) - 1] * 3
    first = 0
    for step, domain in enumerate(expected):
        rows = stream(step)
        assert stream.domain(step) == domain
        assert len(set(rows.tolist())) == batch_size
        assert torch.isin(rows, domains[domain]).all()
        first = step if step and expected[step - 1] != domain else first
        epoch = sizes[domain] // batch_size
        if step - first + 1 == epoch:  # the domain's first epoch is just over
            served = torch.cat([stream(earlier) for earlier in range(first, step + 1)]).tolist()
            assert len(set(served)) == len(served)


def test_streams_refuse_what_they_cannot_do() -> None:
    with pytest.raises(InvalidInput, match=r"got \(5,\) for 2 domains"):
        DomainStream(domains=DOMAINS, steps=(5,), batch_size=4, seed=0)
    with pytest.raises(InvalidInput, match=r"got \(5, 0\) for 2 domains"):
        DomainStream(domains=DOMAINS, steps=(5, 0), batch_size=4, seed=0)
    with pytest.raises(InvalidInput, match=r"\[1, 30\], the smallest domain's items; got 31"):
        DomainStream(domains=DOMAINS, steps=(5, 5), batch_size=31, seed=0)
