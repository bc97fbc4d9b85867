"""The least-squares core against brute force, in float64 on small matrices."""

import pytest
import torch
from torch import Tensor

from errata.errors import BadInput, Diverged
from errata.keyvalue.solve import alignment, direction, factor, rank_one, ridge


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
