/* check_golden.c: the library against deel-lip itself.
 *
 * tests/golden holds what deel-lip computes, one safetensors file per case; generate.py there says how the files came
 * about and what is in them. Every tensor of every file is used: an output that nothing compares fails its case, and so
 * do a file that cases.txt names and that is gone, a file it does not name, and a group without a case.
 * Every case runs with one thread and with three. ONELIP_GOLDEN=worst in the environment prints each case's worst error,
 * ONELIP_GOLDEN=all that of every tensor.
 */
#include <dirent.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <onelip/onelip.h>

#include "check_main.h"
#include "io/keras_json.h"
#include "losses/metric.h"
#include "model/tape.h"
#include "optim/optimizer.h"

/* How far we may be from deel-lip: max|ours - theirs| / max|theirs| of a tensor, for losses |ours - theirs| /
 * max(1, |theirs|). Where the file says that deel-lip's own float32 is further than a third of this from its float64,
 * three times that distance counts: two roundings of one formula may lie on either side of the exact value. */
enum kind { FORWARD, GRADIENT, LOSS, UPDATE, SGD, ADAM };

static const double tolerance[] = {
    [FORWARD] = 2e-6,  /* outputs, wbar, u, sigma: 17 float32 roundings; over 10 power and 15 Bjorck steps deel-lip's own
                          add up to 6e-7 (the floors of the group norm), and ours to as much */
    [GRADIENT] = 1e-5, /* the chain goes backwards through every Bjorck step, about five more products each */
    [LOSS] = 2e-6,     /* one reduction over the batch; our sums are in double, TensorFlow's in float32 */
    [UPDATE] = 2e-6,   /* twenty updates of given gradients, a handful of roundings each */
    [SGD] = 1e-4,      /* a hundred steps: a rounding of step 1 is carried, and amplified, through the other 99 */
    [ADAM] = 1e-3,     /* Adam divides by the gradient's size: where a gradient cancels, its rounding steers */
};

enum { MOST_ENDS = 8 }; /* inputs or outputs of a model */

/* ---- memory of one test: all of it goes at its end ------------------------------------------------- */

static void *kept[256];
static size_t n_kept;

static void *keep(void *memory)
{
    ck_assert_msg(memory != NULL, "out of memory");
    ck_assert_uint_lt(n_kept, sizeof kept / sizeof *kept);
    return kept[n_kept++] = memory;
}

static float *floats(size_t n)
{
    return keep(lip__alloc(n + 1, sizeof(float)));
}

static double *doubles(size_t n)
{
    return keep(lip__alloc(n + 1, sizeof(double)));
}

static void release(void)
{
    while (n_kept)
        lip__free(kept[--n_kept]);
}

/* ---- a case ---------------------------------------------------------------------------------------- */

struct golden {
    const char *name; /* "norm-worked-a" */
    char *bytes;
    lip_safetensors *file;
    bool *used; /* of each tensor */
    size_t failures;
    char text[2000]; /* what disagrees */
    double worst;    /* error / tolerance */
    char worst_text[200];
};

static const char *folder(void)
{
    static char path[4000];
    const char *srcdir = getenv("srcdir");

    snprintf(path, sizeof path, "%s/tests/golden", srcdir ? srcdir : ".");
    return path;
}

