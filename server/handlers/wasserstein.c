/* wasserstein.c: the distance of two samples, from below by the model, from above by a plan. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"
#include "settings.h"
#include "store_private.h"

#define MAX_SECONDS    10.0 /* unless the request says otherwise */
#define MARGIN_SECONDS 0.5  /* of the deadline, for what max_seconds does not end */

struct sample {
    size_t n;
    const float *x;
    float *owned;
};

static bool read_sample(struct codec_body *body, const char *name, const char *model, const lip_model *m, struct sample *s,
                        struct reply *rp)
{
    const struct codec_tensor *t = codec_find(body, name);
    char pointer[48];
    size_t each = lip_shape_count(lip_model_input_shape(m, 0));

    if (!t) {
        reply_at(rp, 400, "missing_input", "/inputs", "model '%s' needs the inputs 'p' and 'q', two samples; there is no '%s'", model,
                 name);
        return false;
    }
    if (!codec_samples(t, model, lip_model_input_shape(m, 0), &s->n, &s->x, &s->owned, rp))
        return false;
    snprintf(pointer, sizeof pointer, "/inputs/%zu/shape/0", t->index);
    if (s->n == 0) {
        reply_at(rp, 400, "shape_mismatch", pointer, "input '%s' needs at least one sample", name);
        return false;
    }
    for (size_t i = 0; i < s->n * each; i++)
        if (!isfinite(s->x[i])) {
            snprintf(pointer, sizeof pointer, "/inputs/%zu", t->index);
            reply_at(rp, 422, "nonfinite", pointer, "input '%s' holds %s at element %zu", name,
                     isnan(s->x[i]) ? "NaN" : "an infinity", i);
            return false;
        }
    return true;
}

static bool read_samples(struct codec_body *body, const char *model, const lip_model *m, struct sample *p, struct sample *q,
                         struct reply *rp)
{
    if (body->raw) {
        reply_error(rp, 400, "bad_request", NULL, "a raw binary request holds one input, but p and q are needed");
        return false;
    }
    for (size_t i = 0; i < body->n_inputs; i++)
        if (strcmp(body->input[i].name, "p") && strcmp(body->input[i].name, "q")) {
            char pointer[48];
            snprintf(pointer, sizeof pointer, "/inputs/%zu/name", i);
            reply_at(rp, 400, "unknown_input", pointer, "unexpected input '%.200s': the samples are 'p' and 'q'", body->input[i].name);
            return false;
        }
    return read_sample(body, "p", model, m, p, rp) && read_sample(body, "q", model, m, q, rp);
}

struct wish {
    size_t index;
    double max_seconds;
    uint64_t deadline;
};

static bool read_wish(struct ctx *ctx, const struct request *rq, const struct codec_body *body, const lip_model *m, struct wish *w,
                      struct reply *rp)
{
    static const char *const names[] = {"index", "max_seconds", NULL};
    const json_t *index = json_object_get(body->parameters, "index"), *seconds = json_object_get(body->parameters, "max_seconds");
    size_t outputs = lip_shape_count(lip_model_output_shape(m, 0));

    *w = (struct wish){.max_seconds = MAX_SECONDS};
    if (!native_parameters(ctx, rq, body, names, &w->deadline, rp))
        return false;
    if (index ? !json_is_integer(index) || json_integer_value(index) < 0 || (size_t)json_integer_value(index) >= outputs
              : outputs > 1) {
        reply_at(rp, 400, "bad_parameter", "/parameters/index", "index needs an integer from 0 to %zu: which output separates p and q",
                 outputs - 1);
        return false;
    }
    w->index = (size_t)json_integer_value(index);
    if (seconds && (!json_is_number(seconds) || !(json_number_value(seconds) > 0) || !isfinite(json_number_value(seconds)))) {
        reply_at(rp, 400, "bad_parameter", "/parameters/max_seconds", "max_seconds needs a number above 0");
        return false;
    }
    if (seconds)
        w->max_seconds = json_number_value(seconds);
    return true;
}

/* What the plan may take: max_seconds, and never so long that the deadline passes. */
static double seconds_left(const struct wish *w)
{
    double left = ((double)w->deadline - (double)now_ns()) / 1e9;

    return fmin(w->max_seconds, left > 2 * MARGIN_SECONDS ? left - MARGIN_SECONDS : fmax(left / 2, 1e-3));
}

static void answer(struct ctx *ctx, const struct request *rq, struct reply *rp, const struct model *model, struct published *now)
{
    static const char *const members[] = {"id", "model_name", "model_version", "parameters", "inputs", "outputs", NULL};
    const lip_model *m = lip_snapshot_model(now->snapshot);
    struct codec_body body;
    struct sample p = {0}, q = {0};
    struct wish w;
    const lip_certifier *c;
    lip_wasserstein bound;
    lip_err rc;
    lip_error err = {0};
    json_t *parameters = NULL, *more = NULL;
    char etag[ETAG_MAX];
    size_t none = 0;
    uint64_t start;

    if (!codec_read_body(rq, model->name, members, &body, rp) || !(c = find_certifier(now, LIP_L2, rp)) ||
        !read_wish(ctx, rq, &body, m, &w, rp) || !read_samples(&body, model->name, m, &p, &q, rp) ||
        !codec_choose(&body, model->name, NULL, &none, rp) || rq->dry)
        goto done;
    start = now_ns();
    heed_client(rq);
    rc = lip_wasserstein_bound(c, w.index, seconds_left(&w), p.n, p.x, q.n, q.x, &bound, &err);
    heed_client(NULL);
    if (rc)
        reply_lip_error(rp, &err, ABOUT_TENSORS, "/inputs");
    if (rc || !go_on(rq, UINT64_MAX, rp)) /* at its deadline it has what it needs */
        goto done;
    rp->compute_ns = now_ns() - start;
    parameters = json_pack("{s:I}", "weights_revision", (json_int_t)now->weights_revision);
    more = json_pack("{s:{s:o, s:o, s:o, s:I, s:I, s:o, s:s, s:b}}", "wasserstein", "lower", codec_real(bound.lower), "upper",
                     codec_real(bound.upper), "gap", codec_real(bound.upper - bound.lower), "n", (json_int_t)p.n, "m", (json_int_t)q.n,
                     "network_upper", codec_real(bound.network_upper), "primal", bound.primal.method, "optimal", bound.primal.optimal);
    etag_of(etag, now->epoch, now->version, now->weights_revision, NULL);
    reply_text(rp, "ETag", etag);
    reply_weights_revision(rp, now->weights_revision);
    codec_answer(rp, model->name, now->version, body.id, parameters, more, NULL, 0);
done:
    json_decref(parameters);
    json_decref(more);
    free(p.owned);
    free(q.owned);
    codec_clear_body(&body);
}

/* POST /v2/models/{m}/wasserstein  inputs p, q, parameters.index  ->  {"wasserstein": {"lower", "upper", …}} */
void handle_wasserstein(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct published *now = NULL;
    struct model *model;

    if (!codec_queries(rq, rp, none) || !(model = find_model(ctx, rq, rp)))
        return;
    if ((now = find_now(model, rp)))
        answer(ctx, rq, rp, model, now);
    published_put(now);
    store_put(model);
}
