"""scikit-learn's own checks of transformers, on tables without holes."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from solvers.completion import MatrixCompleter


class Transformer(MatrixCompleter):
    """MatrixCompleter by its rows: ``predict`` takes positions, and weights are of entries, which the checks do not know."""

    def fit(self, X, y=None):
        return super().fit(X)

    @property
    def predict(self):
        raise AttributeError


def expected_failures(estimator):
    return {
        "check_complex_data": "refused as not real, in the library's words",
        "check_dtype_object": "refused: numbers only",
        "check_estimators_empty_data_messages": "refused as empty, in the library's words",
        "check_transformer_data_not_an_array": "takes arrays, not whatever can be made into one",
        "check_fit2d_predict1d": "refused as not two-dimensional, in the library's words",
    }


@parametrize_with_checks(
    [Transformer(1, reg=1.0, random_state=0, max_iter=50)], expected_failed_checks=expected_failures
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(estimator, check):
    check(estimator)
