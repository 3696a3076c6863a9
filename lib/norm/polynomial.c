/* polynomial.c: the loop's k-th iterate as a polynomial of the Gram matrix, and the derivative of that polynomial.
 *
 * Every iterate is W0 Q with Q = q(E), E = I - W0'W0 (k, k): q starts at 1 and is multiplied by 1 + e/2 while e becomes
 * (3 e^2 + e^3)/4. Here q is not iterated but fitted: by Chebyshev interpolation on the interval that holds E's
 * eigenvalues, as powers of T = (2E - (a + b))/(b - a), evaluated by Paterson and Stockmeyer's scheme. Where the interval
 * comes near 1 some of the loop's own steps on E come first ("Gram steps"), because the coefficients would explode.
 *
 * The gradient: with D = dL/dwbar, H = sym(W0'D) and K the derivative of q(E) in the direction -H, which is self-adjoint,
 * dL/dW0 = D Q + 2 W0 K. K follows the forward evaluation step by step.
 *
 * Everything here is symmetric, so products compute the lower half and mirror it.
 *
 * Source: Paterson and Stockmeyer, SIAM J. Comput. 2(1), 1973; Higham, Functions of Matrices, 2008, chapters 4 and 8.
 */
#include "norm/polynomial.h"

#include <math.h>
#include <string.h>

#include "base/base.h"
#include "tensor/gemm.h"

enum {
    NODES = 64, /* of the interpolation; the degree stays far below */
    RUN = 64,     /* elements that a sum of matrices takes at once */
    SHARE = 16384 /* and those that a thread does */
};

static const double pi = 3.14159265358979323846;
static const double accuracy = 7e-7;  /* of the derivative of q, which gradients take; q itself is nearer */
static const double most_mass = 30;   /* sum of |coefficients|: how much rounding errors may grow */

/* ---- the plan: degree, coefficients, order of evaluation ---------------------------------------------- */

double lip__loop_value(double e, int iterations)
{
    double q = 1;

    for (int j = 0; j < iterations; j++) {
        q *= 1 + e / 2;
        e = e * e * (3 + e) / 4;
    }
    return q;
}

/* Chebyshev coefficients c[0..NODES-1] of q on [a, b]. */
static void interpolate(double a, double b, int iterations, double *c)
{
    double cosine[4 * NODES], f[NODES];

    for (int i = 0; i < 4 * NODES; i++)
        cosine[i] = cos(pi * i / (2 * NODES));
    for (int j = 0; j < NODES; j++)
        f[j] = lip__loop_value(((b - a) * cosine[2 * j + 1] + a + b) / 2, iterations);
    for (int i = 0; i < NODES; i++) {
        c[i] = 0;
        for (int j = 0; j < NODES; j++)
            c[i] += f[j] * cosine[i * (2 * j + 1) % (4 * NODES)] * (i ? 2 : 1) / NODES;
    }
}

/* sum c_i T_i(t) as powers of t; low and high are T_i and T_(i+1). */
static void to_powers(const double *c, int degree, double *p)
{
    double low[LIP__MOST_DEGREE + 3] = {1}, high[LIP__MOST_DEGREE + 3] = {0, 1};

    for (int i = 0; i <= degree; i++) {
        double below = 0; /* high[j - 1] before it changed */
        for (int j = 0; j <= i + 2; j++) {
            double now = high[j];
            if (j <= i)
                p[j] += c[i] * low[j];
            high[j] = 2 * below - low[j];
            low[j] = below = now;
        }
    }
}

/* Horner products for degree d in blocks of s: a lone top coefficient rides on T^s for free. */
static int horner(int d, int s)
{
    int blocks = (d + s) / s;

    return d % s == 0 && blocks > 1 ? blocks - 2 : blocks - 1;
}

static void choose_block(struct lip__polynomial *p)
{
    int best = 1 << 20;

    for (int s = 2; s <= LIP__MOST_POWERS; s++) {
        int cost = s - 1 + horner(p->degree, s);
        if (cost <= best) { /* of equal ones the larger block: its sums are shorter */
            best = cost;
            p->s = s;
        }
    }
    p->horner = horner(p->degree, p->s);
    p->cost = best;
}

/* The plan after `steps` Gram steps; false: too high a degree, or coefficients that lose too many digits. */
static bool fit(struct lip__polynomial *p, int steps, double a, double b, int iterations)
{
    double c[NODES], tail = 0, mass = 0;
    int degree = NODES - 1;

    p->steps = steps;
    for (int i = 0; i < steps; i++) { /* e -> (3 e^2 + e^3)/4 falls below 0 and rises above it */
        b = fmax(b * b * (3 + b), a * a * (3 + a)) / 4;
        a = 0;
    }
    p->a = a - 1e-5;
    p->b = fmax(b, p->a + 1e-3);
    interpolate(p->a, p->b, iterations - steps, c);
    for (double slope = 2 / (p->b - p->a); degree > 1 && tail + degree * slope * fabs(c[degree]) < accuracy; degree--)
        tail += degree * slope * fabs(c[degree]);
    if (degree > LIP__MOST_DEGREE)
        return false;
    p->degree = degree;
    to_powers(c, degree, p->coefficient);
    for (int i = 0; i <= degree; i++)
        mass += fabs(p->coefficient[i]);
    choose_block(p);
    p->cost += 3 * steps; /* the first costs 2, and one is for what the steps and the polynomial give together */
    return mass < most_mass && p->horner <= LIP__MOST_HORNER;
}

