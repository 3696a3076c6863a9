/* singular_values.c: the spectrum of one layer's operator, or of its kernel. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"
#include "store_private.h"

enum { FEW = 10 }; /* at each end, where the whole spectrum is too much */

struct wish {
    size_t k; /* 0: the whole spectrum */
    bool kernel;
};

static bool read_wish(const struct request *rq, struct wish *w, struct reply *rp)
{
    static const char *const names[] = {"k", "of", NULL};
    const char *k = request_query(rq, "k"), *of = request_query(rq, "of");

    *w = (struct wish){.kernel = of && !strcmp(of, "kernel")};
    if (!codec_queries(rq, rp, names))
        return false;
    if (of && !w->kernel && strcmp(of, "layer")) {
        reply_error(rp, 400, "bad_parameter", NULL, "of is \"%.40s\", needs layer or kernel", of);
        return false;
    }
    if (k) {
        w->k = strlen(k) < 10 && *k && strspn(k, "0123456789") == strlen(k) ? strtoul(k, NULL, 10) : 0;
        if (!w->k) {
            reply_error(rp, 400, "bad_parameter", NULL, "k is \"%.40s\", needs an integer from 1 to 999999999", k);
            return false;
        }
    }
    return true;
}

/* k of the values that there are, from the largest down or from the smallest up. */
static json_t *values(const lip_spectrum *s, size_t k, bool largest)
{
    json_t *list = json_array();

    for (size_t i = 0; i < k; i++)
        json_array_append_new(list, codec_real(s->value[largest ? i : s->largest + s->smallest - 1 - i]));
    return list;
}

static json_t *document(const struct model *model, const struct published *now, size_t layer, const struct wish *w,
                        const lip_spectrum *s)
{
    lip_effective e = lip_snapshot_effective(now->snapshot, layer);
    size_t k = w->k && w->k < s->largest ? w->k : s->largest;

    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:[I, I], s:I, s:o, s:o, s:{s:o, s:o}, s:s, s:o}", "model_name", model->name,
                     "model_version", now->version, "weights_revision", (json_int_t)now->weights_revision, "layer",
                     lip_layer_name(lip_model_layer(lip_snapshot_model(now->snapshot), layer)), "of",
                     w->kernel ? "kernel" : "layer", "operator", w->kernel ? "dense" : s->kind, "shape", (json_int_t)s->inputs,
                     (json_int_t)s->outputs, "count", (json_int_t)s->count, "largest", values(s, k, true), "smallest",
                     values(s, k, false), "enclosure", "lower", codec_real_or_null(s->norm.lower), "upper",
                     codec_real_or_null(s->norm.upper), "method", s->method, "effective_kernel",
                     e == LIP_NONE ? json_null() : json_string(e == LIP_STORED ? "stored" : "computed"));
}

static void answer(const struct request *rq, struct reply *rp, const struct model *model, const struct published *now,
                   const struct wish *w)
{
    const lip_model *m = lip_snapshot_model(now->snapshot);
    lip_spectrum s = {0};
    lip_error err = {0};
    char options[64], etag[ETAG_MAX];
    uint64_t start = now_ns();
    size_t layer;
    lip_err rc;

    if (!find_layer(rq, model->name, m, &layer, rp))
        return;
    snprintf(options, sizeof options, "singular_values k=%zu kernel=%d", w->k, w->kernel);
    etag_of(etag, now->epoch, now->version, now->weights_revision, options);
    reply_weights_revision(rp, now->weights_revision);
    if (codec_not_modified(rq, rp, etag))
        return;
    rc = lip_bound_spectrum(now->snapshot, layer, w->kernel, w->k, &s, &err);
    if (rc == LIP_EUNSUPPORTED && !w->k) { /* too much for the whole of it */
        err = (lip_error){0};
        rc = lip_bound_spectrum(now->snapshot, layer, w->kernel, FEW, &s, &err);
    }
    switch (rc) {
    case LIP_OK:
        rp->compute_ns = now_ns() - start;
        reply_json(rp, 200, document(model, now, layer, w, &s));
        break;
    case LIP_ERANGE:
        reply_error(rp, 404, "not_found", NULL, "layer \"%.200s\" (%s) has no operator with singular values",
                    lip_layer_name(lip_model_layer(m, layer)), lip_layer_class(lip_model_layer(m, layer)));
        break;
    default:
        reply_lip_error(rp, &err, ABOUT_WEIGHTS, NULL);
    }
    lip_free(s.value);
}

/* GET /v2/models/{m}/layers/{l}/singular_values?k=&of=layer|kernel, and of layers/{l}/{inner} */
void handle_singular_values(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct published *now = NULL;
    struct model *model;
    struct wish w;

    if (!read_wish(rq, &w, rp) || !(model = find_model(ctx, rq, rp)))
        return;
    if ((now = find_now(model, rp)))
        answer(rq, rp, model, now, &w);
    published_put(now);
    store_put(model);
}
