"""The PyTorch layer and losses: the NumPy losses, gradients by differences, padding, and absence of PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ranking import TSPRanker
from ranking._bilinear import pull_back, score_matrices
from ranking._groups import target_of
from ranking._learning import Group, buckets_of, hinge
from ranking._learning import local_loss as numpy_local_loss
from solvers import InvalidProblemError

ROOT = Path(__file__).resolve().parents[2]
HIDE = """
import sys
from importlib.machinery import PathFinder

class WithoutTorch:
    find_spec = staticmethod(lambda name, *rest: None if name == "torch" else PathFinder.find_spec(name, *rest))

sys.meta_path[:] = [WithoutTorch if finder is PathFinder else finder for finder in sys.meta_path]
"""


def without_torch(code):
    """Run code in a fresh interpreter in which PyTorch cannot be found."""
    return subprocess.run([sys.executable, "-c", HIDE + code], capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_family_needs_no_torch_and_its_module_names_the_extra():
    run = without_torch("import solvers; solvers.ranking.TSPRanker; solvers.rank_tsp([[0, 1], [2, 0]])")
    assert run.returncode == 0, run.stderr
    run = without_torch("import solvers.ranking.torch")
    assert run.returncode != 0
    assert "certified-solvers[torch]" in run.stderr
    assert "MissingDependencyError" in run.stderr


def test_importing_the_family_does_not_import_torch():
    code = "import sys, solvers; solvers.ranking.TSPRanker; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.strip() == "False"


class TestWithTorch:
    """Everything that computes."""

    @pytest.fixture(autouse=True)
    def needs_torch(self):
        self.torch = pytest.importorskip("torch")
        import ranking.torch as module

        self.module = module

    def problem(self, depot, two=False, seed=0):
        """Embeddings of three groups of five, a layer in double precision, relevance with ties."""
        rng = np.random.default_rng(seed)
        layer = self.module.BilinearTSPLayer(3, depot=depot, two_matrices=two, dtype=self.torch.float64)
        e = rng.standard_normal((3, 5, 3))
        y = rng.integers(0, 4, (3, 5)).astype(float)
        return layer, e, y

    def groups(self, e, y, shares, depot, **how):
        out = []
        for own, labels, share in zip(e, y, shares, strict=True):
            rows = own
            if depot:
                rows = np.zeros((len(own) + 1, own.shape[1] + 1))
                rows[:-1, :-1], rows[-1, -1] = own, 1.0
            out.append(Group(rows, target_of(labels, depot=depot, **how), share))
        return out

    @pytest.mark.parametrize("two", [False, True])
    @pytest.mark.parametrize("both", [False, True])
    @pytest.mark.parametrize("depot", [False, True])
    def test_local_loss_and_its_gradient_are_those_of_the_estimator(self, depot, both, two):
        layer, e, y = self.problem(depot, two)
        shares = np.array([0.2, 0.3, 0.5])
        loss = self.module.local_loss(
            layer(self.torch.as_tensor(e)), y, depot=depot, weights="dcg", both_directions=both, group_weight=shares
        )
        loss.backward()
        groups = self.groups(e, y, shares, depot, weights="dcg")
        value, gradient = numpy_local_loss(layer.weight.detach().numpy(), buckets_of(groups), 0.0, both=both)
        assert loss.item() == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(layer.weight.grad.numpy(), gradient, rtol=1e-10, atol=1e-13)

    @pytest.mark.parametrize("margin", ["edge", "rank"])
    @pytest.mark.parametrize("depot", [False, True])
    def test_global_loss_and_its_gradient_are_those_of_the_estimator(self, depot, margin):
        layer, e, y = self.problem(depot)
        scores = layer(self.torch.as_tensor(e))
        loss = self.module.global_loss(scores, y, depot=depot, margin=margin, rng=0)
        loss.backward()
        groups = self.groups(e, y, np.full(3, 1 / 3), depot, margin=margin)
        weight = layer.weight.detach().numpy()
        value, _, derivatives = hinge(
            [score_matrices(g.embedding, weight) for g in groups],
            [g.target for g in groups],
            np.array([g.share for g in groups]),
            np.random.default_rng(0),
        )
        gradient = sum(pull_back(g.embedding, d, False) for g, d in zip(groups, derivatives, strict=True))
        assert loss.item() == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(layer.weight.grad.numpy(), gradient, rtol=1e-10, atol=1e-13)

    def test_gradients_agree_with_differences(self):
        layer, e, y = self.problem(True)
        scores = layer(self.torch.as_tensor(e)).detach().requires_grad_()
        check = self.torch.autograd.gradcheck
        assert check(lambda a: self.module.local_loss(a, y), scores)
        assert check(lambda a: self.module.global_loss(a, y, rng=0), scores)

    def test_padding_is_never_read(self):
        layer, e, y = self.problem(True)
        lengths = [5, 2, 1]
        scores = layer(self.torch.as_tensor(e)).detach()
        other = scores.clone()
        for g, n in enumerate(lengths):
            other[g, n:5] = other[g, :, n:5] = np.nan
        other = other.requires_grad_()
        for loss in (self.module.local_loss, self.module.global_loss):
            value = loss(other, y, lengths)
            assert value.item() == pytest.approx(loss(scores, y, lengths).item())
            (gradient,) = self.torch.autograd.grad(value, other)
            assert self.torch.isfinite(gradient).all()
        assert [len(order) for order in self.module.decode(other, lengths)] == lengths

    def test_a_backbone_learns_an_order_through_both_losses(self):
        torch = self.torch
        torch.manual_seed(0)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((40, 6, 4))
        y = x @ np.array([1.0, -2.0, 0.5, 1.0])
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), self.module.BilinearTSPLayer(8))
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        inputs = torch.as_tensor(x, dtype=torch.float32)
        losses = []
        for step in range(60):
            loss_of = self.module.local_loss if step % 4 else self.module.global_loss
            loss = loss_of(model(inputs), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(self.module.local_loss(model(inputs), y).item())
        assert losses[-1] < 0.5 * losses[0]
        orders = self.module.decode(model(inputs), rng=0)
        agreement = [np.mean(np.diff(labels[order]) < 0) for order, labels in zip(orders, y, strict=True)]
        assert np.mean(agreement) > 0.8

    def test_the_layer_holds_an_estimators_matrix(self):
        rng = np.random.default_rng(0)
        X = rng.standard_normal((40, 3))
        qid = np.repeat(np.arange(8), 5)
        model = TSPRanker(embedding="none", random_state=0).fit(X, X[:, 0], qid=qid)
        layer = self.module.BilinearTSPLayer(3, dtype=self.torch.float64)
        with self.torch.no_grad():
            layer.weight.copy_(self.torch.as_tensor(model.matrix_))
        scores = layer(self.torch.as_tensor(X.reshape(8, 5, 3))).detach().numpy()
        np.testing.assert_allclose(scores, model.decision_matrix(X, qid=qid), atol=1e-12)

    def test_wrong_input_is_named(self):
        layer, e, y = self.problem(True)
        scores = layer(self.torch.as_tensor(e))
        for call, words in (
            (lambda: layer(self.torch.zeros(3, 5, 2)), r"\(\.\.\., n, 3\)"),
            (lambda: self.module.local_loss(scores, y[:, :4]), "relevance must be of shape"),
            (lambda: self.module.local_loss(scores, np.full((3, 5), np.nan)), "finite"),
            (lambda: self.module.global_loss(scores, y, [5, 6, 1]), "lengths must be 3 integers from 1 to 5"),
            (lambda: self.module.global_loss(scores, y, group_weight=[0, 0, 0]), "group_weight"),
            (lambda: self.module.decode(scores.detach().numpy()), "tensor"),
        ):
            with pytest.raises(InvalidProblemError, match=words):
                call()
        with pytest.raises(ValueError, match="margin"):
            self.module.global_loss(scores, y, margin="edges")
