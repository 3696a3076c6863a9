/* lipschitz.c: the report of claimed and proven constants. */
#include <math.h>
#include <onelip/bound.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"
#include "metrics.h"
#include "settings.h"
#include "sha256.h"
#include "store_private.h"
#include "text.h"

enum { MOST_PAIRS = 1000 }; /* outputs whose pairs are listed */
#define MAX_SECONDS 10.0     /* unless the request says otherwise */
#define FAR 1e-3             /* a stored kernel from the computed one */
#define MARGIN_SECONDS 0.5   /* of the request's deadline, for making the answer */

struct options {
    bool layers, pairs;
    unsigned methods;
    double input_norm;  /* 0: the default */
    double max_seconds;
    char key[160];
};

static bool read_method(const struct request *rq, unsigned *methods, struct reply *rp)
{
    const char *method = request_query(rq, "method");

    *methods = 0; /* all */
    if (!method || !strcmp(method, "auto"))
        return true;
    for (unsigned i = 0; i < LIP_BOUND_METHODS; i++)
        if (!strcmp(method, lip_bound_method_name((lip_bound_method)i))) {
            *methods = 1u << LIP_PRODUCT | 1u << i;
            return true;
        }
    reply_error(rp, 400, "bad_parameter", NULL, "method is \"%.40s\", needs auto, product, rescaled, lipsdp, liplt or fourier",
                method);
    return false;
}

static bool read_options(const struct request *rq, struct options *o, struct reply *rp)
{
    static const char *const names[] = {"layers", "pairs", "method", "input_norm", "max_seconds", NULL};

    *o = (struct options){.layers = true, .max_seconds = MAX_SECONDS};
    if (!codec_queries(rq, rp, names) || !codec_query_bool(rq, rp, "layers", &o->layers) ||
        !codec_query_bool(rq, rp, "pairs", &o->pairs) || !codec_query_positive(rq, rp, "input_norm", &o->input_norm) ||
        !codec_query_positive(rq, rp, "max_seconds", &o->max_seconds) || !read_method(rq, &o->methods, rp))
        return false;
    snprintf(o->key, sizeof o->key, "lipschitz layers=%d pairs=%d methods=%u input_norm=%.17g max_seconds=%.17g", o->layers,
             o->pairs, o->methods, o->input_norm, o->max_seconds);
    return true;
}

/* SHA-256 of what is served: every variable that inference reads, effective kernels in place of kernels, little-endian, in
 * the model's order. */
static void weights_hash(const lip_snapshot *snapshot, char text[65])
{
    const lip_model *m = lip_snapshot_model(snapshot);
    struct sha256 sum;
    unsigned char digest[32];

    sha256_init(&sum);
    for (size_t i = 0; i < lip_model_variables(m); i++) {
        const float *x = lip_snapshot_data(snapshot, i);
        if (x)
            sha256_add(&sum, x, lip_shape_count(&lip_model_variable(m, i)->shape) * sizeof *x);
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

/* One more warning; layer NULL: of the whole network. Takes text over. */
static void warn(json_t *list, const char *layer, const char *code, json_t *text)
{
    json_array_append_new(list, json_pack("{s:o, s:s, s:o}", "layer", layer ? json_string(layer) : json_null(), "code", code,
                                          "text", text));
}

#define REMEDY "make the model with \"coefficient\": \"sound\", or divide each layer by its proven norm with POST tighten"

static void warn_layer(json_t *list, const lip_layer_bound *b)
{
    const char *name = lip_layer_name(b->layer);
    double lower = b->per_output ? b->output_lower : b->lower;

    if (isnan(b->upper))
        warn(list, name, "no_bound",
             json_sprintf("no rule bounds the %s layer %s, so the network has no upper bound and no certificates",
                          lip_layer_class(b->layer), name));
    if (b->sound_claim == 0 && b->effective == LIP_STORED)
        warn(list, name, "claim_exceeded",
             json_sprintf("%s claims to be %.9g-Lipschitz, but its constant is at least %.9g: the effective kernel that came with "
                          "its file is served as it is; count on upper, not on claimed, or compute it with POST refresh",
                          name, b->claimed, lower));
    else if (b->sound_claim == 0)
        warn(list, name, "claim_exceeded",
             json_sprintf("%s claims to be %.9g-Lipschitz, but its constant is at least %.9g: deel-lip's factor is no bound for "
                          "this layer; count on upper, not on claimed; " REMEDY,
                          name, b->claimed, lower));
    if (b->effective == LIP_STORED && b->stored_distance > FAR)
        warn(list, name, "stored_kernel",
             json_sprintf("the effective kernel of %s came with its file and is %.3g of its size away from the one that its kernel "
                          "gives; POST refresh computes that one",
                          name, b->stored_distance));
}

static void warn_network(json_t *list, const lip_network_bound *n)
{
    if (n->sound_claim == 0)
        warn(list, NULL, "claim_exceeded",
             json_sprintf("the network claims to be %.9g-Lipschitz, but its constant is at least %.9g; count on upper, not on "
                          "claimed; " REMEDY,
                          n->claimed, n->lower));
    if (isnan(n->deviation))
        warn(list, NULL, "no_deviation",
             json_sprintf("what float32 rounding does to inputs of norm up to %.9g is not known: a value could overflow, or a layer's "
                          "arithmetic is not one that is bounded",
                          n->input_norm));
    if (!n->complete)
        warn(list, NULL, "incomplete", json_string("max_seconds was spent before all was tried; more time may narrow these intervals"));
}

static json_t *network_json(const lip_network_bound *n)
{
    json_t *by = json_object();

    for (int i = 0; i < LIP_BOUND_METHODS; i++)
        json_object_set_new(by, lip_bound_method_name((lip_bound_method)i), codec_real_or_null(n->by[i]));
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:b, s:o}", "claimed", codec_real_or_null(n->claimed), "lower",
                     codec_real_or_null(n->lower), "upper", codec_real_or_null(n->upper), "tightness",
                     codec_real_or_null(n->tightness), "sound_claim", truth(n->sound_claim), "method", n->method, "lower_method",
                     n->lower_method, "complete", n->complete, "methods", by);
}

