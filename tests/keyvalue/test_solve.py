"""The least-squares core against brute force, in float64 on small matrices."""

import pytest
import torch
from torch import Tensor

from errata.errors import BadInput, Diverged
from errata.keyvalue.solve import alignment, direction, factor, inside, null_space, projected, rank_one, ridge


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moment(d: int = 8, n: int = 40) -> Tensor:
    K0 = normal(n, d, seed=9)
    return K0.T @ K0 / n


def cost(D: Tensor, K: Tensor, R: Tensor, C: Tensor, weight: float) -> Tensor:
    """What MEMIT minimises, eq. 14: |D K - R|^2 + weight tr(D C D^T)."""
    return (K @ D.T - R).square().sum() + weight * torch.trace(D @ C @ D.T)


@pytest.mark.parametrize("n", [1, 3, 12])
def test_ridge_is_where_the_gradient_of_the_cost_vanishes(n: int) -> None:
    K, R, C = normal(n, 8), normal(n, 5, seed=1), moment()
    D = ridge(K, R, factor(C, 3.0)).dense().requires_grad_()
    (gradient,) = torch.autograd.grad(cost(D, K, R, C, 3.0), D)
    assert gradient.abs().max() < 1e-10


def test_ridge_equals_the_primal_solution_and_has_the_rank_of_the_edits() -> None:
    K, R, C = normal(3, 8), normal(3, 5, seed=1), moment()
    found = ridge(K, R, factor(C, 3.0))
    assert torch.allclose(found.dense(), R.T @ K @ torch.linalg.inv(3 * C + K.T @ K), atol=1e-12)
    assert found.left.shape == (5, 3) and found.right.shape == (3, 8)


def test_twice_the_weight_is_not_the_same_as_twice_the_moment_of_a_sum() -> None:
    K, R, C = normal(2, 8), normal(2, 5, seed=1), moment()
    assert torch.allclose(ridge(K, R, factor(2 * C, 3.0)).dense(), ridge(K, R, factor(C, 6.0)).dense())
    assert ridge(K, R, factor(C, 6.0)).norm() < ridge(K, R, factor(C, 3.0)).norm()


def test_equal_keys_with_different_targets_are_solved() -> None:
    K = normal(1, 8).repeat(2, 1)
    found = ridge(K, normal(2, 5, seed=1), factor(moment(), 1e-6)).dense()
    assert torch.allclose(found @ K[0], normal(2, 5, seed=1).mean(0), atol=1e-4)


def test_batches_with_history_end_where_one_joint_batch_does() -> None:
    K, V, C, W = normal(6, 8), normal(6, 5, seed=1), moment(), normal(5, 8, seed=2)
    joint = W + ridge(K, V - K @ W.T, factor(C, 2.0)).dense()
    history, now = torch.zeros(8, 8, dtype=torch.float64), W
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        now = now + ridge(K[part], V[part] - K[part] @ now.T, factor(C, 2.0, history=history)).dense()
        history += K[part].T @ K[part]
    assert torch.allclose(now, joint, atol=1e-10)


def test_batches_without_history_do_not() -> None:
    K, V, C, W = normal(6, 8), normal(6, 5, seed=1), moment(), normal(5, 8, seed=2)
    joint, now = W + ridge(K, V - K @ W.T, factor(C, 2.0)).dense(), W
    for row in range(6):
        now = now + ridge(K[[row]], V[[row]] - K[[row]] @ now.T, factor(C, 2.0)).dense()
    assert (now - joint).norm() > 0.1 * (joint - W).norm()


def test_the_recursion_of_least_squares_ends_there_too() -> None:
    """Recursive least squares: the inverse of M + K K^T is carried on, nothing is factored again."""
    K, V, C, W = normal(6, 8), normal(6, 5, seed=1), moment(), normal(5, 8, seed=2)
    inverse, now = torch.linalg.inv(2 * C), W
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        k, v = K[part].T, V[part].T
        F = inverse @ k
        inverse = inverse - F @ torch.linalg.inv(torch.eye(k.shape[1]) + k.T @ F) @ F.T
        now = now + (v - now @ k) @ (inverse @ k).T
    assert torch.allclose(now, W + ridge(K, V - K @ W.T, factor(C, 2.0)).dense(), atol=1e-10)


