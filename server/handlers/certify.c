/* certify.c: how far each sample may move before its answer can change, and what share of them may. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"
#include "settings.h"
#include "store_private.h"

/* How many samples are worked on between two looks at the clock. */
#define SLICE_FLOPS  1e9
#define LOCAL_FLOPS  5e6 /* of a local certificate, at least */
#define ATTACK_STEPS 500 /* forward passes of an attack, about */
enum { MOST_EPSILONS = 4096, SLICE_LEAST = 32, SLICE_MOST = 4096 };

static const char *const norms[] = {[LIP_L2] = "l2", [LIP_L1] = "l1", [LIP_LINF] = "linf", NULL};
static const char *const arithmetics[] = {[LIP_FLOAT64] = "float64", [LIP_FLOAT32] = "float32", NULL};

struct wish {
    lip_norm norm;
    lip_certify_options options;
    bool attack, curve;
    double *epsilon;
    size_t n_epsilons;
    uint64_t deadline;
};

/* ---- the request ---------------------------------------------------------------------------------------------- */

static bool read_word(const json_t *parameters, const char *name, const char *const *words, size_t *at, struct reply *rp)
{
    const json_t *v = json_object_get(parameters, name);
    const char *word = json_string_value(v);
    char pointer[48], list[80] = "";

    if (!v)
        return true;
    for (size_t i = 0; words[i]; i++) {
        if (word && !strcmp(word, words[i])) {
            *at = i;
            return true;
        }
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", words[i]);
    }
    snprintf(pointer, sizeof pointer, "/parameters/%s", name);
    reply_at(rp, 400, "bad_parameter", pointer, "%s needs one of %s", name, list);
    return false;
}

static bool read_flags(const json_t *parameters, struct wish *w, struct reply *rp)
{
    const struct {
        const char *name;
        bool *value;
    } flags[] = {{"local", &w->options.local},
                 {"attack", &w->attack},
                 {"curve", &w->curve},
                 {"negative_robustness", &w->options.negative_robustness}};

    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        const json_t *v = json_object_get(parameters, flags[i].name);
        char pointer[48];

        if (v && !json_is_boolean(v)) {
            snprintf(pointer, sizeof pointer, "/parameters/%s", flags[i].name);
            reply_at(rp, 400, "bad_parameter", pointer, "%s needs true or false", flags[i].name);
            return false;
        }
        if (v)
            *flags[i].value = json_is_true(v);
    }
    return true;
}

static bool read_epsilons(const struct codec_body *body, struct wish *w, struct reply *rp)
{
    const json_t *list = json_object_get(body->json, "epsilons"), *one;
    char pointer[48];
    size_t i;

    if (!list || json_is_null(list))
        return true;
    if (!json_is_array(list) || json_array_size(list) > MOST_EPSILONS) {
        reply_at(rp, 400, "bad_parameter", "/epsilons", "epsilons needs a list of at most %d numbers", MOST_EPSILONS);
        return false;
    }
    if (!(w->epsilon = calloc(json_array_size(list) + 1, sizeof *w->epsilon))) {
        reply_no_memory(rp);
        return false;
    }
    json_array_foreach((json_t *)list, i, one) {
        double x = json_number_value(one);
        if (!json_is_number(one) || !isfinite(x) || x < 0) {
            snprintf(pointer, sizeof pointer, "/epsilons/%zu", i);
            reply_at(rp, 400, "bad_parameter", pointer, "an epsilon needs a number that is not negative");
            return false;
        }
        w->epsilon[w->n_epsilons++] = x;
    }
    return true;
}

