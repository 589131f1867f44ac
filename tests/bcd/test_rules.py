"""Every rule and update keeps its promise: partitions partition, steps decrease the objective by what theory guarantees."""

from __future__ import annotations

import itertools
import types

import networkx
import numpy as np
import pytest
import scipy.sparse

import solvers
from solvers import bcd
from solvers.bcd._forest_kernels import greedy_forest
from solvers.bcd._paper import PaperSettings, _Chooser, plan
from solvers.bcd._partitions import fixed_blocks, forest_partition, red_black
from solvers.bcd._problem import composite
from solvers.bcd._rules import PROXIMAL_RULES, SMOOTH_RULES, Selection, scores, solve_psd, sparse_model_support
from solvers.bcd._updates import ARMIJO, Updater


def lattice_problem(side=50, labelled=100, weight=1e5):
    """The lattice quadratic of Nutini, Laradji and Schmidt, figure 6, from its legacy seed."""
    state = np.random.RandomState(1)
    n = side * side
    nodes = np.arange(n).reshape(side, side)
    edges = np.concatenate(
        [
            np.stack([nodes[:, :-1].ravel(), nodes[:, 1:].ravel()], axis=1),
            np.stack([nodes[:-1].ravel(), nodes[1:].ravel()], axis=1),
        ]
    )
    known = state.choice(n, labelled, replace=False)
    values = state.randn(labelled) * 10
    ones = np.full(len(edges), weight)
    W = scipy.sparse.coo_array((ones, (edges[:, 0], edges[:, 1])), shape=(n, n)).tocsr()
    W = W + W.T
    L = scipy.sparse.csr_array(scipy.sparse.diags_array(W.sum(axis=1)) - W)
    unknown = np.setdiff1d(np.arange(n), known)
    return bcd.Quadratic(L[unknown][:, unknown], W[unknown][:, known] @ values)


def smooth_losses(rng, trial):
    n, p = int(rng.integers(3, 12)), int(rng.integers(2, 9))
    A = rng.standard_normal((n, p)) * 10.0 ** rng.uniform(-2, 2, p)
    y = np.sign(rng.standard_normal(n))
    F = rng.standard_normal((p, p + 1))
    Q = F @ F.T
    return (
        bcd.LeastSquares(A, rng.standard_normal(n)),
        bcd.Logistic(A, y),
        bcd.Huber(A, rng.standard_normal(n), 0.3),
        bcd.Softmax(A, np.r_[0, 1, rng.integers(0, 3, n - 2)]),
        bcd.Quadratic((Q + Q.T) / 2, rng.standard_normal(p)),
    )[trial % 5]


