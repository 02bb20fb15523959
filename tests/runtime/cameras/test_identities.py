"""Who is near: found by one product over the means, as if everybody had been looked at."""

from __future__ import annotations

import numpy as np

from stcanet_runtime.cameras.identities import Identities, Identity, Track


def somebody(rng: np.random.Generator, dim: int, tracks: int) -> Identity:
    one = Identity()
    for number in range(tracks):
        x = rng.standard_normal(dim).astype(np.float32)
        track = Track(str(rng.choice(["door", "yard", "hall"])), str(number), 0.0, 1.0)
        one = one.including(track.key, (track, x / np.linalg.norm(x), float(rng.integers(1, 90))))
    return one


def mean_distance(one: Identity, other: Identity, margin: float) -> float:
    """Pair by pair."""
    pairs = [(a, b) for a in one.known.values() for b in other.known.values()]
    distances = [1 - float(x.astype(float) @ y) + margin * (a.camera == b.camera) for (a, x, _), (b, y, _) in pairs]
    return float(np.average(distances, weights=[v * w for (_, _, v), (_, _, w) in pairs]))


def test_who_is_near_while_people_come_change_and_go() -> None:
    rng = np.random.default_rng()
    people, plain = Identities(), dict[int, Identity]()
    for dim in (3, 200):
        for step in range(200):
            identity = int(rng.integers(1, 30))
            if rng.random() < 0.4 and identity in plain:
                del people[identity], plain[identity]
            else:
                # A copy of somebody, now and then: two that are as near, the older of which is first.
                one = people[next(iter(plain))] if plain and rng.random() < 0.2 else somebody(rng, dim, 1 + step % 3)
                people[identity] = plain[identity] = one
            asked, margin = somebody(rng, dim, 2), float(rng.choice([0.0, 0.3]))
            for one in plain.values():
                assert np.isclose(asked.distance(one, margin), mean_distance(asked, one, margin), rtol=0, atol=1e-6)
            by_distance = sorted((asked.distance(one, margin), i) for i, one in plain.items())
            for limit in (0.5, *(distance for distance, _ in by_distance[:3])):  # the distance of somebody is within
                assert people.near(asked, limit, margin) == [i for distance, i in by_distance if distance <= limit]
            assert people.dim == (dim if plain else None)
            assert not people._means[len(plain) :].any()  # nothing stays of those who are gone
        for identity in list(plain):
            del people[identity], plain[identity]


def test_added_up_as_if_anew() -> None:
    rng = np.random.default_rng()
    one = somebody(rng, 64, 20)
    gone = [list(one.known)[number] for number in rng.permutation(20)[:9]]
    rest = one.without(gone)
    for key in gone:
        assert not Identity({key: one.known[key]}).without([key])
    assert rest.weight == sum(weight for key, (_, _, weight) in one.known.items() if key not in gone)
    expected = np.average([x for _, x, _ in rest.known.values()], axis=0, weights=[w for _, _, w in rest.known.values()])
    np.testing.assert_allclose(rest.mean, expected, rtol=1e-6, atol=1e-7)
