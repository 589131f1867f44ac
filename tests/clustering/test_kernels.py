"""The compiled kernels agree with the array code, which is their oracle."""

from __future__ import annotations

import numpy as np
import pytest

from clustering import _kernels_array, _kernels_numba

SHARED = ("assign", "structured_moments")


def grouped(seed: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    n, p, k = int(rng.integers(6, 60)), int(rng.integers(1, 6)), int(rng.integers(1, 6))
    labels = np.sort(rng.permutation(np.arange(n) % k))
    points = rng.normal(size=(n, p)) + labels[:, None]
    weights = rng.uniform(0.2, 2.0, size=n)
    totals = np.bincount(labels, weights)
    means = np.stack([np.average(points[labels == j], axis=0, weights=weights[labels == j]) for j in range(k)])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(labels))]).astype(np.int64)
    return points, weights, offsets, means, totals, labels


@pytest.mark.kernels
@pytest.mark.parametrize("seed", range(8))
def test_assignment_and_moments_agree(seed: int) -> None:
    points, weights, offsets, means, totals, _ = grouped(seed)
    assert np.array_equal(_kernels_numba.assign(points, means), _kernels_array.assign(points, means))
    scales = np.random.default_rng(seed).uniform(0.1, 3.0, size=(len(totals),) * 2)
    compiled = _kernels_numba.structured_moments(points, weights, offsets, means, totals, scales)
    plain = _kernels_array.structured_moments(points, weights, offsets, means, totals, scales)
    for a, b in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * max(1.0, np.abs(b).max()))


@pytest.mark.kernels
@pytest.mark.parametrize("kernels", [_kernels_array, _kernels_numba])
@pytest.mark.parametrize("seed", range(8))
def test_moves_lower_the_cost_and_end_where_no_single_move_helps(kernels: object, seed: int) -> None:
    points, weights, _, _, totals, labels = grouped(seed + 100)
    k = len(totals)
    labels = np.random.default_rng(seed).permutation(labels)

    def cost(assigned: np.ndarray) -> float:
        total = 0.0
        for j in range(k):
            x, w = points[assigned == j], weights[assigned == j]
            total += float(np.sum(w[:, None] * (x - np.average(x, axis=0, weights=w)) ** 2))
        return total

    before, moved = cost(labels), 1
    for _ in range(200):
        labels, moved = kernels.improve_labels(points, weights, labels, k)  # type: ignore[attr-defined]
        after = cost(labels)
        assert after <= before * (1 + 1e-12)
        before = after
        if moved == 0:
            break
    assert moved == 0
    for i in range(len(labels)):
        if np.count_nonzero(labels == labels[i]) == 1:
            continue
        for j in range(k):
            other = labels.copy()
            other[i] = j
            assert cost(other) >= before * (1 - 1e-9)
