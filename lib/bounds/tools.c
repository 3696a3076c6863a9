/* tools.c: deel-lip's own tools for looking at layers and models: singular values, and a lower estimate at given points.
 *
 * Source: deel-lip's compute_layer_sv.py and evaluate_lip_const; semantics.md 17.1 to 17.3.
 */
#include <math.h>
#include <string.h>

#include "bounds/map.h"
#include "tensor/gemm.h"

/* Whether the class, or the function in an Activation, is one of a NULL-terminated list. */
static bool one_of(const lip_layer *l, const char *const *names)
{
    const char *class_name = l->activation && !strcmp(lip_layer_class(l), "Activation") ? lip_layer_class(l->activation)
                                                                                        : lip_layer_class(l);

    while (*names && strcmp(class_name, *names))
        names++;
    return *names;
}

/* gamma / sqrt(moving variance + epsilon), smallest and largest in size. */
static void of_normalization(const lip_snapshot *snapshot, const lip_layer *l, double *least, double *most)
{
    const float *gamma = NULL, *variance = NULL;
    const struct lip__field *f = l->kind->cls.fields;
    size_t n = 0;

    while (strcmp(f->name, "epsilon"))
        f++;
    for (size_t i = l->var; i < l->var + l->n_vars; i++) {
        const lip_variable *v = lip_model_variable(snapshot->model, i);
        const char *name = strrchr(v->name, '/') + 1;

        if (!strcmp(name, "gamma"))
            gamma = snapshot->data[i];
        else if (!strcmp(name, "moving_variance")) {
            variance = snapshot->data[i];
            n = lip_shape_count(&v->shape);
        }
    }
    *least = INFINITY;
    *most = 0;
    for (size_t i = 0; i < n; i++) {
        double rate = fabs(gamma ? gamma[i] : 1) / sqrt(variance[i] + *(const double *)((const char *)l + f->offset));

        *least = fmin(*least, rate);
        *most = fmax(*most, rate);
    }
}

lip_err lip_compute_layer_sv(const lip_snapshot *snapshot, size_t layer, double *least, double *most, lip_error *err)
{
    static const char *const rectifiers[] = {"ReLU", "relu", NULL};
    static const char *const sorts[] = {"GroupSort", "GroupSort2", "FullSort", "MaxMin", NULL};
    const lip_layer *l = lip_model_layer(snapshot->model, layer);
    lip_spectrum s;
    lip_err rc;

    *least = *most = NAN;
    if (lip_layer_is_input(l))
        return LIP_OK;
    if (one_of(l, rectifiers)) {
        *least = 0;
        *most = 1;
    } else if (one_of(l, sorts)) {
        *least = *most = l->k;
    } else if (!strcmp(lip_layer_class(l), "Add")) {
        *least = *most = (double)l->n_merged;
    } else if (!strcmp(lip_layer_class(l), "BatchNormalization")) {
        of_normalization(snapshot, l, least, most);
    } else {
        rc = lip_bound_spectrum(snapshot, layer, false, 1, &s, NULL);
        if (rc == LIP_ERANGE || rc == LIP_EUNSUPPORTED)
            return LIP_OK;
        if (rc)
            return lip_bound_spectrum(snapshot, layer, false, 1, &s, err); /* again, for its words */
        *most = s.value[0];
        *least = s.value[s.largest + s.smallest - 1];
        lip__free(s.value);
    }
    return LIP_OK;
}

lip_err lip_compute_model_sv(const lip_snapshot *snapshot, lip_layer_sv *sv, size_t *n, lip_error *err)
{
    lip_err rc = LIP_OK;

    *n = 0;
    for (size_t i = 0; !rc && i < lip_model_layers(snapshot->model); i++) {
        const lip_layer *l = lip_model_layer(snapshot->model, i);

        if (lip_layer_is_input(l))
            continue;
        sv[*n].layer = l;
        rc = lip_compute_layer_sv(snapshot, i, &sv[*n].least, &sv[*n].most, err);
        ++*n;
    }
    return rc;
}

lip_err lip_evaluate_lip_const(const lip_snapshot *snapshot, size_t n, const float *x, double *value, lip_error *err)
{
    struct lip__map map = {0};
    double *at = NULL, *jacobian = NULL, *sigma = NULL;
    size_t in, out, few, bad;
    lip_err rc = lip__map_open(snapshot, 0, &map, err);

    *value = 0;
    if (rc)
        goto done;
    in = lip__map_inputs(&map);
    out = lip__map_outputs(&map);
    few = in < out ? in : out;
    if (!lip__all_finite(x, n * in, &bad)) {
        rc = lip__fail(err, LIP_ENONFINITE, "x: element %zu is not finite", bad);
        goto done;
    }
    at = lip__alloc(in, sizeof *at);
    jacobian = lip__alloc(in * out, sizeof *jacobian);
    sigma = lip__alloc(few, sizeof *sigma);
    if (!at || !jacobian || !sigma)
        rc = lip__nomem(err, in * out * sizeof *jacobian);
    for (size_t i = 0; !rc && i < n; i++) {
        for (size_t j = 0; j < in; j++)
            at[j] = x[i * in + j];
        rc = lip__map_jacobian(&map, at, jacobian, err);
        if (!rc && lip__singular_values(out, in, jacobian, sigma))
            rc = lip__fail(err, LIP_ENUMERIC, "the singular values of the Jacobian of sample %zu did not converge", i);
        if (!rc)
            *value = fmax(*value, sigma[0]);
    }
done:
    lip__free(sigma);
    lip__free(jacobian);
    lip__free(at);
    lip__map_close(&map);
    return rc;
}