def penalties(rng, trial, size):
    return (
        bcd.L1(rng.random() + 0.01),
        bcd.ElasticNet(0.2, 0.7),
        bcd.Box(-0.2, 0.3),
        bcd.NonNegative(0.1),
        bcd.GroupL2(np.arange(size) // 2, 0.2),
    )[trial % 5]


@pytest.mark.parametrize("name", ["order", "sorted", "average"])
def test_fixed_partitions_cover_everything_once(name):
    rng = np.random.default_rng(0)
    for n, size in itertools.product((1, 7, 10, 23), (1, 3, 10)):
        L = rng.random(n)
        blocks = fixed_blocks(name, L, size, [np.array([j]) for j in range(n)])
        assert sorted(np.concatenate(blocks).tolist()) == list(range(n))
        assert all(len(b) == size for b in blocks[:-1])
    means = [
        float(np.mean(np.sort(rng.random(40))[b]))
        for b in fixed_blocks(name, np.arange(40.0), 8, [[j] for j in range(40)])
    ]
    if name == "sorted":
        assert means == sorted(means)
    if name == "average":
        assert np.ptp(means) < 0.2


def test_colours_have_no_inner_edges_and_forests_no_cycles():
    rng = np.random.default_rng(3)
    for _ in range(60):
        graph = networkx.gnp_random_graph(int(rng.integers(2, 30)), rng.random() * 0.5, seed=int(rng.integers(1 << 30)))
        A = scipy.sparse.csr_array(networkx.to_scipy_sparse_array(graph, dtype=float))
        for block in red_black(A, rng.random(len(graph))):
            assert graph.subgraph(block.tolist()).number_of_edges() == 0
        forests = forest_partition(A, rng.random(len(graph)))
        assert sorted(np.concatenate(forests).tolist()) == list(range(len(graph)))
        assert all(networkx.is_forest(graph.subgraph(block.tolist())) for block in forests)
    lattice = scipy.sparse.csr_array(networkx.to_scipy_sparse_array(networkx.grid_2d_graph(6, 7), dtype=float))
    assert len(red_black(lattice, np.ones(42))) == 2


@pytest.mark.parametrize("count", [150, pytest.param(1500, marks=pytest.mark.slow)])
def test_steps_decrease_by_the_guaranteed_amount(count):
    """Every update keeps its promise but for a share of 1e-9 and the rounding of the two objectives compared.

    No more room is needed: a step that is off by a relative 1e-9 loses less than that share of its promise.
    """
    rng = np.random.default_rng(count)
    for trial in range(count):
        loss = smooth_losses(rng, trial)
        problem = composite(loss, None)
        x = rng.standard_normal(loss.size)
        z = loss.image(x)
        g = loss.gradient(z)
        block = np.sort(rng.choice(loss.size, int(rng.integers(1, loss.size + 1)), replace=False))
        H = loss.block_bound(block)
        tau, L, gb = len(block), np.maximum(loss.lipschitz[block], 1e-300), g[block]
        largest = np.linalg.eigvalsh(H)[-1]
        promise = {
            "lipschitz": gb @ gb / (2 * max(largest, 1e-300)),
            "hessian": 0.5 * gb @ solve_psd(H, gb),
            "newton": armijo_promise(problem, x, z, block),
            # The minimum over the block is below whatever a step on the block reaches.
            "exact": 0.5 * gb @ solve_psd(H, gb),
        }
        # The chain of bounds behind gsl, gsd and gsq: each diagonal above H promises no more than H itself.
        gershgorin = np.maximum(np.sum(np.abs(H), axis=1), 1e-300)
        room = 1e-9 * promise["hessian"] + 1e-12
        assert promise["lipschitz"] <= promise["hessian"] + room
        assert 0.5 * np.sum(gb**2 / (tau * L)) <= promise["hessian"] + room
        assert 0.5 * np.sum(gb**2 / gershgorin) <= promise["hessian"] + room
        for name, least in promise.items():
            mover = Updater(problem, x.copy(), z.copy())
            mover.update(name, block, gb)
            assert decrease(problem, x, mover.x) >= least * (1 - 1e-9), name
        # The prox step's promise with the constant that the search accepted.
        mover = Updater(problem, x.copy(), z.copy())
        mover.update("line-search", block, gb)
        accepted = mover._estimates[block][0]
        assert decrease(problem, x, mover.x) >= gb @ gb / (2 * accepted) * (1 - 1e-9)


def decrease(problem, x, fresh):
    """At most this much below F(x) lies F(fresh): each of the two values is off by its own rounding error."""
    z, image = problem.loss.image(x), problem.loss.image(fresh)
    errors = problem.objective_error(x, z) + problem.objective_error(fresh, image)
    return problem.objective(x, z) - problem.objective(fresh, image) + errors


def armijo_promise(problem, x, z, block):
    """Backtracking by halves stops no later than where the block's Hessian bound proves Armijo's condition."""
    loss, term = problem.loss, problem.term
    g = loss.block_gradient(z, block)
    curved = loss.block_hessian(z, block) + 1e-10 * np.diag(loss.lipschitz[block])
    p = Updater(problem, x.copy(), z).model_step(block, g, curved)
    slope = -(g @ p + np.sum(term.block_value(x[block] + p, block) - term.block_value(x[block], block)))
    bend = p @ loss.block_bound(block) @ p
    if not slope > 0:
        return 0.0
    t = min(1.0, (1 - ARMIJO) * slope / bend) if bend > 0 else 1.0
    return ARMIJO * t * slope


@pytest.mark.parametrize("count", [120, pytest.param(1000, marks=pytest.mark.slow)])
def test_proximal_steps_decrease_by_the_model(count):
    """Groups are few: their models are solved by accelerated prox steps, which take long."""
    rng = np.random.default_rng(count)
    for trial in range(count):
        loss = smooth_losses(rng, trial)
        problem = composite(
            loss, penalties(rng, trial // 5 if trial < 25 else trial // 5 % 4, int(np.prod(loss.shape)))
        )
        term = problem.term
        x = np.array(term.project(rng.standard_normal(loss.size) * (rng.random(loss.size) < 0.6)))
        z = loss.image(x)
        g = loss.gradient(z)
        pieces = term.pieces()
        chosen = rng.choice(len(pieces), int(rng.integers(1, len(pieces) + 1)), replace=False)
        block = np.sort(np.concatenate([pieces[k] for k in chosen]))
        before = problem.objective(x, z)
        mover = Updater(problem, x.copy(), z.copy())
        constant = mover.block_constant(block)
        _, V = mover._prox_step(block, g[block], max(constant, 1e-300))
        H = loss.block_bound(block)
        d = mover.model_step(block, g[block], H)
        model = (
            g[block] @ d
            + 0.5 * d @ H @ d
            + np.sum(term.block_value(x[block] + d, block) - term.block_value(x[block], block))
        )
        room = 1e-9 * (abs(before) + abs(V))
        assert room >= V
        assert model <= V + 1e-7 * abs(V) + room
        for name, promise in (
            ("lipschitz", V),
            ("hessian", model),
            ("newton", -armijo_promise(problem, x, z, block)),
            # Fifty damped Newton steps on the block go below the minimum of the model, but for their last digits.
            ("exact", model * (1 - 1e-6)),
        ):
            mover = Updater(problem, x.copy(), z.copy())
            mover.update(name, block, g[block])
            after = problem.objective(mover.x, loss.image(mover.x))
            assert before - after >= -promise * (1 - 1e-9) - room, name
        mover = Updater(problem, x.copy(), z.copy())
        mover.update("line-search", block, g[block])
        _, V = Updater(problem, x.copy(), z.copy())._prox_step(block, g[block], mover._estimates[block][0])
        assert before - problem.objective(mover.x, loss.image(mover.x)) >= -V * (1 - 1e-9) - room


def test_two_metric_projection_decreases_and_stays_inside():
    rng = np.random.default_rng(4)
    for trial in range(300):
        loss = smooth_losses(rng, trial)
        problem = composite(loss, (bcd.Box(-0.2, 0.3), bcd.NonNegative(0.1))[trial % 2])
        x = np.array(problem.term.project(rng.standard_normal(loss.size)))
        block = np.sort(rng.choice(loss.size, int(rng.integers(1, loss.size + 1)), replace=False))
        mover = Updater(problem, x.copy(), loss.image(x))
        mover.update("two-metric", block, loss.block_gradient(mover.z, block))
        before, after = problem.objective(x, loss.image(x)), problem.objective(mover.x, loss.image(mover.x))
        assert np.isfinite(after)
        assert after <= before + 1e-12 * abs(before)


def random_forest_block(rng, loss):
    order = rng.permutation(loss.size)
    n = loss.size
    parent, stamp, inside = (np.empty(n, dtype=np.int64) for _ in range(3))
    greedy_forest(order, loss.graph.indices, loss.graph.indptr, parent, stamp, inside)
    return np.flatnonzero(inside)


@pytest.mark.parametrize("penalty", [None, bcd.Box(-0.2, 0.3), bcd.NonNegative(0.1)])
def test_message_passing_minimises_over_a_forest(penalty):
    """Without bounds the decrease is g_b^T H_bb^{-1} g_b / 2 and the gradient of the block vanishes; with bounds, Armijo's."""
    rng = np.random.default_rng(8)
    for _ in range(150):
        n = int(rng.integers(1, 25))
        graph = networkx.gnp_random_graph(n, 0.25, seed=int(rng.integers(1 << 30)))
        L = networkx.laplacian_matrix(graph).astype(float)
        Q = scipy.sparse.csr_array(L + scipy.sparse.diags_array(0.01 + rng.random(n)))
        loss = bcd.Quadratic(Q, rng.standard_normal(n))
        problem = composite(loss, penalty)
        x = np.array(problem.term.project(rng.standard_normal(n)))
        z = loss.image(x)
        block = random_forest_block(rng, loss)
        g = loss.gradient(z)[block]
        mover = Updater(problem, x.copy(), z.copy())
        mover.update("message-passing", block, g)
        before, after = problem.objective(x, z), problem.objective(mover.x, loss.image(mover.x))
        assert np.array_equal(np.delete(mover.x, block), np.delete(x, block))
        if penalty is None:
            promise = 0.5 * g @ np.linalg.solve(Q.toarray()[np.ix_(block, block)], g)
            assert before - after == pytest.approx(promise, rel=1e-9, abs=1e-12)
            assert np.allclose(loss.gradient(loss.image(mover.x))[block], 0.0, atol=1e-10)
        else:
            assert np.isfinite(after)
            assert after <= before + 1e-12 * abs(before)
            held = problem.kkt(x, z) < 1e-9
            assert (
                held or not np.array_equal(mover.x, x) or problem.term.distance(x, loss.gradient(z))[block].max() < 1e-9
            )


def test_explicit_blocks_are_the_ones_that_move():
    rng = np.random.default_rng(9)
    loss = bcd.LeastSquares(rng.standard_normal((12, 6)), rng.standard_normal(12))
    blocks = [[0, 3], [1, 2, 5], [4]]
    for count, moved in ((1, {0, 3}), (2, {0, 1, 2, 3, 5})):
        run = solvers.minimize_bcd(loss, blocks=blocks, rule="cyclic", update="hessian", max_iter=count, tol=0)
        assert set(run.support.tolist()) == moved


def test_sparse_model_supports_are_never_worse_than_the_ranked_block():
    rng = np.random.default_rng(5)
    for trial in range(250):
        loss = smooth_losses(rng, trial)
        problem = composite(loss, None)
        x = rng.standard_normal(loss.size)
        g = loss.gradient(loss.image(x))
        at = Selection(problem, x, g)
        ranking = scores("gsd", at, np.maximum(loss.lipschitz, 1e-12))
        size = int(rng.integers(1, loss.size + 1))
        top = np.argsort(-ranking, kind="stable")[:size]
        floor = g[top] @ solve_psd(loss.block_bound(top), g[top])
        for addition in (False, True):
            block, H = sparse_model_support(at, ranking, size, greedy_addition=addition)
            assert len(block) <= size
            assert g[block] @ solve_psd(H, g[block]) >= floor * (1 - 1e-9)


@pytest.mark.parametrize("rule", SMOOTH_RULES)
def test_greedy_rules_choose_the_best_block_by_their_score(rule):
    rng = np.random.default_rng(6)
    for trial in range(50):
        loss = smooth_losses(rng, trial)
        problem = composite(loss, None)
        chosen = plan(problem, "order", rule, "hessian", 2)
        x = rng.standard_normal(loss.size)
        mover = Updater(problem, x, loss.image(x))
        run = types.SimpleNamespace(
            problem=problem, monitor=types.SimpleNamespace(common=types.SimpleNamespace(rng=rng))
        )
        g = loss.gradient(mover.z)
        block, _ = _Chooser(run, chosen, PaperSettings(), mover).choose(g)

        def score(b, loss=loss, g=g):
            H = loss.block_bound(b)
            return {
                "gs": g[b] @ g[b],
                "gsl": g[b] @ g[b] / max(np.linalg.eigvalsh(H)[-1], 1e-300),
                "gsd": np.sum(g[b] ** 2 / np.maximum(loss.lipschitz[b], 1e-300)),
                "gsq": g[b] @ solve_psd(H, g[b]),
            }[rule]

        assert score(block) >= max(score(b) for b in chosen.blocks) * (1 - 1e-9)


@pytest.mark.parametrize("rule", [*PROXIMAL_RULES, "random", "lipschitz"])
@pytest.mark.parametrize("blocks", ["variable", "sorted"])
def test_proximal_rules_solve_the_lasso(rule, blocks):
    rng = np.random.default_rng(7)
    loss = bcd.LeastSquares(rng.standard_normal((30, 20)), rng.standard_normal(30))
    result = solvers.minimize_bcd(loss, bcd.L1(3.0), blocks=blocks, rule=rule, update="hessian", block_size=5, rng=0)
    assert result.status is solvers.Status.OPTIMAL
    assert solvers.verify(result, loss, bcd.L1(3.0))


@pytest.mark.parametrize(
    ("keywords", "reason"),
    [
        ({"rule": "gs"}, "does not vanish"),
        ({"blocks": "red-black"}, "graph of a Quadratic"),
        ({"update": "message-passing"}, "forests"),
        ({"update": "two-metric"}, "needs bounds"),
        ({"rule": "cyclic", "blocks": "variable"}, "fixed partition"),
        ({"blocks": [[0, 1], [1, 2]]}, "disjoint"),
        ({"blocks": [[0, 1]]}, "cover"),
    ],
)
def test_senseless_combinations_are_refused_with_the_reason(keywords, reason):
    loss = bcd.LeastSquares(np.eye(3), np.ones(3))
    with pytest.raises(solvers.InvalidProblemError, match=reason):
        solvers.minimize_bcd(loss, bcd.L1(0.1), **keywords)


def test_lattice_of_the_paper_is_reproduced():
    """f* = -1045999575.2270696, and the greedy forest leaves 1e-5 to 1e-4 of it after 500 blocks."""
    loss = lattice_problem()
    exact = -0.5 * loss.host_c @ scipy.sparse.linalg.spsolve(loss.sparse, loss.host_c)
    assert exact == pytest.approx(-1045999575.2270696, rel=1e-13)
    result = solvers.minimize_bcd(
        loss,
        blocks="greedy-forest",
        rule="gsd",
        update="message-passing",
        max_iter=500,
        tol=0,
        options={"check_every": 500},
    )
    assert 1e-5 < result.fun - -1045999575.2270696 < 1e-4
    assert result.bound <= -1045999575.2270696
    assert solvers.verify(result, loss)


def chosen_block(problem, chosen, x, rng):
    mover = Updater(problem, x, problem.loss.image(x))
    common = types.SimpleNamespace(rng=rng)
    run = types.SimpleNamespace(problem=problem, monitor=types.SimpleNamespace(common=common))
    chooser = _Chooser(run, chosen, PaperSettings(), mover)
    return mover, chooser, chooser.choose(problem.loss.gradient(mover.z))[0]


@pytest.mark.parametrize("rule", PROXIMAL_RULES)
def test_proximal_rules_choose_the_best_block_and_gsl_q_keeps_its_word(rule):
    """Scores recomputed block by block from their definitions; a step with L_b falls by what GSL-q promised."""
    rng = np.random.default_rng(11)
    for trial in range(200):
        loss = smooth_losses(rng, trial)
        penalty = penalties(rng, trial // 5 % 4, int(np.prod(loss.shape)))
        problem = composite(loss, penalty)
        term = problem.term
        chosen = plan(problem, "order", rule, "lipschitz", 2)
        x = np.array(term.project(rng.standard_normal(loss.size) * (rng.random(loss.size) < 0.6)))
        mover, _, block = chosen_block(problem, chosen, x.copy(), rng)
        g = loss.gradient(mover.z)
        largest = max(float(np.max(loss.lipschitz)), 1e-12)

        def model(b, constant, g=g, x=x, term=term):
            p = term.prox(x[b] - g[b] / constant, np.full(len(b), constant), b) - x[b]
            change = np.sum(term.block_value(x[b] + p, b) - term.block_value(x[b], b))
            return p, -(g[b] @ p + 0.5 * constant * p @ p + change)

        def score(b, rule=rule, g=g, x=x, term=term, mover=mover, largest=largest, model=model):
            if rule == "gs-s":
                return np.sum(term.distance(x, g)[b] ** 2)
            if rule == "gsl-q":
                return model(b, max(mover.block_constant(b), 1e-300))[1]
            p, decrease = model(b, largest)
            return p @ p if rule == "gs-r" else decrease

        best = max(score(b) for b in chosen.blocks)
        assert score(block) >= best * (1 - 1e-9) - 1e-13
        if rule == "gsl-q":
            before = problem.objective(x, mover.z)
            mover.update("lipschitz", block, g[block])
            after = problem.objective(mover.x, loss.image(mover.x))
            assert before - after >= best * (1 - 1e-9) - 1e-9 * (1 + abs(before))


def test_blind_rules_visit_blocks_as_their_names_say():
    """Cyclic: each once a round; random: uniformly; lipschitz: in proportion to L_b."""
    rng = np.random.default_rng(12)
    A = rng.standard_normal((20, 8)) * np.repeat([1.0, 1.0, 2.0, 4.0], 2)
    problem = composite(bcd.LeastSquares(A, rng.standard_normal(20)), None)
    g = rng.standard_normal(8)
    visits = {}
    for rule in ("cyclic", "random", "lipschitz"):
        chosen = plan(problem, "order", rule, "lipschitz", 2)
        _, chooser, first = chosen_block(problem, chosen, np.zeros(8), rng)
        sequence = [int(first[0]) // 2, *(int(chooser.choose(g)[0][0]) // 2 for _ in range(3999))]
        visits[rule] = np.bincount(sequence, minlength=4) / 4000
        if rule == "cyclic":
            assert sequence == [0, 1, 2, 3] * 1000
        if rule == "lipschitz":
            constants = chooser.block_constants
    assert np.allclose(visits["random"], 0.25, atol=0.03)
    assert np.allclose(visits["lipschitz"], constants / constants.sum(), atol=0.03)


def test_two_metric_steps_decrease_unless_the_block_is_stationary():
    rng = np.random.default_rng(13)
    for trial in range(300):
        loss = smooth_losses(rng, trial)
        problem = composite(loss, (bcd.Box(-0.2, 0.3), bcd.NonNegative(0.1))[trial % 2])
        x = np.array(problem.term.project(rng.standard_normal(loss.size)))
        block = np.sort(rng.choice(loss.size, int(rng.integers(1, loss.size + 1)), replace=False))
        mover = Updater(problem, x.copy(), loss.image(x))
        gradient = loss.gradient(mover.z)
        if np.max(problem.term.distance(x, gradient)[block]) <= 1e-6 * np.max(np.abs(gradient)):
            continue
        before = problem.objective(x, mover.z)
        mover.update("two-metric", block, gradient[block])
        assert problem.objective(mover.x, loss.image(mover.x)) < before


@pytest.mark.parametrize("update", ["lipschitz", "line-search", "hessian", "newton", "exact"])
@pytest.mark.parametrize("penalty", ["none", "l1", "elastic-net", "box", "non-negative", "groups"])
def test_every_update_takes_every_loss_with_every_penalty(update, penalty):
    """Block sizes that do not divide the number of coordinates; never above the start, and the bound verifies."""
    rng = np.random.default_rng(14)
    for trial in range(5):
        loss = (
            smooth_losses(rng, trial)
            if trial != 1
            else bcd.Logistic(rng.standard_normal((12, 5)), np.tile([-1.0, 1], 6))
        )
        size = int(np.prod(loss.shape))
        term = {
            "none": None,
            "l1": bcd.L1(0.3),
            "elastic-net": bcd.ElasticNet(0.2, 0.7),
            "box": bcd.Box(-0.2, 0.3),
            "non-negative": bcd.NonNegative(0.1),
            "groups": bcd.GroupL2(np.arange(size) // 2, 0.2),
        }[penalty]
        result = solvers.minimize_bcd(loss, term, method="paper", update=update, block_size=3, max_iter=12, tol=1e-4)
        assert result.fun <= composite(loss, term).start_value + 1e-12
        assert solvers.verify(result, loss, term)
