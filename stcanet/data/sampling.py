"""P×K sampling: batches in which every anchor has positives and negatives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from stcanet_runtime.errors import DataError, OptionError


class PKSampler:
    """Batches of P distinct identities with K images each.

    Every epoch each identity's images are shuffled and cut into groups of K; a remainder of fewer than K is left out
    (other images are left out next time), and an identity with fewer than K images gets one group, drawn with
    replacement. Batches take one group from each of P distinct identities, those with most groups left being the
    likeliest, until fewer than P identities have any: the epoch ends there, with groups left out. The reference goes through
    all groups in any order, and so may repeat an identity within a batch. Here none is: repeated, it would leave the others
    fewer negatives, and a batch of one identity no negative at all; and processes share a batch by identities.

    The batches of an epoch depend on (seed, epoch) and on nothing else.
    """

    def __init__(self, pids: Sequence[int], identities: int, instances: int, seed: int) -> None:
        for name, value in (("identities", identities), ("instances", instances)):
            if value < 2:
                raise OptionError(f"{name} per batch", value, "at least 2, so that a triplet has a positive and a negative")
        self._indices: dict[int, list[int]] = defaultdict(list)
        for index, pid in enumerate(pids):
            self._indices[pid].append(index)
        if len(self._indices) < identities:
            count = len(self._indices)
            remedy = f"set fewer with --set identities={count}" if count > 1 else "it takes two at least"
            raise DataError(f"a batch takes {identities} identities, but there are only {count} to train on; {remedy}")
        self._identities, self._instances, self._seed = identities, instances, seed

    def batches(self, epoch: int) -> Iterator[list[int]]:
        """The index lists ``[P·K]`` of one epoch, identity by identity."""
        rng = np.random.default_rng((self._seed, epoch))
        groups = {pid: self._cut(indices, rng) for pid, indices in sorted(self._indices.items())}
        left = {pid: len(cut) for pid, cut in groups.items()}
        while len(left) >= self._identities:
            candidates = list(left)
            weights = np.array([left[pid] for pid in candidates], dtype=np.float64)
            chosen = rng.choice(len(candidates), self._identities, replace=False, p=weights / weights.sum())
            batch: list[int] = []
            for pid in (candidates[position] for position in chosen):
                batch += groups[pid].pop()
                left[pid] -= 1
                if not left[pid]:
                    del left[pid]
            yield batch

    def share(self) -> float:
        """The part of all groups that an epoch takes, from 0 to 1; of the first one, and the others are much like it."""
        count = sum(max(1, len(indices) // self._instances) for indices in self._indices.values())
        return sum(self._identities for _ in self.batches(1)) / count

    def _cut(self, indices: list[int], rng: np.random.Generator) -> list[list[int]]:
        size = self._instances
        if len(indices) < size:
            return [rng.choice(indices, size, replace=True).tolist()]
        shuffled = rng.permutation(indices).tolist()
        return [shuffled[start : start + size] for start in range(0, len(shuffled) - size + 1, size)]
