/* embed.c: the norm of a convolution with zeros around the image from above, by frequencies or by its whole matrix.
 *
 * Along one axis output i of n_out reads input s i + o for taps o = t - before = s q + rho, 0 <= rho < s. With the
 * input split into its s phases, x_rho[j] = x[s j + rho], each of at most l = ceil(n / s) samples, that is a
 * convolution of stride 1 from phase rho with tap q. Let N be at least l, l - q and n_out + q for every q: then i + q,
 * taken modulo N, meets a sample only where i + q does, so the operator is a part of an N-periodic convolution (zeros
 * around the input, some outputs left out), and
 *
 *     ||conv|| <= max over the N_h x N_w frequencies theta of ||P(theta)||,  P(theta) = sum_taps K_tap e^{i theta q},
 *
 * P being (phases * channels, filters). Kernels are real, so half the frequencies do. An image that goes on with itself
 * is N-periodic as it is, if s divides n and N = n / s; outputs beyond N repeat the first ones, times sqrt of how
 * often.
 *
 * Each is proved without eigenvalues: that lambda^2 is more than those of P'P, as a real matrix of twice the size,
 * Cholesky's algorithm tells (factor.h). Where it is not, lambda is raised.
 *
 * Source: certify.md C2.
 */
#include <string.h>

#include "bounds/embed.h"
#include "bounds/factor.h"
#include "tensor/gemm.h"

#define MOST_FLOPS  2e10
#define MOST_MATRIX 1e9 /* flops, of the whole matrix */
#define MARGIN      1e-9

/* ---- one axis ----------------------------------------------------------------------------------------------- */

static long tap_of(const struct lip__axis *x, size_t t, size_t *phase)
{
    long o = (long)t - x->before, s = (long)x->stride, q = o >= 0 ? o / s : -((-o + s - 1) / s);

    *phase = (size_t)(o - s * q);
    return q;
}

/* The axis without its tables, of the least period. */
static struct lip__axis axis_of(size_t n, size_t taps, size_t stride, size_t before, size_t out, bool circular)
{
    struct lip__axis x = {.stride = stride, .before = (long)before};
    long length = (long)((n + stride - 1) / stride), most = length, first, last;
    size_t phase;

    first = tap_of(&x, 0, &phase);
    last = tap_of(&x, taps - 1, &phase);
    if (!circular && length - first > most)
        most = length - first;
    if (!circular && (long)out + last > most)
        most = (long)out + last;
    x.period = (size_t)most;
    return x;
}

static bool axis_fill(struct lip__axis *x)
{
    x->cosine = lip__alloc(x->period, sizeof(double));
    x->sine = lip__alloc(x->period, sizeof(double));
    for (size_t j = 0; x->cosine && x->sine && j < x->period; j++) {
        x->cosine[j] = cos(2 * M_PI * (double)j / (double)x->period);
        x->sine[j] = sin(2 * M_PI * (double)j / (double)x->period);
    }
    return x->cosine && x->sine;
}

static void axis_close(struct lip__axis *x)
{
    lip__free(x->sine);
    lip__free(x->cosine);
}

/* The place of frequency f at tap q in the tables. */
static size_t angle(const struct lip__axis *x, size_t f, long q)
{
    long period = (long)x->period, at = (q % period + period) % period;

    return (size_t)at * f % x->period;
}

static void axes_of(const struct lip__convolution *k, struct lip__axis *rows, struct lip__axis *columns)
{
    const struct lip__windows *g = &k->g;

    if (k->circular) {
        *rows = axis_of(k->h, g->kh, g->sh, (g->h - k->h) / 2, g->oh, true);
        *columns = axis_of(k->w, g->kw, g->sw, (g->w - k->w) / 2, g->ow, true);
    } else {
        *rows = axis_of(g->h, g->kh, g->sh, g->top, g->oh, false);
        *columns = axis_of(g->w, g->kw, g->sw, g->left, g->ow, false);
    }
}

/* ---- all frequencies ----------------------------------------------------------------------------------------- */

/* P of frequency (a, b); with `absolute` the sum of |K| over the taps instead, as real part. */
static void transform(struct lip__frequencies *e, size_t a, size_t b, bool absolute)
{
    const struct lip__windows *g = &e->k->g;
    size_t f = e->k->f, half = e->m * e->n;
    bool flat = e->m >= e->n; /* P as it is, else P' */

    memset(e->p, 0, 2 * half * sizeof *e->p);
    for (size_t y = 0; y < g->kh; y++)
        for (size_t x = 0; x < g->kw; x++) {
            size_t phase_y, phase_x, i, j;
            long q_y = tap_of(&e->rows, y, &phase_y), q_x = tap_of(&e->columns, x, &phase_x);
            const double *kernel = e->k->kernel + (y * g->kw + x) * g->c * f;
            double cosine, sine;

            i = angle(&e->rows, a, q_y);
            j = angle(&e->columns, b, q_x);
            cosine = e->rows.cosine[i] * e->columns.cosine[j] - e->rows.sine[i] * e->columns.sine[j];
            sine = e->rows.sine[i] * e->columns.cosine[j] + e->rows.cosine[i] * e->columns.sine[j];
            for (size_t c = 0; c < g->c; c++)
                for (size_t o = 0; o < f; o++) {
                    size_t row = (phase_y * g->sw + phase_x) * g->c + c, at = flat ? row * f + o : o * e->m + row;
                    double w = kernel[c * f + o];

                    e->p[at] += absolute ? fabs(w) : cosine * w;
                    e->p[half + at] += absolute ? 0 : sine * w;
                }
        }
}

