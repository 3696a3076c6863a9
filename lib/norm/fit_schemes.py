"""Looks for the schemes of schemes.def: NumPy, minutes to hours. Nothing of the build calls it.

    fit_schemes.py PRODUCTS HIGH [SECONDS [SEED]]       prints a row of schemes.def each time it finds a nearer one

q(e) = (1 - e)^(-1/2) and its derivative are fitted on [LOW, HIGH] at Chebyshev nodes by Levenberg and Marquardt's method from random
starts; a term that grows smaller keeps coefficients small. Rows with 8 products are composed: one step of the loop, e -> (3 e^2 +
e^3)/4, with 1 + e/2, in front of the scheme of five. A row is good where its error is below what float32 loses anyway: about 1e-6 of
the derivative.
"""

import sys
import time

import numpy as np

LOW, NODES = -0.05, 160
T = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)


def count(products):
    """Coefficients: the left sum's last one is 1."""
    return sum(2 * i - 3 for i in range(3, products + 2)) + products + 2


def evaluate(products, p):
    """The scheme's value and derivative at T; p: numbers, or columns of them."""
    b, db, at = [None, T, T * T], [None, np.ones(NODES), 2 * T], 0
    for i in range(3, products + 2):
        left, dleft, right, dright = b[i - 1], db[i - 1], 0, 0
        for j in range(1, i - 1):
            left, dleft, at = left + p[at] * b[j], dleft + p[at] * db[j], at + 1
        for j in range(1, i):
            right, dright, at = right + p[at] * b[j], dright + p[at] * db[j], at + 1
        b.append(left * right)
        db.append(left * dright + dleft * right)
    value, derivative = p[at], 0
    for j in range(1, products + 2):
        value, derivative = value + p[at + j] * b[j], derivative + p[at + j] * db[j]
    return value, derivative


def fit(products, high, p, rounds, penalty):
    """Levenberg and Marquardt; returns p and the largest error of the derivative."""
    half = (high - LOW) / 2
    e = half * T + (LOW + high) / 2
    value, derivative, n, mu = (1 - e) ** -0.5, 0.5 * (1 - e) ** -1.5, len(p), 1e-2

    def residual(p):
        y, dy = evaluate(products, p)
        return np.concatenate([3 * (y - value), dy / half - derivative, penalty * p])

    for k in range(rounds):
        if k % 25 == 24:
            penalty = max(penalty / 3, 1e-10)
        columns = np.repeat(p[:, None], n, 1) + 1e-20j * np.eye(n)  # derivatives by complex steps
        y, dy = (np.broadcast_to(v, (n, NODES)).imag.T / 1e-20 for v in evaluate(products, list(columns[:, :, None])))
        jacobian = np.concatenate([3 * y, dy / half, penalty * np.eye(n)])
        r = residual(p)
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ r
        for _ in range(10):
            step = np.linalg.lstsq(normal + mu * np.diag(np.diag(normal) + 1e-12), -gradient, rcond=None)[0]
            if np.sum(residual(p + step) ** 2) < r @ r:
                p, mu = p + step, max(mu / 4, 1e-16)
                break
            mu *= 5
        else:
            mu = 1e-3
    return p, np.max(np.abs(evaluate(products, p)[1] / half - derivative))


def row(products, high, p):
    def braces(values):
        return "{" + ", ".join(f"{v:.10g}" for v in values) + "}"

    left, right, at = [], [], 0
    for i in range(3, products + 2):
        left.append(braces([*p[at:at + i - 2], 1.0]))
        right.append(braces(p[at + i - 2:at + 2 * i - 3]))
        at += 2 * i - 3
    return (f"{{{products}, {LOW:g}, {high:.12g},\n {{" + ",\n  ".join(left) + "},\n {" + ",\n  ".join(right) + "},\n "
            + braces(p[at:]) + "},")


def main(products, high, seconds=600.0, seed=1):
    rng, end, best = np.random.default_rng(seed), time.monotonic() + seconds, np.inf
    while time.monotonic() < end:
        p, error = fit(products, high, rng.normal(size=count(products)) * 0.3, 300, 1e-2)
        if error < best and np.sum(np.abs(p)) < 40:
            p, error = fit(products, high, p, 400, 1e-7)
            best = min(best, error)
            print(f"/* derivative within {error:.1e} */\n{row(products, high, p)}", flush=True)


main(int(sys.argv[1]), float(sys.argv[2]), *map(float, sys.argv[3:4]), *map(int, sys.argv[4:5]))
