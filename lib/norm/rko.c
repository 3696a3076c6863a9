/* rko.c: reshaped kernel orthogonalisation: divide by the norm, orthogonalise, multiply by the factor.
 *
 * Four forms of the loop give the same numbers. "plain" is deel-lip's, product for product: for beta other than 1/2 and
 * where the smaller side k is too small or too large for the others to pay. The others work on the Gram matrix of the
 * smaller side. "polynomial" takes the loop's limit on the spectrum's interval; it needs a loop that converges before its
 * cap, with a tolerance so small that one iteration more or less changes nothing, and eigenvalues of at least least_square.
 * "rational" takes the same limit down to least_rational. Everything else is "eigen": the stopping rule on exact singular
 * values, in double.
 *
 * Scratch begins with the vectors of the power iteration and of Lanczos; what the form needs follows.
 *
 * Source: deel-lip; semantics.md 1.6 and 1.7; defects D08 and D09.
 */
#include <math.h>
#include <string.h>

#include "norm/eigen.h"
#include "norm/rko_factor.h"
#include "norm/polynomial.h"
#include "norm/rational.h"
#include "norm/rko.h"
#include "tensor/gemm.h"

enum { LEAST_SIDE = 24, LARGEST_SIDE = 1024, LEAST_SIZE = 16384 }; /* k and m n of the forms on the Gram matrix */

/* Eigenvalues of W0'W0 below 3 are singular values below sqrt(3), which Bjorck at beta 1/2 takes to 1, not to -1 or
 * infinity; at smaller beta the limit is higher. */
static const double safe_square = 3;

/* Eigenvalues of W0'W0 that the polynomial form takes: rounding of the Gram matrix, 1e-7 of the largest eigenvalue, moves
 * q by that over twice the smallest one. */
static const double least_square = 0.1;

/* With a stop below this change, the next change would be below 1.5 times its square. */
static const double fine_eps = 1e-3;

/* How far Q G Q v may be from v: 2e-5 in one of three directions. */
static const double accepted = 2e-5 / 1.7320508;

/* And the rational form, whose Gram matrix and inverses are in double; what is multiplied by them is not. */
static const double least_rational = 0.03;

static const char *const plain = "plain", *const polynomial = "polynomial", *const rational = "rational", *const eigen = "eigen";

enum lip__form lip__rko_form = LIP__AUTO;

bool lip__has_bjorck(const lip_rko_options *o)
{
    return o->eps_bjorck > 0 && !isnan(o->beta_bjorck) && o->maxiter_bjorck > 0;
}

/* ---- scratch -------------------------------------------------------------------------------------------- */

/* What a form on the Gram matrix hands to its gradient. */
struct head {
    size_t terms; /* of the derivative */
    float t;
};

enum { HEAD = (sizeof(struct head) + 63) / 64 * 16 }; /* floats */

static size_t aligned(size_t floats)
{
    return (floats + 15) / 16 * 16;
}

static size_t smaller(size_t m, size_t n)
{
    return m < n ? m : n;
}

static size_t vectors(size_t m, size_t n)
{
    return aligned(m + 3 * n + LIP__LANCZOS_WORK(smaller(m, n)));
}

static bool on_gram(size_t m, size_t n, const lip_rko_options *o)
{
    size_t k = smaller(m, n);

    return lip__has_bjorck(o) && o->beta_bjorck == 0.5 && lip__rko_form != LIP__PLAIN &&
           (lip__rko_form != LIP__AUTO || (k >= LEAST_SIDE && k <= LARGEST_SIDE && m * n >= LEAST_SIZE));
}

/* Scratch of the forms on the Gram matrix: head, the raw Gram matrix, the gradient before the division, the form's own. */
struct gram_scratch {
    struct head *head;
    float *gram, *inner, *own;
};

static struct gram_scratch lay_out(size_t m, size_t n, bool keep, float *scratch)
{
    struct gram_scratch g;
    size_t k = smaller(m, n);

    g.head = (struct head *)(void *)scratch;
    g.gram = scratch + HEAD;
    g.inner = g.gram + aligned(k * k);
    g.own = g.inner + (keep ? aligned(m * n) : 0);
    return g;
}

static size_t gram_scratch_size(size_t m, size_t n, bool keep)
{
    size_t k = smaller(m, n), p = lip__polynomial_memory(k, keep), e = 2 * lip__eigen_memory(m, n, keep);

    return HEAD + aligned(k * k) + (keep ? aligned(m * n) : 0) + (p > e ? p : e);
}