@pytest.mark.parametrize("n", [1, 4, 8])
def test_without_slack_every_key_is_moved_by_its_residual_at_the_least_cost(n: int) -> None:
    K, R, C = normal(n, 8), normal(n, 5, seed=1), moment()
    D = ridge(K, R, factor(C), 0.0).dense()
    assert torch.allclose(D @ K.T, R.T, atol=1e-9)
    other = D + normal(5, 8, seed=3) @ (torch.eye(8) - K.T @ torch.linalg.pinv(K.T))  # moves the keys the same way
    assert torch.trace(D @ C @ D.T) <= torch.trace(other @ C @ other.T) + 1e-9


def test_equality_is_rome_for_one_key_and_the_limit_of_a_weightless_moment() -> None:
    K, R, C = normal(3, 8), normal(3, 5, seed=1), moment()
    alone = ridge(K[:1], R[:1], factor(C), 0.0).dense()
    assert torch.allclose(alone, rank_one(R[0], K[0], direction(K[0], factor(C))).dense(), atol=1e-10)
    assert torch.allclose(ridge(K, R, factor(C), 0.0).dense(), ridge(K, R, factor(C, 1e-9)).dense(), atol=1e-6)
    assert torch.allclose(ridge(K, R, factor(C), 0.0).dense(), ridge(K, R, factor(C, 7.0), 0.0).dense(), atol=1e-10)


def test_equality_with_a_gram_ridge_is_least_squares_with_a_lighter_moment() -> None:
    K, R, C = normal(3, 8), normal(3, 5, seed=1), moment()
    assert torch.allclose(ridge(K, R, factor(C, 30.0), 0.1).dense(), ridge(K, R, factor(C, 3.0)).dense(), atol=1e-12)


def test_equal_keys_cannot_be_met_exactly() -> None:
    K = normal(3, 8)
    K[2] = K[0] * (1 + 1e-7)
    with pytest.raises(BadInput, match=r"same key.*gram_ridge"):
        ridge(K, normal(3, 5, seed=1), factor(moment()), 0.0)
    assert torch.isfinite(ridge(K, normal(3, 5, seed=1), factor(moment()), 0.1).dense()).all()


@pytest.mark.parametrize("slack", [1.0, 0.1, 0.0])
def test_spared_keys_are_as_if_they_were_in_the_matrix(slack: float) -> None:
    K, R, past, C = normal(3, 8), normal(3, 5, seed=1), normal(4, 8, seed=2), moment()
    apart = ridge(K, R, factor(C, 2.0), slack, past)
    together = ridge(K, R, factor(C, 2.0, history=past.T @ past), slack)
    assert apart.right.shape == (3, 8)
    assert torch.allclose(apart.dense(), together.dense(), atol=1e-12)
    assert not torch.allclose(apart.dense(), ridge(K, R, factor(C, 2.0), slack).dense(), atol=1e-3)
    N = empty(C, 5)[0]
    within = projected(K, R, N, 0.3, inside(N, 0.3, past[:2].T @ past[:2]), past[2:])
    assert torch.allclose(within.dense(), projected(K, R, N, 0.3, None, past).dense(), atol=1e-12)