static bool read_wish(struct ctx *ctx, const struct request *rq, const struct codec_body *body, struct wish *w, struct reply *rp)
{
    static const char *const names[] = {"norm", "arithmetic", "local", "attack", "curve", "negative_robustness", "input_scale", NULL};
    const json_t *scale = json_object_get(body->parameters, "input_scale");
    size_t norm = LIP_L2, arithmetic = LIP_FLOAT64;

    w->options.local = true;
    w->options.input_scale = 1;
    if (!native_parameters(ctx, rq, body, names, &w->deadline, rp) || !read_word(body->parameters, "norm", norms, &norm, rp) ||
        !read_word(body->parameters, "arithmetic", arithmetics, &arithmetic, rp) || !read_flags(body->parameters, w, rp) ||
        !read_epsilons(body, w, rp))
        return false;
    w->norm = (lip_norm)norm;
    w->options.arithmetic = (lip_arithmetic)arithmetic;
    if (scale && (!json_is_number(scale) || !(json_number_value(scale) > 0) || !isfinite(json_number_value(scale)))) {
        reply_at(rp, 400, "bad_parameter", "/parameters/input_scale", "input_scale needs a number above 0");
        return false;
    }
    if (scale)
        w->options.input_scale = json_number_value(scale);
    return true;
}

/* ---- the work --------------------------------------------------------------------------------------------------- */

struct work {
    size_t n, in, classes;
    const float *x;
    float *owned, *y; /* owned: what to free of x */
    int64_t *label, *predicted; /* label NULL: none came */
    double *margin, *radius, *attack_radius;
    float *attack;
    const char **method, **reason;
};

static void work_clear(struct work *k)
{
    free(k->owned);
    free(k->y);
    free(k->label);
    free(k->predicted);
    free(k->margin);
    free(k->radius);
    free(k->attack_radius);
    free(k->attack);
    free(k->method);
    free(k->reason);
}

static bool read_labels(struct codec_body *body, struct work *k, struct reply *rp)
{
    struct codec_tensor *t = body->raw ? NULL : codec_find(body, "y_true");
    lip_error err = {0};
    char pointer[48];
    float *y;
    bool ok;

    if (!t)
        return true;
    if (!(y = codec_floats(t, rp)))
        return false;
    if (!(k->label = calloc(k->n + 1, sizeof *k->label))) {
        free(y);
        reply_no_memory(rp);
        return false;
    }
    snprintf(pointer, sizeof pointer, "/inputs/%zu", t->index);
    ok = !lip_labels(k->n, k->classes, &t->shape, y, k->label, &err);
    if (!ok)
        reply_lip_error(rp, &err, ABOUT_TENSORS, pointer);
    free(y);
    return ok;
}

static bool work_room(struct work *k, bool attack, struct reply *rp)
{
    size_t n = k->n + 1, values, inputs;
    bool fits = !__builtin_mul_overflow(n, k->classes, &values) && !__builtin_mul_overflow(n, k->in, &inputs);

    if (fits && (k->y = calloc(values, sizeof *k->y)) && (k->predicted = calloc(n, sizeof *k->predicted)) &&
        (k->margin = calloc(n, sizeof *k->margin)) && (k->radius = calloc(n, sizeof *k->radius)) &&
        (k->method = calloc(n, sizeof *k->method)) && (k->reason = calloc(n, sizeof *k->reason)) &&
        (!attack || ((k->attack_radius = calloc(n, sizeof *k->attack_radius)) && (k->attack = calloc(inputs, sizeof *k->attack)))))
        return true;
    reply_no_memory(rp);
    return false;
}

/* The other side of n samples from i on. What is answered wrongly needs no attack. */
static lip_err attack(const lip_certifier *c, const struct wish *w, struct work *k, size_t i, size_t n, lip_error *err)
{
    lip_err rc = lip_attack(c, &w->options, 0, n, k->x + i * k->in, k->attack_radius + i, k->attack + i * k->in, err);

    for (size_t r = i; !rc && k->label && r < i + n; r++)
        if (k->label[r] != k->predicted[r]) {
            k->attack_radius[r] = 0;
            memcpy(k->attack + r * k->in, k->x + r * k->in, k->in * sizeof *k->attack);
        }
    return rc;
}