size_t lip_rko_scratch(size_t m, size_t n, const lip_rko_options *o, bool keep)
{
    return vectors(m, n) + (on_gram(m, n, o) ? gram_scratch_size(m, n, keep) : lip__plain_scratch(m, n, o, keep));
}

/* ---- the guard against a start that flips or diverges ------------------------------------------------------ */

static lip_err check_options(const lip_rko_options *o, lip_error *err)
{
    if (!(o->eps_spectral > 0))
        return lip__fail(err, LIP_ERANGE, "eps_spectral is %g, needs to be positive", o->eps_spectral);
    if (!isnan(o->beta_bjorck) && !(o->beta_bjorck > 0 && o->beta_bjorck <= 0.5))
        return lip__fail(err, LIP_ERANGE, "beta_bjorck is %g, needs 0 < beta <= 0.5", o->beta_bjorck);
    return LIP_OK;
}

static lip_err check_kernel(const float *w, size_t count, lip_error *err)
{
    size_t at;

    return lip__all_finite(w, count, &at) ? LIP_OK : lip__fail(err, LIP_ENONFINITE, "kernel: element %zu is not finite", at);
}

/* u had missed the dominant direction: the power iteration starts again from it. x: its singular vector on the smaller
 * side, in work or NULL where nothing better is known than another u. */
static lip_err start_again(const float *w, size_t m, size_t n, const float *gram, const lip_rko_options *o, const float *x,
                           float *u, float *work, struct lip__spectral *s, lip_error *err)
{
    struct lip__spectral more;
    lip_err rc;

    if (!x)
        lip__draw_u(u, n);
    else if (m > n)
        memcpy(u, x, n * sizeof *u);
    else
        lip__gemv(true, m, n, 1, w, n, x, 0, u);
    rc = lip__power(w, m, n, gram, o, u, u, work, &more, err);
    if (rc)
        return rc;
    s->iterations += more.iterations;
    s->sigma = more.sigma;
    s->t = more.t;
    return LIP_OK;
}

/* ---- plain ------------------------------------------------------------------------------------------------ */

static void divide(const float *w, size_t count, float t, float *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = w[i] / t;
}

/* a <- w / t with its Gram matrix, from a u that makes the loop converge. */
static lip_err plain_start(const float *w, size_t m, size_t n, const lip_rko_options *o, float *u, float *work, float *a,
                           float *gram, struct lip__spectral *s, bool *rescaled, lip_error *err)
{
    for (int again = 0;; again++) {
        struct lip__spectrum spectrum;
        double largest;
        lip_err rc;

        divide(w, m * n, s->t, a);
        lip__gram(a, m, n, gram);
        if (again == 2)
            return LIP_OK;
        lip__lanczos(gram, smaller(m, n), work, &spectrum);
        largest = spectrum.ritz[spectrum.steps - 1];
        if (largest + spectrum.high_residual < safe_square)
            return LIP_OK;
        *rescaled = true;
        rc = start_again(w, m, n, NULL, o, isfinite(largest) ? work : NULL, u, work, s, err);
        if (rc)
            return rc;
    }
}

static lip_err run_plain(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o, float *u, float *wbar,
                         float *work, float *scratch, bool keep, struct lip__spectral *s, lip_rko_info *info, lip_error *err)
{
    float *gram, *a = lip__plain_start(m, n, o, keep, scratch, &gram);
    const float *last = a;
    lip_err rc;

    info->form = plain;
    if (lip__has_bjorck(o)) {
        rc = plain_start(w, m, n, o, u, work, a, gram, s, &info->rescaled, err);
        if (rc)
            return rc;
        last = lip__plain_loop(m, n, o, keep, scratch, &info->bjorck_iterations, &info->residual);
    } else {
        divide(w, m * n, s->t, a);
    }
    for (size_t i = 0; i < m * n; i++)
        wbar[i] = (float)coef * last[i];
    return LIP_OK;
}

/* ---- on the Gram matrix ------------------------------------------------------------------------------------ */

/* w'w or w w', the smaller. What is not finite in w is not finite on its diagonal either. */
static lip_err raw_gram(const float *w, size_t m, size_t n, float *gram, lip_error *err)
{
    bool tall = m > n;
    size_t k = smaller(m, n);

    lip__gemm_symmetric(tall, !tall, k, tall ? m : n, 1, w, w, NULL, NULL, n, 0, gram);
    if (lip__all_finite(gram, k * k, NULL))
        return LIP_OK;
    return check_kernel(w, m * n, err) ? LIP_ENONFINITE
                                       : lip__fail(err, LIP_ENUMERIC, "kernel: its squares exceed the range of float32");
}

