"""Every solver of the catalogue keeps the same contract."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import Case, all_cases
from kinds import NAMESPACES, SAME_VALUES

import solvers
from solvers._catalogue import ENTRIES, entry_named
from solvers._core.arrays import kind_of, to_host
from solvers._core.options import COMMON_KEYWORDS
from solvers._core.result import relative_gap

# Entries that answer many problems at once return arrays of fields; they are held to the answers of their items below.
CASES = [case for case in all_cases() if not entry_named(case.entry).batch]
BATCHES = [case for case in all_cases() if entry_named(case.entry).batch]
RUNS = [pytest.param(case, method, id=f"{case.entry}-{method}") for case in CASES for method in case.methods]
each_run = pytest.mark.parametrize(("case", "method"), RUNS)
each_case = pytest.mark.parametrize("case", CASES, ids=[case.entry for case in CASES])
each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])
REFUSED = (ValueError, TypeError, solvers.SolversError)
SEED = 48611


def call(case: Case, args: tuple[Any, ...] | None = None, **keywords: Any) -> Any:
    """Call the entry on the case's problem; the seed is fixed where the entry takes one."""
    merged = {**case.keywords, **keywords}
    if "rng" not in entry_named(case.entry).omits:
        merged.setdefault("rng", SEED)
    return getattr(solvers, case.entry)(*(case.problem() if args is None else args), **merged)


def problem_keywords(case: Case) -> dict[str, Any]:
    return {name: value for name, value in case.keywords.items() if name not in COMMON_KEYWORDS}


def verify(case: Case, result: Any, args: tuple[Any, ...] | None = None) -> Any:
    return solvers.verify(result, *(case.problem() if args is None else args), **problem_keywords(case))


def refused(attempt: Callable[..., Any], *args: Any, **keywords: Any) -> Exception | None:
    """The exception that refuses an attempt, None where it is granted."""
    try:
        attempt(*args, **keywords)
    except REFUSED as error:
        return error
    return None


def is_valid(case: Case, result: Any, args: tuple[Any, ...]) -> None:
    """The answer is what it says and its bound holds."""
    if case.objective is not None and result.x is not None:
        assert result.fun == pytest.approx(case.objective(result, *args), rel=case.tolerance, abs=1e-12 * result.scale)
    sign = 1.0 if result.sense == "min" else -1.0
    assert sign * result.bound <= sign * result.fun
    checked = verify(case, result, args)
    assert checked.ok, checked.message


