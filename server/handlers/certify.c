/* certify.c: how far each sample may move before its answer can change, and what share of them may. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batches.h"
#include "common.h"
#include "handlers.h"
#include "jobs.h"
#include "settings.h"
#include "store_private.h"

#define SLICE_FLOPS  1e9 /* between two looks at the clock */
#define LOCAL_FLOPS  5e6 /* of a local certificate, at least */
#define ATTACK_STEPS 500 /* forward passes of an attack, about */
#define TELL_NS      ((uint64_t)EVENTS_COALESCE_MS * 1000000u)
enum { MOST_EPSILONS = 4096, MOST_TOLD = 16, SLICE_LEAST = 32, SLICE_MOST = 4096, DRY_SAMPLES = 64 };

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

/* Samples of a request or of a dataset, the first `done` of them certified. */
struct work {
    struct published *now; /* whose weights; counted */
    size_t n, done, in, classes;
    const float *x; /* NULL: they are a dataset's */
    float *owned, *y; /* owned: what to free of x */
    bool y_kept;                /* else y has room for one batch */
    int64_t *label, *predicted; /* label NULL: none came */
    double *margin, *radius, *attack_radius;
    float *attack; /* NULL: the points are not wanted */
    const char **method, **reason;
};

static void work_free(void *aside)
{
    struct work *k = aside;

    published_put(k->now);
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
    free(k);
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

/* y_rows: as many answers as are kept, at least those of one batch. */
static bool work_room(struct work *k, size_t y_rows, bool attack, bool points, struct reply *rp)
{
    size_t n = k->n + 1, values, inputs;
    bool fits = !__builtin_mul_overflow(y_rows + 1, k->classes, &values) && !__builtin_mul_overflow(n, k->in, &inputs);

    if (fits && (k->y = calloc(values, sizeof *k->y)) && (k->predicted = calloc(n, sizeof *k->predicted)) &&
        (k->margin = calloc(n, sizeof *k->margin)) && (k->radius = calloc(n, sizeof *k->radius)) &&
        (k->method = calloc(n, sizeof *k->method)) && (k->reason = calloc(n, sizeof *k->reason)) &&
        (!attack || (k->attack_radius = calloc(n, sizeof *k->attack_radius))) &&
        (!points || (k->attack = calloc(inputs, sizeof *k->attack))))
        return true;
    reply_no_memory(rp);
    return false;
}

/* The other side of the next n samples. What is answered wrongly needs no attack. */
static lip_err attack(const lip_certifier *c, const struct wish *w, struct work *k, size_t n, const float *x, lip_error *err)
{
    size_t i = k->done;
    float *point = k->attack ? k->attack + i * k->in : NULL;
    lip_err rc = lip_attack(c, &w->options, 0, n, x, k->attack_radius + i, point, err);

    for (size_t r = 0; !rc && k->label && r < n; r++)
        if (k->label[i + r] != k->predicted[i + r]) {
            k->attack_radius[i + r] = 0;
            if (point)
                memcpy(point + r * k->in, x + r * k->in, k->in * sizeof *x);
        }
    return rc;
}

/* The next n samples, which are x. */
static bool certify_some(const lip_certifier *c, const struct wish *w, struct work *k, size_t n, const float *x, const char *pointer,
                         struct reply *rp)
{
    lip_workspace *ws = thread_workspace();
    size_t i = k->done;
    lip_error err = {0};
    const lip_certificates out = {k->y + (k->y_kept ? i * k->classes : 0), k->predicted + i, k->margin + i,
                                  k->radius + i, k->method + i, k->reason + i};

    if (!ws) {
        reply_no_memory(rp);
        return false;
    }
    if (lip_certify(c, ws, &w->options, n, x, k->label ? k->label + i : NULL, &out, &err) ||
        (w->attack && attack(c, w, k, n, x, &err))) {
        reply_lip_error(rp, &err, ABOUT_TENSORS, pointer);
        return false;
    }
    k->done += n;
    return true;
}

/* How many samples are worked on between two looks at the clock. */
static size_t slice_of(const lip_model *m, const struct wish *w)
{
    double each = lip_model_flops(m) * (w->attack ? ATTACK_STEPS : 1) + (w->options.local ? LOCAL_FLOPS : 1);

    return (size_t)fmin(SLICE_MOST, fmax(SLICE_LEAST, SLICE_FLOPS / each));
}

static bool certify(const struct request *rq, const lip_certifier *c, const lip_model *m, const struct wish *w, struct work *k,
                    struct reply *rp)
{
    size_t slice = slice_of(m, w);

    while (k->done < k->n)
        if (!go_on(rq, w->deadline, rp) ||
            !certify_some(c, w, k, k->n - k->done < slice ? k->n - k->done : slice, k->x + k->done * k->in, "/inputs", rp))
            return false;
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

/* ---- a dataset's samples -------------------------------------------------------------------------------------------- */

static bool not_that(struct reply *rp, const struct failure *f)
{
    reply_at(rp, f->status, f->code, "/dataset", "%s", f->text);
    return false;
}

/* A job's document and its event: how far it is, and what holds so far. */
static void tell(const struct request *rq, const struct wish *w, const struct work *k, size_t batch, uint64_t began, size_t began_at)
{
    size_t step = (k->done + batch - 1) / batch, right = 0;
    double share[MOST_TOLD], sum = 0, seconds = (double)(now_ns() - began) * 1e-9;
    json_t *metrics = json_object();
    char name[64];

    for (size_t i = 0; i < k->done; i++) {
        sum += k->radius[i];
        right += k->label && k->label[i] == k->predicted[i];
    }
    json_object_set_new(metrics, "mean_radius", codec_real(sum / (double)k->done));
    if (k->label)
        json_object_set_new(metrics, "accuracy", codec_real((double)right / (double)k->done));
    lip_provable_accuracy(k->done, k->radius, w->n_epsilons < MOST_TOLD ? w->n_epsilons : MOST_TOLD, w->epsilon, share);
    for (size_t i = 0; i < w->n_epsilons && i < MOST_TOLD; i++) {
        snprintf(name, sizeof name, "provable_accuracy_%.6g", w->epsilon[i]);
        json_object_set_new(metrics, name, codec_real(share[i]));
    }
    job_progress(rq->job, step, 0, k->now->weights_revision, json_incref(metrics));
    job_tell(rq->job,
             json_pack("{s:s, s:I, s:o, s:I, s:o}", "type", "metrics", "step", (json_int_t)step, "metrics", metrics, "weights_revision",
                       (json_int_t)k->now->weights_revision, "samples_per_second",
                       codec_real(seconds > 0 ? floor((double)(k->done - began_at) / seconds) : 0)),
             true);
}

/* The next n samples out of the dataset. */
static bool certify_rows(const lip_certifier *c, const struct wish *w, struct work *k, struct batches *b, size_t *rows, size_t n,
                         struct reply *rp)
{
    struct failure f = {0};
    lip_error err = {0};
    lip_batch batch;

    for (size_t r = 0; r < n; r++)
        rows[r] = k->done + r;
    if (!batches_read(b, rows, n, &batch, &f))
        return not_that(rp, &f);
    if (batch.y && lip_labels(n, k->classes, &batch.y_shape, batch.y, k->label + k->done, &err)) {
        reply_lip_error(rp, &err, ABOUT_TENSORS, "/dataset");
        return false;
    }
    return certify_some(c, w, k, n, batch.x, "/dataset", rp);
}

/* In batches, between two of which a job may be paused or ended. A dry run does the first samples, the cheap way. */
static bool certify_dataset(const struct request *rq, const lip_certifier *c, const struct wish *w, struct work *k, struct batches *b,
                            struct reply *rp)
{
    struct wish little = *w;
    size_t *rows = malloc((b->largest + 1) * sizeof *rows), began_at = k->done;
    uint64_t began = now_ns(), told = began;
    bool ok = rows != NULL;

    if (!ok)
        reply_no_memory(rp);
    little.options.local = little.attack = false;
    if (rq->dry && ok && k->n)
        ok = certify_rows(c, &little, k, b, rows, b->largest < DRY_SAMPLES ? b->largest : DRY_SAMPLES, rp);
    while (!rq->dry && ok && k->done < k->n) {
        if (rq->job && job_asked(rq->job) != JOB_DONE) {
            reply_error(rp, 503, "draining", NULL, "the certification was given up");
            ok = false;
        } else if ((ok = go_on(rq, w->deadline, rp) &&
                         certify_rows(c, w, k, b, rows, k->n - k->done < b->largest ? k->n - k->done : b->largest, rp)) &&
                   rq->job && (now_ns() - told > TELL_NS || k->done == k->n)) {
            tell(rq, w, k, b->largest, began, began_at);
            told = now_ns();
        }
    }
    free(rows);
    return ok;
}

/* The dataset that the body names, ready to be read. */
static bool open_dataset(struct ctx *ctx, const struct request *rq, const struct codec_body *body, const lip_model *m,
                         const struct wish *w, struct work *k, struct batches *b, struct reply *rp)
{
    const json_t *size = json_object_get(body->json, "batch_size");
    const char *name = json_string_value(json_object_get(body->json, "dataset"));
    json_int_t batch = size ? json_integer_value(size) : (json_int_t)slice_of(m, w);
    struct failure f = {0};
    struct dataset *d;
    bool ok;

    if (!name || batch < 1 || batch > SLICE_MOST) {
        reply_at(rp, 400, "bad_parameter", name ? "/batch_size" : "/dataset",
                 name ? "batch_size needs an integer from 1 to %d" : "dataset needs the name of a dataset", SLICE_MOST);
        return false;
    }
    if (!(d = dataset_get(ctx->datasets, name))) {
        reply_at(rp, 404, "unknown_dataset", "/dataset", "there is no dataset '%.140s'", name);
        return false;
    }
    ok = (batches_open(b, d, m, false, (size_t)batch, &f) && batches_classes(b, m, &f)) || not_that(rp, &f);
    k->n = d->samples;
    if (ok && rq->job && rq->dry)
        rq->job->total_steps = b->largest ? (k->n + b->largest - 1) / b->largest : 0;
    dataset_put(d);
    return ok;
}

/* Room for all that is kept of a dataset's samples: no more than a body may have. */
static bool dataset_room(struct ctx *ctx, const struct wish *w, struct work *k, const struct batches *b, bool y, bool points,
                         struct reply *rp)
{
    size_t most = (size_t)atomic_load(&ctx->config->max_body_bytes);
    size_t each = 2 * sizeof(int64_t) + 3 * sizeof(double) + 2 * sizeof(char *) + (y ? k->classes * sizeof(float) : 0) +
                  (points ? k->in * sizeof(float) : 0);

    if (k->n > most / each) {
        reply_error(rp, 413, "too_large", NULL,
                    "certificates of %zu samples are %zu bytes each, together more than max_body_bytes, %zu: name fewer outputs, or "
                    "certify fewer samples",
                    k->n, each, most);
        return false;
    }
    if (b->label[0].tensor && !(k->label = calloc(k->n + 1, sizeof *k->label))) {
        reply_no_memory(rp);
        return false;
    }
    k->y_kept = y;
    return work_room(k, y ? k->n : b->largest, w->attack, points, rp);
}

/* ---- all of it ------------------------------------------------------------------------------------------------------ */

static bool names_output(const struct codec_body *body, const char *name)
{
    for (size_t i = 0; i < body->n_outputs; i++)
        if (!strcmp(body->output[i].name, name))
            return true;
    return false;
}

/* Of a dataset's samples all outputs but y and attack, unless they are named. */
static void answer(struct ctx *ctx, const struct request *rq, struct reply *rp, struct model *model, struct work *k)
{
    static const char *const members[] = {"id",      "model_name", "model_version", "parameters", "inputs",
                                          "outputs", "epsilons",   "dataset",       "batch_size", NULL};
    static const char *const others[] = {"y_true", NULL};
    struct published *now = k->now;
    const lip_model *m = lip_snapshot_model(now->snapshot);
    struct codec_body body;
    struct batches batches = {0};
    struct wish w = {0};
    const lip_certifier *c;
    json_t *parameters = NULL, *more = NULL;
    char etag[ETAG_MAX];
    uint64_t start = now_ns(), parsed, computed;
    bool dataset, y, points;
    size_t n = 0;

    if (!codec_read_body(rq, model->name, members, &body, rp) || !read_wish(ctx, rq, &body, &w, rp) ||
        !(c = find_certifier(now, w.norm, rp)))
        goto done;
    dataset = json_object_get(body.json, "dataset") != NULL;
    y = !dataset || names_output(&body, lip_model_output_name(m, 0));
    points = w.attack && (!dataset || names_output(&body, "attack"));
    k->in = lip_shape_count(lip_model_input_shape(m, 0));
    k->classes = lip_certifier_classes(c);
    if (dataset && body.n_inputs) {
        reply_at(rp, 400, "bad_request", "/dataset", "the samples are a dataset's or those of inputs, not both");
        goto done;
    }
    if (!dataset && json_object_get(body.json, "batch_size")) {
        reply_at(rp, 400, "bad_parameter", "/batch_size", "batch_size goes with a dataset");
        goto done;
    }
    if (!(dataset ? open_dataset(ctx, rq, &body, m, &w, k, &batches, rp)
                  : codec_inputs(&body, model->name, m, others, model_casts(model), &k->n, &k->x, &k->owned, rp) && read_labels(&body, k, rp)))
        goto done;
    if (!k->radius && !(dataset ? dataset_room(ctx, &w, k, &batches, y, points, rp) : work_room(k, k->n, w.attack, points, rp)))
        goto done;
    k->y_kept = y;
    const struct {
        bool there;
        struct codec_result result;
    } all[] = {
        {y, {.name = lip_model_output_name(m, 0), .shape = shape_of(lip_model_output_shape(m, 0), k->n), .data = k->y}},
        {true, {.name = "label", .shape = shape_of(NULL, k->n), .type = CODEC_INT64, .data = k->predicted}},
        {true, {.name = "margin", .shape = shape_of(NULL, k->n), .type = CODEC_FP64, .data = k->margin}},
        {true, {.name = "radius", .shape = shape_of(NULL, k->n), .type = CODEC_FP64, .data = k->radius}},
        {true, {.name = "method", .shape = shape_of(NULL, k->n), .type = CODEC_BYTES, .data = k->method}},
        {w.attack, {.name = "attack_radius", .shape = shape_of(NULL, k->n), .type = CODEC_FP64, .data = k->attack_radius}},
        {points, {.name = "attack", .shape = shape_of(lip_model_input_shape(m, 0), k->n), .data = k->attack}},
    };
    struct codec_result results[sizeof all / sizeof *all];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].there)
            results[n++] = all[i].result;
    if (!codec_choose(&body, model->name, results, &n, rp))
        goto done;
    parsed = now_ns();
    if (!(dataset ? certify_dataset(rq, c, &w, k, &batches, rp) : rq->dry || certify(rq, c, m, &w, k, rp)) || rq->dry)
        goto done;
    computed = now_ns();
    parameters = json_pack("{s:I}", "weights_revision", (json_int_t)now->weights_revision);
    if (parameters && dataset)
        json_object_set_new(parameters, "samples", json_integer((json_int_t)k->n));
    if (!(more = certificate(c, &w, k)) || !parameters) {
        reply_no_memory(rp);
        goto done;
    }
    etag_of(etag, now->epoch, now->version, now->weights_revision, NULL);
    reply_text(rp, "ETag", etag);
    reply_weights_revision(rp, now->weights_revision);
    codec_answer(rp, model->name, now->version, body.id, parameters, more, results, n);
    rp->parse_ns = parsed - start;
    rp->compute_ns = computed - parsed;
    rp->serialize_ns = now_ns() - computed;
done:
    json_decref(parameters);
    json_decref(more);
    batches_close(&batches);
    free(w.epsilon);
    codec_clear_body(&body);
}

/* POST /v2/models/{m}/certify  infer's body, y_true, "epsilons"; or {"dataset", "batch_size", "epsilons"}  ->  {"certificate",
 * "outputs":[y, label, margin, radius, method, with "attack" attack_radius, attack]}. A job that was paused goes on with the
 * weights that it began with. */
void handle_certify(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct model *model;
    struct work *k;

    if (!codec_queries(rq, rp, none) || !(model = find_model(ctx, rq, rp)))
        return;
    if (!(k = rq->job ? job_take_aside(rq->job) : NULL) && !(k = calloc(1, sizeof *k)))
        reply_no_memory(rp);
    else if (k->now || (k->now = find_now(model, rp)))
        answer(ctx, rq, rp, model, k);
    if (k && rq->job && rp->status >= 400 && job_asked(rq->job) == JOB_SET_ASIDE)
        job_set_aside(rq->job, k, work_free);
    else if (k)
        work_free(k);
    store_put(model);
}