bool lip__polynomial_plan(struct lip__polynomial *plan, double a, double b, int iterations)
{
    bool found = false;

    for (int steps = 0; steps <= LIP__MOST_STEPS && steps < iterations; steps++) {
        struct lip__polynomial p = {0};
        if (fit(&p, steps, a, b, iterations) && (!found || p.cost < plan->cost)) {
            *plan = p;
            found = true;
        }
    }
    return found;
}

/* ---- symmetric arithmetic ------------------------------------------------------------------------------ */

/* c = alpha a b + beta c, all (k, k), where the result is known to be symmetric. */
static void multiply(size_t k, float alpha, const float *a, const float *b, float beta, float *c)
{
    lip__gemm_symmetric(false, false, k, k, alpha, a, b, NULL, NULL, k, beta, c);
}

/* The product rule: c = alpha (a db + da b) + beta c, symmetric. */
static void multiply_rule(size_t k, float alpha, const float *a, const float *da, const float *b, const float *db, float beta,
                          float *c)
{
    lip__gemm_symmetric(false, false, k, k, alpha, a, db, da, b, k, beta, c);
}

struct sum {
    size_t count, terms;
    const double *c;
    const float *const *x;
    float *out;
};

LIP__CLONES static void combine_part(const struct sum *s, size_t from, size_t until)
{
    for (size_t at = from; at < until; at += RUN) {
        float sum[RUN] = {0};
        size_t n = until - at < RUN ? until - at : RUN;
        for (size_t t = 0; t < s->terms; t++) {
            const float *x = s->x[t] + at;
            float factor = (float)s->c[t];
            if (n == RUN)
                for (size_t j = 0; j < RUN; j++)
                    sum[j] += factor * x[j];
            else
                for (size_t j = 0; j < n; j++)
                    sum[j] += factor * x[j];
        }
        memcpy(s->out + at, sum, n * sizeof *sum);
    }
}

static void combine_block(void *ctx, size_t i, size_t thread)
{
    const struct sum *s = ctx;

    (void)thread;
    combine_part(s, i * SHARE, (i + 1) * SHARE < s->count ? (i + 1) * SHARE : s->count);
}

/* out = sum_i c[i] x[i] of `count` floats; out may be one of x. */
static void combine(size_t count, size_t terms, const double *c, const float *const *x, float *out)
{
    struct sum s = {count, terms, c, x, out};

    lip__parallel((count + SHARE - 1) / SHARE, combine_block, &s);
}

static void add_to_diagonal(size_t k, double x, float *c)
{
    for (size_t i = 0; i < k; i++)
        c[i * k + i] += (float)x;
}

/* ---- evaluation ---------------------------------------------------------------------------------------- */

/* The arrays that the derivative reads again, each (k, k): */
struct arrays {
    float *e[LIP__MOST_STEPS + 1], *t[LIP__MOST_STEPS], *q[LIP__MOST_STEPS + 1]; /* E_i, E_i^2, Q_i of the Gram steps */
    float *power[LIP__MOST_POWERS + 1];                                          /* T^1 .. T^s */
    float *r[LIP__MOST_HORNER + 1];                                              /* Horner's values */
    float *result, *rest;
};

static struct arrays lay_out(const struct lip__polynomial *p, size_t k, float *memory)
{
    struct arrays x = {0};
    size_t square = k * k;

    x.result = memory;
    x.e[0] = x.result + square;
    memory = x.e[0] + square;
    for (int i = 0; i < p->steps; i++, memory += 3 * square) {
        x.t[i] = memory;
        x.q[i + 1] = memory + square;
        x.e[i + 1] = memory + 2 * square;
    }
    for (int i = 1; i <= p->s; i++, memory += square)
        x.power[i] = memory;
    for (int i = 0; i <= p->horner; i++, memory += square)
        x.r[i] = memory;
    x.rest = memory;
    return x;
}

float *lip__polynomial_e(float *memory, size_t k)
{
    return memory + k * k;
}

/* out = sum of coefficients [from, from + s) times powers 0..s-1, with `constant` the power 0 too. */
static void block(const struct lip__polynomial *p, size_t k, float *const *power, int from, bool constant, float *out)
{
    const float *x[LIP__MOST_POWERS];
    double c[LIP__MOST_POWERS];
    int terms = 0;

    for (int i = 1; i < p->s && from + i <= p->degree; i++) {
        x[terms] = power[i];
        c[terms++] = p->coefficient[from + i];
    }
    combine(k * k, (size_t)terms, c, x, out);
    if (constant)
        add_to_diagonal(k, p->coefficient[from], out);
}