def equal(a: Any, b: Any) -> bool:
    """Bitwise equality of answers: arrays, tuples of arrays, sparse matrices, None."""
    if isinstance(a, tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if a is None or b is None:
        return a is b
    if kind_of(a) == "sparse":
        return (a != b).nnz == 0
    return bool(np.array_equal(to_host(a), to_host(b)))


def test_every_entry_has_cases_for_all_its_methods() -> None:
    covered = {case.entry: set(case.methods) for case in (*CASES, *BATCHES)}
    assert covered.keys() == {entry.name for entry in ENTRIES}
    for entry in ENTRIES:
        assert covered[entry.name] == set(entry.methods), entry.name


@each_entry
def test_common_keywords_come_last_in_the_contracts_order(entry: Any) -> None:
    parameters = list(inspect.signature(getattr(solvers, entry.name)).parameters.values())
    expected = [name for name in COMMON_KEYWORDS if name not in entry.omits]
    names = [parameter.name for parameter in parameters]
    assert names[-len(expected) :] == expected
    assert not set(names) & set(entry.omits)
    for parameter in parameters[-len(expected) :]:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
    defaults = {parameter.name: parameter.default for parameter in parameters[-len(expected) :]}
    contract = {"method": "auto", "max_iter": None, "time_limit": None, "callback": None, "history": False}
    contract |= {"verbose": 0, "backend": "auto", "options": None, "x0": None, "rng": None}
    assert {name: value for name, value in defaults.items() if name != "tol"} == {
        name: value for name, value in contract.items() if name in expected
    }
    assert isinstance(defaults["tol"], float)


@pytest.mark.kernels
@each_run
def test_result_has_every_field_and_they_agree(case: Case, method: str) -> None:
    args = case.problem()
    result = call(case, args, method=method)
    assert isinstance(result, solvers.Result)
    for name in ("x", "fun", "bound", "gap", "sense", "status", "success", "message", "nit", "time", "backend"):
        assert name in result
    assert result.entry == case.entry
    assert isinstance(result.status, solvers.Status)
    assert result.success is result.status.success
    assert result.message
    assert result.sense == entry_named(case.entry).sense
    assert result.gap == max(0.0, relative_gap(result.fun, result.bound, result.sense, result.scale))
    assert isinstance(result.fun, float)
    assert isinstance(result.bound, float)
    assert isinstance(result.nit, int)
    assert result.time >= 0
    assert case.entry in repr(result)
    is_valid(case, result, args)


@each_run
def test_bound_holds_against_brute_force(case: Case, method: str) -> None:
    if case.optimum is None:
        pytest.skip("no brute force for this entry")
    args = case.problem()
    result = call(case, args, method=method)
    best = case.optimum(*args)
    slack = 1e-9 * max(abs(best), 1e-6 * result.scale)
    if result.sense == "min":
        assert result.bound <= best + 1e-13 * abs(best)
        assert result.fun >= best - slack
    else:
        assert result.bound >= best - 1e-13 * abs(best)
        assert result.fun <= best + slack


@each_run
def test_same_seed_gives_the_same_answer_and_leaves_global_state_alone(case: Case, method: str) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must not be touched
    first, second = call(case, method=method), call(case, method=method)
    assert equal(first.x, second.x)
    assert (first.fun, first.bound) == (second.fun, second.bound)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@each_run
def test_inputs_are_left_as_they_were(case: Case, method: str) -> None:
    args = case.problem()
    before = copy.deepcopy(args)
    call(case, args, method=method)
    for position in case.array_arguments:
        assert equal(before[position], args[position])


@pytest.mark.parametrize("form", SAME_VALUES)
@each_case
def test_layout_and_container_do_not_change_the_answer(case: Case, form: str) -> None:
    args = list(case.problem())
    plain = call(case, tuple(args))
    for position in case.array_arguments:
        args[position] = SAME_VALUES[form](args[position])
    other = call(case, tuple(args))
    assert equal(plain.x, other.x)
    assert plain.fun == other.fun
    assert verify(case, other, tuple(args)).ok


@pytest.mark.parametrize("dtype", ["float32", "int64", "int32"])
@each_case
def test_lower_precision_and_integers_are_the_numbers_they_hold(case: Case, dtype: str) -> None:
    if not case.array_arguments:
        pytest.skip("takes problem objects")
    args, exact = list(case.problem()), list(case.problem())
    for position in case.array_arguments:
        values = args[position] if np.issubdtype(args[position].dtype, np.integer) else np.round(args[position] * 8)
        args[position] = values.astype(dtype)
        exact[position] = args[position].astype(values.dtype)
    result, plain = call(case, tuple(args)), call(case, tuple(exact))
    assert result.fun == pytest.approx(plain.fun, rel=1e-12)
    assert verify(case, result, tuple(exact)).ok


@pytest.mark.parametrize("namespace", NAMESPACES)
@each_run
def test_arrays_stay_in_their_namespace_and_on_their_device(case: Case, method: str, namespace: str) -> None:
    if "array" not in entry_named(case.entry).backends or not case.array_arguments:
        pytest.skip("no array path")
    args = list(case.problem())
    plain = call(case, tuple(args), method=method, backend="array")
    for position in case.array_arguments:
        args[position] = NAMESPACES[namespace](args[position])
    if method in entry_named(case.entry).host_methods:
        with pytest.raises(solvers.BackendError, match="host"):
            call(case, tuple(args), method=method)
        return
    result = call(case, tuple(args), method=method)
    assert result.backend == "array"
    for answer in result.x if isinstance(result.x, tuple) else (result.x,):
        assert type(answer) is type(args[case.array_arguments[0]])
        assert answer.device == args[case.array_arguments[0]].device
    assert result.fun == pytest.approx(plain.fun, rel=1e-6)
    checked = verify(case, result, tuple(args))
    assert checked.ok, checked.message


@each_case
def test_mixed_kinds_of_array_are_refused(case: Case) -> None:
    if len(case.array_arguments) < 2 or "array" not in entry_named(case.entry).backends:
        pytest.skip("takes one array")
    args = list(case.problem())
    args[case.array_arguments[0]] = NAMESPACES["array_api_strict"](args[case.array_arguments[0]])
    with pytest.raises(solvers.BackendError, match="one kind"):
        call(case, tuple(args))


@each_run
def test_time_limit_is_kept_and_leaves_a_valid_answer(case: Case, method: str) -> None:
    args = (case.loose or case.problem)()
    solvers.warm_up(case.entry)
    began = time.perf_counter()
    result = call(case, args, method=method, time_limit=0.05, tol=0.0)
    # Generous for loaded machines: what is tested is that the limit stops the run at all.
    assert time.perf_counter() - began < 10.0
    assert result.x is not None
    is_valid(case, result, args)


@pytest.mark.parametrize("how", ["truthy", "StopIteration"])
@each_run
def test_callback_stops_with_the_best_point_so_far(case: Case, method: str, how: str) -> None:
    seen = []

    def stop(intermediate_result: Any) -> bool:
        seen.append(intermediate_result)
        if how == "StopIteration":
            raise StopIteration
        return True

    args = (case.loose or case.problem)()
    result = call(case, args, method=method, callback=stop, tol=0.0)
    assert isinstance(seen[0], solvers.Result)
    assert len(seen) == 1
    assert result.status in (solvers.Status.CALLBACK_STOP, solvers.Status.OPTIMAL)
    assert result.fun <= seen[0].fun if result.sense == "min" else result.fun >= seen[0].fun
    is_valid(case, result, args)


@each_case
def test_exceptions_of_the_callback_are_the_callers(case: Case) -> None:
    def interrupt(intermediate_result: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(case, (case.loose or case.problem)(), callback=interrupt, tol=0.0)


@pytest.mark.kernels
@each_run
def test_one_iteration_gives_a_valid_answer(case: Case, method: str) -> None:
    args = (case.loose or case.problem)()
    result = call(case, args, method=method, max_iter=1, tol=0.0)
    assert result.x is not None
    is_valid(case, result, args)


@each_run
def test_warm_start_from_a_result_is_no_worse(case: Case, method: str) -> None:
    if not case.warm_start or "x0" in entry_named(case.entry).omits:
        pytest.skip("takes no x0")
    args = case.problem()
    first = call(case, args, method=method)
    again = call(case, args, method=method, x0=first)
    slack = 1e-6 * max(abs(first.fun), 1e-6 * first.scale)
    assert again.fun <= first.fun + slack if first.sense == "min" else again.fun >= first.fun - slack
    is_valid(case, again, args)


@each_run
def test_results_survive_pickling(case: Case, method: str) -> None:
    args = case.problem()
    result = pickle.loads(pickle.dumps(call(case, args, method=method)))
    assert verify(case, result, args).ok


@each_case
def test_history_has_a_row_per_checkpoint(case: Case) -> None:
    calls = []
    result = call(case, history=True, callback=lambda intermediate_result: calls.append(1))
    assert len(result.history) == len(calls) or len(calls) == 0
    assert call(case).history is None


@each_case
def test_output_goes_to_standard_error_and_only_when_asked(case: Case, capsys: Any) -> None:
    call(case)
    assert capsys.readouterr() == ("", "")
    call(case, verbose=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert case.entry in err
    call(case, (case.loose or case.problem)(), verbose=2, max_iter=2)
    assert "gap" in capsys.readouterr().err


def broken_arrays(array: np.ndarray) -> dict[str, Any]:
    """Versions of a float array that no entry may accept."""
    nan, inf = array.astype(float), array.astype(float)
    # Off the diagonal, which square scores may ignore.
    nan.flat[1], inf.flat[-2] = math.nan, math.inf
    return {
        "NaN": nan,
        "infinite": inf,
        "empty": array[:0],
        "complex": array + 1j,
        "object": array.astype(object),
        "string": array.astype(str),
        "wrong number of dimensions": array[None],
        "scalar": 3.0,
        "None": None,
        "ragged": [[1.0, 2.0], [3.0]],
    }


@each_case
def test_broken_arrays_are_refused(case: Case) -> None:
    for position in case.array_arguments:
        for what, broken in broken_arrays(case.problem()[position]).items():
            args = list(case.problem())
            args[position] = broken
            with pytest.raises(REFUSED) as refusal:
                call(case, tuple(args))
            assert len(str(refusal.value)) > 20, (what, refusal.value)


@each_case
def test_bad_problems_are_refused_by_name(case: Case) -> None:
    for bad in case.bad:
        with pytest.raises(bad.error, match=bad.words):
            call(case, bad.args, **bad.kwargs)


@each_case
def test_shared_keywords_are_checked(case: Case) -> None:
    entry = entry_named(case.entry)
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"method": "quantum"}, ValueError, "method"),
        ({"method": 3}, TypeError, "method"),
        ({"tol": -1.0}, ValueError, "tol"),
        ({"tol": math.nan}, ValueError, "tol"),
        ({"tol": "small"}, TypeError, "tol"),
        ({"max_iter": 0}, ValueError, "max_iter"),
        ({"max_iter": 2.5}, TypeError, "max_iter"),
        ({"time_limit": 0.0}, ValueError, "time_limit"),
        ({"time_limit": True}, TypeError, "time_limit"),
        ({"callback": 7}, TypeError, "callback"),
        ({"history": "yes"}, TypeError, "history"),
        ({"verbose": 3}, ValueError, "verbose"),
        ({"backend": "abacus"}, ValueError, "backend"),
        ({"options": {"no_such_option": 1}}, TypeError, "no_such_option"),
        ({"options": [1]}, TypeError, "options"),
        ({"colour": "red"}, TypeError, "colour"),
    ]
    if "rng" not in entry.omits:
        wrong += [({"rng": "seed"}, TypeError, "rng"), ({"rng": -1}, ValueError, "rng")]
    for omitted in entry.omits:
        wrong.append(({omitted: None}, TypeError, omitted))
    for keywords, error, words in wrong:
        with pytest.raises(error, match=words):
            getattr(solvers, case.entry)(*case.problem(), **{**case.keywords, **keywords})