/* e = I - gram/t^2. */
LIP__CLONES static void residual_matrix(size_t k, const float *restrict gram, float t, float *restrict e)
{
    float scale = (float)(-1 / ((double)t * t));

    for (size_t i = 0; i < k * k; i++)
        e[i] = scale * gram[i];
    for (size_t i = 0; i < k; i++)
        e[i * k + i] += 1;
}

static double square(double x)
{
    return x * x;
}

/* |W_(j+1) - W_j|_F as the quadrature of the spectrum sees it. */
static double change_of(const struct lip__spectrum *e, size_t k, int j)
{
    double sum = 0;

    for (size_t i = 0; i < e->steps; i++) {
        double before = lip__loop_value(e->ritz[i], j), after = lip__loop_value(e->ritz[i], j + 1);
        sum += e->weight[i] * fmax(1 - e->ritz[i], 0) * square(after - before);
    }
    return sqrt((double)k * sum);
}

/* How many iterations deel-lip's rule runs: an estimate, good enough where the next one would change nothing. */
static int count_iterations(const struct lip__spectrum *e, size_t k, const lip_rko_options *o, double *residual)
{
    int j = 0;

    for (*residual = HUGE_VAL; j < o->maxiter_bjorck && j < LIP__MOST_ITERATIONS && *residual >= o->eps_bjorck; j++)
        *residual = change_of(e, k, j);
    return j;
}

/* Whether k singular values at the lower end of the spectrum would all be in place before the cap. */
static bool surely_converges(double e, size_t k, const lip_rko_options *o)
{
    long most = o->maxiter_bjorck < LIP__MOST_ITERATIONS ? o->maxiter_bjorck : LIP__MOST_ITERATIONS;

    for (int j = 0; j < most; j++)
        if (sqrt((double)k * (1 - e)) * (lip__loop_value(e, j + 1) - lip__loop_value(e, j)) < fine_eps)
            return true;
    return false;
}

/* Whether the loop ends at its limit. [*low, *high] holds the eigenvalues of E. */
static bool converges(const struct lip__spectrum *e, size_t k, const lip_rko_options *o, lip_rko_info *info, double *low, double *high)
{
    *low = e->ritz[0] - e->low_residual - 2e-3;
    *high = e->ritz[e->steps - 1];
    *high += e->high_residual + 0.02 * (1 - *high);
    if (lip__rko_form == LIP__EIGEN || o->eps_bjorck > fine_eps || *high > 1 - least_rational || !surely_converges(*high, k, o))
        return false;
    info->bjorck_iterations = count_iterations(e, k, o, &info->residual);
    return true;
}

/* |Q (I - E) Q v - v| / |v|. y, z: k floats. */
static double deviation(size_t k, const float *q, const float *e, const float *v, float *y, float *z)
{
    lip__gemv_parallel(k, k, 1, q, k, v, 0, y);
    memcpy(z, y, k * sizeof *z);
    lip__gemv_parallel(k, k, -1, e, k, y, 1, z);
    lip__gemv_parallel(k, k, 1, q, k, z, 0, y);
    return lip__distance(y, v, k) / lip__norm(v, k);
}

/* out = alpha w q + beta out, or its mirror image. */
static void times(const float *w, size_t m, size_t n, float alpha, const float *q, float beta, float *out)
{
    if (m > n)
        lip__gemm_parallel(false, false, m, n, n, alpha, w, n, q, n, beta, out, n);
    else
        lip__gemm_parallel(false, false, m, n, m, alpha, q, m, w, n, beta, out, n);
}

/* Whether Q is right on the sum of the Ritz vectors in work and of a mixture of all directions, each as long as the others.
 * least: the smallest eigenvalue of G, over which rounding counts. */
static bool is_right(const struct gram_scratch *g, size_t k, double least, float *work)
{
    float *v = work, *low = work + k, *start = work + 2 * k, *y = work + 3 * k, *z = work + 4 * k;

    for (size_t i = 0; i < k; i++)
        v[i] += low[i] + start[i];
    return deviation(k, g->own, lip__polynomial_e(g->own, k), v, y, z) < accepted * fmax(1, 0.1 / least);
}