/* Horner's first value: the top block, or the lone top coefficient times T^s with the block below it. Returns where the
 * next block begins. */
static int top_block(const struct lip__polynomial *p, size_t k, float *const *power, bool constant, float *out)
{
    int from = p->degree / p->s * p->s;

    if (from < p->degree || !from) {
        block(p, k, power, from, constant, out);
        return from - p->s;
    }
    from -= p->s;
    block(p, k, power, from, constant, out);
    combine(k * k, 2, (double[]){1, p->coefficient[p->degree]}, (const float *[]){out, power[p->s]}, out);
    return from - p->s;
}

void lip__polynomial_value(const struct lip__polynomial *p, size_t k, float *memory)
{
    struct arrays x = lay_out(p, k, memory);
    size_t square = k * k;
    int from;

    for (int i = 0; i < p->steps; i++) {
        multiply(k, 1, x.e[i], x.e[i], 0, x.t[i]);
        combine(square, 1, (double[]){0.75}, (const float *[]){x.t[i]}, x.e[i + 1]);
        multiply(k, 0.25f, x.t[i], x.e[i], 1, x.e[i + 1]);
        if (i) {
            memcpy(x.q[i + 1], x.q[i], square * sizeof(float));
            multiply(k, 0.5f, x.q[i], x.e[i], 1, x.q[i + 1]);
        } else {
            combine(square, 1, (double[]){0.5}, (const float *[]){x.e[0]}, x.q[1]);
            add_to_diagonal(k, 1, x.q[1]);
        }
    }
    combine(square, 1, (double[]){2 / (p->b - p->a)}, (const float *[]){x.e[p->steps]}, x.power[1]);
    add_to_diagonal(k, -(p->a + p->b) / (p->b - p->a), x.power[1]);
    for (int i = 2; i <= p->s; i++)
        multiply(k, 1, x.power[i / 2], x.power[i - i / 2], 0, x.power[i]);
    from = top_block(p, k, x.power, true, x.r[0]);
    for (int i = 0; i < p->horner; i++, from -= p->s) {
        block(p, k, x.power, from, true, x.r[i + 1]);
        multiply(k, 1, x.r[i], x.power[p->s], 1, x.r[i + 1]);
    }
    if (p->steps)
        multiply(k, 1, x.q[p->steps], x.r[p->horner], 0, x.result);
    else
        memcpy(x.result, x.r[p->horner], square * sizeof(float));
}

float *lip__polynomial_derivative(const struct lip__polynomial *p, size_t k, float *memory)
{
    struct arrays x = lay_out(p, k, memory);
    size_t square = k * k;
    float *de = x.rest, *dq = de + square, *other = dq + square, *dt = other + square, *dr, *next,
          *dpower[LIP__MOST_POWERS + 1];
    int from;

    for (int i = 1; i <= p->s; i++)
        dpower[i] = dt + (size_t)i * square;
    dr = dpower[p->s] + square;
    next = dr + square;
    for (int i = 0; i < p->steps; i++) {
        float *swap = dq;
        multiply_rule(k, 1, x.e[i], de, x.e[i], de, 0, dt);
        if (i) {
            memcpy(other, dq, square * sizeof(float));
            multiply_rule(k, 0.5f, x.q[i], dq, x.e[i], de, 1, other);
            dq = other;
            other = swap;
        } else {
            combine(square, 1, (double[]){0.5}, (const float *[]){de}, dq);
        }
        combine(square, 1, (double[]){0.75}, (const float *[]){dt}, other);
        multiply_rule(k, 0.25f, x.t[i], dt, x.e[i], de, 1, other);
        swap = de;
        de = other;
        other = swap;
    }
    combine(square, 1, (double[]){2 / (p->b - p->a)}, (const float *[]){de}, dpower[1]);
    for (int i = 2; i <= p->s; i++) {
        int a = i / 2, b = i - i / 2;
        multiply_rule(k, 1, x.power[a], dpower[a], x.power[b], dpower[b], 0, dpower[i]);
    }
    from = top_block(p, k, dpower, false, dr);
    for (int i = 0; i < p->horner; i++, from -= p->s) {
        float *swap = dr;
        block(p, k, dpower, from, false, next);
        multiply_rule(k, 1, x.r[i], dr, x.power[p->s], dpower[p->s], 1, next);
        dr = next;
        next = swap;
    }
    if (!p->steps)
        return dr;
    multiply_rule(k, 1, x.q[p->steps], dq, x.r[p->horner], dr, 0, next);
    return next;
}

float *lip__polynomial_direction(const struct lip__polynomial *p, size_t k, float *memory)
{
    return lay_out(p, k, memory).rest;
}

size_t lip__polynomial_memory(size_t k, bool keep)
{
    size_t arrays = 2 + 3 * LIP__MOST_STEPS + LIP__MOST_POWERS + LIP__MOST_HORNER + 1;

    return (arrays + (keep ? 6 + LIP__MOST_POWERS : 0)) * k * k;
}