static json_t *pairs_json(const double *pairs, size_t n)
{
    json_t *rows = pairs ? json_array() : json_null();

    for (size_t i = 0; pairs && i < n; i++) {
        json_t *row = json_array();
        for (size_t j = 0; j < n; j++)
            json_array_append_new(row, codec_real_or_null(pairs[i * n + j]));
        json_array_append_new(rows, row);
    }
    return rows;
}

static void count_report(struct metrics *metrics, const char *model, const struct published *now, const lip_network_bound *network)
{
    char labels[LABELS_MAX];

    labels_of(labels, model, now->version);
    metrics_set(metrics, "onelip_lipschitz_claimed", labels, network->claimed); /* NaN: unknown; no older figure stays */
    metrics_set(metrics, "onelip_lipschitz_lower", labels, network->lower);
    metrics_set(metrics, "onelip_lipschitz_upper", labels, network->upper);
}

static json_t *report(const char *model, const struct published *now, const struct options *o, const lip_layer_bound *bounds,
                      size_t n, const lip_network_bound *network, const double *pairs, size_t outputs, uint64_t start)
{
    json_t *layers = json_array(), *warnings = json_array(), *json;
    char sum[65];

    for (size_t i = 0; i < n; i++) {
        json_array_append_new(layers, layer_json(&bounds[i]));
        warn_layer(warnings, &bounds[i]);
    }
    warn_network(warnings, network);
    weights_hash(now->snapshot, sum);
    json = json_pack("{s:s, s:s, s:I, s:s, s:{s:s, s:s, s:s, s:f, s:o}, s:o, s:O, s:o, s:f, s:O, s:s, s:I}", "model_name", model,
                     "model_version", now->version, "weights_revision", (json_int_t)now->weights_revision, "norm", "l2",
                     "arithmetic", "store", "float32", "accumulate", "float32", "order", "any", "input_norm", network->input_norm,
                     "deviation", codec_real_or_null(network->deviation), "network", network_json(network), "layers", layers,
                     "pairs", pairs_json(pairs, outputs), "claim_tolerance", LIP_CLAIM_TOLERANCE, "warnings", warnings,
                     "weights_sha256", sum, "elapsed_ns", (json_int_t)(now_ns() - start));
    if (json && !o->layers)
        json_object_del(json, "layers");
    json_decref(layers);
    json_decref(warnings);
    return json;
}

/* How long the search for better bounds may take: max_seconds, and never so long that the deadline passes. */
static double seconds_left(struct ctx *ctx, const struct request *rq, const struct options *o)
{
    double left = rq->job ? INFINITY : ctx->config->request_timeout_seconds - (double)(now_ns() - rq->start_ns) / 1e9;

    return fmin(o->max_seconds, left > 2 * MARGIN_SECONDS ? left - MARGIN_SECONDS : left / 2);
}

static json_t *compute(struct ctx *ctx, const struct request *rq, const char *model, const struct published *now,
                       const struct options *o, struct reply *rp)
{
    const lip_model *m = lip_snapshot_model(now->snapshot);
    size_t outputs = 0, n = 0;
    double *pairs = NULL;
    lip_layer_bound *bounds = calloc(lip_model_layers(m) + 1, sizeof *bounds);
    lip_network_bound network;
    lip_error err = {0};
    json_t *json = NULL;
    uint64_t start = now_ns();
    lip_bound_options options = {
        .input_norm = o->input_norm, .max_seconds = seconds_left(ctx, rq, o), .methods = o->methods};
    lip_err rc;

    for (size_t i = 0; i < lip_model_outputs(m); i++)
        outputs += lip_shape_count(lip_model_output_shape(m, i));
    if (o->pairs && outputs > MOST_PAIRS) {
        reply_error(rp, 400, "bad_parameter", NULL, "pairs are listed of at most %d outputs, model '%s' has %zu", MOST_PAIRS, model,
                    outputs);
    } else if (!bounds || (o->pairs && !(pairs = calloc(outputs * outputs + 1, sizeof *pairs)))) {
        reply_no_memory(rp);
    } else if (!rq->dry) {
        options.pairs = pairs;
        heed_client(rq);
        rc = lip_bound_network(now->snapshot, &options, bounds, &n, &network, &err);
        heed_client(NULL);
        if (rc) {
            reply_lip_error(rp, &err, ABOUT_WEIGHTS, NULL);
        } else if (go_on(rq, UINT64_MAX, rp)) {
            count_report(ctx->metrics, model, now, &network);
            if (!(json = report(model, now, o, bounds, n, &network, pairs, outputs, start)))
                reply_no_memory(rp);
        }
    }
    free(pairs);
    free(bounds);
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

/* GET /v2/models/{m}/lipschitz?layers=&pairs=&method=&input_norm=&max_seconds=  ->  the report of api.md 3.8 */
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
            if (!text && (json = compute(ctx, rq, model->name, now, &options, rp))) {
                if ((text = document_text(json)))
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