@each_run
def test_verify_rejects_what_was_tampered_with(case: Case, method: str) -> None:
    args = case.problem()
    result = call(case, args, method=method)
    better = -1.0 if result.sense == "min" else 1.0
    size = max(abs(result.fun), 1e-3 * result.scale)
    tampered = [("fun", {"fun": result.fun + better * 1e-6 * size}), ("success", {"success": not result.success})]
    if math.isfinite(result.bound):
        tampered += [("bound", {"bound": result.bound - better * 1e-6 * size})]
        if result.certificate is not None:
            tampered += [("certificate", {"certificate": None})] if result.bound != 0.0 else []
        if result.gap > 1e-8:
            tampered += [("gap", {"gap": 0.1 * result.gap})]
    for what, changes in tampered:
        forged = copy.deepcopy(result)
        forged.update(changes)
        assert not verify(case, forged, args).ok, what
    for what, forged in case.tampered(result) if case.tampered else ():
        assert not verify(case, forged, args).ok, what


@pytest.mark.parametrize("case", [*CASES, *BATCHES], ids=[case.entry for case in (*CASES, *BATCHES)])
def test_verify_raises_what_the_entry_raises_for_wrong_problems(case: Case) -> None:
    result, options = call(case), problem_keywords(case)
    problems = [(bad.args, bad.kwargs) for bad in case.bad if not set(bad.kwargs) & set(COMMON_KEYWORDS)]
    for place in range(len(case.problem())):
        for wrong in (object(), "text", None, {"a": 1}, 1j):
            args = list(case.problem())
            args[place] = wrong
            problems.append((tuple(args), {}))
    for args, keywords in problems:
        refusal = refused(call, case, args, **keywords)
        if refusal is not None:
            checked = refused(solvers.verify, result, *args, **(options | dict(keywords)))
            assert (type(checked), str(checked)) == (type(refusal), str(refusal)), (args, keywords)


