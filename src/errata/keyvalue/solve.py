"""One least-squares core: the cheapest change of a matrix that moves some keys and spares the rest.

    minimise |(W + D) K - V|^2 + lam |D K0|^2 + beta |D|^2 + |D Kp|^2      with R = V - W K
    D = R K^T (M + K K^T)^-1,   M = lam C + beta I + H,   H = Kp Kp^T (keys of earlier edits)

MEMIT (arXiv 2210.07229, eq. 14) is beta = 0 and H = 0. EMMET (arXiv 2403.14236) asks for equality,
(W + D) K = V, and ROME (arXiv 2202.05262, eq. 2) is that for one key. AlphaEdit (arXiv 2410.02355) is
lam = 0 within a subspace. Everything is solved in float64 through the Cholesky factor of M, which does not
depend on the edits, and an n x n dual (Woodbury); updates stay factors.
"""

import torch
from torch import Tensor

from errata.errors import BadInput, Diverged
from errata.update.delta import LowRank

SAME_KEY = 1e-8
"""Share of a key's length under M^-1 below which what other keys leave of it is rounding."""


def factor(C: Tensor, weight: float = 1.0, ridge: float = 0.0, history: Tensor | None = None) -> Tensor:
    """Lower Cholesky factor of weight C + ridge mean(diag(weight C)) I + history, in float64.

    C: (d_in, d_in) second moment, a mean, not a sum. weight: how many samples C stands for.
    ridge: as a share of the mean eigenvalue of weight C. history: (d_in, d_in) sum of k k^T of past keys.
    Raises BadInput where the matrix is singular, which more tokens or a ridge cure.
    """
    M = C.double().mul_(weight) if C.dtype != torch.float64 else C * weight
    if ridge:
        M.diagonal().add_(ridge * M.diagonal().mean())
    if history is not None:
        M += history.to(M.device)
    L: Tensor
    L, failed = torch.linalg.cholesky_ex(M)
    if failed:
        raise BadInput(
            f"the second moment of {C.shape[0]} dimensions is singular (at dimension {int(failed)}): it was built from "
            "too few tokens, or some neurons never fired. Build it again with more --tokens, or set the option ridge "
            "(such as 1e-4)."
        )
    return L


def ridge(K: Tensor, R: Tensor, cholesky: Tensor | None, slack: float = 1.0, spared: Tensor | None = None) -> LowRank:
    """The update that moves keys K by R at the least cost under M (MEMIT, eq. 14), of rank n at most.

    K: (n, d_in) keys. R: (n, d_out) residuals. cholesky: (d_in, d_in) factor of M, see `factor`; None where M is I.
    slack: R (slack I + K^T M^-1 K)^-1 K^T M^-1 is what slack times M would give with slack 1; 0 moves every
    key by exactly its residual (EMMET). spared: (m, d_in) keys whose k k^T M lacks: in the dual, keys with residual 0.
    BadInput where keys cannot be met because they depend on each other.
    """
    _check(K, R)
    keys = K if spared is None else torch.cat([spared.to(K), K])
    old = len(keys) - len(K)
    Z = _solved(cholesky, keys.double().T, transposed=False)
    gram = Z.T @ Z
    added = torch.ones(len(keys), dtype=gram.dtype, device=gram.device)
    added[old:] = slack
    inner, failed = torch.linalg.cholesky_ex(gram + torch.diag(added))
    if not slack and (failed or (inner.diagonal().square() < SAME_KEY * gram.diagonal())[old:].any()):
        raise BadInput(
            f"two of the {len(K)} edits of this batch have the same key, and no matrix maps it to two values. Write "
            "edits of one subject in batches of their own, or allow for a residual with the option gram_ridge "
            "(such as 0.1)."
        )
    if failed:
        raise Diverged("the keys of this edit overflow: the model did not survive its earlier edits.")
    new = torch.eye(len(keys), dtype=gram.dtype, device=gram.device)[:, old:]
    # On the side of the keys: M^-1 K and its weights alone are huge where C is small, and would cancel after rounding.
    right = _solved(cholesky, Z @ torch.cholesky_solve(new, inner), transposed=True)
    return LowRank(R.to(K.dtype).T.contiguous(), right.T.to(K.dtype).contiguous())


