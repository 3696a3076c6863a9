/* regularizers.c: penalties on raw variables and on outputs.
 *
 *     L1, L2, L1L2             l1 sum |x| + l2 sum x^2
 *     OrthogonalRegularizer    factor/2 times the sum of |off-diagonal| of the Gram matrix of normalised rows (or columns),
 *                              over the number of pairs
 *     OrthDenseRegularizer     lambda ||W W' - I||_F^2 of the smaller side
 *     LorthRegularizer         lambda (||K * K - I||_F^2 - delta): orthogonality of a convolution
 *
 * Source: Keras 2.15, deel-lip (semantics.md 12 and 18.2); Achour, Malgouyres and Mamalet, JMLR 23, 2022 (Lorth).
 */
#include "layers/slots.h"

#include <math.h>
#include <string.h>

#include "tensor/gemm.h"

#define NUMBER(struct_, name_, member_, def_) \
    {.name = name_, .type = LIP__FLOAT, .offset = LIP__FIELD(struct_, member_), .def = def_, .min = -INFINITY, .max = INFINITY}
#define END {.name = NULL}

/* ---- L1, L2, L1L2 ------------------------------------------------------------------------------------ */

struct l1l2 {
    struct lip__object base;
    double l1, l2;
};

static double l1l2_value(const struct lip__object *self, const lip_shape *shape, const float *x, double scale, float *dx,
                         float *scratch)
{
    const struct l1l2 *r = (const struct l1l2 *)self;
    size_t n = lip_shape_count(shape);
    double one = 0, two = 0;

    (void)scratch;
    for (size_t i = 0; i < n; i++) {
        one += fabs((double)x[i]);
        two += (double)x[i] * x[i];
    }
    for (size_t i = 0; i < n && dx; i++)
        dx[i] += (float)(scale * (r->l1 * ((x[i] > 0) - (x[i] < 0)) + 2 * r->l2 * x[i]));
    return r->l1 * one + r->l2 * two;
}

/* Keras holds its default factor in float32. */
#define TENTH_OF_TEN_PERCENT ((double)0.01f)

static const struct lip__field l1_fields[] = {NUMBER(l1l2, "l1", l1, TENTH_OF_TEN_PERCENT), END};
static const struct lip__field l2_fields[] = {NUMBER(l1l2, "l2", l2, TENTH_OF_TEN_PERCENT), END};
static const struct lip__field l1l2_fields[] = {NUMBER(l1l2, "l1", l1, 0), NUMBER(l1l2, "l2", l2, 0), END};
static const struct lip__field both_fields[] = {NUMBER(l1l2, "l1", l1, TENTH_OF_TEN_PERCENT),
                                                NUMBER(l1l2, "l2", l2, TENTH_OF_TEN_PERCENT), END};

#define NORM(name_, text_, aliases_, fields_)                                                                            \
    static const struct lip__regularizer_class name_ = {.cls = {.name = text_, .aliases = aliases_,                     \
                                                                .module = "keras.regularizers",                         \
                                                                .size = sizeof(struct l1l2), .fields = fields_},        \
                                                        .value = l1l2_value}
NORM(l1, "L1", "l1", l1_fields);
NORM(l2, "L2", "l2", l2_fields);
NORM(l1l2, "L1L2", NULL, l1l2_fields);
NORM(l1_l2, "L1L2", "l1_l2", both_fields); /* the string, which means other numbers than the class; written as the class */

/* ---- Gram matrices ------------------------------------------------------------------------------------- */

static lip_err needs_matrix(const struct lip__object *self, const lip_shape *shape, lip_error *err)
{
    char found[96];

    if (shape->rank == 2)
        return LIP_OK;
    return lip__fail(err, LIP_EDEFINITION, "%s: a variable of shape %s, needs 2 axes", self->cls->name,
                     lip_shape_text(shape, found, sizeof found));
}

