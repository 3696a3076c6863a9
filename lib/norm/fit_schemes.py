"""Looks for the schemes of schemes.def: NumPy, a minute for each. Nothing of the build calls it.

    fit_schemes.py PRODUCTS TERMS [SECONDS [SEED]]      prints a row of schemes.def each time it finds one for a wider interval

What the B of a scheme must span are q(e) = (1 - e)^(-1/2) and the singular functions f_i of its divided difference F, each times its
singular value, at Chebyshev nodes of [LOW, HIGH]: polynomial.c says why. How far they are from the span is a function of the inner
coefficients alone, and is made smaller by Levenberg and Marquardt's method, with Kaufman's derivative. From a random start on a short
interval, HIGH then moves up as long as both errors stay below what float32 loses anyway.

Source: Golub and Pereyra, SIAM J. Numer. Anal. 10(2), 1973; Kaufman, BIT 15, 1975.
"""

import sys
import time

import numpy as np

LOW, HIGHEST = -0.05, 0.905
VALUE, DERIVATIVE = 2.5e-7, 3e-6  # largest errors; F is up to 16
RIDGE, LARGEST = 3e-9, 8          # LARGEST: term of a sum
FIRST = {2: (0.02, 0.02), 3: (0.25, 0.1), 4: (0.35, 0.1), 5: (0.45, 0.1), 6: (0.55, 0.1), 7: (0.6, 0.1)}  # HIGH and its step


def nodes(count):
    return np.cos(np.pi * (np.arange(count) + 0.5) / count)


def count(products):
    """Inner coefficients: a left sum's last one is 1."""
    return sum(2 * i - 3 for i in range(3, products + 2))


def basis(products, p, t):
    """I, B_1 .. at t, one a column, and their derivatives by p: (p, t, column)."""
    none = np.zeros((len(p), len(t)))
    b, db, at = [t, t * t], [none, none], 0
    for i in range(2, products + 1):
        sums = []
        for fixed, terms in ((1, i - 1), (0, i)):
            y, dy = fixed * b[-1], fixed * db[-1]
            for j in range(terms):
                y, dy = y + p[at] * b[j], dy + p[at] * db[j]
                dy[at] += b[j]
                at += 1
            sums.append((y, dy))
        (left, dleft), (right, dright) = sums
        b.append(left * right)
        db.append(dleft * right + left * dright)
    return np.stack([np.ones_like(t), *b], 1), np.stack([none, *db], 2)


def functions(high, t):
    e = (high - LOW) / 2 * t + (LOW + high) / 2
    s = np.sqrt(1 - e)
    return 1 / s, 1 / (np.outer(s, s) * np.add.outer(s, s))


def targets(high, t, terms):
    q, f = functions(high, t)
    u, sigma, _ = np.linalg.svd(f)
    return np.concatenate([q[:, None], u[:, :terms] * sigma[:terms] * np.abs(u[:, :terms]).max(0)], 1)


def with_ridge(phi, y):
    n = phi.shape[1]
    return np.concatenate([phi, RIDGE * np.eye(n)]), np.concatenate([y, np.zeros((n, y.shape[1]))])


def fit(products, p, y, t, rounds, penalty):
    """p whose span is nearer to y."""
    def residual(p):
        phi, derivative = basis(products, p, t)
        a, b = with_ridge(phi, y)
        q, r = np.linalg.qr(a)
        c = np.linalg.solve(r, q.T @ b)
        return derivative, q, c, b - a @ c, np.sum((b - a @ c) ** 2) + penalty**2 * p @ p

    mu, now = 1e-3, residual(p)
    for _ in range(rounds):
        derivative, q, c, r, size = now
        v = np.concatenate([derivative @ c, np.zeros((len(p), len(c), y.shape[1]))], 1)
        jacobian = -(v - q @ (q.T @ v)).transpose(1, 2, 0).reshape(-1, len(p))
        normal = jacobian.T @ jacobian + penalty**2 * np.eye(len(p))
        gradient = jacobian.T @ r.reshape(-1) + penalty**2 * p
        for _ in range(8):
            step = np.linalg.lstsq(normal + mu * np.diag(np.diag(normal) + 1e-14), -gradient, rcond=None)[0]
            then = residual(p + step)
            if then[-1] < size:
                break
            mu *= 4
        else:
            break
        p, now, mu = p + step, then, max(mu / 4, 1e-15)
        if then[-1] > (1 - 1e-5) * size:
            break
    return p


def sums(products, terms, high, p):
    """Q's coefficients and the F_i's, or None where they are not good enough."""
    t = nodes(300)
    phi = basis(products, p, t)[0]
    q, f = functions(high, t)

    def solve(y):
        return np.linalg.lstsq(*with_ridge(phi, y), rcond=None)[0]

    value = solve(q[:, None])[:, 0]
    middle = solve(solve(f).T)
    _, r = np.linalg.qr(phi)
    sigma, v = np.linalg.eigh(r @ (middle + middle.T) / 2 @ r.T)
    last = np.argsort(-np.abs(sigma))[:terms]
    if np.any(sigma[last] <= 0):
        return None
    each = np.linalg.solve(r, v[:, last] * np.sqrt(sigma[last]))
    largest = np.abs(phi).max(0)
    good = (np.abs(phi @ value - q).max() < VALUE and np.abs(phi @ each @ (phi @ each).T - f).max() < DERIVATIVE
            and max(np.abs(value * largest).max(), np.abs(each.T * largest).max()) < LARGEST)
    return (value, each.T * np.where(each[0] < 0, -1, 1)[:, None]) if good else None


def row(products, high, p, value, each):
    def braces(values):
        return "{" + ", ".join(f"{v:.10g}" for v in values) + "}"

    def lines(rows):
        return "{" + ",\n  ".join(rows) + "}"

    left, right, at = [], [], 0
    for i in range(3, products + 2):
        left.append(braces([*p[at:at + i - 2], 1.0]))
        right.append(braces(p[at + i - 2:at + 2 * i - 3]))
        at += 2 * i - 3
    return (f"{{{products}, {len(each)}, {LOW:g}, {high:.12g},\n "
            + ",\n ".join([lines(left), lines(right), braces(value), lines(map(braces, each))]) + "},")


def main(products, terms, seconds=60.0, seed=1):
    rng, end, best, t = np.random.default_rng(seed), time.monotonic() + seconds, 0, nodes(120)
    while time.monotonic() < end:
        p, (high, step), found = rng.normal(size=count(products)) * 0.4, FIRST[products], False
        p = fit(products, p, targets(high, t, terms), t, 150, 1e-3)
        while time.monotonic() < end and step > 0.002 and high <= HIGHEST:
            then = fit(products, p, targets(high, t, terms), t, 120, 1e-7)
            good = sums(products, terms, high, then)
            if good:
                p, found = then, True
                if high > best:
                    best = high
                    print(row(products, high, p, *good), flush=True)
            elif not found:
                break
            else:
                high -= step
                step /= 2
            high += step


main(int(sys.argv[1]), int(sys.argv[2]), *map(float, sys.argv[3:4]), *map(int, sys.argv[4:5]))