/* Q in the polynomial or the rational form, with what its derivative needs; NULL: neither. */
static const char *take_limit(const float *w, size_t m, size_t n, const struct gram_scratch *g, bool keep, double low, double high,
                              float *work)
{
    size_t k = smaller(m, n);
    const struct lip__scheme *scheme = high <= 1 - least_square ? lip__polynomial_plan(low, high) : NULL;
    double least = (1 - high) / 2; /* Ritz values come from inside; the logarithm of 2 costs half a term */

    if (scheme) {
        lip__polynomial_value(scheme, k, keep, g->own);
        g->head->terms = lip__scheme_terms(scheme);
    } else {
        g->head->terms = keep ? lip__rational_terms(least, 1 - low) : 0; /* where no gradient will be asked for there is no room */
        if (!g->head->terms || !lip__rational_value(w, m, n, g->head->t, least, 1 - low, g->head->terms, g->own))
            return NULL;
    }
    return is_right(g, k, 1 - high, work) ? scheme ? polynomial : rational : NULL;
}

void lip__factor_times(const float *w, size_t m, size_t n, float alpha, const float *q, float *wbar)
{
    times(w, m, n, alpha, q, 0, wbar);
}

static lip_err run_on_gram(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o, float *u, float *wbar,
                           float *work, const struct gram_scratch *g, bool keep, struct lip__spectral *s, lip_rko_info *info,
                           struct lip__factor *factor, lip_error *err)
{
    size_t k = smaller(m, n);
    float *e = lip__polynomial_e(g->own, k);
    struct lip__spectrum spectrum;
    const char *form;
    double low, high;
    lip_err rc;

    for (int again = 0; again < 3; again++) {
        residual_matrix(k, g->gram, s->t, e);
        lip__lanczos(e, k, work, &spectrum);
        if (again == 2 || 1 - spectrum.ritz[0] + spectrum.low_residual < safe_square)
            break;
        info->rescaled = true;
        rc = start_again(w, m, n, m > n ? g->gram : NULL, o, isfinite(spectrum.ritz[0]) ? work + k : NULL, u, work, s, err);
        if (rc)
            return rc;
    }
    g->head->t = s->t;
    if (converges(&spectrum, k, o, info, &low, &high) && (form = take_limit(w, m, n, g, keep, low, high, work))) {
        info->form = form;
        if (factor)
            *factor = (struct lip__factor){.q = g->own, .alpha = (float)(coef / s->t)};
        else
            times(w, m, n, (float)(coef / s->t), g->own, 0, wbar);
        return LIP_OK;
    }
    info->form = eigen;
    if (!lip__eigen_form(w, m, n, s->t, coef, o, (double *)(void *)g->own, wbar, info))
        return lip__fail(err, LIP_ENUMERIC, "kernel: no eigenvalues of its Gram matrix were found");
    return LIP_OK;
}

/* ---- the whole --------------------------------------------------------------------------------------------- */

lip_err lip__rko(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o, const float *u, float *u_new,
                 float *wbar, float *scratch, bool keep, lip_rko_info *info, struct lip__factor *factor, lip_error *err)
{
    float *own = scratch + vectors(m, n), *gram = NULL;
    struct gram_scratch g = {0};
    struct lip__spectral s;
    lip_rko_info said = {.form = plain};
    size_t at;
    lip_err rc = check_options(o, err);

    if (factor)
        factor->q = NULL;
    if (rc)
        return rc;
    if (on_gram(m, n, o)) {
        g = lay_out(m, n, keep, own);
        rc = raw_gram(w, m, n, g.gram, err);
        if (m > n)
            gram = g.gram;
    } else {
        rc = check_kernel(w, m * n, err);
    }
    if (rc)
        return rc;
    rc = lip__power(w, m, n, gram, o, u, u_new, scratch, &s, err);
    if (rc)
        return rc;
    said.redrawn = s.redrawn;
    rc = g.gram ? run_on_gram(w, m, n, coef, o, u_new, wbar, scratch, &g, keep, &s, &said, factor, err)
                : run_plain(w, m, n, coef, o, u_new, wbar, scratch, own, keep, &s, &said, err);
    if (rc)
        return rc;
    said.power_iterations = s.iterations;
    said.sigma = s.sigma;
    if (info)
        *info = said;
    if (factor && factor->q) /* which evaluate() has found to be finite, and so is w */
        return LIP_OK;
    if (!lip__all_finite(wbar, m * n, &at))
        return lip__fail(err, LIP_ENUMERIC, "effective kernel: element %zu is not finite", at);
    return LIP_OK;
}

lip_err lip_rko(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o, const float *u, float *u_new,
                float *wbar, float *scratch, bool keep, lip_rko_info *info, lip_error *err)
{
    return lip__rko(w, m, n, coef, o, u, u_new, wbar, scratch, keep, info, NULL, err);
}

/* p <- p + p'. */
static void symmetrise(size_t k, float *p)
{
    enum { TILE = 16 };

    for (size_t a = 0; a < k; a += TILE)
        for (size_t b = 0; b <= a; b += TILE)
            for (size_t i = a; i < a + TILE && i < k; i++)
                for (size_t j = b; j < b + TILE && j <= i; j++)
                    p[i * k + j] = p[j * k + i] = p[i * k + j] + p[j * k + i];
}

