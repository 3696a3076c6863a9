/* lipschitz.c: the report of claimed and proven constants. */
#include <math.h>
#include <onelip/bound.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"
#include "metrics.h"
#include "sha256.h"
#include "store_private.h"

struct options {
    bool layers, pairs;
    double input_norm; /* 0: the default */
    char key[64];
};

static bool read_options(const struct request *rq, struct options *o, struct reply *rp)
{
    static const char *const names[] = {"layers", "pairs", "method", "input_norm", "max_seconds", NULL};
    static const char *const missing[] = {"rescaled", "lipsdp", "liplt", "fourier"};
    const char *method = request_query(rq, "method");
    double seconds = 1;

    *o = (struct options){.layers = true};
    if (!codec_queries(rq, rp, names) || !codec_query_bool(rq, rp, "layers", &o->layers) ||
        !codec_query_bool(rq, rp, "pairs", &o->pairs) || !codec_query_positive(rq, rp, "input_norm", &o->input_norm) ||
        !codec_query_positive(rq, rp, "max_seconds", &seconds))
        return false;
    if (method && strcmp(method, "auto") && strcmp(method, "product")) {
        for (size_t i = 0; i < sizeof missing / sizeof *missing; i++)
            if (!strcmp(method, missing[i])) {
                reply_error(rp, 501, "unsupported", NULL, "method %s is not built in; there are auto and product", method);
                return false;
            }
        reply_error(rp, 400, "bad_parameter", NULL, "method is \"%.40s\", needs auto, product, rescaled, lipsdp, liplt or fourier",
                    method);
        return false;
    }
    if (o->pairs) {
        reply_error(rp, 501, "unsupported", NULL, "bounds of pairs of classes are not built in");
        return false;
    }
    snprintf(o->key, sizeof o->key, "layers=%d&input_norm=%.17g", o->layers, o->input_norm);
    return true;
}

/* SHA-256 of what is served: every layer's effective kernel and bias, little-endian, in the definition's order. */
static void weights_hash(const lip_snapshot *snapshot, char text[65])
{
    const lip_model *m = lip_snapshot_model(snapshot);
    struct sha256 sum;
    unsigned char digest[32];

    sha256_init(&sum);
    for (size_t i = 0; i < lip_model_layers(m); i++) {
        const lip_layer *l = lip_model_layer(m, i);
        const float *kernel = lip_snapshot_kernel(snapshot, i), *bias = lip_snapshot_bias(snapshot, i);
        for (size_t k = 0; k < lip_layer_variables(l); k++) {
            const lip_variable *v = lip_model_variable(m, lip_layer_first_variable(l) + k);
            const float *x = v->role == LIP_KERNEL ? kernel : v->role == LIP_BIAS ? bias : NULL;
            if (x)
                sha256_add(&sum, x, lip_shape_count(&v->shape) * sizeof *x);
        }
    }
    sha256_end(&sum, digest);
    sha256_hex(digest, text);
}

static json_t *truth(int value)
{
    return value < 0 ? json_null() : json_boolean(value);
}

static json_t *layer_json(const lip_layer_bound *b)
{
    json_t *json = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:s}", "name", lip_layer_name(b->layer), "class_name",
                             lip_layer_class(b->layer), "claimed", codec_real_or_null(b->claimed), "lower",
                             codec_real_or_null(b->lower), "upper", codec_real_or_null(b->upper), "sound_claim",
                             truth(b->sound_claim), "method", b->method);

    if (json && b->per_output) {
        json_object_set_new(json, "per_output", json_true());
        json_object_set_new(json, "output_lower", codec_real_or_null(b->output_lower));
        json_object_set_new(json, "output_upper", codec_real_or_null(b->output_upper));
    }
    if (json && strcmp(b->method, "analytic") && strcmp(b->method, "none"))
        json_object_update_new(json, json_pack("{s:o, s:o, s:o}", "sigma_min", codec_real_or_null(b->sigma_min), "defect",
                                               codec_real_or_null(b->defect), "stable_rank",
                                               codec_real_or_null(b->stable_rank)));
    if (json && b->effective != LIP_NONE)
        json_object_update_new(json, json_pack("{s:s, s:o}", "effective_kernel",
                                               b->effective == LIP_STORED ? "stored" : "computed", "stored_distance",
                                               b->effective == LIP_STORED ? codec_real_or_null(b->stored_distance)
                                                                          : json_real(0)));
    return json;
}

static void warn(json_t *list, const lip_layer_bound *b)
{
    const char *name = lip_layer_name(b->layer);
    double lower = b->per_output ? b->output_lower : b->lower;

    if (isnan(b->upper))
        json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "layer", name, "code", "no_bound", "text",
                                              json_sprintf("no rule bounds the %s layer %s, so the network has no upper bound",
                                                           lip_layer_class(b->layer), name)));
    if (b->sound_claim == 0)
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:o}", "layer", name, "code", "claim_exceeded", "text",
                            json_sprintf("%s claims to be %.9g-Lipschitz, but its constant is at least %.9g: deel-lip's factor is no "
                                         "bound for this layer; count on upper, not on claimed",
                                         name, b->claimed, lower)));
}