void lip__frequencies_period(const struct lip__convolution *k, size_t *rows, size_t *columns)
{
    struct lip__axis r, c;

    axes_of(k, &r, &c);
    *rows = r.period;
    *columns = c.period;
}

lip_err lip__frequencies_open(const struct lip__convolution *k, size_t rows, size_t columns, struct lip__frequencies *f,
                              lip_error *err)
{
    const struct lip__windows *g = &k->g;
    bool whole;

    *f = (struct lip__frequencies){.k = k, .phases = g->sh * g->sw, .repeats = 1};
    f->m = f->phases * g->c;
    f->n = k->f;
    axes_of(k, &f->rows, &f->columns);
    f->rows.period = rows > f->rows.period ? rows : f->rows.period;
    f->columns.period = columns > f->columns.period ? columns : f->columns.period;
    if (k->circular)
        f->repeats = (double)((g->oh + f->rows.period - 1) / f->rows.period) *
                     (double)((g->ow + f->columns.period - 1) / f->columns.period);
    whole = axis_fill(&f->rows);
    whole = axis_fill(&f->columns) && whole;
    whole = (f->p = lip__alloc(2 * f->m * f->n, sizeof(double))) && whole;
    if (!whole)
        return lip__nomem(err, 2 * f->m * f->n * sizeof(double));
    /* Each cosine and sine is off by less than 2^-48, their products and sums by less than 2^-46. */
    transform(f, 0, 0, true);
    f->error =
        lip__norm_up(f->p, 2 * f->m * f->n) * lip__lift(g->kh * g->kw) * (0x1p-45 + 4 * lip__gamma(g->kh * g->kw + 4));
    return LIP_OK;
}

void lip__frequencies_close(struct lip__frequencies *f)
{
    lip__free(f->p);
    axis_close(&f->columns);
    axis_close(&f->rows);
}

void lip__frequencies_at(struct lip__frequencies *f, size_t a, size_t b)
{
    transform(f, a, b, false);
}

void lip__frequencies_real(const struct lip__frequencies *f, double *to)
{
    size_t m = f->m, n = f->n;

    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            size_t at = m >= n ? i * n + j : j * m + i;
            double re = f->p[at], im = f->p[m * n + at];

            to[i * 2 * n + j] = to[(m + i) * 2 * n + n + j] = re;
            to[i * 2 * n + n + j] = im;
            to[(m + i) * 2 * n + j] = -im;
        }
}

struct embedding {
    struct lip__frequencies f;
    size_t side;                  /* the smaller of m, n */
    double *gram, *work, *values; /* (2 side, 2 side) twice, (2 side) */
};

static lip_err embedding_open(const struct lip__convolution *k, struct embedding *e, lip_error *err)
{
    lip_err rc;
    bool whole;
    size_t square;

    *e = (struct embedding){.side = 0};
    if ((rc = lip__frequencies_open(k, 0, 0, &e->f, err)) != LIP_OK)
        return rc;
    e->side = e->f.m < e->f.n ? e->f.m : e->f.n;
    square = 4 * e->side * e->side;
    whole = (e->gram = lip__alloc(square, sizeof(double))) && (e->work = lip__alloc(square, sizeof(double))) &&
            (e->values = lip__alloc(2 * e->side, sizeof(double)));
    return whole ? LIP_OK : lip__nomem(err, 2 * square * sizeof(double));
}

static void embedding_close(struct embedding *e)
{
    lip__free(e->values);
    lip__free(e->work);
    lip__free(e->gram);
    lip__frequencies_close(&e->f);
}

/* Frequencies (a, b) with b <= columns.period / 2; the others are their conjugates. */
static double flops(const struct embedding *e)
{
    const struct lip__frequencies *f = &e->f;
    double side = (double)e->side, other = (double)(f->m + f->n) - side, many = (double)f->rows.period;

    many *= (double)(f->columns.period / 2 + 1);
    return many * (6 * side * side * other + 8.0 / 3 * side * side * side +
                   4 * side * other * (double)(f->k->g.kh * f->k->g.kw));
}