/* In slices, so that a deadline is noticed. */
static bool certify(const lip_certifier *c, const lip_model *m, const struct wish *w, struct work *k, struct reply *rp)
{
    double each = lip_model_flops(m) * (w->attack ? ATTACK_STEPS : 1) + (w->options.local ? LOCAL_FLOPS : 1);
    double slice = fmin(SLICE_MOST, fmax(SLICE_LEAST, SLICE_FLOPS / each));
    lip_workspace *ws = thread_workspace();
    lip_error err = {0};

    if (!ws) {
        reply_no_memory(rp);
        return false;
    }
    for (size_t i = 0, n; i < k->n; i += n) {
        n = k->n - i < (size_t)slice ? k->n - i : (size_t)slice;
        if (!in_time(w->deadline, rp))
            return false;
        const lip_certificates out = {k->y + i * k->classes, k->predicted + i, k->margin + i,
                                      k->radius + i,         k->method + i,    k->reason + i};
        if (lip_certify(c, ws, &w->options, n, k->x + i * k->in, k->label ? k->label + i : NULL, &out, &err) ||
            (w->attack && attack(c, w, k, i, n, &err))) {
            reply_lip_error(rp, &err, ABOUT_TENSORS, "/inputs");
            return false;
        }
    }
    return true;
}

/* ---- the answer ---------------------------------------------------------------------------------------------------- */

static json_t *reals(const double *x, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, codec_real(x[i]));
    return list;
}

/* Shares above each epsilon, and the mean. Takes nothing over; `share` has room for the epsilons. */
static void summarise(json_t *into, const double *radius, size_t n, const struct wish *w, double *share)
{
    double sum = 0;

    lip_provable_accuracy(n, radius, w->n_epsilons, w->epsilon, share);
    for (size_t i = 0; i < n; i++)
        sum += radius[i];
    json_object_set_new(into, "provable_accuracy", reals(share, w->n_epsilons));
    json_object_set_new(into, "mean_radius", codec_real(n ? sum / (double)n : 0));
}

/* deel-lip's radii, in `radius`; null where it has no formula. */
static json_t *reference(const lip_certifier *c, const struct wish *w, const struct work *k, double *radius, double *share)
{
    double factor = lip_certifier_factor(c);
    json_t *json;

    if (isnan(factor) || w->norm != LIP_L2)
        return json_null();
    for (size_t i = 0; i < k->n; i++)
        radius[i] = (w->options.negative_robustness ? k->margin[i] : fmax(0, k->margin[i])) / factor / w->options.input_scale;
    json = json_pack("{s:o}", "factor", codec_real(factor));
    if (json)
        summarise(json, radius, k->n, w, share);
    return json;
}

static json_t *curve(const struct work *k, double *r, double *share)
{
    lip_provable_curve(k->n, k->radius, r, share);
    return json_pack("{s:o, s:o}", "radius", reals(r, k->n), "accuracy", reals(share, k->n));
}

/* Why samples that are answered rightly have no radius, each reason once. */
static json_t *warnings(const struct work *k)
{
    json_t *list = json_array(), *one;
    size_t at;

    for (size_t i = 0; i < k->n; i++) {
        bool known = false;
        if (!k->reason[i] || (k->label && k->label[i] != k->predicted[i]))
            continue;
        json_array_foreach(list, at, one)
            if (!strcmp(json_string_value(json_object_get(one, "text")), k->reason[i])) {
                json_object_set_new(one, "samples", json_integer(json_integer_value(json_object_get(one, "samples")) + 1));
                known = true;
            }
        if (!known)
            json_array_append_new(list, json_pack("{s:s, s:i, s:s}", "code", "no_radius", "samples", 1, "text", k->reason[i]));
    }
    return list;
}

/* {"certificate": …}. NULL: out of memory. */
static json_t *certificate(const lip_certifier *c, const struct wish *w, const struct work *k)
{
    size_t most = k->n > w->n_epsilons ? k->n : w->n_epsilons;
    double *r = calloc(most + 1, sizeof *r), *share = calloc(most + 1, sizeof *share);
    json_t *json = NULL;

    if (r && share)
        json = json_pack("{s:s, s:s, s:s, s:o, s:o}", "norm", norms[w->norm], "arithmetic", arithmetics[w->options.arithmetic],
                         "head", lip_certifier_head(c), "network_upper", codec_real(lip_certifier_upper(c)), "epsilons",
                         reals(w->epsilon, w->n_epsilons));
    if (json) {
        summarise(json, k->radius, k->n, w, share);
        json_object_set_new(json, "curve", w->curve ? curve(k, r, share) : json_null());
        json_object_set_new(json, "reference", reference(c, w, k, r, share));
        json_object_set_new(json, "warnings", warnings(k));
    }
    free(r);
    free(share);
    return json ? json_pack("{s:o}", "certificate", json) : NULL;
}

