/* spectrum.c: the singular values of a layer's linear part.
 *
 * A dense layer's matrix acts on each row of a sample, so its values come once for each; a convolution's are those of
 * its whole matrix, zeros around the image included, or where that is too large its ends by Lanczos' method; average pooling adds windows that do not overlap, so all of its
 * are k.
 */
#include <string.h>

#include "bounds/ends.h"
#include "bounds/stage.h"
#include "tensor/gemm.h"

#define MOST_FLOPS 2e10

/* Values of a (m, n), each `times` over; a is destroyed. */
static lip_err decompose(double *a, size_t m, size_t n, size_t times, lip_spectrum *s, lip_error *err)
{
    size_t few = m < n ? m : n;
    double *value = lip__alloc(few, times * sizeof *value);
    int info;

    if (!value)
        return lip__nomem(err, few * times * sizeof *value);
    info = lip__singular_values(m, n, a, value);
    if (info) {
        lip__free(value);
        return info == -1
                   ? lip__nomem(err, few * sizeof *value)
                   : lip__fail(err, LIP_ENUMERIC, "the singular values of a (%zu, %zu) matrix did not converge", m, n);
    }
    for (size_t i = few * times; i-- > 0;)
        value[i] = value[i / times];
    *s = (lip_spectrum){.kind = s->kind,
                        .norm = s->norm,
                        .method = "svd",
                        .inputs = m * times,
                        .outputs = n * times,
                        .count = few * times,
                        .largest = few * times,
                        .value = value};
    return LIP_OK;
}

static lip_err of_kernel(const struct lip__stage *stage, size_t times, lip_spectrum *s, lip_error *err)
{
    double *copy = lip__alloc(stage->m * stage->n, sizeof *copy);
    lip_err rc;

    if (!copy)
        return lip__nomem(err, stage->m * stage->n * sizeof *copy);
    memcpy(copy, stage->kernel, stage->m * stage->n * sizeof *copy);
    rc = decompose(copy, stage->m, stage->n, times, s, err);
    lip__free(copy);
    return rc;
}

/* The ends of what is too large to decompose. */
static lip_err of_ends(const struct lip__stage *stage, size_t k, lip_spectrum *s, lip_error *err)
{
    size_t few = stage->in < stage->out ? stage->in : stage->out;
    double *value = k <= few / 2 ? lip__alloc(k, 2 * sizeof *value) : NULL;
    lip_err rc;

    if (k > few / 2)
        return lip__fail(err, LIP_EUNSUPPORTED, "the matrix of layer \"%s\" is (%zu, %zu), too large to decompose",
                         stage->layer->name, stage->in, stage->out);
    if (!value)
        return lip__nomem(err, k * 2 * sizeof *value);
    rc = lip__conv_ends(&stage->conv, k, value, err);
    if (rc)
        lip__free(value);
    else
        *s = (lip_spectrum){.kind = s->kind,
                            .norm = s->norm,
                            .method = "lanczos",
                            .inputs = stage->in,
                            .outputs = stage->out,
                            .count = few,
                            .largest = k,
                            .smallest = k,
                            .value = value};
    return rc;
}

static lip_err of_convolution(const struct lip__stage *stage, size_t k, lip_spectrum *s, lip_error *err)
{
    double in = (double)stage->in, out = (double)stage->out, few = fmin(in, out), *matrix;
    size_t m, n;
    lip_err rc;

    if (few * few * (4 * fmax(in, out) + 8 * few) > MOST_FLOPS)
        return k ? of_ends(stage, k, s, err)
                 : lip__fail(err, LIP_EUNSUPPORTED, "the matrix of layer \"%s\" is (%zu, %zu), too large to decompose",
                             stage->layer->name, stage->in, stage->out);
    rc = lip__conv_matrix(&stage->conv, &matrix, &m, &n, err);
    if (!rc)
        rc = decompose(matrix, m, n, 1, s, err);
    lip__free(matrix);
    return rc;
}

static lip_err of_pooling(const struct lip__stage *stage, lip_spectrum *s, lip_error *err)
{
    double *value = lip__alloc(stage->out, sizeof *value);

    if (!value)
        return lip__nomem(err, stage->out * sizeof *value);
    for (size_t i = 0; i < stage->out; i++)
        value[i] = stage->layer->k;
    *s = (lip_spectrum){.kind = s->kind,
                        .norm = s->norm,
                        .method = "analytic",
                        .inputs = stage->in,
                        .outputs = stage->out,
                        .count = stage->out,
                        .largest = stage->out,
                        .value = value};
    return LIP_OK;
}

/* Of the kernel as a matrix, or of what inference does with it. */
static lip_err enclose(struct lip__stage *stage, bool kernel, lip_interval *norm, lip_error *err)
{
    lip_err rc;

    if (kernel && stage->kernel)
        return lip__enclose(stage->kernel, stage->m, stage->n, norm, NULL, err);
    rc = lip__stage_prove(stage, 0, err);
    *norm = stage->norm;
    return rc;
}

/* Of a whole spectrum k at each end. */
static void cut(lip_spectrum *s, size_t k)
{
    if (k == 0 || s->smallest || k >= s->largest) /* all wanted, or cut already */
        return;
    s->smallest = s->largest - k < k ? s->largest - k : k;
    memmove(s->value + k, s->value + s->largest - s->smallest, s->smallest * sizeof *s->value);
    s->largest = k;
}

lip_err lip_bound_spectrum(const lip_snapshot *snapshot, size_t layer, bool kernel, size_t k,
                           lip_spectrum *spectrum, lip_error *err)
{
    const lip_model *m = snapshot->model;
    struct lip__stage stage;
    size_t step = 0;
    bool convolves;
    lip_err rc;

    *spectrum = (lip_spectrum){0};
    while (step < m->n_steps && (m->step[step].top != layer || m->step[step].turns))
        step++;
    if (step == m->n_steps)
        return lip__fail(err, LIP_ERANGE, "layer %zu has no arithmetic", layer);
    rc = lip__stage_open(snapshot, step, &stage, err);
    convolves = stage.kind == LIP__STAGE_CONV || stage.kind == LIP__STAGE_ADJOINT;
    spectrum->kind = stage.kind == LIP__STAGE_MATRIX    ? "dense"
                     : convolves && stage.conv.circular ? "circular"
                     : convolves && stage.conv.row      ? "padded"
                     : convolves                        ? "zero_padded"
                                                        : "pooling";
    if (!rc)
        rc = enclose(&stage, kernel, &spectrum->norm, err);
    if (!rc && convolves && !kernel)
        rc = of_convolution(&stage, k, spectrum, err);
    else if (!rc && (stage.kind == LIP__STAGE_MATRIX || convolves))
        rc = of_kernel(&stage, kernel ? 1 : stage.rows, spectrum, err);
    else if (!rc && stage.kind == LIP__STAGE_AVERAGE && stage.scale > 0 && !kernel)
        rc = of_pooling(&stage, spectrum, err);
    else if (!rc)
        rc = lip__fail(err, LIP_ERANGE, "layer \"%s\" (%s) is no linear operator", stage.layer->name,
                       lip_layer_class(stage.layer));
    lip__stage_close(&stage);
    if (!rc)
        cut(spectrum, k);
    if (rc)
        *spectrum = (lip_spectrum){0};
    return rc;
}