/* gram <- the real form of P'P (or PP'): ((R, -I), (I, R)). Returns what it may be off by, in norm. */
static double make_gram(struct embedding *e)
{
    size_t n = e->side, other = e->f.m + e->f.n - n;
    const double *re = e->f.p, *im = e->f.p + n * other;
    double frobenius = lip__norm_up(e->f.p, 2 * n * other);

    lip__dgemm(true, false, n, n, 2 * other, 1, re, n, re, n, 0, e->gram,
               2 * n); /* real over imaginary: both at once */
    lip__dgemm(true, false, n, n, other, 1, re, n, im, n, 0, e->work, n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double imaginary = e->work[i * n + j] - e->work[j * n + i];

            e->gram[(i + n) * 2 * n + j + n] = e->gram[i * 2 * n + j];
            e->gram[(i + n) * 2 * n + j] = imaginary;
            e->gram[j * 2 * n + i + n] = imaginary; /* (-I)' = I, by symmetry */
        }
    return 8 * lip__gamma(2 * other + 4) * frobenius * frobenius + LIP__TINY;
}

/* The largest absolute row sum of gram, rounded up: no eigenvalue is larger. */
static double row_sums(const struct embedding *e)
{
    size_t n = 2 * e->side;
    double most = 0;

    for (size_t i = 0; i < e->side; i++) { /* the other half has the same rows, turned */
        double sum = 0;

        for (size_t j = 0; j < n; j++)
            sum += fabs(e->gram[i * n + j]);
        most = fmax(most, sum);
    }
    return most * lip__lift(n);
}

lip_err lip__conv_embed(const struct lip__convolution *k, double lower, uint64_t deadline, double *upper, bool *whole,
                        lip_error *err)
{
    struct embedding e;
    double lambda2 = lower * lower * (1 + MARGIN), most = 0;
    lip_err rc = embedding_open(k, &e, err);

    *upper = INFINITY;
    *whole = true;
    if (rc || !(flops(&e) < MOST_FLOPS))
        goto done;
    for (size_t a = 0; a < e.f.rows.period; a++)
        for (size_t b = 0; b <= e.f.columns.period / 2; b++) {
            double off, found, frobenius;

            if (lip__late(deadline)) {
                *whole = false;
                goto done;
            }
            transform(&e.f, a, b, false);
            frobenius = lip__norm_up(e.f.p, 2 * e.f.m * e.f.n);
            if (frobenius * frobenius * (1 + 4 * LIP__U) <= lambda2) { /* cannot matter; nor what row sums dismiss */
                most = fmax(most, lambda2);
                continue;
            }
            off = make_gram(&e);
            found = row_sums(&e);
            if (found > lambda2)
                found = lip__top_eigenvalue(2 * e.side, e.gram, &lambda2, 0, e.work, e.values);
            if (found < 0) {
                rc = lip__nomem(err, 4 * e.side * e.side * sizeof(double));
                goto done;
            }
            most = fmax(most, found + off);
        }
    *upper = (lip__up(sqrt(most * (1 + 4 * LIP__U))) + e.f.error) * sqrt(e.f.repeats) * (1 + 8 * LIP__U);
done:
    embedding_close(&e);
    return rc;
}

/* ---- the whole matrix ---------------------------------------------------------------------------------------- */

lip_err lip__conv_matrix(const struct lip__convolution *k, double **matrix, size_t *m, size_t *n, lip_error *err)
{
    const struct lip__windows *g = &k->g;
    double *a;

    *m = lip__conv_inputs(k);
    *n = lip__conv_outputs(k);
    *matrix = a = *n <= SIZE_MAX / *m ? lip__alloc(*m * *n, sizeof *a) : NULL;
    if (!a)
        return lip__nomem(err, *m * *n * sizeof *a);
    for (size_t i = 0; i < g->oh * g->ow * g->kh * g->kw; i++) {
        size_t x = i % g->kw, y = i / g->kw % g->kh, window = i / g->kw / g->kh;
        size_t row = window / g->ow * g->sh + y - g->top, column = window % g->ow * g->sw + x - g->left;

        if (row >= g->h || column >= g->w) /* outside the image, also where the difference wrapped */
            continue;
        row = k->row ? k->row[row] : row;
        column = k->column ? k->column[column] : column;
        for (size_t c = 0; c < g->c; c++)
            for (size_t o = 0; o < k->f; o++)
                a[((row * (k->row ? k->w : g->w) + column) * g->c + c) * *n + window * k->f + o] +=
                    k->kernel[((y * g->kw + x) * g->c + c) * k->f + o];
    }
    return LIP_OK;
}

double lip__conv_matrix_flops(const struct lip__convolution *k)
{
    double m = (double)lip__conv_inputs(k), n = (double)lip__conv_outputs(k);

    return lip__enclose_flops(m, n);
}

bool lip__conv_small(const struct lip__convolution *k)
{
    return lip__conv_matrix_flops(k) < MOST_MATRIX;
}
