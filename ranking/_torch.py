r"""The bilinear path model as PyTorch layers and losses; scores come from any backbone, paths from ``rank_tsp_batch``.

With scores A (m, m) of the nodes of a group (items and depot), target arcs Y and shares c_g that sum to 1,

    local    sum_g c_g/m_g sum_i w_i (|Y_i| logsumexp_j A_ij - <Y_i, A_i>)  [+ the same for columns]
    global   sum_g c_g/m_g (max_P <Delta_g + A_g, P> - <Y_g, A_g>)

The local loss is differentiated by PyTorch. The global one is a function of its own: its value and its subgradient
c/m (P - Y) come from exact paths, found on the host in double precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ranking._groups import MARGINS, WEIGHTS, Target, target_of
from ranking._learning import hinge
from ranking._rank_tsp_batch import rank_tsp_batch
from solvers._core.arrays import IntArray
from solvers._core.errors import InvalidProblemError
from solvers._core.optional import require
from solvers._core.options import check_choice, check_integer
from solvers._core.random import RNG, generator

require("torch", why="ranking.torch", extra="torch")

import torch  # noqa: E402 - after the message above

__all__ = ["BilinearTSPLayer", "decode", "global_loss", "local_loss"]


class BilinearTSPLayer(torch.nn.Module):  # type: ignore[misc]
    r"""Scores :math:`A_{ij} = e_i^T W e_j` of ordered pairs from embeddings of the rows of a group.

    Parameters
    ----------
    features : int
        Length d of an embedding.
    depot : bool
        Append a depot, a node that precedes the first and follows the last item, with an embedding of its own. It is
        the last node of the output.
    two_matrices : bool
        The form of the original model: one matrix for pairs in the order in which rows are presented, one for the
        others. Off by default, so that permuting rows permutes scores.
    device, dtype
        Of the weight, as for any module.

    Attributes
    ----------
    weight : (m, m) or (2, m, m) Parameter, m = d + 1 with the depot
        W, initialised uniformly (Glorot).

    Examples
    --------
    >>> import torch
    >>> from solvers.ranking.torch import BilinearTSPLayer, decode, local_loss
    >>> layer = BilinearTSPLayer(8)
    >>> scores = layer(torch.randn(4, 10, 8))
    >>> scores.shape
    torch.Size([4, 11, 11])
    >>> loss = local_loss(scores, torch.arange(10.0).expand(4, 10))
    >>> loss.backward()
    >>> len(decode(scores))
    4
    """

    def __init__(
        self, features: int, *, depot: bool = True, two_matrices: bool = False, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.features = check_integer("features", features, low=1)
        self.depot, self.two_matrices = bool(depot), bool(two_matrices)
        size = self.features + self.depot
        shape = (2, size, size) if self.two_matrices else (size, size)
        self.weight = torch.nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W anew."""
        for matrix in self.weight if self.two_matrices else (self.weight,):
            torch.nn.init.xavier_uniform_(matrix)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Scores (..., m, m) of embeddings (..., n, d); m = n + 1 with the depot."""
        if embeddings.ndim < 2 or embeddings.shape[-1] != self.features:
            raise InvalidProblemError(
                f"embeddings must be of shape (..., n, {self.features}); got {tuple(embeddings.shape)}"
            )
        e = embeddings
        if self.depot:
            e = torch.nn.functional.pad(e, (0, 1, 0, 1))
            unit = torch.zeros_like(e[..., -1:, :])
            unit[..., -1] = 1.0
            e = torch.cat([e[..., :-1, :], unit], dim=-2)
        right = e.transpose(-1, -2)
        if not self.two_matrices:
            return e @ self.weight @ right
        return torch.triu(e @ self.weight[0] @ right, 1) + torch.tril(e @ self.weight[1] @ right)

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"features={self.features}, depot={self.depot}, two_matrices={self.two_matrices}"


def local_loss(
    scores: torch.Tensor,
    relevance: Any,
    lengths: Any = None,
    *,
    depot: bool = True,
    weights: str = "uniform",
    both_directions: bool = True,
    group_weight: Any = None,
) -> torch.Tensor:
    """Cross-entropy of the true successors (and predecessors), averaged over the groups.

    Parameters
    ----------
    scores : (B, m, m) tensor
        As :class:`BilinearTSPLayer` gives them: m = n + 1 with the depot last, m = n without.
    relevance : (B, n) array_like or tensor
        Higher is better; rows of equal relevance share their arcs.
    lengths : (B,) array_like of int, optional
        Group sizes; rows from there on are padding (the depot stays the last node).
    depot : bool
        Whether the last node is a depot.
    weights : {"uniform", "successor_rank", "top", "dcg"}
        As in :class:`solvers.ranking.TSPRanker`.
    both_directions : bool
        Whether predecessors count as well as successors.
    group_weight : (B,) array_like, optional
        Weights of the groups in the mean.

    Returns
    -------
    scalar tensor
        Differentiable in ``scores``.
    """
    check_choice("weights", weights, WEIGHTS)
    nodes, targets, shares = _targets(scores, relevance, lengths, depot, group_weight, weights=weights)
    m = scores.shape[-1]
    pull = np.zeros((len(nodes), m, m))
    allowed = np.zeros((len(nodes), m, m), dtype=bool)
    for g, (of_group, target) in enumerate(zip(nodes, targets, strict=True)):
        if len(of_group) > 1:
            at = np.ix_(of_group, of_group)
            pull[g][at] = float(shares[g]) / len(of_group) * target.row_weight[:, None] * target.arcs
            allowed[g][at] = ~np.eye(len(of_group), dtype=bool)
    total = scores.new_zeros(())
    wanted, possible = _like(pull, scores), torch.as_tensor(allowed, device=scores.device)
    for axis in (2, 1) if both_directions else (2,):
        real = possible.any(dim=axis)
        # Rows of padding, which count for nothing, would be the logarithm of 0.
        nothing = torch.zeros_like(scores).masked_fill(real.unsqueeze(axis), -torch.inf)
        total = total + torch.sum(
            wanted.sum(dim=axis) * torch.logsumexp(torch.where(possible, scores, nothing), dim=axis)
        )
    safe = torch.where(possible, scores, 0.0)
    return total - (2.0 if both_directions else 1.0) * torch.sum(wanted * safe)


def global_loss(
    scores: torch.Tensor,
    relevance: Any,
    lengths: Any = None,
    *,
    depot: bool = True,
    margin: str = "edge",
    group_weight: Any = None,
    rng: RNG = None,
) -> torch.Tensor:
    """Structured hinge: how far the worst path, with its charge, scores above the true one; averaged over the groups.

    Parameters
    ----------
    scores, relevance, lengths, depot, group_weight
        As for :func:`local_loss`.
    margin : {"edge", "rank"}
        Charge of a wrong arc: 1, or the distance of its ends from being neighbours in true rank.
    rng : int, Generator, SeedSequence or None
        Chooses between equally bad paths.

    Returns
    -------
    scalar tensor
        Its gradient in ``scores`` is a subgradient: worst path less target arcs. Double backward is not defined.
    """
    check_choice("margin", margin, MARGINS)
    nodes, targets, shares = _targets(scores, relevance, lengths, depot, group_weight, margin=margin)
    value: torch.Tensor = _PathHinge.apply(scores, nodes, targets, shares, generator(rng))
    return value


def decode(scores: torch.Tensor, lengths: Any = None, *, depot: bool = True, rng: RNG = None) -> list[IntArray]:
    """Items of each group, best first, by the best path of its scores (B, m, m)."""
    nodes = _nodes(scores, lengths, depot)
    batch = rank_tsp_batch(_groups(scores, nodes), closed=depot, rng=rng)
    orders = []
    for g, of_group in enumerate(nodes):
        order = batch.order[g, : len(of_group)]
        if depot:
            # A cycle is read from behind the depot.
            at = int(np.flatnonzero(order == len(of_group) - 1)[0])
            order = np.concatenate([order[at + 1 :], order[:at]])
        orders.append(order)
    return orders


class _PathHinge(torch.autograd.Function):  # type: ignore[misc]
    """The global loss as a function of the scores."""

    @staticmethod
    def forward(ctx: Any, scores: Any, nodes: Any, targets: Any, shares: Any, rng: Any) -> Any:
        value, _, derivatives = hinge(_groups(scores, nodes), targets, shares, rng)
        whole = np.zeros(tuple(scores.shape))
        for g, of_group in enumerate(nodes):
            whole[g][np.ix_(of_group, of_group)] = derivatives[g]
        ctx.save_for_backward(_like(whole, scores))
        return scores.new_tensor(value)

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Any) -> Any:
        (derivative,) = ctx.saved_tensors
        return upstream * derivative, None, None, None, None


def _targets(
    scores: torch.Tensor, relevance: Any, lengths: Any, depot: bool, group_weight: Any, **how: Any
) -> tuple[list[IntArray], list[Target], Any]:
    """Nodes of each group among the rows of its score matrix, its target and its share in the mean."""
    nodes = _nodes(scores, lengths, depot)
    if isinstance(relevance, torch.Tensor):
        relevance = relevance.detach().cpu().numpy()
    y = np.asarray(relevance, dtype=np.float64)
    expected = (len(nodes), scores.shape[-1] - depot)
    if y.shape != expected:
        raise InvalidProblemError(f"relevance must be of shape {expected} to go with the scores; got {y.shape}")
    targets = []
    for g, of_group in enumerate(nodes):
        own = y[g, : len(of_group) - depot]
        if not np.isfinite(own).all():
            raise InvalidProblemError(f"relevance must be finite; group {g} has NaN or infinite entries")
        targets.append(target_of(own, depot=depot, **how))
    if isinstance(group_weight, torch.Tensor):
        group_weight = group_weight.detach().cpu().numpy()
    shares = np.ones(len(nodes)) if group_weight is None else np.asarray(group_weight, dtype=np.float64)
    if shares.shape != (len(nodes),) or not np.isfinite(shares).all() or shares.min() < 0 or shares.max() == 0:
        raise InvalidProblemError(
            f"group_weight must be {len(nodes)} non-negative numbers, not all zero; got shape {shares.shape}"
        )
    return nodes, targets, shares / shares.sum()


def _nodes(scores: torch.Tensor, lengths: Any, depot: bool) -> list[IntArray]:
    """Rows of the score matrix that are nodes of each group, the depot last."""
    if not isinstance(scores, torch.Tensor) or scores.ndim != 3 or scores.shape[1] != scores.shape[2]:
        got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise InvalidProblemError(f"scores must be a (B, m, m) tensor; got {got}")
    count, n = int(scores.shape[0]), int(scores.shape[2]) - depot
    if count < 1 or n < 1:
        raise InvalidProblemError(f"scores must hold at least one group of one item; got shape {tuple(scores.shape)}")
    if isinstance(lengths, torch.Tensor):
        lengths = lengths.detach().cpu().numpy()
    sizes = np.full(count, n) if lengths is None else np.asarray(lengths)
    if sizes.shape != (count,) or sizes.dtype.kind not in "iu" or sizes.min() < 1 or sizes.max() > n:
        raise InvalidProblemError(f"lengths must be {count} integers from 1 to {n}; got {lengths!r}")
    return [np.append(np.arange(size), n) if depot else np.arange(size) for size in sizes.tolist()]


def _groups(scores: torch.Tensor, nodes: list[IntArray]) -> list[Any]:
    """Score matrices on the host, in double precision."""
    host = scores.detach().to(device="cpu", dtype=torch.float64).numpy()
    return [host[g][np.ix_(of_group, of_group)] for g, of_group in enumerate(nodes)]


def _like(array: Any, tensor: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(array, dtype=tensor.dtype, device=tensor.device)


for _public in (BilinearTSPLayer, local_loss, global_loss, decode):
    _public.__module__ = "ranking.torch"
