/* dense.c: y = x W + b on the last axis; Dense, and the kinds that differ only in how W comes from the kernel.
 *
 * Leading axes are more rows. Initial rows of y are the bias, to which the product is added. A W that comes as a factor
 * and a raw kernel is never multiplied out: see norm/rko_factor.h.
 */
#include <stdint.h>

#include "layers/family.h"
#include "tensor/conv.h"
#include "tensor/gemm.h"
#include "tensor/tile.h"

static size_t inputs(const lip_layer *l)
{
    return l->in.dim[l->in.rank - 1];
}

static size_t outputs(const lip_layer *l)
{
    return (size_t)((const struct lip__dense *)l)->units;
}

/* Rows per sample. */
static size_t rows(const lip_layer *l)
{
    return lip_shape_count(&l->in) / inputs(l);
}

static lip_err check(lip_layer *l, lip_error *err)
{
    long units = ((struct lip__dense *)l)->units;

    if (units < 1 || units > INT32_MAX)
        return lip__layer_fail(l, err, LIP_EDEFINITION, "units is %ld, needs an integer >= 1 and <= %d", units, INT32_MAX);
    return LIP_OK;
}

static lip_err build(lip_layer *l, lip_error *err)
{
    struct lip__dense *d = (struct lip__dense *)l;

    if (!l->in.rank)
        return lip__layer_fail(l, err, LIP_ESHAPE, "its input has shape [], needs at least one axis beside the batch");
    l->out.dim[l->out.rank - 1] = outputs(l);
    lip__declare_kernel(l, &LIP__SHAPE(inputs(l), outputs(l)), outputs(l), d->use_bias, d->kernel_initializer,
                        d->bias_initializer);
    return LIP_OK;
}

/* The smaller side, of the factor. */
static size_t side(const lip_layer *l)
{
    return inputs(l) > outputs(l) ? outputs(l) : inputs(l);
}

static size_t half(const lip_layer *l)
{
    return rows(l) * side(l);
}

static void forward(const lip_layer *l, const struct lip__pass *p, const float *x, float *y)
{
    size_t m = p->n * rows(l), d = inputs(l), units = outputs(l);
    const struct lip__factor *f = p->factor;

    if (p->packed && m == 1) {
        lip__gemv_packed(units, d, x, p->packed, p->w[1], p->backwards, p->alone, y);
        return;
    }
    if (p->packed) {
        lip__gemm_packed(m, units, d, x, d, p->packed, p->w[1], y, units);
        return;
    }
    lip__fill_bias(y, m, units, p->w[1]);
    if (!f) {
        lip__gemm_parallel(false, false, m, units, d, 1, x, d, p->w[0], units, 1, y, units);
    } else if (d > units) {
        lip__gemm_parallel(false, false, m, units, d, 1, x, d, p->w[0], units, 0, p->half[0], units);
        lip__gemm_parallel(false, false, m, units, units, f->alpha, p->half[0], units, f->q, units, 1, y, units);
    } else {
        lip__gemm_parallel(false, false, m, d, d, f->alpha, x, d, f->q, d, 0, p->half[0], d);
        lip__gemm_parallel(false, false, m, units, d, 1, p->half[0], d, p->w[0], units, 1, y, units);
    }
}

static size_t packed(const lip_layer *l)
{
    return lip__vector_unit() ? lip__packed_size(inputs(l), outputs(l)) : 0; /* OpenBLAS is quicker than any unit */
}

static void pack(const lip_layer *l, const float *const *w, float *to)
{
    lip__pack(false, inputs(l), outputs(l), 0, inputs(l), w[0], outputs(l), to);
}

static void backward(const lip_layer *l, const struct lip__pass *p, const float *x, const float *y, const float *dy,
                     float *dx)
{
    size_t m = p->n * rows(l), d = inputs(l), units = outputs(l);

    (void)x, (void)y;
    if (!p->factor)
        lip__gemm_parallel(false, true, m, d, units, 1, dy, units, p->w[0], units, 0, dx, d);
    else if (d > units)
        lip__gemm_parallel(false, true, m, d, units, 1, p->half[1], units, p->w[0], units, 0, dx, d);
    else
        lip__gemm_parallel(false, false, m, d, d, p->factor->alpha, p->half[1], d, p->factor->q, d, 0, dx, d);
}

