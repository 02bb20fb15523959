"""P×K batches."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from stcanet.data.sampling import PKSampler
from stcanet_runtime.errors import DataError, OptionError

PIDS = [pid for pid in range(9) for _ in range(3 + pid)]  # identity 0 has 3 images, fewer than K = 4


def batches(seed: int = 0, epoch: int = 1) -> list[list[int]]:
    return list(PKSampler(PIDS, 4, 4, seed).batches(epoch))


def test_every_batch_has_p_distinct_identities_with_k_images() -> None:
    for batch in batches():
        assert sorted(Counter(PIDS[index] for index in batch).values()) == [4] * 4


def test_no_image_twice_unless_an_identity_has_too_few() -> None:
    seen = Counter(index for batch in batches() for index in batch)
    assert all(PIDS[index] == 0 for index, times in seen.items() if times > 1)


def test_seed_and_epoch_decide_everything() -> None:
    sampler = PKSampler(PIDS, 4, 4, 5)
    assert list(sampler.batches(2)) == list(sampler.batches(2)) == batches(5, 2)
    assert batches(5, 1) != batches(5, 2) != batches(6, 2)


def test_most_groups_are_used() -> None:
    pids = np.repeat(np.arange(40), 12).tolist()
    used = sum(len(batch) for batch in PKSampler(pids, 8, 4, 0).batches(1))
    assert used >= 0.9 * len(pids)
    # Those with most groups left are the likeliest: drawn evenly, the four with many would be left over, 0.64 used.
    pids = np.repeat(np.arange(64), [40] * 4 + [4] * 60).tolist()
    assert sum(len(batch) for batch in PKSampler(pids, 8, 4, 0).batches(1)) >= 0.8 * len(pids)


def test_the_share_of_an_epoch_is_known() -> None:
    even = PKSampler(np.repeat(np.arange(8), 12).tolist(), 8, 4, 0)
    assert even.share() == 1.0
    few_with_many = PKSampler([*np.repeat(np.arange(7), 400), *np.repeat(np.arange(7, 9), 4)], 8, 4, 0)
    assert few_with_many.share() == sum(map(len, few_with_many.batches(1))) / (7 * 400 + 2 * 4) < 0.03


def test_all_images_are_seen_over_some_epochs() -> None:
    sampler = PKSampler(PIDS, 4, 4, 0)
    assert {index for epoch in range(40) for batch in sampler.batches(epoch) for index in batch} == set(range(len(PIDS)))


def test_too_few_identities() -> None:
    with pytest.raises(
        DataError, match="a batch takes 16 identities, but there are only 9 to train on; set fewer with --set identities=9"
    ):
        PKSampler(PIDS, 16, 4, 0)


@pytest.mark.parametrize(("identities", "instances"), [(1, 4), (4, 1)])
def test_a_batch_needs_positives_and_negatives(identities: int, instances: int) -> None:
    with pytest.raises(OptionError, match="at least 2"):
        PKSampler(PIDS, identities, instances, 0)
    assert [len(batch) for batch in PKSampler([0, 0, 1, 1], 2, 2, 0).batches(1)] == [4]