struct orth_dense {
    struct lip__object base;
    double lambda;
};

static size_t orth_dense_scratch(const struct lip__object *self, const lip_shape *shape)
{
    size_t m = shape->dim[0], n = shape->dim[1], small = m < n ? m : n;

    (void)self;
    return small * small;
}

/* 4 lambda (W W' - I) W where rows are fewer, else 4 lambda W (W' W - I). */
static double orth_dense_value(const struct lip__object *self, const lip_shape *shape, const float *w, double scale,
                               float *dw, float *gram)
{
    double lambda = ((const struct orth_dense *)self)->lambda, sum;
    size_t m = shape->dim[0], n = shape->dim[1], small = m <= n ? m : n;

    if (m <= n)
        lip__gemm(false, true, m, m, n, 1, w, n, w, n, 0, gram, m);
    else
        lip__gemm(true, false, n, n, m, 1, w, n, w, n, 0, gram, n);
    for (size_t i = 0; i < small; i++)
        gram[i * small + i] -= 1;
    sum = lip__norm(gram, small * small);
    if (dw && m <= n)
        lip__gemm(false, false, m, n, m, (float)(4 * lambda * scale), gram, m, w, n, 1, dw, n);
    else if (dw)
        lip__gemm(false, false, m, n, n, (float)(4 * lambda * scale), w, n, gram, n, 1, dw, n);
    return lambda * sum * sum;
}

static const struct lip__field orth_dense_fields[] = {NUMBER(orth_dense, "lambda_orth", lambda, 1), END};

static const struct lip__regularizer_class orth_dense = {
    .cls = {.name = "OrthDenseRegularizer", .module = "deel.lip.regularizers", .package = "deel-lip",
            .size = sizeof(struct orth_dense), .fields = orth_dense_fields},
    .check = needs_matrix,
    .scratch = orth_dense_scratch,
    .value = orth_dense_value,
};

struct orthogonal {
    struct lip__object base;
    double factor;
    const char *mode;
};

static size_t orthogonal_scratch(const struct lip__object *self, const lip_shape *shape)
{
    size_t m = shape->dim[0], n = shape->dim[1], rows = !strcmp(((const struct orthogonal *)self)->mode, "rows") ? m : n;

    return 2 * m * n + rows * rows + rows; /* normalised vectors, their gradient, their products, their lengths */
}

static double orthogonal_value(const struct lip__object *self, const lip_shape *shape, const float *w, double scale,
                               float *dw, float *scratch)
{
    const struct orthogonal *r = (const struct orthogonal *)self;
    size_t m = shape->dim[0], n = shape->dim[1];
    bool by_rows = !strcmp(r->mode, "rows");
    size_t k = by_rows ? m : n, d = by_rows ? n : m; /* k vectors of d numbers */
    float *x = scratch, *g = x + m * n, *gram = g + m * n, *length = gram + k * k;
    double sum = 0, each = k > 1 ? r->factor * 0.5 / ((double)k * (double)(k - 1) / 2) : 0;

    for (size_t i = 0; i < k; i++) {
        double square = 0;
        for (size_t j = 0; j < d; j++) {
            float v = by_rows ? w[i * n + j] : w[j * n + i];
            square += (double)v * v;
            x[i * d + j] = v;
        }
        length[i] = (float)sqrt(fmax(square, 1e-12));
        for (size_t j = 0; j < d; j++)
            x[i * d + j] /= length[i];
    }
    lip__gemm(false, true, k, k, d, 1, x, d, x, d, 0, gram, k);
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < k; j++) {
            float v = i == j ? 0 : gram[i * k + j];
            sum += fabs((double)v);
            gram[i * k + j] = (float)((v > 0) - (v < 0)); /* the sign is what differentiation leaves */
        }
    if (!dw)
        return each * sum;
    /* d sum / d x = 2 sign x; through x = v / |v|. */
    lip__gemm(false, false, k, d, k, (float)(2 * each * scale), gram, k, x, d, 0, g, d);
    for (size_t i = 0; i < k; i++) {
        double along = lip__dot(g + i * d, x + i * d, d);
        for (size_t j = 0; j < d; j++) {
            float v = (float)((g[i * d + j] - along * x[i * d + j]) / length[i]);
            dw[by_rows ? i * n + j : j * n + i] += v;
        }
    }
    return each * sum;
}