def empty(C: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """The r emptiest directions of C (d, r), and the projector on them, from an SVD."""
    U = torch.linalg.svd(C)[0][:, -r:]
    values, vectors = torch.linalg.eigh(C)
    return null_space(values, vectors, float(values[r - 1] + values[r]) / 2), U @ U.T


@pytest.mark.parametrize("r", [1, 5, 7])
@pytest.mark.parametrize("n", [1, 3])
def test_the_reduced_solve_is_the_published_one(n: int, r: int) -> None:
    K, R, past = normal(n, 8), normal(n, 5, seed=1), normal(4, 8, seed=2)
    N, P = empty(moment(), r)
    H = past.T @ past
    found = projected(K, R, N, 0.3, inside(N, 0.3, H))
    published = R.T @ K @ P @ torch.linalg.inv((K.T @ K + H) @ P + 0.3 * torch.eye(8, dtype=torch.float64))
    assert N.shape == (8, r) and torch.allclose(N @ N.T, P, atol=1e-12)
    assert torch.allclose(found.dense(), published, atol=1e-12)
    assert torch.allclose(found.dense() @ P, found.dense(), atol=1e-12)
    assert found.left.shape == (5, n) and found.right.shape == (n, 8)


def test_batches_within_a_subspace_end_where_one_joint_batch_does() -> None:
    K, V, W = normal(6, 8), normal(6, 5, seed=1), normal(5, 8, seed=2)
    N, _ = empty(moment(), 5)
    joint = W + projected(K, V - K @ W.T, N, 0.5).dense()
    history, now, forgetful = torch.zeros(8, 8, dtype=torch.float64), W, W
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        # Targets are of the whole key; what the subspace cannot see of them stays as it was.
        now = now + projected(K[part], V[part] - K[part] @ now.T, N, 0.5, inside(N, 0.5, history)).dense()
        forgetful = forgetful + projected(K[part], V[part] - K[part] @ forgetful.T, N, 0.5).dense()
        history += K[part].T @ K[part]
    assert torch.allclose(now, joint, atol=1e-10)
    assert (forgetful - joint).norm() > 0.05 * (joint - W).norm()


def test_the_null_space_is_below_a_threshold_or_a_share_of_the_trace() -> None:
    values, vectors = torch.tensor([-1e-9, 0.5, 1.0, 2.5, 6.0]).double(), torch.eye(5).double()
    assert [null_space(values, vectors, t).shape[1] for t in (1e-12, 0.6, 2.5, 9.0)] == [1, 2, 3, 5]
    assert [null_space(values, vectors, 9.0, s).shape[1] for s in (0.01, 0.05, 0.15, 0.5, 1.0)] == [1, 2, 3, 4, 5]
    # A share does not depend on the scale of the activations; a threshold does.
    assert null_space(100 * values, vectors, 0.6).shape[1] == 1
    assert null_space(100 * values, vectors, 9.0, 0.15).shape[1] == 3


def test_rome_maps_its_key_to_the_value_and_is_the_limit_of_ridge() -> None:
    k, r, C = normal(8), normal(5, seed=1), moment()
    change = rank_one(r, k, direction(k, factor(C))).dense()
    assert torch.allclose(change @ k, r)
    assert torch.allclose(change, ridge(k[None], r[None], factor(C, 1e-12)).dense(), atol=1e-8)


def test_without_covariance_the_direction_is_the_key_itself() -> None:
    assert torch.allclose(direction(normal(8), None), normal(8) / normal(8).norm())


def test_alignment_tells_an_exploding_update() -> None:
    u = direction(normal(8), None)
    across = normal(8, seed=3) - (normal(8, seed=3) @ u) * u + 1e-3 * u
    assert alignment(normal(8), u) == pytest.approx(1)
    assert alignment(across, u) < 0.05
    assert rank_one(normal(5), across, u).norm() > 100 * rank_one(normal(5), normal(8), u).norm()


def test_a_singular_moment_is_bad_input_and_a_ridge_cures_it() -> None:
    k = normal(1, 8)
    with pytest.raises(BadInput, match=r"singular.*--tokens"):
        factor(k.T @ k)
    assert torch.isfinite(factor(k.T @ k, ridge=1e-4)).all()


@pytest.mark.parametrize("where", ["keys", "residuals"])
def test_what_is_not_finite_is_divergence_not_a_crash(where: str) -> None:
    K, R = normal(2, 8), normal(2, 5)
    (K if where == "keys" else R)[0, 0] = torch.nan
    with pytest.raises(Diverged):
        ridge(K, R, factor(moment()))
    with pytest.raises(Diverged):
        rank_one(R[0], K[0], normal(8))


def test_float32_keys_are_solved_in_float64() -> None:
    K, R, C = normal(4, 8), normal(4, 5, seed=1), moment()
    C[:, 0] *= 1e-3
    C[0] *= 1e-3
    found = ridge(K.float(), R.float(), factor(C.float(), 1.0))
    exact = R.float().double().T @ K.float().double() @ torch.linalg.inv(C.float().double() + K.T @ K)
    assert found.left.dtype == torch.float32
    assert (found.dense() - exact).norm() < 1e-5 * exact.norm()
