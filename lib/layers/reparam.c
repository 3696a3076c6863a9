/* reparam.c: how layers turn a raw kernel into an effective one, as the two tables that a kind may name.
 *
 * Source: deel-lip; semantics.md 4.1 and 4.2.
 */
#include <string.h>

#include "layers/layer.h"

static size_t spectral_scratch(const lip_layer *l, size_t m, size_t n, bool keep)
{
    return lip_rko_scratch(m, n, lip__layer_rko(l), keep);
}

static lip_err spectral_forward(const lip_layer *l, const float *w, size_t m, size_t n, const float *u, float *u_new,
                                float *wbar, float *scratch, bool keep, lip_rko_info *info, struct lip__factor *factor,
                                lip_error *err)
{
    return lip__rko(w, m, n, lip__layer_coefficient(l), lip__layer_rko(l), u, u_new, wbar, scratch, keep, info, factor, err);
}

static lip_err spectral_backward(const lip_layer *l, const float *w, size_t m, size_t n, const lip_rko_info *info,
                                 const float *u, const float *u_new, const float *g, float *dw, float *scratch,
                                 const struct lip__factor *factor, lip_error *err)
{
    return lip__rko_backward(w, m, n, lip__layer_coefficient(l), lip__layer_rko(l), info, u, u_new, g, dw, scratch, factor, err);
}

const struct lip__reparam lip__spectral = {
    .has_u = true,
    .scratch = spectral_scratch,
    .forward = spectral_forward,
    .backward = spectral_backward,
};

static size_t frobenius_scratch(const lip_layer *l, size_t m, size_t n, bool keep)
{
    (void)l, (void)m, (void)n, (void)keep;
    return 0;
}

static lip_err frobenius_forward(const lip_layer *l, const float *w, size_t m, size_t n, const float *u, float *u_new,
                                 float *wbar, float *scratch, bool keep, lip_rko_info *info, struct lip__factor *factor,
                                 lip_error *err)
{
    (void)u, (void)u_new, (void)scratch, (void)keep, (void)factor;
    if (info) {
        memset(info, 0, sizeof *info);
        info->form = "plain";
    }
    return lip_frobenius(w, m, n, lip__layer_coefficient(l), lip__layer_disjoint(l), wbar, err);
}

static lip_err frobenius_backward(const lip_layer *l, const float *w, size_t m, size_t n, const lip_rko_info *info,
                                  const float *u, const float *u_new, const float *g, float *dw, float *scratch,
                                  const struct lip__factor *factor, lip_error *err)
{
    (void)info, (void)u, (void)u_new, (void)scratch, (void)factor;
    return lip_frobenius_backward(w, m, n, lip__layer_coefficient(l), lip__layer_disjoint(l), g, dw, err);
}

const struct lip__reparam lip__frobenius = {
    .has_u = false,
    .scratch = frobenius_scratch,
    .forward = frobenius_forward,
    .backward = frobenius_backward,
};