static const struct lip__field orthogonal_fields[] = {
    NUMBER(orthogonal, "factor", factor, TENTH_OF_TEN_PERCENT),
    {.name = "mode", .type = LIP__CHOICE, .offset = LIP__FIELD(orthogonal, mode), .choices = "rows|columns"},
    END,
};

static const struct lip__regularizer_class orthogonal = {
    .cls = {.name = "OrthogonalRegularizer", .aliases = "orthogonal_regularizer", .module = "keras.regularizers",
            .size = sizeof(struct orthogonal), .fields = orthogonal_fields},
    .check = needs_matrix,
    .scratch = orthogonal_scratch,
    .value = orthogonal_value,
};

/* ---- Lorth ---------------------------------------------------------------------------------------------- */

struct lorth {
    struct lip__object base;
    struct lip__ints kernel_shape; /* as given; none: the variable's, which it has to be anyway */
    long stride;
    double lambda;
    bool transpose;
};

struct lorth_size {
    size_t r, c, m;     /* kernel (r, r, c, m) */
    size_t step, o;     /* shifts that overlap: -step .. step along each axis, o = 2 step + 1 of them */
};

static struct lorth_size lorth_size(const struct lorth *l, const lip_shape *shape)
{
    struct lorth_size s = {shape->dim[0], shape->dim[2], shape->dim[3], 0, 0};

    s.step = (s.r - 1) / (size_t)l->stride;
    s.o = 2 * s.step + 1;
    return s;
}

static lip_err lorth_check(const struct lip__object *self, const lip_shape *shape, lip_error *err)
{
    const struct lorth *l = (const struct lorth *)self;
    lip_shape said = {.rank = l->kernel_shape.n};
    char found[96], wanted[96];

    for (size_t i = 0; i < said.rank; i++)
        said.dim[i] = (size_t)l->kernel_shape.v[i];
    if (said.rank && !lip_shape_equal(&said, shape))
        return lip__fail(err, LIP_EDEFINITION, "LorthRegularizer: kernel_shape is %s, needs the kernel's, %s",
                         lip_shape_text(&said, found, sizeof found), lip_shape_text(shape, wanted, sizeof wanted));
    if (shape->rank != 4 || shape->dim[0] != shape->dim[1] || shape->dim[0] % 2 == 0)
        return lip__fail(err, LIP_EDEFINITION, "LorthRegularizer: a kernel of shape %s, needs a square window of odd size",
                         lip_shape_text(shape, found, sizeof found));
    double r = (double)shape->dim[0], c = (double)shape->dim[2], m = (double)shape->dim[3], s = (double)l->stride;
    if (c * s * s >= m && m > c * r * r)
        return lip__fail(err, LIP_EDEFINITION, "LorthRegularizer: %g filters of %g numbers cannot be orthogonal rows (RO)", m, c * r * r);
    if (c * s * s < m && s > r)
        return lip__fail(err, LIP_EDEFINITION, "LorthRegularizer: stride %g over windows of %g cannot have orthogonal columns (CO)", s, r);
    return LIP_OK;
}

static size_t lorth_scratch(const struct lip__object *self, const lip_shape *shape)
{
    struct lorth_size s = lorth_size((const struct lorth *)self, shape);

    return s.m * s.m;
}

/* Rows a of the window that stay inside it when moved by `shift`. */
static void overlap(size_t r, ptrdiff_t shift, size_t *from, size_t *to)
{
    *from = shift < 0 ? (size_t)-shift : 0;
    *to = shift > 0 ? r - (size_t)shift : r;
}

