/* ends.c: Lanczos' method with all vectors kept and made orthogonal, from BLOCK random ones at once.
 *
 * Of M = K'K or KK', whichever is smaller, the basis grows by M q_1, M q_2, …, each less its part in the basis; what is
 * taken off are the entries of T = Q'M Q, whose eigenvalues are estimates of M's from inside, best at both ends. What
 * is left of M Q s outside the basis for an eigenvector s of T is how far off its eigenvalue can be. Source: Golub and
 * Van Loan, "Matrix Computations", 10.3.
 */
#include "bounds/ends.h"

#include <string.h>

#include <onelip/random.h>

#include "tensor/gemm.h"

enum { BLOCK = 4, STEPS = 300, BETWEEN = 20 };
#define MOST_NUMBERS 6e7 /* of all basis vectors */
#define MOST_FLOPS   1e11
#define CLOSE        1e-12

struct basis {
    const struct lip__convolution *k;
    bool turned;                 /* KK' */
    size_t n, most, count, done; /* vectors of n; room, how many there are, how many have been multiplied by M */
    double *q;                   /* (most, n) */
    double *t;                   /* (most, most): column j is Q'M q_j */
    double *w, *middle, *panel, *part;
    double *small, *values; /* (most, most), most */
};

static lip_err basis_open(const struct lip__convolution *k, size_t most, struct basis *b, lip_error *err)
{
    size_t in = lip__conv_inputs(k), out = lip__conv_outputs(k);
    bool whole;

    *b = (struct basis){.k = k, .turned = out < in, .n = in < out ? in : out, .most = most};
    whole =
        (b->q = lip__alloc(most, b->n * sizeof(double))) && (b->t = lip__alloc(most, most * sizeof(double))) &&
        (b->w = lip__alloc(b->n, sizeof(double))) && (b->middle = lip__alloc(in < out ? out : in, sizeof(double))) &&
        (b->panel = lip__alloc(lip__conv_panel(k), sizeof(double))) && (b->part = lip__alloc(most, sizeof(double))) &&
        (b->small = lip__alloc(most, most * sizeof(double))) && (b->values = lip__alloc(most, sizeof(double)));
    return whole ? LIP_OK : lip__nomem(err, most * b->n * sizeof(double));
}

static void basis_close(struct basis *b)
{
    double *all[] = {b->q, b->t, b->w, b->middle, b->panel, b->part, b->small, b->values};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        lip__free(all[i]);
}

/* w less its part in the basis, whose coefficients are added to h (count). */
static void project(struct basis *b, double *h)
{
    if (!b->count)
        return;
    lip__dgemm(false, false, b->count, 1, b->n, 1, b->q, b->n, b->w, 1, 0, b->part, 1);
    lip__dgemm(true, false, b->n, 1, b->count, -1, b->q, b->n, b->part, 1, 1, b->w, 1);
    for (size_t i = 0; h && i < b->count; i++)
        h[i * b->most] += b->part[i];
}

/* What is left of w becomes a vector of the basis, if that is more than rounding. Returns its length, 0. */
static double append(struct basis *b, double size)
{
    double square = 0, length;

    for (size_t i = 0; i < b->n; i++)
        square += b->w[i] * b->w[i];
    length = sqrt(square);
    if (!(length > 1e-10 * size) || b->count == b->most)
        return 0;
    for (size_t i = 0; i < b->n; i++)
        b->q[b->count * b->n + i] = b->w[i] / length;
    b->count++;
    return length;
}

static void draw(struct basis *b, lip_random *random)
{
    for (size_t i = 0; i < b->n; i++) {
        float x;

        lip_random_normal(random, &x, 1);
        b->w[i] = x;
    }
    project(b, NULL);
    project(b, NULL);
    append(b, 1);
}

/* The next vector times M. */
static void multiply(struct basis *b)
{
    const double *q = b->q + b->done * b->n;
    double *h = b->t + b->done, length;

    if (b->turned) {
        lip__double_conv_adjoint(b->k, q, b->middle, b->panel);
        lip__conv_apply(b->k, b->middle, b->w, b->panel);
    } else {
        lip__conv_apply(b->k, q, b->middle, b->panel);
        lip__double_conv_adjoint(b->k, b->middle, b->w, b->panel);
    }
    project(b, h);
    project(b, h);
    length = append(b, b->t[0]);
    if (length > 0)
        h[(b->count - 1) * b->most] = length;
    b->done++;
}

/* Eigenvalues of T so far, ascending, its vectors in small, one a row. Returns as lip__eigen. */
static int ritz(struct basis *b)
{
    size_t n = b->done;

    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            b->small[i * n + j] =
                (b->t[i * b->most + j] + b->t[j * b->most + i]) / (i < b->count && j < b->count ? 2 : 1);
    return lip__eigen(n, b->small, b->values);
}

/* How far outside the basis M Q s is for row r of small. */
static double outside(const struct basis *b, size_t r)
{
    const double *s = b->small + r * b->done;
    double square = 0;

    for (size_t i = b->done; i < b->count; i++) {
        double sum = 0;

        for (size_t j = 0; j < b->done; j++)
            sum += b->t[i * b->most + j] * s[j];
        square += sum * sum;
    }
    return sqrt(square);
}

static bool settled(const struct basis *b, size_t ends)
{
    for (size_t i = 0; i < ends; i++)
        if (outside(b, i) > CLOSE * b->values[b->done - 1] ||
            outside(b, b->done - 1 - i) > CLOSE * b->values[b->done - 1])
            return false;
    return true;
}

/* Vectors that fit the limits, at most all. */
static size_t affordable(const struct lip__convolution *k, size_t n, size_t ends)
{
    double step = 4.0 * (double)lip__conv_outputs(k) * (double)lip__window_size(&k->g);
    double most = fmax(STEPS, 6 * (double)ends + 40);

    most = fmin(most, fmin(MOST_NUMBERS / (double)n, MOST_FLOPS / step));
    return most < (double)n ? (size_t)most : n;
}

lip_err lip__conv_ends(const struct lip__convolution *k, size_t ends, double *value, lip_error *err)
{
    size_t in = lip__conv_inputs(k), out = lip__conv_outputs(k), n = in < out ? in : out, most = affordable(k, n, ends);
    lip_random random = {.seed = 7, .stream = 1};
    struct basis b;
    int info = 0;
    lip_err rc;

    if (most < n && most < 2 * ends + 20)
        return lip__fail(err, LIP_EUNSUPPORTED, "%zu singular values at each end of a (%zu, %zu) operator are too many",
                         ends, in, out);
    rc = basis_open(k, most, &b, err);
    for (size_t i = 0; !rc && i < BLOCK && i < n; i++)
        draw(&b, &random);
    while (!rc) {
        if (b.done == b.count && b.count < most) /* a part of the operator is done with */
            draw(&b, &random);
        if (b.done < b.count)
            multiply(&b);
        if (b.done < most && (b.done < 2 * ends + BLOCK || b.done % BETWEEN))
            continue;
        if ((info = ritz(&b)) != 0) {
            rc = info == -1 ? lip__nomem(err, b.done * b.done * sizeof(double))
                            : lip__fail(err, LIP_ENUMERIC, "the eigenvalues of Lanczos' matrix did not converge");
        } else if (b.done == most || settled(&b, ends)) {
            break;
        }
    }
    for (size_t i = 0; !rc && i < ends; i++) {
        value[i] = sqrt(fmax(0, b.values[b.done - 1 - i]));
        value[2 * ends - 1 - i] = sqrt(fmax(0, b.values[i]));
    }
    basis_close(&b);
    return rc;
}