@each_case
def test_verify_takes_problem_arguments_only(case: Case) -> None:
    result = call(case)
    with pytest.raises(TypeError, match="tol"):
        solvers.verify(result, *case.problem(), tol=1.0)
    with pytest.raises(TypeError, match="Result"):
        solvers.verify({"fun": 1.0}, *case.problem())


@each_case
def test_reference_model_is_a_convex_program(case: Case) -> None:
    if not entry_named(case.entry).model:
        pytest.skip("no convex model")
    model = solvers.reference_model(case.entry, *case.problem(), **problem_keywords(case))
    assert model.is_dcp()


@pytest.mark.parametrize("method", sorted({method for case in BATCHES for method in case.methods}))
@pytest.mark.parametrize("case", BATCHES, ids=[case.entry for case in BATCHES])
def test_items_of_a_batch_are_proved_results(case: Case, method: str) -> None:
    if method not in case.methods:
        pytest.skip(f"{case.entry} has no method {method}")
    args = case.problem()
    result = pickle.loads(pickle.dumps(call(case, args, method=method)))
    assert verify(case, result, args).ok
    assert result.success is all(result[i].success for i in range(len(result)))
    for i in range(len(result)):
        item = result[i]
        assert isinstance(item, solvers.Result)
        assert (item.fun, item.bound, item.gap) == (result.fun[i], result.bound[i], result.gap[i])
        sign = 1.0 if item.sense == "min" else -1.0
        assert sign * item.bound <= sign * item.fun
    again = call(case, case.problem(), method=method)
    assert np.array_equal(again.fun, result.fun)
    forged = copy.deepcopy(result)
    forged.fun[0] += (1.0 if forged[0].sense == "max" else -1.0) * (1.0 + abs(forged.fun[0]))
    assert not verify(case, forged, args).ok