static lip_shape shape_of(const lip_shape *each, size_t n)
{
    lip_shape shape = {.rank = 1, .dim = {n}};

    for (size_t i = 0; each && i < each->rank; i++)
        shape.dim[shape.rank++] = each->dim[i];
    return shape;
}

static void answer(struct ctx *ctx, const struct request *rq, struct reply *rp, const struct model *model, struct published *now)
{
    static const char *const members[] = {"id", "model_name", "model_version", "parameters", "inputs", "outputs", "epsilons", NULL};
    static const char *const others[] = {"y_true", NULL};
    const lip_model *m = lip_snapshot_model(now->snapshot);
    struct codec_body body;
    struct wish w = {0};
    struct work k = {0};
    const lip_certifier *c;
    json_t *parameters = NULL, *more = NULL;
    char etag[ETAG_MAX];
    uint64_t start = now_ns(), parsed, computed;

    if (!codec_read_body(rq, model->name, members, &body, rp) || !read_wish(ctx, rq, &body, &w, rp) ||
        !(c = find_certifier(now, w.norm, rp)) || !codec_inputs(&body, model->name, m, others, &k.n, &k.x, &k.owned, rp))
        goto done;
    k.in = lip_shape_count(lip_model_input_shape(m, 0));
    k.classes = lip_certifier_classes(c);
    struct codec_result results[] = {
        {.name = lip_model_output_name(m, 0), .shape = shape_of(lip_model_output_shape(m, 0), k.n)},
        {.name = "label", .shape = shape_of(NULL, k.n), .type = CODEC_INT64},
        {.name = "margin", .shape = shape_of(NULL, k.n), .type = CODEC_FP64},
        {.name = "radius", .shape = shape_of(NULL, k.n), .type = CODEC_FP64},
        {.name = "method", .shape = shape_of(NULL, k.n), .type = CODEC_BYTES},
        {.name = "attack_radius", .shape = shape_of(NULL, k.n), .type = CODEC_FP64},
        {.name = "attack", .shape = shape_of(lip_model_input_shape(m, 0), k.n)},
    };
    size_t n = sizeof results / sizeof *results - (w.attack ? 0 : 2);
    if (!read_labels(&body, &k, rp) || !work_room(&k, w.attack, rp))
        goto done;
    const void *const data[] = {k.y, k.predicted, k.margin, k.radius, k.method, k.attack_radius, k.attack};
    for (size_t i = 0; i < n; i++)
        results[i].data = data[i];
    if (!codec_choose(&body, model->name, results, &n, rp))
        goto done;
    parsed = now_ns();
    if (!certify(c, m, &w, &k, rp))
        goto done;
    computed = now_ns();
    parameters = json_pack("{s:I}", "weights_revision", (json_int_t)now->weights_revision);
    if (!(more = certificate(c, &w, &k)) || !parameters) {
        reply_no_memory(rp);
        goto done;
    }
    etag_of(etag, now->epoch, now->version, now->weights_revision, NULL);
    reply_header(rp, "ETag", "%s", etag);
    reply_weights_revision(rp, now->weights_revision);
    codec_answer(rp, model->name, now->version, body.id, parameters, more, results, n);
    rp->parse_ns = parsed - start;
    rp->compute_ns = computed - parsed;
    rp->serialize_ns = now_ns() - computed;
done:
    json_decref(parameters);
    json_decref(more);
    work_clear(&k);
    free(w.epsilon);
    codec_clear_body(&body);
}

/* POST /v2/models/{m}/certify  infer's body, y_true, "epsilons"  ->  {"certificate", "outputs":[y, label, margin, radius, method,
 * with "attack" attack_radius, attack]} */
void handle_certify(struct ctx *ctx, const struct request *rq, struct reply *rp)
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