def _solved(cholesky: Tensor | None, B: Tensor, *, transposed: bool) -> Tensor:
    """L^-1 B, or L^-T B, for the lower factor L. B: (d, n)."""
    if cholesky is None:
        return B
    # Not cholesky_solve, which copies the factor each time.
    L = cholesky.mT if transposed else cholesky
    found: Tensor = torch.linalg.solve_triangular(L, B.to(L), upper=transposed)
    return found


def null_space(values: Tensor, vectors: Tensor, threshold: float, share: float | None = None) -> Tensor:
    """Orthonormal directions that a layer's keys hardly have (AlphaEdit). (d_in, r)

    values: (d_in,) ascending, and vectors: (d_in, d_in), eigenvalues and eigenvectors of C, a mean.
    threshold: the eigenvalues below it count as zero; it depends on the scale of the activations.
    share: instead, how much of C's trace the directions may hold together.
    """
    if share is None:
        kept = int((values < threshold).sum())
    else:
        energy = values.clamp_min(0).cumsum(0)
        kept = int((energy <= share * energy[-1]).sum())
    return vectors[:, :kept]


def projected(
    K: Tensor, R: Tensor, N: Tensor, l2: float, cholesky: Tensor | None = None, spared: Tensor | None = None
) -> LowRank:
    """The update within a subspace, D = D N N^T, that moves keys K by R (AlphaEdit), of rank n at most.

    K: (n, d_in) keys. R: (n, d_out) residuals. N: (d_in, r) orthonormal. l2: weight of |D|^2. cholesky: `inside` of
    past keys, None where there are none. spared: (m, d_in) further past keys. Solved for N^T k, where the matrix
    N^T H N + l2 I is symmetric and positive; the published D = R K^T P (K K^T P + H P + l2 I)^-1 with P = N N^T is
    the same.
    """
    # Without H the matrix is l2 I, and keys over the root of l2 make it I.
    scale = 1.0 if cholesky is not None else l2**-0.5
    reduced, known = (None if keys is None else scale * (keys.to(N) @ N) for keys in (K, spared))
    assert reduced is not None
    found = ridge(reduced, R.to(N), cholesky, spared=known)
    return LowRank(found.left.to(K.dtype), (scale * found.right @ N.T).to(K.dtype))


def inside(N: Tensor, l2: float, history: Tensor) -> Tensor:
    """Lower Cholesky factor of N^T H N + l2 I, (r, r).

    N: (d_in, r). history: (d_in, d_in) sum of k k^T of past keys.
    """
    M = N.T @ history.to(N) @ N
    M.diagonal().add_(l2)
    L: Tensor = torch.linalg.cholesky(M)
    return L


def direction(k: Tensor, cholesky: Tensor | None) -> Tensor:
    """u = C^-1 k / |C^-1 k|, the row that answers to k and least to other keys (ROME, eq. 2).

    k: (d_in,). cholesky: factor of C, or None to leave the covariance out: u = k / |k|.
    """
    forward = _solved(cholesky, k.double()[:, None], transposed=False)
    solved = _solved(cholesky, forward, transposed=True)[:, 0]
    u: Tensor = solved / solved.norm()
    return u


def rank_one(residual: Tensor, k: Tensor, u: Tensor) -> LowRank:
    """The change along u that moves the output of key k by `residual`: residual u^T / (k^T u).

    residual: (d_out,). k: (d_in,), the key of the denominator. u: (d_in,).
    """
    _check(k, residual)
    left = residual.to(u) / (k.to(u) @ u)
    return LowRank(left[:, None].to(k.dtype), u[None].to(k.dtype))


def alignment(k: Tensor, u: Tensor) -> float:
    """|cos(k, u)|. Below 0.05 or so the denominator of `rank_one` is tiny and the update explodes."""
    return float((k.to(u) @ u).abs() / (k.to(u).norm() * u.norm()))


def _check(keys: Tensor, residuals: Tensor) -> None:
    if not (torch.isfinite(keys).all() and torch.isfinite(residuals).all()):
        raise Diverged("keys or residuals of this edit are not finite: the model did not survive its earlier edits.")