/* dL/dW as lip__rko_backward wants it. */
static void gradient_of_factor(const lip_layer *l, const struct lip__pass *p, const float *x, const float *dy)
{
    size_t m = p->n * rows(l), d = inputs(l), units = outputs(l);
    struct lip__factor *f = p->factor;

    f->rows = m;
    f->left = p->half[d > units ? 0 : 1];
    f->right = d > units ? dy : x;
    if (d > units) {
        lip__gemm_parallel(false, false, m, units, units, f->alpha, dy, units, f->q, units, 0, p->half[1], units);
        lip__gemm_parallel(true, false, d, units, m, 1, x, d, p->half[1], units, 0, p->dw[0], units);
    } else {
        lip__gemm_parallel(false, true, m, d, units, 1, dy, units, p->w[0], units, 0, p->half[1], d);
        lip__gemm_parallel(true, false, d, units, m, 1, p->half[0], d, dy, units, 0, p->dw[0], units);
    }
}

static void gradient(const lip_layer *l, const struct lip__pass *p, const float *x, const float *dy)
{
    size_t m = p->n * rows(l), d = inputs(l), units = outputs(l);

    if (p->factor)
        gradient_of_factor(l, p, x, dy);
    else if (p->dw[0])
        lip__gemm_parallel(true, false, d, units, m, 1, x, d, dy, units, 0, p->dw[0], units);
    if (p->dw[1])
        lip__sum_columns(dy, m, units, p->dw[1]);
}

static double flops(const lip_layer *l)
{
    return 2.0 * (double)rows(l) * (double)inputs(l) * (double)outputs(l);
}

/* deel-lip's claim holds for each neuron alone; together they may reach k sqrt(units). */
static bool per_output(const lip_layer *l)
{
    return lip__layer_disjoint(l) && outputs(l) > 1;
}

#define BASE_FIELDS(kernel_default)                                                                          \
    {"units", LIP__INT, LIP__FIELD(lip__dense, units), .def = NAN, .min = 1, .max = INT32_MAX}, LIP__SLOT_FIELD, \
        {"use_bias", LIP__BOOL, LIP__FIELD(lip__dense, use_bias), .def = 1},                                 \
        LIP__KERNEL_FIELDS(lip__dense, kernel_default)

static const struct lip__field dense_fields[] = {BASE_FIELDS(LIP__GLOROT_UNIFORM), {.name = NULL}};

static const struct lip__field spectral_fields[] = {
    BASE_FIELDS(LIP__SPECTRAL_INITIALIZER), LIP__K_FIELD, LIP__COEF_FIELD, LIP__RKO_FIELDS(lip__dense), {.name = NULL}};

static const struct lip__field frobenius_fields[] = {
    BASE_FIELDS(LIP__SPECTRAL_INITIALIZER),
    LIP__K_FIELD, LIP__COEF_FIELD,
    {"disjoint_neurons", LIP__BOOL, LIP__FIELD(lip__dense, disjoint), .def = 1},
    {.name = NULL},
};

const struct lip__kind lip__dense = {
    .cls = {.name = "Dense", .module = "keras.layers", .size = sizeof(struct lip__dense), .fields = dense_fields},
    .op = LIP__MATRIX,
    .check = check,
    .build = build,
    .packed = packed,
    .pack = pack,
    .forward = forward,
    .backward = backward,
    .gradient = gradient,
    .flops = flops,
};

const struct lip__kind lip__spectral_dense = {
    .cls = {.name = "SpectralDense", .module = "deel.lip.layers.dense", .package = "deel-lip",
            .size = sizeof(struct lip__dense), .fields = spectral_fields},
    .flags = LIP__LIPSCHITZ | LIP__CONDENSABLE,
    .op = LIP__MATRIX,
    .vanilla = &lip__dense,
    .check = check,
    .build = build,
    .reparam = &lip__spectral,
    .packed = packed,
    .pack = pack,
    .forward = forward,
    .backward = backward,
    .gradient = gradient,
    .half = half,
    .flops = flops,
};

const struct lip__kind lip__frobenius_dense = {
    .cls = {.name = "FrobeniusDense", .module = "deel.lip.layers.dense", .package = "deel-lip",
            .size = sizeof(struct lip__dense), .fields = frobenius_fields},
    .flags = LIP__LIPSCHITZ | LIP__CONDENSABLE,
    .op = LIP__MATRIX,
    .vanilla = &lip__dense,
    .check = check,
    .build = build,
    .reparam = &lip__frobenius,
    .packed = packed,
    .pack = pack,
    .forward = forward,
    .backward = backward,
    .gradient = gradient,
    .flops = flops,
    .per_output = per_output,
};