/* A whole file of the folder, and a NUL behind it; NULL: it cannot be read. */
static char *slurp(const char *name, size_t *size)
{
    char path[4300], *bytes = NULL;
    FILE *f;
    long n;

    snprintf(path, sizeof path, "%s/%s", folder(), name);
    f = fopen(path, "rb");
    if (!f)
        return NULL;
    if (fseek(f, 0, SEEK_END) == 0 && (n = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0) {
        bytes = lip__alloc((size_t)n + 1, 1);
        *size = bytes ? fread(bytes, 1, (size_t)n, f) : 0;
        if (bytes && *size != (size_t)n) {
            lip__free(bytes);
            bytes = NULL;
        }
    }
    fclose(f);
    return bytes;
}

static void disagree(struct golden *g, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void disagree(struct golden *g, const char *format, ...)
{
    size_t n = strlen(g->text);
    va_list arguments;

    va_start(arguments, format);
    if (g->failures++ < 12 && n + 1 < sizeof g->text) {
        g->text[n++] = '\n';
        vsnprintf(g->text + n, sizeof g->text - n, format, arguments);
    }
    va_end(arguments);
}

static bool says(const char *what)
{
    const char *wanted = getenv("ONELIP_GOLDEN");

    return wanted && !strcmp(wanted, what);
}

#define OK(call) require_ok((call), #call, &err)

static void require_ok(lip_err rc, const char *call, const lip_error *err)
{
    ck_assert_msg(rc == LIP_OK, "%.60s: %s: %s (%s)", call, lip_err_name(rc), err->text, err->pointer);
}

static const char *meta(const struct golden *g, const char *key)
{
    const char *value = lip_safetensors_metadata(g->file, key);

    ck_assert_msg(value != NULL, "%s: no metadata \"%s\"", g->name, key);
    return value;
}

static double meta_number(const struct golden *g, const char *key)
{
    const char *text = meta(g, key);

    return !strcmp(text, "none") ? NAN : strtod(text, NULL);
}

static const lip_named *find(struct golden *g, const char *name)
{
    const lip_named *t = lip_safetensors_find(g->file, name);

    if (t)
        g->used[t - lip_safetensors_tensors(g->file)] = true;
    return t;
}

static const lip_named *tensor(struct golden *g, const char *name)
{
    const lip_named *t = find(g, name);

    ck_assert_msg(t != NULL, "%s: no tensor \"%s\"", g->name, name);
    return t;
}

static const float *data(struct golden *g, const char *name)
{
    return tensor(g, name)->data;
}

static void judge(struct golden *g, enum kind kind, const char *name, double error, size_t at, double ours,
                  double theirs)
{
    char key[160];
    const char *floor;
    double limit = tolerance[kind];

    snprintf(key, sizeof key, "floor:%s", name);
    floor = lip_safetensors_metadata(g->file, key);
    if (floor && 3 * strtod(floor, NULL) > limit)
        limit = 3 * strtod(floor, NULL);
    if (!(error <= limit))
        disagree(g, "%s: off by %.3g, may be %.3g; element %zu is %.9g, deel-lip has %.9g", name, error, limit, at,
                 ours, theirs);
    if (says("all"))
        printf("# %s: %s off by %.2g of %.2g\n", g->name, name, error, limit);
    if (!(error <= g->worst * limit)) {
        g->worst = error / limit;
        snprintf(g->worst_text, sizeof g->worst_text, "%s off by %.2g of %.2g", name, error, limit);
    }
}

/* Compare n numbers of ours with the tensor `name`: each by its own size (losses), or all by the largest. */
static void measure(struct golden *g, enum kind kind, bool each, const char *name, const float *ours, size_t n)
{
    const lip_named *t = tensor(g, name);
    double top = 0, worst = -1;
    size_t at = 0;

    if (lip_shape_count(&t->shape) != n) {
        disagree(g, "%s: ours has %zu elements, deel-lip's %zu", name, n, lip_shape_count(&t->shape));
        return;
    }
    for (size_t i = 0; i < n; i++)
        top = fmax(top, fabs((double)t->data[i]));
    for (size_t i = 0; i < n; i++) {
        double scale = each ? fmax(1, fabs((double)t->data[i])) : top > 0 ? top : 1;
        double error = fabs((double)ours[i] - (double)t->data[i]) / scale;
        if (!(error <= worst)) { /* NaN too */
            worst = isnan(error) ? INFINITY : error;
            at = i;
        }
    }
    if (n)
        judge(g, kind, name, worst, at, (double)ours[at], (double)t->data[at]);
}

static void compare(struct golden *g, enum kind kind, const char *name, const float *ours, size_t n)
{
    measure(g, kind, false, name, ours, n);
}

static void compare_losses(struct golden *g, enum kind kind, const char *name, const float *ours, size_t n)
{
    measure(g, kind, true, name, ours, n);
}

static const char *path(const char *format, ...) __attribute__((format(printf, 1, 2)));

static const char *path(const char *format, ...)
{
    static char text[4][160];
    static unsigned turn;
    char *out = text[turn++ % 4];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(out, sizeof text[0], format, arguments);
    va_end(arguments);
    return out;
}

/* ---- norm ------------------------------------------------------------------------------------------ */

static void check_norm(struct golden *g)
{
    const lip_named *kernel = tensor(g, "kernel");
    size_t count = lip_shape_count(&kernel->shape), n = kernel->shape.dim[kernel->shape.rank - 1], m = count / n;
    double coef = meta_number(g, "coef");
    float *wbar = floats(count), *grad = floats(count);
    lip_error err = {0};

    if (!strcmp(meta(g, "kind"), "frobenius")) {
        bool columns = !strcmp(meta(g, "columns"), "true");
        OK(lip_frobenius(kernel->data, m, n, coef, columns, wbar, &err));
        OK(lip_frobenius_backward(kernel->data, m, n, coef, columns, data(g, "upstream"), grad, &err));
    } else {
        lip_rko_options o = {meta_number(g, "eps_spectral"), meta_number(g, "eps_bjorck"), meta_number(g, "beta"),
                             (long)meta_number(g, "maxiter_spectral"), (long)meta_number(g, "maxiter_bjorck")};
        float *scratch = floats(lip_rko_scratch(m, n, &o, true)), *u = floats(n), sigma;
        lip_rko_info info;
        OK(lip_rko(kernel->data, m, n, coef, &o, data(g, "u"), u, wbar, scratch, true, &info, &err));
        if (lip_safetensors_metadata(g->file, "constant_u"))
            OK(lip_rko_backward_through(kernel->data, m, n, coef, &o, &info, data(g, "u"), u, data(g, "upstream"), grad,
                                        scratch, &err));
        else
            OK(lip_rko_backward(kernel->data, m, n, coef, &o, &info, u, data(g, "upstream"), grad, scratch, &err));
        sigma = (float)info.sigma;
        compare(g, FORWARD, "u_new", u, n);
        compare(g, FORWARD, "sigma", &sigma, 1);
        /* Without keeping anything for a gradient the forward is the same, bit for bit. */
        float *again = floats(count);
        scratch = floats(lip_rko_scratch(m, n, &o, false));
        OK(lip_rko(kernel->data, m, n, coef, &o, data(g, "u"), u, again, scratch, false, NULL, &err));
        ck_assert_mem_eq(again, wbar, count * sizeof *wbar);
    }
    compare(g, FORWARD, "wbar", wbar, count);
    compare(g, GRADIENT, "grad", grad, count);
}

/* ---- where deel-lip fails ------------------------------------------------------------------------------ */

/* How far deel-lip's recorded result is from `meant` (NULL: from finite numbers). */
static double reference_error(const struct golden *g, const float *meant, size_t n)
{
    const char *at = meta(g, "reference");
    double worst = 0;
    char *end;

    for (size_t i = 0; i < n; i++, at = end) {
        double value = strtod(at, &end);
        ck_assert_msg(end != at, "%s: the reference has fewer than %zu numbers", g->name, n);
        worst = !isfinite(value) ? INFINITY : fmax(worst, meant ? fabs(value - (double)meant[i]) : 0);
    }
    return worst;
}

static void check_guard(struct golden *g)
{
    const lip_named *kernel = tensor(g, "kernel");
    size_t count = lip_shape_count(&kernel->shape), n = kernel->shape.dim[1], m = count / n;
    float *wbar = floats(count);
    lip_rko_options o = LIP_RKO_DEFAULTS;
    lip_rko_info info;
    lip_error err = {0};

    if (!strcmp(meta(g, "kind"), "frobenius")) {
        ck_assert(isinf(reference_error(g, NULL, count))); /* NaN weights, without a word */
        ck_assert_int_eq(lip_frobenius(kernel->data, m, n, 1, !strcmp(meta(g, "columns"), "true"), wbar, &err), LIP_EZERO);
        ck_assert_msg(strstr(err.text, "zero") || strstr(err.text, "0"), "%s", err.text);
        return;
    }
    const float *polar = data(g, "polar");
    float *scratch = floats(lip_rko_scratch(m, n, &o, false)), *u = floats(n);
    ck_assert_double_gt(reference_error(g, polar, count), 0.5);
    OK(lip_rko(kernel->data, m, n, 1, &o, data(g, "u"), u, wbar, scratch, false, &info, &err));
    ck_assert(info.redrawn || info.rescaled);
    for (size_t i = 0; i < count; i++) /* Bjorck ends within 1e-3 of an orthogonal matrix, eps_bjorck, where it converges */
        if (!(fabs((double)wbar[i] - (double)polar[i]) < (info.residual < 1e-3 ? 2e-3 : 1)))
            disagree(g, "wbar: element %zu is %.9g, the orthogonal factor has %.9g", i, (double)wbar[i], (double)polar[i]);
}

/* ---- models: reading, loading, and a training-mode pass with all its gradients -------------------- */

static lip_model *read_model(struct golden *g, const char *key)
{
    const char *json = meta(g, key);
    lip_error err = {0};
    lip_model *m;

    OK(lip_model_read(json, strlen(json), false, &m, &err));
    return m;
}

/* The tensors whose names begin with `prefix`, without it; those of `role` left out. */
static size_t gather(struct golden *g, const char *prefix, const char *without, lip_named *out, size_t room)
{
    const lip_named *t = lip_safetensors_tensors(g->file);
    size_t n = 0;

    for (size_t i = 0; i < lip_safetensors_count(g->file); i++) {
        const char *name = t[i].name;
        if (strncmp(name, prefix, strlen(prefix)))
            continue;
        find(g, name);
        if (without && !strcmp(strrchr(name, '/') + 1, without))
            continue;
        ck_assert_uint_lt(n, room);
        out[n] = t[i];
        out[n++].name = name + strlen(prefix);
    }
    return n;
}

/* load: weights/ into a state. stored: with their wbar, else it is computed. */
static void load(struct golden *g, lip_state *s, bool stored)
{
    lip_named tensors[64];
    size_t n = gather(g, "weights/", stored ? NULL : "wbar", tensors, 64);
    lip_error err = {0};

    OK(lip_state_load(s, tensors, n, false, NULL, NULL, &err));
}

/* The name of the i-th of several tensors: name, name/1, … */
static const char *nth(const char *name, size_t i)
{
    return i ? path("%s/%zu", name, i) : name;
}

/* What is fed to a model, or to the way back through it. */
struct fed {
    size_t n;
    const float *x[MOST_ENDS];
};

static struct fed feed(struct golden *g, const char *name, size_t many, const lip_shape *(*shape)(const lip_model *, size_t),
                       const lip_model *m)
{
    struct fed f = {.n = tensor(g, name)->shape.dim[0]};

    ck_assert_uint_le(many, MOST_ENDS);
    for (size_t i = 0; i < many; i++) {
        const lip_named *t = tensor(g, nth(name, i));
        ck_assert_uint_eq(lip_shape_count(&t->shape), f.n * lip_shape_count(shape(m, i)));
        f.x[i] = t->data;
    }
    return f;
}

static struct fed inputs(struct golden *g, const lip_model *m)
{
    return feed(g, "x", lip_model_inputs(m), lip_model_input_shape, m);
}

/* What inference computes with the published state, compared with `name`. */
static void compare_predictions(struct golden *g, const char *name, const lip_state *s, const struct fed *f)
{
    const lip_model *m = lip_state_model(s);
    lip_workspace *ws = lip_workspace_new();
    float *y[MOST_ENDS];
    lip_error err = {0};
    lip_snapshot *snapshot;

    for (size_t i = 0; i < lip_model_outputs(m); i++)
        y[i] = floats(f->n * lip_shape_count(lip_model_output_shape(m, i)));
    OK(lip_state_publish(s, &snapshot, &err));
    OK(lip_predict_graph(snapshot, ws, f->n, f->x, y, &err));
    for (size_t i = 0; i < lip_model_outputs(m); i++)
        compare(g, FORWARD, nth(name, i), y[i], f->n * lip_shape_count(lip_model_output_shape(m, i)));
    lip_workspace_free(ws);
    lip_snapshot_put(snapshot);
}

/* One training-mode forward of a state, kept for its gradients. */
struct trained {
    const lip_model *m;
    const float *data[64];        /* what each variable is for the forward pass */
    float *wbar[16], *u[16], *scratch[16];
    float sigma[16];
    lip_rko_info info[16];
    float *moved[64];             /* moving averages as the forward pass leaves them */
    struct lip__training training;
    struct lip__tape tape;
};

static void forward(struct trained *t, const lip_state *s, const struct fed *f)
{
    const lip_model *m = t->m = lip_state_model(s);
    lip_error err = {0};

    ck_assert(m->n_variables <= 64 && m->n_kernels <= 16);
    for (size_t v = 0; v < m->n_variables; v++)
        t->data[v] = lip_state_data(s, v);
    for (size_t i = 0; i < m->n_kernels; i++) {
        const struct lip__kernel *k = &m->kernel[i];
        t->wbar[i] = floats(k->m * k->n);
        t->u[i] = floats(k->n);
        t->scratch[i] = floats(lip__kernel_scratch(k, true));
        OK(lip__kernel_effective(m, k, t->data[k->kernel], k->u == LIP__NOWHERE ? NULL : t->data[k->u], t->u[i],
                                 &t->sigma[i], t->wbar[i], t->scratch[i], true, &t->info[i], NULL, &err));
        t->data[k->wbar] = t->wbar[i];
    }
    for (size_t v = 0; v < m->n_variables; v++) {
        size_t count = lip_shape_count(&m->variable[v].shape);
        t->moved[v] = m->variable[v].role == LIP_MOVING ? memcpy(floats(count), t->data[v], count * sizeof(float)) : NULL;
    }
    t->training = (struct lip__training){.stats = floats(m->stats), .moved = t->moved};
    OK(lip__tape_new(&t->tape, m, &err));
    t->tape.data = t->data;
    t->tape.x = f->x;
    t->tape.training = &t->training;
    t->tape.gradient = floats(m->trained);
    OK(lip__tape_reserve(&t->tape, f->n, false, &err));
    lip__tape_forward(&t->tape);
}

/* dx and, of each variable, its gradient (NULL for those that have none), from dy. */
static void backward(struct trained *t, const struct fed *dy, float *const *dx, float *grad[64])
{
    const lip_model *m = t->m;
    lip_error err = {0};

    t->tape.dx = dx;
    lip__tape_begin(&t->tape);
    for (size_t i = 0; i < m->n_outputs; i++) {
        memcpy(lip__tape_seed(&t->tape, i), dy->x[i], dy->n * lip_shape_count(&m->output[i]) * sizeof *dy->x[i]);
        lip__tape_seeded(&t->tape, i);
    }
    lip__tape_backward(&t->tape, false);
    for (size_t v = 0; v < m->n_variables; v++)
        grad[v] = lip__trains(m->variable[v].role) ? t->tape.gradient + m->offset[v] : NULL;
    for (size_t i = 0; i < m->n_kernels; i++) {
        const struct lip__kernel *k = &m->kernel[i];
        float *g = grad[k->kernel];
        OK(k->layer->kind->reparam->backward(k->layer, t->data[k->kernel], k->m, k->n, &t->info[i], NULL, t->u[i], g, g,
                                             t->scratch[i], NULL, &err));
    }
}

/* deel-lip reparametrises a shared layer at each of its calls, so that its u is several power iterations further on; here once a
 * step. What is computed with it agrees all the same. */
static bool used_once(const lip_model *m, const struct lip__kernel *k)
{
    size_t uses = 0;

    for (size_t s = 0; s < m->n_steps; s++)
        uses += m->step[s].train[0] == k->kernel;
    return uses == 1;
}

/* Whether the variable is the u or sigma of such a layer. */
static bool steps_apart(const lip_model *m, size_t v)
{
    for (size_t i = 0; i < m->n_kernels; i++)
        if (m->kernel[i].u == v || m->kernel[i].sigma == v)
            return !used_once(m, &m->kernel[i]);
    return false;
}

/* compare_after: u, sigma and wbar of a training-mode forward with the tensors of `prefix`. */
static void compare_after(struct golden *g, const struct trained *t, const char *prefix)
{
    for (size_t i = 0; i < t->m->n_kernels; i++) {
        const struct lip__kernel *k = &t->m->kernel[i];
        compare(g, FORWARD, path("%s%s", prefix, t->m->variable[k->wbar].name), t->wbar[i], k->m * k->n);
        if (k->u == LIP__NOWHERE || !used_once(t->m, k))
            continue;
        compare(g, FORWARD, path("%s%s", prefix, t->m->variable[k->u].name), t->u[i], k->n);
        compare(g, FORWARD, path("%s%s", prefix, t->m->variable[k->sigma].name), &t->sigma[i], 1);
    }
    for (size_t v = 0; v < t->m->n_variables; v++)
        if (t->moved[v])
            compare(g, FORWARD, path("%s%s", prefix, t->m->variable[v].name), t->moved[v], lip_shape_count(&t->m->variable[v].shape));
}

/* ---- layers and whole models ------------------------------------------------------------------------ */

/* Where two documents first part: true, and its pointer behind `at`. Ours may hold the shape that a layer was built on
 * where Keras left it out, as it does for layers that an export has built by hand. */
static bool parts(const json_t *a, const json_t *b, char at[400])
{
    size_t end = strlen(at), i;
    const char *key;
    json_t *v;

    if (json_is_object(a) && json_is_object(b))
        json_object_foreach((json_t *)b, key, v) {
            snprintf(at + end, 400 - end, "/%s", key);
            if (!json_object_get(a, key) || parts(json_object_get(a, key), v, at))
                return true;
        }
    at[end] = '\0';
    if (json_is_object(a) && json_is_object(b))
        return json_object_size(a) != json_object_size(b) + (json_object_get(a, "build_config") && !json_object_get(b, "build_config"));
    if (json_is_array(a) && json_is_array(b) && json_array_size(a) == json_array_size(b))
        json_array_foreach((json_t *)b, i, v) {
            snprintf(at + end, 400 - end, "/%zu", i);
            if (parts(json_array_get(a, i), v, at))
                return true;
        }
    at[end] = '\0';
    return json_is_array(a) && json_is_array(b) ? json_array_size(a) != json_array_size(b) : !json_equal(a, b);
}

/* Keys that Keras does not know are left out unless they differ from their defaults, so deel-lip's own text comes back. */
static void same_text(struct golden *g, const lip_model *m, const char *key)
{
    char *ours = lip_model_definition(m, false), at[400] = "";
    json_t *a = json_loads(ours, 0, NULL), *b = json_loads(meta(g, key), 0, NULL);

    ck_assert(a && b);
    if (parts(a, b, at))
        disagree(g, "%s: ours parts from deel-lip's at %s:\n%s", key, at, ours);
    json_decref(a);
    json_decref(b);
    lip_free(ours);
}

/* What deel-lip's training-mode forward leaves behind is what its export and condense start from. */
static void check_export_and_condense(struct golden *g, lip_state *s, const struct fed *f)
{
    const lip_model *m = lip_state_model(s);
    lip_named tensors[64];
    lip_error err = {0};
    lip_snapshot *snapshot;
    lip_model *vanilla;
    lip_state *plain;

    OK(lip_state_load(s, tensors, gather(g, "after/", NULL, tensors, 64), true, NULL, NULL, &err));
    OK(lip_state_publish(s, &snapshot, &err));
    OK(lip_model_vanilla(m, &vanilla, &err));
    OK(lip_snapshot_vanilla(snapshot, vanilla, &plain, &err));
    compare_predictions(g, "y_vanilla", plain, f);
    if (lip_safetensors_metadata(g->file, "vanilla_definition"))
        same_text(g, vanilla, "vanilla_definition");
    lip_state_free(plain);
    lip_snapshot_put(snapshot);
    lip_model_put(vanilla);

    OK(lip_state_condense(s, NULL, NULL, &err));
    for (size_t v = 0; v < m->n_variables; v++) {
        const char *name = path("condensed/%s", m->variable[v].name);
        if (lip_safetensors_find(g->file, name))
            compare(g, FORWARD, name, lip_state_data(s, v), lip_shape_count(&m->variable[v].shape));
    }
    /* deel-lip's y_condensed orthogonalises the condensed kernel once more: so does a refresh. */
    OK(lip_state_refresh(s, NULL, NULL, &err));
    compare_predictions(g, "y_condensed", s, f);
}

static void check_training_pass(struct golden *g, lip_state *s, const struct fed *f)
{
    const lip_model *m = lip_state_model(s);
    struct fed dy = feed(g, "dy", lip_model_outputs(m), lip_model_output_shape, m);
    float *dx[MOST_ENDS], *grad[64];
    struct trained t;

    for (size_t i = 0; i < lip_model_inputs(m); i++)
        dx[i] = floats(f->n * lip_shape_count(lip_model_input_shape(m, i)));
    forward(&t, s, f);
    for (size_t i = 0; i < lip_model_outputs(m); i++)
        compare(g, FORWARD, nth("y_train", i), lip__tape_output(&t.tape, i), f->n * lip_shape_count(lip_model_output_shape(m, i)));
    compare_after(g, &t, "after/");
    backward(&t, &dy, dx, grad);
    for (size_t i = 0; i < lip_model_inputs(m); i++)
        compare(g, GRADIENT, nth("dx", i), dx[i], f->n * lip_shape_count(lip_model_input_shape(m, i)));
    for (size_t v = 0; v < m->n_variables; v++)
        if (grad[v])
            compare(g, GRADIENT, path("grad/%s", m->variable[v].name), grad[v], lip_shape_count(&m->variable[v].shape));
    lip__tape_clear(&t.tape);
}

/* What training mode draws is not told. */
static bool is_random(const struct golden *g)
{
    const char *training = lip_safetensors_metadata(g->file, "training");

    return training && !strcmp(training, "random");
}

static void check_layer(struct golden *g)
{
    lip_model *m = read_model(g, "definition");
    struct fed f = inputs(g, m);
    lip_error err = {0};
    lip_state *s;

    same_text(g, m, "definition");
    OK(lip_state_new(m, 1, &s, &err));
    load(g, s, true);
    compare_predictions(g, "y_infer", s, &f);
    if (!is_random(g)) {
        check_training_pass(g, s, &f);
        /* Loaded without wbar, inference is what training mode computes, unless that looks at the batch. */
        load(g, s, false);
        if (!m->stats)
            compare_predictions(g, "y_train", s, &f);
    }
    if (m->n_kernels)
        check_export_and_condense(g, s, &f);
    lip_state_free(s);
    lip_model_put(m);
}

/* ---- losses ------------------------------------------------------------------------------------------ */

/* Keras writes an infinite alpha as the bare token Infinity, which is not JSON. */
static json_t *keras_json(const char *text)
{
    const char *at = strstr(text, "Infinity");
    size_t size = strlen(text);
    char *quoted = keep(lip__alloc(size + 3, 1));

    if (at)
        snprintf(quoted, size + 3, "%.*s\"Infinity\"%s", (int)(at - text), text, at + strlen("Infinity"));
    else
        memcpy(quoted, text, size);
    json_t *json = json_loads(quoted, 0, NULL);
    ck_assert_msg(json != NULL, "not JSON: %s", text);
    return json;
}

static void check_loss(struct golden *g)
{
    json_t *json = keras_json(meta(g, "loss"));
    const lip_named *p = tensor(g, "y_pred"), *weight = find(g, "sample_weight");
    size_t n = p->shape.dim[0], c = p->shape.dim[p->shape.rank - 1];
    const float *y = data(g, "y_true");
    double *scratch = doubles(4 * c + 6 * n);
    float *per_sample = floats(n), *dp = floats(n * c), value;
    struct lip__object *loss;
    lip_error err = {0};

    OK(lip__object_read(json, lip__losses, "loss", false, "", &loss, &err));
    json_decref(json);
    const struct lip__loss_class *cls = (const struct lip__loss_class *)loss->cls;
    if (cls->check)
        OK(cls->check(loss, n, c, y, &err));
    lip__loss_begin(loss);
    struct lip__scored scored = {.n = n, .c = c, .y = y, .p = p->data, .dp = dp, .per_sample = per_sample, .scratch = scratch};
    value = (float)lip__loss(loss, &scored);
    compare_losses(g, LOSS, "per_sample", per_sample, n);
    compare_losses(g, LOSS, "value", &value, 1);
    compare(g, GRADIENT, "grad", dp, n * c);
    if (weight) {
        scored.sample_weight = weight->data;
        value = (float)lip__loss(loss, &scored);
        compare_losses(g, LOSS, "value_weighted", &value, 1);
        compare(g, GRADIENT, "grad_weighted", dp, n * c);
    }
    lip__object_free(loss);
}

/* ---- metrics ----------------------------------------------------------------------------------------- */

static void check_metric(struct golden *g)
{
    json_t *json = keras_json(meta(g, "metric")), *squares = json_string("mse");
    const lip_named *p = tensor(g, "y_pred");
    size_t n = p->shape.dim[0], c = p->shape.dim[1];
    struct lip__object *metric, *loss;
    lip_error err = {0};
    float value;

    OK(lip__object_read(json, lip__metrics, "metric", false, "", &metric, &err));
    OK(lip__object_read(squares, lip__losses, "loss", false, "", &loss, &err));
    json_decref(squares);
    json_decref(json);
    lip__metric_begin(metric);
    OK(lip__metric_check(metric, c, false, &err));
    struct lip__judged judged = {.loss = loss, .n = n, .c = c, .y = data(g, "y_true"), .p = p->data, .scratch = doubles(4 * c + 6 * n),
                                 .indices = tensor(g, "y_true")->shape.dim[1] < c};
    value = (float)lip__metric(metric, &judged);
    compare_losses(g, LOSS, "value", &value, 1);
    lip__object_free(loss);
    lip__object_free(metric);
}

/* ---- optimizers -------------------------------------------------------------------------------------- */

static void check_optimizer(struct golden *g)
{
    json_t *json = keras_json(meta(g, "optimizer"));
    const lip_named *w0 = tensor(g, "w0"), *grads = tensor(g, "grads");
    size_t n = lip_shape_count(&w0->shape), steps = grads->shape.dim[0], slots;
    float *w = floats(n), *next = floats(n), *after = floats(n * steps), *gradient = floats(n);
    float *slot[LIP__MAX_SLOTS] = {NULL}, *slot_next[LIP__MAX_SLOTS] = {NULL};
    struct lip__object *optimizer;
    lip_error err = {0};

    OK(lip__object_read(json, lip__optimizers, "optimizer", true, "", &optimizer, &err));
    json_decref(json);
    OK(lip__optimizer_check(optimizer, &err));
    const struct lip__optimizer *options = (const struct lip__optimizer *)optimizer;
    slots = lip__slots(optimizer);
    for (size_t i = 0; i < slots; i++) {
        slot[i] = floats(n);
        slot_next[i] = floats(n);
    }
    memcpy(w, w0->data, n * sizeof *w);
    if (options->use_ema)
        memcpy(slot[slots - 1], w, n * sizeof *w);
    for (size_t t = 0; t < steps; t++) {
        memcpy(gradient, grads->data + t * n, n * sizeof *w);
        lip__clip(optimizer, 1, (const size_t[]){0}, &n, gradient);
        lip__step(optimizer, &(struct lip__update){.t = t + 1, .learning_rate = lip__schedule_rate(options->schedule, t),
                                                   .n = n, .w = w, .g = gradient, .slot = (const float *const *)slot,
                                                   .w_next = next, .slot_next = slot_next});
        memcpy(w, next, n * sizeof *w);
        memcpy(after + t * n, next, n * sizeof *w);
        for (size_t i = 0; i < slots; i++)
            memcpy(slot[i], slot_next[i], n * sizeof *w);
    }
    compare(g, UPDATE, "w_after", after, n * steps);
    lip__object_free(optimizer);
}

/* ---- training ---------------------------------------------------------------------------------------- */

/* lagging: publish as deel-lip does, whose wbar is the step's own forward's. The trajectory is the same either way. */
static void train(struct golden *g, const lip_model *m, bool lagging)
{
    const char *json = meta(g, "training");
    bool few = !strncmp(g->name, "steps-", 6);
    enum kind kind = few ? SGD : strstr(json, "Adam") ? ADAM : SGD;
    const lip_named *x = tensor(g, "x"), *y = tensor(g, "y_true"), *index = tensor(g, "batch_index");
    size_t steps = index->shape.dim[0], n = x->shape.dim[1];
    size_t in = lip_shape_count(&x->shape) / x->shape.dim[0], out = lip_shape_count(&y->shape) / y->shape.dim[0];
    float *loss = floats(steps);
    lip_step_options options = {.learning_rate = NAN, .lagging = lagging};
    lip_error err = {0};
    lip_trainer *trainer;
    lip_state *s;

    OK(lip_state_new(m, 1, &s, &err));
    load(g, s, true);
    OK(lip_trainer_new(m, json, strlen(json), &trainer, &err));
    for (size_t step = 1; step <= steps; step++) {
        size_t at = (size_t)index->data[step - 1];
        lip_batch batch = {.n = n, .x = x->data + at * in, .y = y->data + at * out,
                           .y_shape = {2, {n, out / n}}};
        lip_step_report report;
        OK(lip_train_step(trainer, s, &batch, &options, &report, &err));
        loss[step - 1] = (float)report.loss;
        for (size_t v = 0; v < m->n_variables; v++) {
            const lip_variable *variable = lip_model_variable(m, v);
            const char *name = path("step%zu/%s", step, variable->name);
            if (find(g, name) && (lagging || variable->role != LIP_WBAR) && !steps_apart(m, v))
                compare(g, step <= 2 ? GRADIENT : kind, name, lip_state_data(s, v), lip_shape_count(&variable->shape));
        }
    }
    compare_losses(g, kind, "loss", loss, steps);
    lip_trainer_free(trainer);
    lip_state_free(s);
}

static void check_training(struct golden *g)
{
    lip_model *m = read_model(g, "definition");

    train(g, m, true);
    train(g, m, false);
    lip_model_put(m);
}

static void check_model(struct golden *g)
{
    lip_model *m = read_model(g, "definition"), *other;
    struct fed f = inputs(g, m);
    struct trained t;
    lip_error err = {0};
    lip_state *s;

    same_text(g, m, "definition");
    other = read_model(g, "definition_legacy");
    same_text(g, other, "definition");
    lip_model_put(other);

    OK(lip_state_new(m, 1, &s, &err));
    load(g, s, true);
    compare_predictions(g, "y_infer", s, &f);
    forward(&t, s, &f);
    compare(g, FORWARD, "y_train", lip__tape_output(&t.tape, 0), f.n * lip_shape_count(lip_model_output_shape(m, 0)));
    compare_after(g, &t, "after/");
    lip__tape_clear(&t.tape);
    check_export_and_condense(g, s, &f);
    lip_state_free(s);
    lip_model_put(m);
}

/* ---- the cases --------------------------------------------------------------------------------------- */

static const struct group {
    const char *name;
    void (*check)(struct golden *);
} group[] = {{"norm", check_norm},         {"layer", check_layer}, {"graph", check_layer}, {"loss", check_loss},
             {"training", check_training}, {"steps", check_training}, {"model", check_model}, {"optimizer", check_optimizer},
             {"metric", check_metric},     {"guard", check_guard}};

#define GROUPS (sizeof group / sizeof *group)

static char *list, *name_of[1000];
static size_t n_cases;

static void read_cases(void)
{
    size_t size;

    list = slurp("cases.txt", &size);
    for (char *at = list ? strtok(list, "\n") : NULL; at; at = strtok(NULL, "\n"))
        if (n_cases < sizeof name_of / sizeof *name_of)
            name_of[n_cases++] = at;
}

static bool belongs(const char *name, const struct group *to)
{
    return !strncmp(name, to->name, strlen(to->name)) && name[strlen(to->name)] == '-';
}

START_TEST(agrees_with_deel_lip)
{
    static struct golden g; /* static: a failing assertion may jump out of here */
    char *file = NULL;
    size_t size, n = strlen(name_of[_i]) + sizeof ".safetensors";
    lip_error err = {0};

    release();
    g = (struct golden){.name = name_of[_i]};
    file = keep(lip__alloc(n, 1));
    snprintf(file, n, "%s.safetensors", g.name);
    g.bytes = slurp(file, &size);
    ck_assert_msg(g.bytes != NULL, "%s/%s cannot be read", folder(), file);
    keep(g.bytes);
    OK(lip_safetensors_read(g.bytes, size, &g.file, &err));
    g.used = keep(lip__alloc(lip_safetensors_count(g.file) + 1, sizeof *g.used));
    size_t i = 0;
    while (i < GROUPS && !belongs(g.name, &group[i]))
        i++;
    ck_assert_msg(i < GROUPS, "%s belongs to no group", g.name);
    ck_assert_str_eq(meta(&g, "group"), group[i].name);
    for (size_t threads = 1; threads <= 3; threads += 2) {
        OK(lip_set_threads(threads, &err));
        group[i].check(&g);
    }
    for (size_t t = 0; t < lip_safetensors_count(g.file); t++)
        if (!g.used[t])
            disagree(&g, "%s: nothing compares it", lip_safetensors_tensors(g.file)[t].name);
    if (says("worst"))
        printf("# %s: %s\n", g.name, g.worst > 0 ? g.worst_text : "exact");
    ck_assert_msg(g.failures == 0, "%s: %zu disagreements:%s", g.name, g.failures, g.text);
    lip_safetensors_free(g.file);
    release();
}
END_TEST

START_TEST(every_group_has_cases)
{
    size_t i = 0;

    while (i < n_cases && !belongs(name_of[i], &group[_i]))
        i++;
    ck_assert_msg(i < n_cases, "no case of the group \"%s\" in cases.txt", group[_i].name);
}
END_TEST

START_TEST(every_file_is_listed)
{
    DIR *dir = opendir(folder());
    struct dirent *entry;

    ck_assert_msg(dir != NULL, "%s cannot be read", folder());
    while ((entry = readdir(dir))) {
        char *end = strstr(entry->d_name, ".safetensors");
        size_t i = 0;
        if (!end || end[strlen(".safetensors")])
            continue;
        *end = '\0';
        while (i < n_cases && strcmp(name_of[i], entry->d_name))
            i++;
        ck_assert_msg(i < n_cases, "%s is not in cases.txt", entry->d_name);
    }
    closedir(dir);
}
END_TEST

/* ---- what the cases cover ------------------------------------------------------------------------------ */

/* What the files hold of one kind in one format. */
struct covered {
    lip_shape shape[64];
    size_t n_shapes;
    bool steps[4], even, oblong; /* of convolutions: strides 1 to 3, an even kernel, an image that is not square */
};

static const void *option(const lip_layer *l, const char *name)
{
    for (const struct lip__field *f = l->kind->cls.fields; f->name; f++)
        if (!strcmp(f->name, name))
            return (const char *)l + f->offset;
    return NULL;
}

/* Whether the kind has a data_format that may be channels_first. */
static bool offers_first(const struct lip__kind *kind)
{
    lip_layer *l = lip__layer_new(kind);
    const void *format = option(l, "data_format");
    bool offers = false;

    ck_assert_ptr_nonnull(l);
    for (const struct lip__field *f = kind->cls.fields; f->name && format; f++)
        if (!strcmp(f->name, "data_format") && f->type == LIP__CHOICE && lip__field_choice(f, "channels_first")) {
            *(const char **)(void *)((char *)l + f->offset) = lip__field_choice(f, "channels_first");
            lip_error err = {0}; /* an option that is still missing is another matter */
            offers = !kind->check || kind->check(l, &err) == LIP_OK || !strstr(err.text, "last axis only");
        }
    lip__layer_free(l);
    return offers;
}

static void cover(struct covered *c, const lip_layer *l)
{
    const lip_shape *in = l->n_merged ? &l->merged[0] : &l->given;
    const size_t *kernel = option(l, "kernel_size"), *strides = option(l, "strides");
    size_t i = 0;

    while (i < c->n_shapes && !lip_shape_equal(&c->shape[i], in))
        i++;
    if (i == c->n_shapes && i < sizeof c->shape / sizeof *c->shape)
        c->shape[c->n_shapes++] = *in;
    for (int axis = 0; kernel && axis < 2; axis++) {
        if (strides[axis] < 4)
            c->steps[strides[axis]] = true;
        c->even |= kernel[axis] % 2 == 0;
        c->oblong |= l->in.dim[0] != l->in.dim[1];
    }
}

/* A kind is tested the day it is listed: three shapes at least, in each format that it has; convolutions with strides of 1
 * to 3, even kernels and images that are not square. Each file has, by the checks above, inference and training, the
 * gradients of inputs and variables, and of constrained kinds condense and export. */
START_TEST(every_kind_has_three_shapes_in_each_format)
{
    const struct lip__kind *const *kinds = lip__kinds();
    static struct covered covered[100][2];
    char lacks[4000] = "";

    for (size_t i = 0; i < n_cases; i++) {
        static struct golden g;
        size_t size;
        lip_error err = {0};
        if (strncmp(name_of[i], "layer-", 6) && strncmp(name_of[i], "graph-", 6))
            continue;
        g = (struct golden){.name = name_of[i], .bytes = slurp(path("%s.safetensors", name_of[i]), &size)};
        ck_assert_ptr_nonnull(g.bytes);
        OK(lip_safetensors_read(g.bytes, size, &g.file, &err));
        lip_model *m = read_model(&g, "definition");
        for (size_t j = 0; j < m->n_layers; j++) {
            size_t k = 0;
            while (kinds[k] != m->layer[j]->kind)
                k++;
            ck_assert_uint_lt(k, 100);
            cover(&covered[k][m->layer[j]->first], m->layer[j]);
        }
        lip_model_put(m);
        lip_safetensors_free(g.file);
        lip__free(g.bytes);
    }
    for (size_t k = 0; kinds[k]; k++)
        for (int first = 0; first <= offers_first(kinds[k]); first++) {
            const struct covered *c = &covered[k][first];
            const char *name = kinds[k]->cls.name, *format = first ? " (channels_first)" : "";
            bool windows = kinds[k]->op == LIP__CONV || kinds[k]->op == LIP__ADJOINT || kinds[k]->op == LIP__PADDED;
            bool steps = strcmp(name, "FrobeniusConv2D"); /* which has none but 1 */
            size_t at = strlen(lacks);
            if (c->n_shapes < 3 && !(kinds[k]->flags & LIP__INPUT))
                snprintf(lacks + at, sizeof lacks - at, "\n%s%s has %zu shapes", name, format, c->n_shapes);
            else if (windows && !(c->steps[1] && c->even && c->oblong && (!steps || (c->steps[2] && c->steps[3]))))
                snprintf(lacks + at, sizeof lacks - at, "\n%s%s lacks a stride, an even kernel or an oblong image", name, format);
        }
    ck_assert_msg(!*lacks, "%s", lacks);
}
END_TEST

/* The metadata `key` of all cases whose names begin so, as one text. */
static char *told(const char *begins, const char *key)
{
    char *all = keep(lip__alloc(1 << 20, 1));

    for (size_t i = 0; i < n_cases; i++) {
        lip_safetensors *file;
        lip_error err = {0};
        size_t size;
        if (strncmp(name_of[i], begins, strlen(begins)))
            continue;
        char *bytes = slurp(path("%s.safetensors", name_of[i]), &size);
        ck_assert_ptr_nonnull(bytes);
        OK(lip_safetensors_read(bytes, size, &file, &err));
        ck_assert_ptr_nonnull(lip_safetensors_metadata(file, key));
        ck_assert_uint_lt(strlen(all) + strlen(lip_safetensors_metadata(file, key)) + 1, 1 << 20);
        strcat(all, lip_safetensors_metadata(file, key));
        lip_safetensors_free(file);
        lip__free(bytes);
    }
    return all;
}

static void has_each(const char *text, const struct lip__class *const *classes, const char *where)
{
    for (size_t i = 0; classes[i]; i++)
        ck_assert_msg(strstr(text, path("\"class_name\": \"%s\"", classes[i]->name)) != NULL, "no case %s… has %s", where,
                      classes[i]->name);
}

/* A loss, an optimizer, a schedule or a metric is tested the day it is listed: its values, and thirty steps with it. */
START_TEST(every_loss_and_optimizer_has_cases)
{
    const struct lip__class *metrics[64] = {NULL};
    size_t n = 0;

    release();
    has_each(told("loss-", "loss"), lip__losses, "loss-");
    has_each(told("steps-", "training"), lip__losses, "steps-");
    has_each(told("optimizer-", "optimizer"), lip__optimizers, "optimizer-");
    has_each(told("steps-", "training"), lip__optimizers, "steps-");
    has_each(told("optimizer-", "optimizer"), lip__schedules + 1, "optimizer-"); /* the first is a plain number */
    has_each(told("steps-", "training"), lip__schedules + 1, "steps-");
    for (size_t i = 0; lip__metrics[i] && lip__metrics[i] != lip__losses[0]; i++)
        if (strcmp(lip__metrics[i]->name, "accuracy") && strcmp(lip__metrics[i]->name, "mean_margin")) /* ours, see check_train */
            metrics[n++] = lip__metrics[i];
    has_each(told("metric-", "metric"), metrics, "metric-");
    release();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("golden");
    TCase *complete = tcase_create("complete"), *cases = tcase_create("cases");

    read_cases();
    tcase_add_loop_test(complete, every_group_has_cases, 0, (int)GROUPS);
    tcase_add_test(complete, every_file_is_listed);
    tcase_add_test(complete, every_loss_and_optimizer_has_cases);
    tcase_add_test(complete, every_kind_has_three_shapes_in_each_format);
    suite_add_tcase(s, complete);
    tcase_add_loop_test(cases, agrees_with_deel_lip, 0, (int)n_cases);
    suite_add_tcase(s, cases);
    return s;
}

CHECK_MAIN(suite)