static json_t *network_json(const lip_network_bound *n)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:b, s:{s:o, s:n, s:n, s:n, s:n}}", "claimed",
                     codec_real_or_null(n->claimed), "lower", codec_real_or_null(n->lower), "upper",
                     codec_real_or_null(n->upper), "tightness", codec_real_or_null(n->tightness), "sound_claim",
                     truth(n->sound_claim), "method", n->method, "lower_method", n->lower_method, "complete", 1, "methods",
                     "product", codec_real_or_null(n->upper), "rescaled", "lipsdp", "liplt", "fourier");
}

static json_t *compute(struct ctx *ctx, const char *model, const struct published *now, const struct options *o,
                       struct reply *rp)
{
    const lip_model *m = lip_snapshot_model(now->snapshot);
    lip_layer_bound *bounds = calloc(lip_model_layers(m) + 1, sizeof *bounds);
    lip_network_bound network;
    lip_error err = {0};
    json_t *layers, *warnings, *json;
    uint64_t start = now_ns();
    char labels[LABELS_MAX], sum[65];
    size_t n = 0;

    if (!bounds) {
        reply_no_memory(rp);
        return NULL;
    }
    if (lip_bound_network(now->snapshot, &(lip_bound_options){.input_norm = o->input_norm}, bounds, &n, &network, &err)) {
        reply_lip_error(rp, &err, ABOUT_WEIGHTS, NULL);
        free(bounds);
        return NULL;
    }
    layers = json_array();
    warnings = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(layers, layer_json(&bounds[i]));
        warn(warnings, &bounds[i]);
    }
    weights_hash(now->snapshot, sum);
    json = json_pack("{s:s, s:s, s:I, s:s, s:{s:s, s:s, s:s, s:f, s:o}, s:o, s:O, s:n, s:f, s:O, s:s, s:I}", "model_name", model,
                     "model_version", now->version, "weights_revision", (json_int_t)now->weights_revision, "norm", "l2", "arithmetic",
                     "store", "float32", "accumulate", "float32", "order", "any", "input_norm", network.input_norm, "deviation",
                     codec_real_or_null(network.deviation), "network", network_json(&network), "layers", layers, "pairs",
                     "claim_tolerance", LIP_CLAIM_TOLERANCE, "warnings", warnings, "weights_sha256", sum, "elapsed_ns",
                     (json_int_t)(now_ns() - start));
    if (json && !o->layers)
        json_object_del(json, "layers");
    json_decref(layers);
    json_decref(warnings);
    labels_of(labels, model, now->version);
    if (!isnan(network.claimed))
        metrics_set(ctx->metrics, "onelip_lipschitz_claimed", labels, network.claimed);
    if (!isnan(network.lower))
        metrics_set(ctx->metrics, "onelip_lipschitz_lower", labels, network.lower);
    if (!isnan(network.upper))
        metrics_set(ctx->metrics, "onelip_lipschitz_upper", labels, network.upper);
    free(bounds);
    if (!json)
        reply_no_memory(rp);
    return json;
}

/* The report of these options that this snapshot keeps, copied; NULL: none yet. */
static char *kept(struct published *now, const char *key)
{
    char *found = NULL;

    pthread_mutex_lock(&now->lock);
    for (struct report *r = now->reports; r && !found; r = r->next)
        if (!strcmp(r->key, key))
            found = strdup(r->text);
    pthread_mutex_unlock(&now->lock);
    return found;
}

enum { REPORTS_KEPT = 16 };

static void keep(struct published *now, const char *key, const char *text)
{
    struct report *r = calloc(1, sizeof *r);
    size_t n = 0;

    if (!r)
        return;
    r->key = strdup(key);
    r->text = strdup(text);
    pthread_mutex_lock(&now->lock);
    for (struct report *other = now->reports; other; other = other->next)
        n++;
    if (r->key && r->text && n < REPORTS_KEPT) {
        r->next = now->reports;
        now->reports = r;
        r = NULL;
    }
    pthread_mutex_unlock(&now->lock);
    if (r) {
        free(r->text);
        free(r->key);
        free(r);
    }
}

/* GET /v2/models/{m}/lipschitz?layers=&method=&input_norm=&max_seconds=  ->  the report of api.md 3.8 */
void handle_lipschitz(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct options options;
    struct published *now = NULL;
    struct model *model;
    char etag[ETAG_MAX];
    json_t *json;
    char *text;
    uint64_t start = now_ns();

    if (!read_options(rq, &options, rp) || !(model = find_model(ctx, rq, rp)))
        return;
    if ((now = find_now(model, rp))) {
        etag_of(etag, now->epoch, now->version, now->weights_revision, options.key);
        if (!codec_not_modified(rq, rp, etag)) {
            text = kept(now, options.key);
            if (!text && (json = compute(ctx, model->name, now, &options, rp))) {
                if ((text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(17))))
                    keep(now, options.key, text);
                else
                    reply_no_memory(rp);
                json_decref(json);
            }
            if (text) {
                reply_weights_revision(rp, now->weights_revision);
                rp->compute_ns = now_ns() - start;
                reply_bytes(rp, 200, "application/json", text, strlen(text));
            }
        } else {
            reply_weights_revision(rp, now->weights_revision);
        }
    }
    published_put(now);
    store_put(model);
}