/* Y(p, q) = sum over a, b, c of K[a + p s, b + q s, c, :]' K[a, b, c, :], one (m, m) product per pair of shifts; the target is
 * the identity at shift 0 and zero elsewhere. */
static double lorth_value(const struct lip__object *self, const lip_shape *shape, const float *k, double scale, float *dk,
                          float *y)
{
    const struct lorth *l = (const struct lorth *)self;
    struct lorth_size s = lorth_size(l, shape);
    double sum = 0, in = (double)(l->stride * l->stride) * (double)s.c, out = (double)s.m;
    double delta = l->transpose ? fmax(0, (double)s.c - (double)(l->stride * l->stride) * out) : fmax(0, out - in);
    size_t row = s.c * s.m;

    for (size_t p = 0; p < s.o; p++)
        for (size_t q = 0; q < s.o; q++) {
            ptrdiff_t up = ((ptrdiff_t)p - (ptrdiff_t)s.step) * l->stride, left = ((ptrdiff_t)q - (ptrdiff_t)s.step) * l->stride;
            size_t a0, a1, b0, b1;
            overlap(s.r, up, &a0, &a1);
            overlap(s.r, left, &b0, &b1);
            memset(y, 0, s.m * s.m * sizeof *y);
            for (size_t a = a0; a < a1; a++) {
                const float *moved = k + ((size_t)((ptrdiff_t)a + up) * s.r + (size_t)((ptrdiff_t)b0 + left)) * row;
                lip__gemm(true, false, s.m, s.m, (b1 - b0) * s.c, 1, moved, s.m, k + (a * s.r + b0) * row, s.m, 1, y, s.m);
            }
            for (size_t i = 0; i < s.m && !up && !left; i++)
                y[i * s.m + i] -= 1;
            double norm = lip__norm(y, s.m * s.m);
            sum += norm * norm;
            float twice = (float)(2 * l->lambda * scale);
            for (size_t a = a0; a < a1 && dk; a++) {
                size_t here = (a * s.r + b0) * row, there = ((size_t)((ptrdiff_t)a + up) * s.r + (size_t)((ptrdiff_t)b0 + left)) * row;
                size_t rows = (b1 - b0) * s.c;
                lip__gemm(false, true, rows, s.m, s.m, twice, k + here, s.m, y, s.m, 1, dk + there, s.m);
                lip__gemm(false, false, rows, s.m, s.m, twice, k + there, s.m, y, s.m, 1, dk + here, s.m);
            }
        }
    return l->lambda * (sum - delta);
}

static const struct lip__field lorth_fields[] = {
    {.name = "kernel_shape", .type = LIP__INTS, .offset = LIP__FIELD(lorth, kernel_shape), .def = NAN, .min = 1, .max = INT32_MAX,
     .flags = LIP__NONE_OK},
    {.name = "stride", .type = LIP__INT, .offset = LIP__FIELD(lorth, stride), .def = 1, .min = 1, .max = 1e6},
    NUMBER(lorth, "lambda_lorth", lambda, 1),
    {.name = "dim", .type = LIP__FIXED, .choices = "2"},
    {.name = "conv_transpose", .type = LIP__BOOL, .offset = LIP__FIELD(lorth, transpose), .def = 0},
    END,
};

static const struct lip__regularizer_class lorth = {
    .cls = {.name = "LorthRegularizer", .module = "deel.lip.regularizers", .package = "deel-lip", .size = sizeof(struct lorth),
            .fields = lorth_fields},
    .check = lorth_check,
    .scratch = lorth_scratch,
    .value = lorth_value,
};

const struct lip__class *const lip__regularizers[] = {&l1.cls, &l2.cls, &l1l2.cls, &l1_l2.cls, &orthogonal.cls,
                                                      &orth_dense.cls, &lorth.cls, NULL};