/* With P = w'D and K the derivative of q in the direction P + P', dL/dw = alpha D q - (coef/t^3) w K: this factor of K. What is
 * orthogonal does not change when w grows, so nothing comes through sigma. */
static float derivative_factor(const struct gram_scratch *x, double coef)
{
    double t = x->head->t;

    return (float)(-coef / (t * t * t));
}

/* dw holds alpha D q, or alpha q D. */
static void factor_backward(const float *w, size_t m, size_t n, double coef, const struct lip__factor *f, float *dw, float *scratch)
{
    struct gram_scratch x = lay_out(m, n, true, scratch + vectors(m, n));
    size_t k = smaller(m, n);
    float scale = derivative_factor(&x, coef);
    const float *derivative;

    if (2 * f->rows <= k) {
        derivative = lip__polynomial_derivative_thin(x.head->terms, k, scale, f->rows, f->left, f->right, x.own);
    } else {
        lip__gemm_symmetric(true, false, k, f->rows, 1, f->left, f->right, f->right, f->left, k, 0, lip__polynomial_direction(k, x.own));
        derivative = lip__polynomial_derivative(x.head->terms, k, scale, x.own);
    }
    times(w, m, n, 1, derivative, 1, dw);
}

/* The same from g = dL/dwbar. */
static void polynomial_backward(const float *w, size_t m, size_t n, double coef, const float *g, float *dw, float *scratch)
{
    struct gram_scratch x = lay_out(m, n, true, scratch + vectors(m, n));
    size_t k = smaller(m, n);
    float *product = lip__polynomial_direction(k, x.own);

    if (m > n)
        lip__gemm_parallel(true, false, n, n, m, 1, w, n, g, n, 0, product, n);
    else
        lip__gemm_parallel(false, true, m, m, n, 1, w, n, g, n, 0, product, m);
    symmetrise(k, product);
    if (g == dw)
        g = memcpy(x.inner, g, m * n * sizeof *g);
    times(g, m, n, (float)(coef / x.head->t), x.own, 0, dw);
    times(w, m, n, 1, lip__polynomial_derivative(x.head->terms, k, derivative_factor(&x, coef), x.own), 1, dw);
}

/* The other forms. */
static double inner_backward(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o, const lip_rko_info *info,
                             const float *u, const float *g, float *dw, float *scratch)
{
    struct lip__spectral s = {.sigma = (float)info->sigma};
    struct gram_scratch x = lay_out(m, n, true, scratch + vectors(m, n));
    const float *inner = x.inner;

    s.t = s.sigma + (float)o->eps_spectral;
    if (info->form == eigen)
        lip__eigen_backward(m, n, coef, g, (double *)(void *)x.own, x.inner);
    else
        inner = lip__plain_backward(m, n, o, info->bjorck_iterations, coef, g, scratch + vectors(m, n));
    return lip__divide_backward(w, m, n, &s, u, inner, dw, scratch);
}

lip_err lip__rko_backward(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o, const lip_rko_info *info,
                          const float *u, const float *u_new, const float *g, float *dw, float *scratch,
                          const struct lip__factor *factor, lip_error *err)
{
    double dsigma = 0;

    if (factor && factor->q) {
        if (dw != g)
            memcpy(dw, g, m * n * sizeof *dw);
        factor_backward(w, m, n, coef, factor, dw, scratch);
    } else if (info->form == polynomial || info->form == rational) {
        polynomial_backward(w, m, n, coef, g, dw, scratch);
    } else {
        dsigma = inner_backward(w, m, n, coef, o, info, u_new, g, dw, scratch);
    }
    return u && dsigma != 0 ? lip__power_backward(w, m, n, info, u, dsigma, dw, err) : LIP_OK;
}

lip_err lip_rko_backward(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o,
                         const lip_rko_info *info, const float *u_new, const float *g, float *dw, float *scratch,
                         lip_error *err)
{
    return lip__rko_backward(w, m, n, coef, o, info, NULL, u_new, g, dw, scratch, NULL, err);
}

lip_err lip_rko_backward_through(const float *w, size_t m, size_t n, double coef, const lip_rko_options *o,
                                 const lip_rko_info *info, const float *u, const float *u_new, const float *g, float *dw,
                                 float *scratch, lip_error *err)
{
    return lip__rko_backward(w, m, n, coef, o, info, u, u_new, g, dw, scratch, NULL, err);
}
