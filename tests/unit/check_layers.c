/* check_layers.c: laws that every kind of layer obeys, and the worked numbers of single ones.
 *
 * A kind without a line in `sample` fails, so a new kind is tested the day it is listed in kinds.def.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <onelip/bound.h>

#include "check_main.h"
#include "io/keras_json.h"
#include "layers/layer.h"
#include "samples.h"
#include "tensor/im2col.h"
#include "tensor/tile.h"


static lip_err make_joined(const char *name, const char *config, const lip_shape *in, size_t inputs, lip_layer **layer,
                           lip_error *err)
{
    lip_shape shapes[] = {*in, *in, *in};
    const struct lip__kind *kind = lip__kind_find(name);
    char *text = strdup(config);
    lip_err rc;

    ck_assert_msg(kind != NULL, "no kind is called %s", name);
    for (char *c = text; *c; c++)
        if (*c == '\'')
            *c = '"';
    json_t *json = json_loads(text, 0, NULL);
    ck_assert_msg(json != NULL, "%s is no JSON", text);
    free(text);
    *layer = lip__layer_new(kind);
    rc = *layer ? lip__fields_read(json, &kind->cls, *layer, NULL, name, "", err) : lip__nomem(err, kind->cls.size);
    json_decref(json);
    for (const struct lip__field *f = kind->cls.fields; f->name && !rc; f++)
        if (f->flags & LIP__CALL) /* what the node of a graph would say */
            *(double *)(void *)((char *)*layer + f->offset) = -1.5;
    if (!rc)
        rc = lip__layer_join(*layer, shapes, inputs, err);
    if (rc) {
        lip__layer_free(*layer);
        *layer = NULL;
    }
    return rc;
}

static lip_err make(const char *name, const char *config, const lip_shape *in, lip_layer **layer, lip_error *err)
{
    return make_joined(name, config, in, 1, layer, err);
}

/* ---- a layer with weights, arrays of exact length, so that a sanitizer sees the end of each ------------ */

enum { MOST = 6 };

struct rig {
    lip_layer *l;
    size_t in, out, n;       /* floats per sample, all inputs; samples */
    size_t inputs;           /* x and dx hold one input's batch behind the other's */
    size_t n_w, size[MOST];  /* what forward reads */
    float *w[MOST], *dw[MOST];
    float *scratch, *x, *y, *dy, *dx;
};

static float *array(size_t n)
{
    void *memory = NULL;

    ck_assert_int_eq(posix_memalign(&memory, 64, n ? n * sizeof(float) : 1), 0);
    return memory;
}

static void fill(float *x, size_t n, uint64_t stream)
{
    lip_random r = {7, stream, 0};

    lip_random_normal(&r, x, n);
}

/* Distinct multiples of 1/8 in a random order, none of them a multiple of 1/4: no small step reaches a tie or a corner. */
static void fill_apart(float *x, size_t n, uint64_t stream)
{
    lip_random r = {7, stream, 0};

    for (size_t i = 0; i < n; i++)
        x[i] = ((float)i - (float)(n / 2)) / 4 + 0.125f;
    for (size_t i = n; i > 1; i--) {
        size_t j = lip_random_u64(&r) % i;
        float swap = x[i - 1];
        x[i - 1] = x[j];
        x[j] = swap;
    }
}

static void rig_with(struct rig *r, lip_layer *l, size_t n)
{
    *r = (struct rig){.l = l, .n = n, .inputs = l->n_merged ? l->n_merged : 1, .out = lip_shape_count(&l->out)};
    r->in = r->inputs * lip_shape_count(&l->in);
    for (size_t i = 0; i < l->n_declared; i++) {
        lip_role role = l->declared[i].role;
        if (role == LIP_U || role == LIP_SIGMA || role == LIP_WBAR)
            continue;
        r->size[r->n_w] = lip_shape_count(&l->declared[i].shape);
        r->w[r->n_w] = array(r->size[r->n_w]);
        fill(r->w[r->n_w], r->size[r->n_w], 100 + r->n_w);
        if (role != LIP_MOVING)
            r->dw[r->n_w] = array(r->size[r->n_w]);
        for (size_t j = 0; role == LIP_MOVING && j < r->size[r->n_w]; j++)
            r->w[r->n_w][j] = 0.5f + fabsf(r->w[r->n_w][j]); /* a variance is positive */
        r->n_w++;
    }
    r->scratch = array(l->kind->scratch ? lip_threads() * l->kind->scratch(l) : 0);
    r->x = array(n * r->in), r->dx = array(n * r->in);
    r->y = array(n * r->out), r->dy = array(n * r->out);
    fill_apart(r->x, n * r->in, 1);
    fill(r->dy, n * r->out, 2);
}

static void rig_up(struct rig *r, const struct sample *s, size_t n)
{
    lip_layer *l;
    lip_error err = {0};

    ck_assert_msg(!make_joined(s->name, s->config, &s->in, inputs_of(s), &l, &err), "%s %s: %s", s->name, s->config,
                  err.text);
    rig_with(r, l, n);
}

static void rig_down(struct rig *r)
{
    for (size_t i = 0; i < r->n_w; i++)
        free(r->w[i]), free(r->dw[i]);
    free(r->scratch), free(r->x), free(r->y), free(r->dx), free(r->dy);
    lip__layer_free(r->l);
}

static struct lip__pass pass(const struct rig *r, size_t n)
{
    return (struct lip__pass){.n = n, .w = (const float *const *)r->w, .dw = r->dw, .scratch = r->scratch};
}

/* Samples first .. first + n - 1 of a batch x: y and, unless dx is NULL, dx from dy. */
static void run(const struct rig *r, size_t first, size_t n, const float *x, float *y, const float *dy, float *dx)
{
    struct lip__pass p = pass(r, n);
    size_t in = r->in / r->inputs;
    const float *xs[LIP__MAX_JOINED];

    y += first * r->out;
    for (size_t i = 0; i < r->inputs; i++)
        xs[i] = x + (i * r->n + first) * in;
    if (r->l->kind->join)
        r->l->kind->merge(r->l, &p, xs, y);
    else
        r->l->kind->forward(r->l, &p, xs[0], y);
    for (size_t i = 0; i < r->inputs && dx; i++)
        if (r->l->kind->join)
            r->l->kind->unmerge(r->l, &p, xs, dy + first * r->out, i, dx + (i * r->n + first) * in);
        else
            r->l->kind->backward(r->l, &p, xs[0], y, dy + first * r->out, dx + first * in);
}

static void forward(const struct rig *r, const float *x, float *y)
{
    run(r, 0, r->n, x, y, NULL, NULL);
}

static void backward(const struct rig *r)
{
    struct lip__pass p = pass(r, r->n);

    run(r, 0, r->n, r->x, r->y, r->dy, r->dx);
    if (r->l->kind->gradient)
        r->l->kind->gradient(r->l, &p, r->x, r->dy);
}

static double largest(const float *x, size_t n)
{
    double most = 0;

    for (size_t i = 0; i < n; i++)
        most = fmax(most, fabs(x[i]));
    return most;
}

static void ck_close(const float *a, const float *b, size_t n, double tolerance, const char *what)
{
    double size = fmax(1e-3, largest(b, n));

    for (size_t i = 0; i < n; i++)
        ck_assert_msg(fabs((double)a[i] - b[i]) <= tolerance * size, "%s: [%zu] is %g, needs %g", what, i, a[i], b[i]);
}

/* ---- laws of every kind ------------------------------------------------------------------------------ */

START_TEST(every_kind_has_a_sample)
{
    const struct lip__kind *kind = lip__kinds()[_i];
    int found = 0;

    for (size_t s = 0; s < SAMPLES; s++)
        found += !strcmp(sample[s].name, kind->cls.name);
    ck_assert_msg(found > 0, "%s has no sample", kind->cls.name);
    ck_assert_ptr_eq(lip__kind_find(kind->cls.name), kind);
}
END_TEST

/* sum(dy f) in double, as a function of one number. */
static double loss(struct rig *r, float *where, float value)
{
    float before = *where;
    double sum = 0;

    *where = value;
    forward(r, r->x, r->y);
    *where = before;
    for (size_t i = 0; i < r->n * r->out; i++)
        sum += (double)r->dy[i] * r->y[i];
    return sum;
}

/* Steps of 1/32 are exact in float and reach no corner; only L2 pooling is not linear within them. */
static void ck_differences(struct rig *r, float *x, const float *dx, size_t n, const char *what)
{
    const float h = 1.0f / 32;
    double size = largest(dx, n);

    for (size_t i = 0; i < n; i++) {
        double slope = (loss(r, x + i, x[i] + h) - loss(r, x + i, x[i] - h)) / (2 * (double)h);
        ck_assert_msg(fabs(slope - dx[i]) <= 1e-3 * size + 1e-6, "%s: [%zu] is %g, differences say %g", what, i, dx[i], slope);
    }
}

START_TEST(gradient_agrees_with_differences)
{
    struct rig r;

    rig_up(&r, &sample[_i], 3);
    backward(&r);
    ck_differences(&r, r.x, r.dx, r.n * r.in, "dx");
    for (size_t i = 0; i < r.n_w; i++)
        if (r.dw[i])
            ck_differences(&r, r.w[i], r.dw[i], r.size[i], i ? "db" : "dw");
    rig_down(&r);
}
END_TEST

static double norm_of(const float *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sqrt(sum);
}

static double distance(const float *x, const float *z, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += ((double)x[i] - z[i]) * ((double)x[i] - z[i]);
    return sqrt(sum);
}

START_TEST(keeps_its_bound)
{
    struct rig r;

    rig_up(&r, &sample[_i], 1);
    double k = r.l->kind->weighed ? r.l->kind->weighed(r.l, (const float *const *)r.w)
               : r.l->kind->constant ? r.l->kind->constant(r.l) : NAN;
    if (!isnan(k)) {
        double reached = 0;
        for (uint64_t t = 0; t < 200; t++) {
            fill(r.x, r.in, 2 * t);
            fill(r.dx, r.in, 2 * t + 1);
            for (size_t i = 0; i < r.in && t % 3; i++) /* near pairs too, also along (1, .., 1) */
                r.dx[i] = r.x[i] + 1e-2f * (t % 3 == 1 ? r.dx[i] : 1);
            forward(&r, r.x, r.y);
            forward(&r, r.dx, r.dy);
            double rate = distance(r.y, r.dy, r.out) / distance(r.x, r.dx, r.in);
            ck_assert_double_le(rate, k * (1 + 1e-4));
            reached = fmax(reached, rate);
        }
        ck_assert_double_ge(reached, 0.4 * k); /* the constant is not a wild one */
    }
    rig_down(&r);
}
END_TEST

START_TEST(parts_of_a_batch_equal_the_whole)
{
    struct rig r;
    float *y, *dx;

    rig_up(&r, &sample[_i], 7);
    backward(&r);
    y = array(r.n * r.out), dx = array(r.n * r.in);
    for (size_t first = 0, n; first < r.n; first += n) {
        n = first ? 5 : 2;
        run(&r, first, n, r.x, y, r.dy, dx);
    }
    ck_close(y, r.y, r.n * r.out, 1e-6, "y");
    ck_close(dx, r.dx, r.n * r.in, 1e-6, "dx");
    free(y), free(dx);
    rig_down(&r);
}
END_TEST

/* What snapshots do: kernels packed before, no more scratch than that needs, and the same bits alone and in a batch. Sums of some
 * hundred terms, in another order perhaps. */
START_TEST(packed_it_computes_the_same)
{
    struct rig r;
    enum { N = 7 };

    rig_up(&r, &sample[_i], N);
    const struct lip__kind *kind = r.l->kind;
    if (kind->packed && kind->packed(r.l)) {
        float *y = array(N * r.out), *packed = array(kind->packed(r.l));
        float *scratch = array(kind->packed_scratch ? kind->packed_scratch(r.l) : kind->scratch ? kind->scratch(r.l) : 0);
        struct lip__pass p = {.n = N, .w = (const float *const *)r.w, .packed = packed, .scratch = scratch};
        forward(&r, r.x, r.y);
        kind->pack(r.l, (const float *const *)r.w, packed);
        kind->forward(r.l, &p, r.x, y);
        ck_close(y, r.y, N * r.out, 2e-6, "y");
        p.n = 1;
        for (size_t i = 0; i < N; i++) {
            kind->forward(r.l, &p, r.x + i * r.in, r.y);
            ck_assert_mem_eq(r.y, y + i * r.out, r.out * sizeof *y);
        }
        free(y), free(packed), free(scratch);
    }
    rig_down(&r);
}
END_TEST

START_TEST(threads_agree_on_gradients)
{
    struct rig r;
    float *alone[MOST] = {0};

    rig_up(&r, &sample[_i], 9);
    backward(&r);
    for (size_t i = 0; i < r.n_w; i++) {
        if (!r.dw[i])
            continue;
        alone[i] = array(r.size[i]);
        memcpy(alone[i], r.dw[i], r.size[i] * sizeof **alone);
    }
    rig_down(&r);
    ck_assert_int_eq(lip_set_threads(3, NULL), LIP_OK);
    rig_up(&r, &sample[_i], 9);
    backward(&r);
    for (size_t i = 0; i < r.n_w && alone[i]; i++) {
        ck_close(r.dw[i], alone[i], r.size[i], 1e-5, "dw");
        free(alone[i]);
    }
    rig_down(&r);
    ck_assert_int_eq(lip_set_threads(1, NULL), LIP_OK);
}
END_TEST

START_TEST(unwanted_gradients_are_left_out)
{
    struct rig r;

    rig_up(&r, &sample[_i], 2);
    backward(&r);
    for (size_t i = 0; i < r.n_w && r.dw[i]; i++) {
        float *wanted = array(r.size[i]);
        struct lip__pass p = pass(&r, r.n);
        float *dw[MOST] = {0};
        p.dw = dw;
        dw[i] = wanted;
        r.l->kind->gradient(r.l, &p, r.x, r.dy);
        ck_close(wanted, r.dw[i], r.size[i], 1e-6, "dw");
        free(wanted);
    }
    rig_down(&r);
}
END_TEST

START_TEST(no_samples_are_no_work)
{
    struct rig r;

    rig_up(&r, &sample[_i], 0);
    backward(&r);
    for (size_t i = 0; i < r.n_w && r.dw[i]; i++)
        ck_assert_double_eq(largest(r.dw[i], r.size[i]), 0);
    rig_down(&r);
}
END_TEST

static int allocations_left;

static int run_out(void)
{
    return allocations_left-- <= 0;
}

START_TEST(survives_every_allocation_that_fails)
{
    lip_layer *l = NULL;
    lip_error err;
    int most;

    for (most = 0; !l; most++) {
        ck_assert_int_lt(most, 50);
        err = (lip_error){0};
        allocations_left = most;
        lip__alloc_hook = run_out;
        lip_err rc = make_joined(sample[_i].name, sample[_i].config, &sample[_i].in, inputs_of(&sample[_i]), &l, &err);
        lip__alloc_hook = NULL;
        ck_assert_msg(rc == (l ? LIP_OK : LIP_ENOMEM), "%s: %s", lip_err_name(rc), err.text);
    }
    ck_assert_int_gt(most, 1);
    lip__layer_free(l);
}
END_TEST

/* ---- training --------------------------------------------------------------------------------------------- */

static struct lip__pass training_pass(const struct rig *r, const struct lip__training *training, float *const *moved)
{
    struct lip__pass p = pass(r, r->n);

    p.training = training;
    p.stats = training->stats;
    p.moved = moved;
    return p;
}

/* sum(dy f) of a training-mode pass, which looks at the batch first. */
static double training_loss(struct rig *r, const struct lip__training *training, float *where, float value)
{
    float before = *where, junk[2][16] = {{0}}, *moved[MOST] = {junk[0], junk[0], junk[0], junk[0], junk[1], junk[1]};
    struct lip__pass p = training_pass(r, training, moved);
    double sum = 0;

    *where = value;
    if (r->l->kind->observe)
        r->l->kind->observe(r->l, &p, r->x);
    r->l->kind->forward(r->l, &p, r->x, r->y);
    *where = before;
    for (size_t i = 0; i < r->n * r->out; i++)
        sum += (double)r->dy[i] * r->y[i];
    return sum;
}

/* In training too, where the gradient goes through the statistics of the batch, or numbers are drawn. */
START_TEST(gradient_of_training_agrees_with_differences)
{
    const float h = 1.0f / 64;
    struct rig r;

    rig_up(&r, &sample[_i], 5);
    if (r.l->kind->observe || !strcmp(r.l->kind->cls.name, "Dropout")) {
        float *stats = array(r.l->kind->stats ? r.l->kind->stats(r.l) : 0);
        struct lip__training training = {.seed = 3, .step = 1, .stats = stats};
        float *scaled = array(r.n * r.in), *none[MOST] = {NULL};
        for (size_t i = 0; i < r.n * r.in; i++) /* of size 1, so that the difference quotient is good */
            r.x[i] = 8 * r.x[i] / (float)(r.n * r.in);
        r.l->name = strdup("thin");
        training_loss(&r, &training, r.x, r.x[0]);
        struct lip__pass p = training_pass(&r, &training, none);
        if (r.l->kind->observe_back)
            r.l->kind->observe_back(r.l, &p, r.x, r.dy);
        r.l->kind->backward(r.l, &p, r.x, r.y, r.dy, r.dx);
        if (r.l->kind->gradient)
            r.l->kind->gradient(r.l, &p, r.x, r.dy);
        memcpy(scaled, r.dx, r.n * r.in * sizeof(float));
        double size = largest(scaled, r.n * r.in);
        for (size_t i = 0; i < r.n * r.in; i++) {
            double slope = (training_loss(&r, &training, r.x + i, r.x[i] + h) - training_loss(&r, &training, r.x + i, r.x[i] - h)) / (2 * (double)h);
            ck_assert_msg(fabs(slope - scaled[i]) <= 2e-3 * size, "dx[%zu] is %g, differences say %g", i, scaled[i], slope);
        }
        for (size_t w = 0; w < r.n_w && r.dw[w]; w++)
            for (size_t i = 0; i < r.size[w]; i++) {
                double slope = (training_loss(&r, &training, r.w[w] + i, r.w[w][i] + h) - training_loss(&r, &training, r.w[w] + i, r.w[w][i] - h)) / (2 * (double)h);
                ck_assert_msg(fabs(slope - r.dw[w][i]) <= 1e-3 * fmax(1, fabs(slope)), "dw: %g, differences say %g", r.dw[w][i], slope);
            }
        free(scaled), free(stats);
        free(r.l->name);
        r.l->name = NULL;
    }
    rig_down(&r);
}
END_TEST

/* A share of `rate` is 0, the others are divided by what is left; the same step draws the same, in any part of the batch, and
 * the next step and another seed draw others. */
START_TEST(dropout_draws_by_step_and_place)
{
    enum { N = 200, WIDE = 50 };
    struct rig r;
    float *again;
    size_t zeros = 0;

    rig_up(&r, &(struct sample){"Dropout", "{'rate':0.25}", LIP__SHAPE(WIDE)}, N);
    r.l->name = strdup("d");
    again = array(N * WIDE);
    struct lip__training training = {.seed = 1, .step = 4};
    struct lip__pass p = {.n = N, .training = &training};
    r.l->kind->forward(r.l, &p, r.x, r.y);
    for (size_t i = 0; i < N * WIDE; i++) {
        zeros += r.y[i] == 0;
        ck_assert(r.y[i] == 0 || fabsf(r.y[i] - r.x[i] / 0.75f) <= 1e-6f * fabsf(r.y[i]));
    }
    ck_assert_double_eq_tol((double)zeros / (N * WIDE), 0.25, 0.02); /* five standard deviations */
    for (size_t first = 0; first < N; first += 40) {
        struct lip__pass part = {.n = 40, .first = first, .training = &training};
        r.l->kind->forward(r.l, &part, r.x + first * WIDE, again + first * WIDE);
    }
    ck_assert_mem_eq(again, r.y, N * WIDE * sizeof *again);
    training.step = 5;
    r.l->kind->forward(r.l, &p, r.x, again);
    ck_assert_int_ne(memcmp(again, r.y, N * WIDE * sizeof *again), 0);
    training = (struct lip__training){.seed = 2, .step = 4};
    r.l->kind->forward(r.l, &p, r.x, again);
    ck_assert_int_ne(memcmp(again, r.y, N * WIDE * sizeof *again), 0);
    free(again), free(r.l->name);
    r.l->name = NULL;
    rig_down(&r);
}
END_TEST

/* ---- what layers say of themselves -------------------------------------------------------------------- */

START_TEST(variables_come_in_keras_order)
{
    static const char *const spectral[] = {"kernel", "bias", "u", "sigma", "wbar"};
    lip_layer *l;

    ck_assert_int_eq(make("SpectralConv2D", "{'filters':4,'kernel_size':[3,2]}", &LIP__SHAPE(5, 5, 2), &l, NULL), LIP_OK);
    ck_assert_uint_eq(l->n_declared, 5);
    for (size_t i = 0; i < 5; i++)
        ck_assert_str_eq(l->declared[i].name, spectral[i]);
    ck_assert(lip_shape_equal(&l->declared[0].shape, &LIP__SHAPE(3, 2, 2, 4)));
    ck_assert(lip_shape_equal(&l->declared[1].shape, &LIP__SHAPE(4)));
    ck_assert(lip_shape_equal(&l->declared[2].shape, &LIP__SHAPE(1, 4)));
    ck_assert(lip_shape_equal(&l->declared[3].shape, &LIP__SHAPE(1, 1)));
    ck_assert(lip_shape_equal(&l->declared[4].shape, &LIP__SHAPE(3, 2, 2, 4)));
    ck_assert_uint_eq(lip_layer_parameters(l), 3 * 2 * 2 * 4 + 4);
    l->trainable = false;
    ck_assert_uint_eq(lip_layer_parameters(l), 0);
    ck_assert(lip_layer_has_effective(l) && lip_layer_is_lipschitz(l) && !lip_layer_is_input(l));
    lip__layer_free(l);
    ck_assert_int_eq(make("FrobeniusDense", "{'units':4,'use_bias':false}", &LIP__SHAPE(3), &l, NULL), LIP_OK);
    ck_assert_uint_eq(l->n_declared, 2);
    ck_assert_str_eq(l->declared[1].name, "wbar");
    lip__layer_free(l);
}
END_TEST

/* Field tables in the order in which Keras 2.15 emits their keys. */
START_TEST(options_come_in_keras_order)
{
    static const char *const keys[][2] = {
        {"InputLayer", "sparse,ragged"},
        {"Dense", "units,activation,use_bias,kernel_initializer,bias_initializer,kernel_regularizer,bias_regularizer,"
                  "activity_regularizer,kernel_constraint,bias_constraint"},
        {"FrobeniusDense", "units,activation,use_bias,kernel_initializer,bias_initializer,kernel_regularizer,"
                           "bias_regularizer,activity_regularizer,kernel_constraint,bias_constraint,k_coef_lip,"
                           "coef_lip,disjoint_neurons"},
        {"SpectralConv2D", "filters,kernel_size,strides,padding,data_format,dilation_rate,groups,activation,use_bias,"
                           "kernel_initializer,bias_initializer,kernel_regularizer,bias_regularizer,activity_regularizer,"
                           "kernel_constraint,bias_constraint,k_coef_lip,coef_lip,eps_spectral,eps_bjorck,beta_bjorck,"
                           "maxiter_spectral,maxiter_bjorck"},
        {"GroupSort", "n,k_coef_lip,data_format"},
        {"ReLU", "max_value,negative_slope,threshold"},
        {"ScaledL2NormPooling2D", "pool_size,padding,strides,data_format,k_coef_lip,eps_grad_sqrt"},
        {"Flatten", "data_format"},
    };

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char text[600] = "";
        for (const struct lip__field *f = lip__kind_find(keys[i][0])->cls.fields; f->name; f++)
            sprintf(text + strlen(text), "%s%s", *text ? "," : "", f->name);
        ck_assert_str_eq(text, keys[i][1]);
    }
}
END_TEST

START_TEST(claims_are_those_of_deel_lip)
{
    static const struct {
        const char *name, *config;
        lip_shape in;
        double claimed, k, coef;
    } wanted[] = {
        {"Dense", "{'units':2}", {1, {3}}, NAN, NAN, NAN},
        {"SpectralDense", "{'units':2,'k_coef_lip':3}", {1, {3}}, 3, 3, 1},
        {"Conv2D", "{'filters':2,'kernel_size':3}", {3, {5, 5, 1}}, NAN, NAN, NAN},
        {"SpectralConv2D", "{'filters':2,'kernel_size':3}", {3, {5, 5, 1}}, 1, 1, 5 / 13.0},
        {"SpectralConv2D", "{'filters':2,'kernel_size':3,'strides':2}", {3, {5, 5, 1}}, 1, 1, 0.5},
        {"ScaledAveragePooling2D", "{'pool_size':[2,3]}", {3, {4, 6, 1}}, 1, 1, 2.449489742783178},
        {"ScaledL2NormPooling2D", "{'k_coef_lip':2}", {3, {4, 6, 1}}, 2, 2, 2},
        {"GroupSort2", "{}", {1, {4}}, 1, 1, 1},
        {"Flatten", "{}", {1, {4}}, 1, NAN, NAN},
        {"ReLU", "{}", {1, {4}}, 1, NAN, NAN},
        {"ReLU", "{'negative_slope':1.5}", {1, {4}}, NAN, NAN, NAN},
        {"ReLU", "{'threshold':0.5}", {1, {4}}, NAN, NAN, NAN},
        {"Activation", "{'activation':'relu'}", {1, {4}}, 1, NAN, NAN},
        {"Activation", "{'activation':'tanh'}", {1, {4}}, 1, NAN, NAN},
        {"Activation", "{'activation':'softplus'}", {1, {4}}, NAN, NAN, NAN},
        {"Activation", "{'activation':'linear'}", {1, {4}}, 1, NAN, NAN},
        {"Softmax", "{}", {1, {4}}, 1, NAN, NAN},
        {"LeakyReLU", "{}", {1, {4}}, NAN, NAN, NAN},
        {"Householder", "{'k_coef_lip':2}", {1, {4}}, 2, 2, 1},
        {"MaxPooling2D", "{'pool_size':[2,3],'strides':[3,1]}", {3, {6, 6, 1}}, 1, NAN, NAN},
        {"MaxPooling2D", "{'pool_size':3,'strides':2}", {3, {6, 6, 1}}, NAN, NAN, NAN},
        {"AveragePooling2D", "{}", {3, {6, 6, 1}}, NAN, NAN, NAN},
        {"InvertibleDownSampling", "{'pool_size':2}", {3, {6, 6, 1}}, NAN, NAN, NAN},
        {"ScaledGlobalAveragePooling2D", "{}", {3, {4, 9, 1}}, 1, 1, 6},
        {"FrobeniusConv2D", "{'filters':2,'kernel_size':3}", {3, {5, 5, 1}}, 1, 1, 5 / 13.0},
    };

    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        lip_layer *l;
        ck_assert_int_eq(make(wanted[i].name, wanted[i].config, &wanted[i].in, &l, NULL), LIP_OK);
        double found[] = {lip_layer_claimed(l), lip_layer_k(l), lip_layer_coef(l)};
        double want[] = {wanted[i].claimed, wanted[i].k, wanted[i].coef};
        for (int j = 0; j < 3; j++)
            ck_assert_msg(isnan(want[j]) ? isnan(found[j]) : fabs(found[j] - want[j]) < 1e-12, "%s %s [%d]: %g, needs %g",
                          wanted[i].name, wanted[i].config, j, found[j], want[j]);
        lip__layer_free(l);
    }
}
END_TEST

START_TEST(disjoint_neurons_are_bounded_one_by_one)
{
    lip_layer *l;

    ck_assert_int_eq(make("FrobeniusDense", "{'units':4}", &LIP__SHAPE(3), &l, NULL), LIP_OK);
    ck_assert(lip_layer_per_output(l));
    lip__layer_free(l);
    ck_assert_int_eq(make("FrobeniusDense", "{'units':4,'disjoint_neurons':false}", &LIP__SHAPE(3), &l, NULL), LIP_OK);
    ck_assert(!lip_layer_per_output(l));
    lip__layer_free(l);
    ck_assert_int_eq(make("SpectralDense", "{'units':4}", &LIP__SHAPE(3), &l, NULL), LIP_OK);
    ck_assert(!lip_layer_per_output(l));
    lip__layer_free(l);
}
END_TEST

/* ---- convolution --------------------------------------------------------------------------------------- */

/* The formula itself, in double, with its adjoints. */
struct naive {
    double *y, *dx, *dk, *db;
};

static struct naive convolve(const struct lip__windows *g, size_t n, size_t f, const float *x, const float *k,
                             const float *b, const float *dy)
{
    struct naive r = {calloc(n * g->oh * g->ow * f, sizeof(double)), calloc(n * g->h * g->w * g->c, sizeof(double)),
                      calloc(g->kh * g->kw * g->c * f, sizeof(double)), calloc(f, sizeof(double))};

    for (size_t i = 0; i < n * g->oh * g->ow; i++)
        for (size_t o = 0; o < f; o++) {
            r.y[i * f + o] = b[o];
            r.db[o] += dy[i * f + o];
        }
    for (size_t i = 0; i < n; i++)
        for (size_t p = 0; p < g->oh; p++)
            for (size_t q = 0; q < g->ow; q++)
                for (size_t a = 0; a < g->kh; a++)
                    for (size_t c = 0; c < g->kw; c++) {
                        long row = (long)(p * g->sh + a) - (long)g->top, column = (long)(q * g->sw + c) - (long)g->left;
                        if (row < 0 || row >= (long)g->h || column < 0 || column >= (long)g->w)
                            continue;
                        for (size_t m = 0; m < g->c; m++)
                            for (size_t o = 0; o < f; o++) {
                                size_t at_x = ((i * g->h + (size_t)row) * g->w + (size_t)column) * g->c + m;
                                size_t at_k = ((a * g->kw + c) * g->c + m) * f + o;
                                size_t at_y = ((i * g->oh + p) * g->ow + q) * f + o;
                                r.y[at_y] += (double)x[at_x] * k[at_k];
                                r.dx[at_x] += (double)dy[at_y] * k[at_k];
                                r.dk[at_k] += (double)dy[at_y] * x[at_x];
                            }
                    }
    return r;
}

static void ck_near(const float *a, double *b, size_t n, const char *what, const char *config)
{
    double size = 1;

    for (size_t i = 0; i < n; i++)
        size = fmax(size, fabs(b[i]));
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(fabs(a[i] - b[i]) <= 2e-6 * size, "%s: %s[%zu] is %g, needs %g", config, what, i, a[i], b[i]);
    free(b);
}

/* Kernels 1 to 5 by 1 to 5, even ones too; one pass for each vector unit and none, depth, number of filters and padding. */
START_TEST(convolution_is_the_formula)
{
    static const struct {
        size_t channels, filters;
    } depth[] = {{1, 16}, {1, 3}, {3, 8}, {4, 19}, {5, 4}, {17, 2}};
    size_t c = depth[_i % 12 / 2].channels, f = depth[_i % 12 / 2].filters;

    lip__vector_unit_use((size_t)_i / 12);
    for (size_t kernels = 0; kernels < 25; kernels++)
        for (size_t strides = 0; strides < 9; strides++)
            for (size_t image = (kernels + strides) % 2, once = 1; once; once = 0) {
                struct lip__windows g = {.h = image ? 9 : 5, .w = image ? 6 : 13, .c = c, .kh = 1 + kernels / 5,
                                         .kw = 1 + kernels % 5, .sh = 1 + strides / 3, .sw = 1 + strides % 3};
                const char *padding = _i % 2 ? "same" : "valid";
                char config[200];
                struct rig r;
                struct naive want;

                ck_assert(lip__windows_set(&g, _i % 2));
                sprintf(config, "{'filters':%zu,'kernel_size':[%zu,%zu],'strides':[%zu,%zu],'padding':'%s'}", f, g.kh, g.kw,
                        g.sh, g.sw, padding);
                rig_up(&r, &(struct sample){"Conv2D", config, LIP__SHAPE(g.h, g.w, c)}, 2);
                ck_assert(lip_shape_equal(&r.l->out, &LIP__SHAPE(g.oh, g.ow, f)));
                fill(r.x, r.n * r.in, 5);
                backward(&r);
                want = convolve(&g, r.n, f, r.x, r.w[0], r.w[1], r.dy);
                ck_near(r.y, want.y, r.n * r.out, "y", config);
                ck_near(r.dx, want.dx, r.n * r.in, "dx", config);
                ck_near(r.dw[0], want.dk, r.size[0], "dk", config);
                ck_near(r.dw[1], want.db, f, "db", config);
                rig_down(&r);
            }
}
END_TEST

/* More windows than one panel holds. */
START_TEST(panels_join)
{
    struct lip__windows g = {.h = 40, .w = 31, .c = 24, .kh = 3, .kw = 3, .sh = 1, .sw = 1};
    struct rig r;
    struct naive want;

    ck_assert(lip__windows_set(&g, true));
    rig_up(&r, &(struct sample){"Conv2D", "{'filters':4,'kernel_size':3,'padding':'same'}", LIP__SHAPE(40, 31, 24)}, 2);
    fill(r.x, r.n * r.in, 5);
    backward(&r);
    want = convolve(&g, r.n, 4, r.x, r.w[0], r.w[1], r.dy);
    ck_near(r.y, want.y, r.n * r.out, "y", "40x31x24");
    ck_near(r.dx, want.dx, r.n * r.in, "dx", "40x31x24");
    ck_near(r.dw[0], want.dk, r.size[0], "dk", "40x31x24");
    ck_near(r.dw[1], want.db, 4, "db", "40x31x24");
    rig_down(&r);
}
END_TEST

START_TEST(windows_lie_where_tensorflow_puts_them)
{
    static const size_t same[][6] = {{5, 3, 1, 5, 1}, {5, 2, 1, 5, 0}, {6, 3, 2, 3, 0}, {5, 3, 2, 3, 1}, {7, 5, 2, 4, 2},
                                     {4, 2, 2, 2, 0}, {5, 4, 3, 2, 1}, {6, 1, 2, 3, 0}, {3, 5, 1, 3, 2}};

    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        struct lip__windows g = {.h = same[i][0], .w = 1, .c = 1, .kh = same[i][1], .kw = 1, .sh = same[i][2], .sw = 1};
        ck_assert(lip__windows_set(&g, true));
        ck_assert_uint_eq(g.oh, same[i][3]);
        ck_assert_uint_eq(g.top, same[i][4]);
    }
}
END_TEST

/* One row of pixels, kernel [1, 10, 100] (semantics.md 5.2). */
START_TEST(one_row_examples)
{
    static const struct {
        size_t n, stride;
        float y[5];
    } example[] = {{5, 1, {210, 321, 432, 543, 54}}, {5, 2, {210, 432, 54}}, {6, 2, {321, 543, 65}}};

    for (size_t i = 0; i < 3; i++) {
        char config[200];
        struct rig r;
        sprintf(config, "{'filters':1,'kernel_size':[1,3],'strides':%zu,'padding':'same','use_bias':false}",
                example[i].stride);
        rig_up(&r, &(struct sample){"Conv2D", config, LIP__SHAPE(1, example[i].n, 1)}, 1);
        memcpy(r.w[0], (float[]){1, 10, 100}, 3 * sizeof(float));
        for (size_t j = 0; j < r.in; j++)
            r.x[j] = (float)(j + 1);
        forward(&r, r.x, r.y);
        for (size_t j = 0; j < r.out; j++)
            ck_assert_float_eq(r.y[j], example[i].y[j]);
        rig_down(&r);
    }
}
END_TEST

/* semantics.md 5.4: a 3x3 kernel 1..9 on 5x5 pixels; an impulse gives the kernel, turned by 180 degrees. */
START_TEST(spectral_convolution_example)
{
    static const double wbar[] = {0.0227826, 0.0455653, 0.0683479, 0.0911306, 0.1139132,
                                  0.1366959, 0.1594785, 0.1822612, 0.2050438};
    const float kernel[] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, u = 1;

    for (size_t stride = 1; stride < 3; stride++) {
        char config[100];
        struct rig r;
        lip_rko_info info;
        float u_new;
        sprintf(config, "{'filters':1,'kernel_size':3,'strides':%zu}", stride);
        rig_up(&r, &(struct sample){"SpectralConv2D", config, LIP__SHAPE(5, 5, 1)}, 1);
        const struct lip__reparam *re = r.l->kind->reparam;
        float *scratch = array(re->scratch(r.l, 9, 1, false));
        ck_assert_int_eq(re->forward(r.l, kernel, 9, 1, &u, &u_new, r.w[0], scratch, false, &info, NULL, NULL), LIP_OK);
        free(scratch);
        ck_assert_double_eq_tol(info.sigma, 16.8819430, 1e-5);
        r.w[1][0] = 0;
        memset(r.x, 0, 25 * sizeof *r.x);
        r.x[12] = 1;
        forward(&r, r.x, r.y);
        if (stride == 1)
            for (size_t a = 0; a < 3; a++)
                for (size_t b = 0; b < 3; b++) {
                    ck_assert_double_eq_tol(r.w[0][a * 3 + b], wbar[a * 3 + b], 1e-7);
                    ck_assert_float_eq(r.y[(3 - a) * 5 + 3 - b], r.w[0][a * 3 + b]);
                }
        else
            ck_assert_double_eq_tol(r.y[4], 0.1480872, 1e-6);
        rig_down(&r);
    }
}
END_TEST

/* ---- pooling, sorting, functions ------------------------------------------------------------------------ */

START_TEST(pooling_examples)
{
    static const float image[] = {1, 2, 3, 4, 3, 4, 1, 2, 1, 2, 3, 4, 3, 4, 1, 2};
    static const double wanted[] = {5, 5.477225575051661};

    for (int i = 0; i < 2; i++) {
        struct rig r;
        rig_up(&r, &(struct sample){i ? "ScaledL2NormPooling2D" : "ScaledAveragePooling2D", "{}", LIP__SHAPE(4, 4, 1)}, 1);
        forward(&r, image, r.y);
        for (int j = 0; j < 4; j++)
            ck_assert_double_eq_tol(r.y[j], wanted[i], 1e-6);
        rig_down(&r);
    }
}
END_TEST

START_TEST(norm_pooling_gradient_has_its_epsilon)
{
    struct rig r;

    rig_up(&r, &(struct sample){"ScaledL2NormPooling2D", "{}", LIP__SHAPE(2, 2, 1)}, 1);
    memcpy(r.x, (float[]){3, 4, 0, 0}, 4 * sizeof(float));
    r.dy[0] = 1;
    backward(&r);
    ck_assert_float_eq(r.y[0], 5);
    ck_assert_double_eq_tol(r.dx[0], 0.59999976, 6e-8);
    ck_assert_double_eq_tol(r.dx[1], 0.79999968, 6e-8);
    ck_assert_float_eq(r.dx[2], 0);
    memset(r.x, 0, 4 * sizeof(float));
    backward(&r);
    ck_assert_float_eq(r.dx[0], 0);
    rig_down(&r);
    rig_up(&r, &(struct sample){"ScaledL2NormPooling2D", "{'eps_grad_sqrt':0}", LIP__SHAPE(2, 2, 1)}, 1);
    memset(r.x, 0, 4 * sizeof(float));
    backward(&r);
    ck_assert_float_eq(r.dx[0], 0); /* deel-lip: NaN */
    rig_down(&r);
}
END_TEST

START_TEST(ties_go_where_tensorflow_sends_them)
{
    static const struct {
        const char *config;
        float dx[4];
    } example[] = {{"{'n':2}", {11, 0, 1100, 0}}, {"{'n':4}", {1, 10, 100, 1000}}};

    for (int i = 0; i < 2; i++) {
        struct rig r;
        rig_up(&r, &(struct sample){"GroupSort", example[i].config, LIP__SHAPE(4)}, 1);
        memcpy(r.x, (float[]){3, 3, 5, 5}, 4 * sizeof(float));
        memcpy(r.dy, (float[]){1, 10, 100, 1000}, 4 * sizeof(float));
        backward(&r);
        for (int j = 0; j < 4; j++)
            ck_assert_float_eq(r.dx[j], example[i].dx[j]);
        rig_down(&r);
    }
}
END_TEST

START_TEST(pairs_with_a_nan_are_nan_and_zeros_copy_the_first)
{
    struct rig r;

    rig_up(&r, &(struct sample){"GroupSort2", "{}", LIP__SHAPE(8)}, 1);
    memcpy(r.x, (float[]){NAN, 1, 1, NAN, 0.0f, -0.0f, -0.0f, 0.0f}, 8 * sizeof(float));
    forward(&r, r.x, r.y);
    for (int j = 0; j < 4; j++)
        ck_assert(isnan(r.y[j]));
    for (int j = 4; j < 8; j++)
        ck_assert_int_eq(!signbit(r.y[j]), j < 6);
    rig_down(&r);
}
END_TEST

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

START_TEST(sorting_sorts_and_keeps_norms)
{
    static const size_t lengths[] = {1, 2, 3, 15, 16, 17, 31, 48, 100, 1000};

    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct rig r;
        size_t n = lengths[i];
        rig_up(&r, &(struct sample){"GroupSort", "{'k_coef_lip':2}", LIP__SHAPE(n)}, 3);
        ck_assert_uint_eq(*(long *)((char *)r.l + r.l->kind->cls.fields[0].offset), n); /* what get_config will report */
        for (size_t j = 0; j < r.n * n; j++)
            r.x[j] = (float)((j * 7919) % 13); /* many ties */
        if (n != 2)
            backward(&r);
        else
            forward(&r, r.x, r.y);
        for (size_t row = 0; row < r.n; row++) {
            float *x = r.x + row * n;
            if (n != 2)
                ck_assert_double_eq_tol(norm_of(r.dx + row * n, n), 2 * norm_of(r.dy + row * n, n), 1e-4);
            qsort(x, n, sizeof *x, ascending);
            for (size_t j = 0; j < n; j++)
                ck_assert_float_eq(r.y[row * n + j], 2 * x[j]);
        }
        rig_down(&r);
    }
}
END_TEST

/* Keras's definition of ReLU, at and around its corners. */
START_TEST(relu_examples)
{
    static const struct {
        const char *config;
        float x, y, dx;
    } example[] = {
        {"{}", -1, 0, 0},
        {"{}", 0, 0, 0},
        {"{}", 2, 2, 1},
        {"{'negative_slope':0.5}", -2, -1, 0.5f},
        {"{'negative_slope':0.5}", 0, 0, 0.5f},
        {"{'max_value':6}", 7, 6, 0},
        {"{'max_value':6}", 6, 6, 0},
        {"{'max_value':2}", 2, 2, 1},
        {"{'max_value':2}", 3, 2, 0},
        {"{'threshold':1}", 1, 0, 0},
        {"{'threshold':1}", 1.5f, 1.5f, 1},
        {"{'threshold':1,'negative_slope':0.5}", 0, -0.5f, 0.5f},
        {"{'threshold':1,'max_value':3,'negative_slope':2}", -1, -4, 2},
    };

    for (size_t i = 0; i < sizeof example / sizeof *example; i++) {
        struct rig r;
        rig_up(&r, &(struct sample){"ReLU", example[i].config, LIP__SHAPE(1)}, 1);
        r.x[0] = example[i].x;
        r.dy[0] = 1;
        backward(&r);
        ck_assert_msg(r.y[0] == example[i].y && r.dx[0] == example[i].dx, "%s at %g: %g, %g", example[i].config,
                      example[i].x, r.y[0], r.dx[0]);
        r.x[0] = NAN;
        forward(&r, r.x, r.y);
        ck_assert(isnan(r.y[0]));
        rig_down(&r);
    }
}
END_TEST

START_TEST(functions_have_names)
{
    bool known;
    const struct lip__kind *kind = lip__activation_find("relu", &known);
    lip_layer *l = lip__activation_new("relu");

    ck_assert(known && kind && l->kind == kind);
    ck_assert_str_eq(lip__activation_identifier(l), "relu");
    lip__layer_free(l);
    ck_assert(!lip__activation_find("linear", &known) && known);
    ck_assert(!lip__activation_find("GroupSort2", &known) && !known);
    ck_assert_str_eq(lip__activation_identifier(NULL), "linear");
    l = lip__layer_new(lip__kind_find("ReLU"));
    ck_assert_ptr_null(lip__activation_identifier(l)); /* a layer object, with options */
    lip__layer_free(l);
}
END_TEST

/* Every name is a function with a slope and, but for two, a constant that nothing exceeds. */
START_TEST(functions_have_slopes_and_constants)
{
    char names[400], *rest;

    snprintf(names, sizeof names, "%s", lip__activation_identifiers());
    for (char *name = strtok_r(names, ", ", &rest); name; name = strtok_r(NULL, ", ", &rest)) {
        lip_layer *l = lip__activation_new(name);
        struct rig r;
        if (!l) {
            ck_assert_str_eq(name, "linear");
            continue;
        }
        ck_assert_str_eq(lip__activation_identifier(l), name);
        ck_assert_int_eq(lip__layer_build(l, &LIP__SHAPE(2, 6), NULL), LIP_OK);
        rig_with(&r, l, 2);
        backward(&r);
        ck_differences(&r, r.x, r.dx, r.n * r.in, name);
        double k = l->kind->constant(l), reached = 0;
        ck_assert_int_eq(isnan(k), !strcmp(name, "exponential"));
        for (int t = 0; t < 4000 && !isnan(k); t++) {
            fill(r.x, r.in, (uint64_t)t);
            for (size_t i = 0; i < r.in; i++)
                r.dx[i] = r.x[i] + (t % 2 ? 1e-2f : -0.5f);
            r.n = 1;
            forward(&r, r.x, r.y);
            forward(&r, r.dx, r.dy);
            reached = fmax(reached, distance(r.y, r.dy, r.out) / distance(r.x, r.dx, r.in));
        }
        ck_assert_msg(isnan(k) || reached <= k * (1 + 1e-4), "%s: %g exceeds %g", name, reached, k);
        rig_down(&r);
    }
}
END_TEST

/* Values of Keras's functions at one point on either side. */
START_TEST(functions_have_their_values)
{
    static const struct {
        const char *name;
        double below, above; /* at -1.5 and 0.75 */
    } value[] = {
        {"relu", 0, 0.75}, {"relu6", 0, 0.75}, {"leaky_relu", -0.3, 0.75}, {"elu", -0.7768698398515702, 0.75},
        {"selu", -1.3658143534, 0.7880257405}, {"sigmoid", 0.18242552380635635, 0.679178699175393},
        {"hard_sigmoid", 0.2, 0.65}, {"tanh", -0.9051482536448664, 0.6351489523872873},
        {"softplus", 0.20141327798275244, 1.1368710061148999}, {"softsign", -0.6, 0.42857142857142855},
        {"swish", -0.27363828570953454, 0.5093840243815448}, {"silu", -0.27363828570953454, 0.5093840243815448},
        {"gelu", -0.10021080, 0.58002949}, {"mish", -0.29809974, 0.61001834}, {"exponential", 0.22313016014842982, 2.117000016612675},
    };

    for (size_t i = 0; i < sizeof value / sizeof *value; i++) {
        lip_layer *l = lip__activation_new(value[i].name);
        const float x[] = {-1.5f, 0.75f};
        float y[2];
        struct lip__pass p = {.n = 1};
        ck_assert_int_eq(lip__layer_build(l, &LIP__SHAPE(2), NULL), LIP_OK);
        l->kind->forward(l, &p, x, y);
        ck_assert_msg(fabs(y[0] - value[i].below) < 5e-7 && fabs(y[1] - value[i].above) < 5e-7, "%s: %.9g, %.9g", value[i].name,
                      y[0], y[1]);
        lip__layer_free(l);
    }
}
END_TEST

START_TEST(householder_examples)
{
    static const struct {
        float theta, x[4];
        size_t n;
        float y[4];
    } example[] = {
        {1.57079632679489662f, {3, 1, 2, 5}, 4, {2, 1, 3, 5}},
        {0, {1, -2}, 2, {1, 2}},
        {3.14159265358979324f, {1, 2}, 2, {-1, 2}},
        {1, {2, 1}, 2, {1.9220756f, 1.14263966f}},
    };

    for (size_t i = 0; i < sizeof example / sizeof *example; i++) {
        struct rig r;
        rig_up(&r, &(struct sample){"Householder", "{}", LIP__SHAPE(example[i].n)}, 1);
        for (size_t j = 0; j < example[i].n / 2; j++)
            r.w[0][j] = example[i].theta;
        forward(&r, example[i].x, r.y);
        for (size_t j = 0; j < example[i].n; j++)
            ck_assert_double_eq_tol(r.y[j], example[i].y[j], 3e-7);
        rig_down(&r);
    }
}
END_TEST

START_TEST(householder_starts_as_a_sort)
{
    lip_random random = {0};
    lip_layer *l;
    float theta[2];

    ck_assert_int_eq(make("Householder", "{}", &LIP__SHAPE(4), &l, NULL), LIP_OK);
    ck_assert_str_eq(l->declared[0].name, "theta");
    ck_assert_int_eq(lip__initialize(l->declared[0].initializer, &l->declared[0].shape, &random, theta, NULL), LIP_OK);
    ck_assert_float_eq(theta[1], (float)acos(0));
    lip__layer_free(l);
}
END_TEST

/* NumPy's transpose of 0..23 in (2, 3, 4) by (2, 0, 1) begins 0, 4, 8, 12. */
START_TEST(numbers_move_where_numpy_moves_them)
{
    struct rig r;

    rig_up(&r, &(struct sample){"Permute", "{'dims':[3,1,2]}", LIP__SHAPE(2, 3, 4)}, 1);
    for (size_t i = 0; i < 24; i++)
        r.x[i] = (float)i;
    forward(&r, r.x, r.y);
    ck_assert(lip_shape_equal(&r.l->out, &LIP__SHAPE(4, 2, 3)));
    ck_assert_mem_eq(r.y, ((float[]){0, 4, 8, 12, 16, 20, 1}), 7 * sizeof(float));
    rig_down(&r);
    rig_up(&r, &(struct sample){"ZeroPadding2D", "{'padding':[[1,0],[0,2]]}", LIP__SHAPE(1, 2, 1)}, 1);
    forward(&r, (float[]){7, 8}, r.y);
    ck_assert(lip_shape_equal(&r.l->out, &LIP__SHAPE(2, 4, 1)));
    ck_assert_mem_eq(r.y, ((float[]){0, 0, 0, 0, 7, 8, 0, 0}), 8 * sizeof(float));
    rig_down(&r);
    rig_up(&r, &(struct sample){"Reshape", "{'target_shape':[-1,2,3]}", LIP__SHAPE(24)}, 1);
    ck_assert(lip_shape_equal(&r.l->out, &LIP__SHAPE(4, 2, 3)));
    rig_down(&r);
}
END_TEST

/* One row of pixels 1, 2, 3 (semantics.md 5.3). */
START_TEST(transposed_row_examples)
{
    static const struct {
        size_t kernel, stride;
        float y[6];
    } example[] = {{3, 2, {1, 10, 102, 20, 203, 30}},
                   {3, 1, {12, 123, 230}},
                   {2, 2, {1, 10, 2, 20, 3, 30}},
                   {1, 2, {1, 0, 2, 0, 3, 0}},
                   {4, 2, {10, 102, 1020, 203, 2030, 300}}};

    for (size_t i = 0; i < sizeof example / sizeof *example; i++) {
        char config[200];
        struct rig r;
        sprintf(config, "{'filters':1,'kernel_size':[1,%zu],'strides':[1,%zu],'padding':'same','use_bias':false}",
                example[i].kernel, example[i].stride);
        rig_up(&r, &(struct sample){"Conv2DTranspose", config, LIP__SHAPE(1, 3, 1)}, 1);
        memcpy(r.w[0], (float[]){1, 10, 100, 1000}, example[i].kernel * sizeof(float));
        forward(&r, (float[]){1, 2, 3}, r.y);
        ck_assert_uint_eq(r.out, 3 * example[i].stride);
        ck_assert_mem_eq(r.y, example[i].y, r.out * sizeof(float));
        rig_down(&r);
    }
}
END_TEST

/* Its matrix is (kh kw channels, filters): with the axes swapped and back it is what SpectralConv2D makes of it. */
START_TEST(transposed_kernels_are_swapped)
{
    enum { TAPS = 6, F = 3, C = 5, M = TAPS * C };
    lip_layer *l, *plain;
    float w[M * F], swapped[M * F], g[M * F], swapped_g[M * F], wbar[M * F], wanted[M * F], dw[M * F], wanted_dw[M * F];
    float u[F], u_new[F], wanted_u[F];
    lip_rko_info info;

    ck_assert_int_eq(make("SpectralConv2DTranspose", "{'filters':3,'kernel_size':[2,3]}", &LIP__SHAPE(4, 4, C), &l, NULL), 0);
    ck_assert_int_eq(make("SpectralConv2D", "{'filters':3,'kernel_size':[2,3]}", &LIP__SHAPE(4, 4, C), &plain, NULL), 0);
    ck_assert(lip_shape_equal(&l->declared[0].shape, &LIP__SHAPE(2, 3, F, C)));
    ck_assert(lip_shape_equal(&l->declared[2].shape, &LIP__SHAPE(1, F)));
    fill(w, M * F, 1), fill(g, M * F, 2), fill(u, F, 3);
    for (size_t t = 0; t < TAPS; t++)
        for (size_t f = 0; f < F; f++)
            for (size_t c = 0; c < C; c++) {
                swapped[(t * C + c) * F + f] = w[(t * F + f) * C + c];
                swapped_g[(t * C + c) * F + f] = g[(t * F + f) * C + c];
            }
    for (int i = 0; i < 2; i++) {
        const lip_layer *each = i ? plain : l;
        const struct lip__reparam *re = each->kind->reparam;
        float *scratch = array(re->scratch(each, M, F, true));
        ck_assert_int_eq(re->forward(each, i ? swapped : w, M, F, u, i ? wanted_u : u_new, i ? wanted : wbar, scratch, true,
                                     &info, NULL, NULL), LIP_OK);
        ck_assert_int_eq(re->backward(each, i ? swapped : w, M, F, &info, NULL, i ? wanted_u : u_new, i ? swapped_g : g,
                                      i ? wanted_dw : dw, scratch, NULL, NULL), LIP_OK);
        free(scratch);
    }
    for (size_t t = 0; t < TAPS; t++)
        for (size_t f = 0; f < F; f++)
            for (size_t c = 0; c < C; c++) {
                ck_assert_float_eq(wbar[(t * F + f) * C + c], wanted[(t * C + c) * F + f]);
                ck_assert_float_eq(dw[(t * F + f) * C + c], wanted_dw[(t * C + c) * F + f]);
            }
    ck_assert_mem_eq(u_new, wanted_u, sizeof u_new);
    lip__layer_free(l), lip__layer_free(plain);
}
END_TEST

/* An image of one row, a b c d; a kernel of five that picks one neighbour. */
START_TEST(images_go_on_past_their_edges)
{
    static const struct {
        const char *padding;
        float left[4], right[4];
    } example[] = {{"constant", {0, 0, 1, 2}, {3, 4, 0, 0}},
                   {"reflect", {3, 2, 1, 2}, {3, 4, 3, 2}},
                   {"symmetric", {2, 1, 1, 2}, {3, 4, 4, 3}},
                   {"circular", {3, 4, 1, 2}, {3, 4, 1, 2}},
                   {"same", {0, 0, 1, 2}, {3, 4, 0, 0}}};

    for (size_t i = 0; i < sizeof example / sizeof *example; i++) {
        char config[200];
        struct rig r;
        sprintf(config, "{'filters':2,'kernel_size':[1,5],'padding':'%s','use_bias':false}", example[i].padding);
        rig_up(&r, &(struct sample){"PadConv2D", config, LIP__SHAPE(1, 4, 1)}, 1);
        memset(r.w[0], 0, 10 * sizeof(float));
        r.w[0][0] = r.w[0][9] = 1; /* filter 0: two to the left, filter 1: two to the right */
        forward(&r, (float[]){1, 2, 3, 4}, r.y);
        for (size_t j = 0; j < 4; j++) {
            ck_assert_float_eq(r.y[2 * j], example[i].left[j]);
            ck_assert_float_eq(r.y[2 * j + 1], example[i].right[j]);
        }
        rig_down(&r);
    }
}
END_TEST

START_TEST(max_min_splits_signs)
{
    struct rig r;

    rig_up(&r, &(struct sample){"MaxMin", "{'k_coef_lip':2}", LIP__SHAPE(3)}, 1);
    memcpy(r.x, (float[]){3, -1, 0}, 3 * sizeof(float));
    memcpy(r.dy, (float[]){1, 10, 100, 1000, 10000, 100000}, 6 * sizeof(float));
    backward(&r);
    ck_assert_mem_eq(r.y, ((float[]){6, 0, 0, 0, 2, 0}), 6 * sizeof(float));
    ck_assert_mem_eq(r.dx, ((float[]){2, -20000, 0}), 3 * sizeof(float));
    rig_down(&r);
}
END_TEST

/* The channel [[1,2,3,4],[3,4,1,2],[1,2,3,4],[3,4,1,2]] of deel-lip's own tests. */
START_TEST(global_pooling_examples)
{
    static const float image[] = {1, 2, 3, 4, 3, 4, 1, 2, 1, 2, 3, 4, 3, 4, 1, 2};
    static const struct {
        const char *name;
        double y;
    } example[] = {{"ScaledGlobalAveragePooling2D", 10}, {"ScaledGlobalL2NormPooling2D", 10.954451150103322},
                   {"GlobalAveragePooling2D", 2.5}, {"GlobalMaxPooling2D", 4}};

    for (size_t i = 0; i < sizeof example / sizeof *example; i++)
        for (int keep = 0; keep < 2; keep++) {
            struct rig r;
            rig_up(&r, &(struct sample){example[i].name, keep ? "{'keepdims':true}" : "{}", LIP__SHAPE(4, 4, 1)}, 1);
            ck_assert_uint_eq(r.l->out.rank, keep && i != 1 ? 3 : 1);
            forward(&r, image, r.y);
            ck_assert_double_eq_tol(r.y[0], example[i].y, 1e-6);
            rig_down(&r);
        }
}
END_TEST

/* x = 0..31 as (4, 4, 2): both channel orders; up undoes down on an image that is not square. */
START_TEST(sampling_examples)
{
    static const float first[2][8] = {{0, 2, 8, 10, 1, 3, 9, 11}, {0, 1, 2, 3, 8, 9, 10, 11}};

    for (int order = 0; order < 2; order++) {
        char config[100];
        struct rig r, up;
        sprintf(config, "{'pool_size':2,'channel_order':'%s'}", order ? "subpixel_major" : "channel_major");
        rig_up(&r, &(struct sample){"InvertibleDownSampling", config, LIP__SHAPE(4, 4, 2)}, 1);
        for (size_t i = 0; i < 32; i++)
            r.x[i] = (float)i;
        forward(&r, r.x, r.y);
        ck_assert_mem_eq(r.y, first[order], sizeof first[order]);
        rig_down(&r);

        sprintf(config, "{'pool_size':[2,3],'channel_order':'%s'}", order ? "subpixel_major" : "channel_major");
        rig_up(&r, &(struct sample){"InvertibleDownSampling", config, LIP__SHAPE(4, 9, 2)}, 2);
        forward(&r, r.x, r.y);
        rig_up(&up, &(struct sample){"InvertibleUpSampling", config, r.l->out}, 2);
        forward(&up, r.y, up.y);
        ck_assert(lip_shape_equal(&up.l->out, &r.l->in));
        ck_assert_mem_eq(up.y, r.x, r.n * r.in * sizeof(float));
        rig_down(&r), rig_down(&up);
    }
}
END_TEST

/* TensorFlow: the average of a 'same' window is over the pixels in the image; the maximum's gradient goes to the first. */
START_TEST(keras_pooling_examples)
{
    struct rig r;

    rig_up(&r, &(struct sample){"AveragePooling2D", "{'padding':'same'}", LIP__SHAPE(1, 3, 1)}, 1);
    memcpy(r.x, (float[]){1, 2, 5}, 3 * sizeof(float));
    forward(&r, r.x, r.y);
    ck_assert_mem_eq(r.y, ((float[]){1.5f, 5}), 2 * sizeof(float));
    rig_down(&r);
    rig_up(&r, &(struct sample){"MaxPooling2D", "{'pool_size':[1,2],'strides':1}", LIP__SHAPE(1, 4, 1)}, 1);
    memcpy(r.x, (float[]){7, 7, 2, 9}, 4 * sizeof(float));
    memcpy(r.dy, (float[]){1, 10, 100}, 3 * sizeof(float));
    backward(&r);
    ck_assert_mem_eq(r.y, ((float[]){7, 7, 9}), 3 * sizeof(float));
    ck_assert_mem_eq(r.dx, ((float[]){1, 10, 0, 100}), 4 * sizeof(float));
    rig_down(&r);
}
END_TEST

/* ---- the coefficient -------------------------------------------------------------------------------------- */

/* The operator's norm, from below, by a power iteration on its forward and backward pass. r holds one sample. */
static double operator_norm(struct rig *r)
{
    double norm = 0;

    if (r->w[1])
        memset(r->w[1], 0, r->size[1] * sizeof(float));
    fill(r->x, r->in, 17);
    for (int i = 0; i < 300; i++) {
        double size = norm_of(r->x, r->in);
        for (size_t j = 0; j < r->in; j++)
            r->x[j] = (float)(r->x[j] / size);
        run(r, 0, 1, r->x, r->y, NULL, NULL);
        norm = norm_of(r->y, r->out);
        run(r, 0, 1, r->x, r->y, r->y, r->dx);
        memcpy(r->x, r->dx, r->in * sizeof(float));
    }
    return norm;
}

/* What the layer of this config makes of a kernel that is orthogonal by the filters' side, as far as it goes. */
static double constrained_norm(const char *name, const char *config, const lip_shape *in, bool sound)
{
    struct rig r;
    lip_layer *l;
    lip_error err = {0};
    lip_rko_info info;
    float u[64];

    ck_assert_msg(make(name, config, in, &l, &err) == LIP_OK, "%s", err.text);
    l->sound = sound;
    ck_assert_int_eq(lip__layer_build(l, in, NULL), LIP_OK);
    rig_with(&r, l, 1);
    size_t n = (size_t)((const struct lip__conv *)l)->filters, m = r.size[0] / n;
    float *scratch = array(l->kind->reparam->scratch(l, m, n, false)), *kernel = array(m * n);
    fill(kernel, m * n, 3), fill(u, n, 4);
    for (int i = 0; i < 4; i++) { /* what it makes has k and the coefficient in it, and starts again */
        ck_assert_int_eq(l->kind->reparam->forward(l, kernel, m, n, u, u, r.w[0], scratch, false, &info, NULL, NULL), LIP_OK);
        memcpy(kernel, r.w[0], m * n * sizeof(float));
    }
    double norm = operator_norm(&r);
    free(scratch), free(kernel);
    rig_down(&r);
    return norm;
}

/* With the sound coefficient no convolution exceeds its k (certify.md C2); with deel-lip's many do (D01, D03). */
START_TEST(sound_coefficients_keep_the_claim)
{
    static const char *const kinds[] = {"SpectralConv2D", "SpectralConv2DTranspose", "FrobeniusConv2D"};
    static const lip_shape image[] = {{3, {5, 7, 1}}, {3, {4, 3, 2}}, {3, {2, 9, 1}}};
    const char *kind = kinds[_i];
    int unsound = 0, cases = 0;

    for (size_t kernels = 0; kernels < 25; kernels++)
        for (size_t strides = 0; strides < 9; strides++)
            for (size_t i = (kernels + strides) % 3, once = 1; once; once = 0) {
                char config[200];
                lip_layer *l;
                if (_i == 2 && strides)
                    continue;
                sprintf(config, "{'filters':%d,'kernel_size':[%zu,%zu],'strides':[%zu,%zu],'k_coef_lip':1.5}", _i == 2 ? 1 : 16,
                        1 + kernels / 5, 1 + kernels % 5, 1 + strides / 3, 1 + strides % 3);
                double norm = constrained_norm(kind, config, &image[i], true);
                ck_assert_msg(norm <= 1.5 * (1 + 1e-5), "%s %s: %g", kind, config, norm);
                cases++;
                if (make(kind, config, &image[i], &l, NULL) != LIP_OK)
                    continue; /* deel-lip's formula has no value (D02) */
                lip__layer_free(l);
                unsound += constrained_norm(kind, config, &image[i], false) > 1.5 * (1 + 1e-3);
            }
    ck_assert_int_gt(cases, 24);
    if (_i < 2) /* one filter of Gaussian numbers is far from any bound */
        ck_assert_int_gt(unsound, 10);
}
END_TEST

/* defects.md D01 and D03: norms that deel-lip's own layers were measured to have, and what the sound coefficient makes of them. */
START_TEST(deel_lip_exceeds_its_claim_where_it_was_measured)
{
    static const struct {
        const char *kind, *config;
        lip_shape in;
        double deel_lip;
    } measured[] = {
        {"SpectralConv2D", "{'filters':16,'kernel_size':3}", {3, {10, 10, 1}}, 1.07143},
        {"SpectralConv2D", "{'filters':16,'kernel_size':3}", {3, {5, 5, 1}}, 1.15385},
        {"SpectralConv2D", "{'filters':32,'kernel_size':5}", {3, {8, 8, 1}}, 1.17647},
        {"SpectralConv2DTranspose", "{'filters':4,'kernel_size':2,'strides':2}", {3, {4, 4, 1}}, 2},
        {"SpectralConv2DTranspose", "{'filters':16,'kernel_size':4,'strides':4}", {3, {3, 3, 1}}, 4},
        {"SpectralConv2DTranspose", "{'filters':9,'kernel_size':3,'strides':2}", {3, {4, 4, 1}}, 1.5},
        {"SpectralConv2DTranspose", "{'filters':9,'kernel_size':3}", {3, {10, 10, 1}}, 1.071},
    };

    for (size_t i = 0; i < sizeof measured / sizeof *measured; i++) {
        ck_assert_double_eq_tol(constrained_norm(measured[i].kind, measured[i].config, &measured[i].in, false), measured[i].deel_lip, 1e-3);
        ck_assert_double_le(constrained_norm(measured[i].kind, measured[i].config, &measured[i].in, true), 1 + 1e-5);
    }
}
END_TEST

/* ---- laws of models of one layer ---------------------------------------------------------------------------- */

/* The definition of an InputLayer and a layer. */
static const char *one_layer(const char *kind, const char *config, const lip_shape *in, const char *name)
{
    static char text[1500];
    int at = snprintf(text, sizeof text, "{'class_name':'Sequential','config':{'layers':[{'class_name':'InputLayer','config':"
                      "{'batch_input_shape':[null");

    for (size_t i = 0; i < in->rank; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, ",%zu", in->dim[i]);
    snprintf(text + at, sizeof text - (size_t)at, "]}},{'class_name':'%s','config':%.*s%s'name':'%s'}}]}}", kind,
             (int)strlen(config) - 1, config, config[1] == '}' ? "" : ",", name);
    for (char *c = text; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    return text;
}

static float *predict(const lip_state *s, size_t n, const float *x)
{
    const lip_model *m = lip_state_model(s);
    float *y = array(n * lip_shape_count(lip_model_output_shape(m, 0)));
    lip_workspace *ws = lip_workspace_new();
    lip_snapshot *p;

    ck_assert_int_eq(lip_state_publish(s, &p, NULL), LIP_OK);
    ck_assert_int_eq(lip_predict(p, ws, n, x, y, NULL), LIP_OK);
    lip_workspace_free(ws);
    lip_snapshot_put(p);
    return y;
}

/* The report's constant holds on pairs, and it is a number unless the function has none. */
static void ck_reported(const lip_snapshot *p, const float *x)
{
    const lip_model *m = lip_snapshot_model(p);
    size_t in = lip_shape_count(lip_model_input_shape(m, 0)), out = lip_shape_count(lip_model_output_shape(m, 0));
    float *z = array(2 * in), *y = array(2 * out);
    lip_workspace *ws = lip_workspace_new();
    lip_layer_bound b;
    lip_error err = {0};
    const char *name = lip_layer_class(lip_model_layer(m, 1));
    double reached = 0;

    ck_assert_msg(lip_bound_layer(p, 1, &b, &err) == LIP_OK, "%s", err.text);
    if (isnan(b.upper))
        ck_assert_msg(!strcmp(name, "ThresholdedReLU"), "%s: no rule", name); /* it jumps */
    for (int t = 0; t < 40; t++) {
        for (size_t i = 0; i < in; i++) {
            z[i] = x[i] * (t % 2 ? 1 : 3);
            z[in + i] = z[i] + (t % 4 < 2 ? 1e-2f : 1.0f) * x[(i * 7 + (size_t)t) % in];
        }
        ck_assert_int_eq(lip_predict(p, ws, 2, z, y, NULL), LIP_OK);
        reached = fmax(reached, distance(y, y + out, out) / distance(z, z + in, in));
    }
    if (!isnan(b.upper)) {
        ck_assert_msg(reached <= b.upper * (1 + 1e-4), "%s: %g exceeds %g (%s)", name, reached, b.upper, b.method);
        ck_assert_double_le(b.lower, b.upper);
        ck_assert_double_ge(reached, 0.1 * b.upper);
    }
    lip_workspace_free(ws);
    free(z), free(y);
}

/* Its definition comes back as it was written; condense changes no output, vanilla_export none either and leaves no kernel
 * that is reparametrised; setting another k and the old one again changes nothing. */
START_TEST(condensed_and_exported_it_computes_the_same)
{
    const struct sample *s = &sample[_i];
    const struct lip__kind *kind = lip__kind_find(s->name);
    enum { N = 5 };
    char *once, *twice;
    lip_model *m, *other;
    lip_state *state, *plain;
    lip_snapshot *p;
    lip_error err = {0};

    if (kind->join || kind->flags & LIP__INPUT || !strcmp(s->name, "TFOpLambda"))
        return;
    const char *text = one_layer(s->name, s->config, &s->in, "l");
    ck_assert_msg(lip_model_read(text, strlen(text), false, &m, &err) == LIP_OK, "%s: %s", text, err.text);
    once = lip_model_definition(m, false);
    ck_assert_int_eq(lip_model_read(once, strlen(once), false, &other, NULL), LIP_OK);
    twice = lip_model_definition(other, false);
    ck_assert_str_eq(once, twice);
    lip_free(twice);
    lip_model_put(other);

    ck_assert_int_eq(lip_state_new(m, 3, &state, NULL), LIP_OK);
    float *x = array(N * lip_shape_count(&s->in)), *y, *z;
    fill(x, N * lip_shape_count(&s->in), 8);
    size_t n = N * lip_shape_count(lip_model_output_shape(m, 0));
    y = predict(state, N, x);
    ck_assert_int_eq(lip_state_condense(state, NULL, NULL, NULL), LIP_OK);
    z = predict(state, N, x);
    ck_close(z, y, n, 1e-6, "condensed");
    free(z);
    ck_assert_int_eq(lip_state_publish(state, &p, NULL), LIP_OK);
    ck_assert_int_eq(lip_model_vanilla(m, &other, NULL), LIP_OK);
    for (size_t i = 0; i < lip_model_layers(other); i++)
        ck_assert(!lip_layer_has_effective(lip_model_layer(other, i)));
    ck_reported(p, x);
    ck_assert_int_eq(lip_snapshot_vanilla(p, other, &plain, NULL), LIP_OK);
    z = predict(plain, N, x);
    ck_close(z, y, n, 1e-6, "exported");
    free(z);
    lip_state_free(plain);
    lip_snapshot_put(p);
    lip_model_put(other);

    if (kind->flags & LIP__LIPSCHITZ) {
        lip_model *moved;
        double k = lip_layer_k(lip_model_find_layer(m, "l"));
        ck_assert_int_eq(lip_model_with_k(m, "l", 2 * k + 1, &other, NULL), LIP_OK);
        ck_assert_double_eq(lip_layer_k(lip_model_find_layer(other, "l")), 2 * k + 1);
        ck_assert_double_eq(lip_layer_claimed(lip_model_find_layer(other, "l")), 2 * k + 1);
        ck_assert_int_eq(lip_model_with_k(other, "l", k, &moved, NULL), LIP_OK);
        twice = lip_model_definition(moved, false);
        ck_assert_str_eq(once, twice);
        ck_assert_int_eq(lip_state_move(state, other, false, &plain, NULL), LIP_OK);
        z = predict(plain, N, x);
        if (strcmp(s->name, "Householder")) /* which counts its k and never multiplies by it */
            ck_assert(memcmp(z, y, n * sizeof *y));
        free(z), lip_free(twice);
        lip_state_free(plain);
        lip_model_put(moved), lip_model_put(other);
    }
    lip_free(once);
    free(x), free(y);
    lip_state_free(state);
    lip_model_put(m);
}
END_TEST

/* ---- every option, by the tables ------------------------------------------------------------------------------ */

static json_t *unquoted(const char *text)
{
    char *copy = strdup(text);

    for (char *c = copy; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    json_t *json = json_loads(copy, JSON_DECODE_ANY, NULL);
    ck_assert_msg(json != NULL, "%s is no JSON", copy);
    free(copy);
    return json;
}

/* Values to try for an option, as a list. */
static json_t *values_for(const struct lip__field *f)
{
    static const char *const of_type[] = {
        [LIP__INT] = "[1, 2, 3, 5]", [LIP__FLOAT] = "[0.25, 0.5, 1.5, 2.0]", [LIP__BOOL] = "[true, false]",
        [LIP__PAIR] = "[[1, 2], [2, 1], [2, 2], [1, 1]]", [LIP__INTS] = "[[2, 1], [3, 2, 1], [6], [2, -1], [1, -1], [3, -1]]",
        [LIP__EDGES] = "[[[0, 1], [2, 3]], [[2, 2], [1, 1]]]", [LIP__AXES] = "[1, -1, [1], [2], [1, 2]]",
    };

    if (f->type == LIP__CHOICE || f->type == LIP__ACTIVATION) {
        char words[400], *rest;
        json_t *list = json_array();
        snprintf(words, sizeof words, "%s", f->type == LIP__CHOICE ? f->choices : lip__activation_identifiers());
        for (char *word = strtok_r(words, "|, ", &rest); word; word = strtok_r(NULL, "|, ", &rest))
            json_array_append_new(list, json_string(word));
        return list;
    }
    if (f->type == LIP__OBJECT) {
        json_t *list = json_array();
        for (size_t i = 0; f->of[i]; i++)
            json_array_append_new(list, json_string(f->of[i]->name));
        return list;
    }
    return f->type < sizeof of_type / sizeof *of_type && of_type[f->type] ? unquoted(of_type[f->type]) : json_array();
}

/* The config that a layer of `kind` with this option has, NULL where it cannot have it. */
static json_t *config_with(const struct sample *s, const char *key, const json_t *value)
{
    json_t *config = unquoted(s->config), *written = NULL;
    char *text;
    lip_model *m;

    json_object_set(config, key, (json_t *)value);
    text = json_dumps(config, 0);
    const char *json = one_layer(s->name, text, &s->in, "l");
    if (lip_model_read(json, strlen(json), false, &m, NULL) == LIP_OK) {
        char *config_text = lip_layer_config(lip_model_find_layer(m, "l"));
        ck_assert_ptr_nonnull(written = json_loads(config_text, 0, NULL));
        lip_free(config_text);
        lip_model_put(m);
    }
    free(text);
    json_decref(config);
    return written;
}

static struct tried {
    const char *name;
    bool by_name;
} tried[100];
static size_t n_tried;

static bool *accepted(const char *class)
{
    size_t i = 0;

    while (i < n_tried && strcmp(tried[i].name, class))
        i++;
    ck_assert_uint_lt(i, sizeof tried / sizeof *tried);
    n_tried += i == n_tried;
    tried[i].name = class;
    return &tried[i].by_name;
}

/* Options that a kind has and that may have but one value, its default. */
static const char *const fixed[] = {
    "ScaledAveragePooling2D.strides", "ScaledL2NormPooling2D.strides", "FrobeniusConv2D.strides", "FrobeniusConv2D.padding",
    "FrobeniusConv2D.dilation_rate", "FrobeniusConv2D.groups", "FrobeniusConv2D.kernel_constraint", "FullSort.data_format",
    "SpectralConv2DTranspose.padding", "SpectralConv2DTranspose.dilation_rate", "SpectralConv2DTranspose.groups",
    "SpectralConv2DTranspose.output_padding",
};

static bool is_fixed(const char *option)
{
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (!strcmp(fixed[i], option))
            return true;
    return false;
}

/* Each value of each option of each kind comes back as it was given, and what came back is understood. An option of which no two
 * values could be tried fails, and so does an initializer, a regularizer or a constraint that no option takes. */
START_TEST(every_option_comes_back)
{
    const struct lip__kind *const *kinds = lip__kinds();
    char untested[2000] = "";

    for (size_t k = 0; kinds[k]; k++) {
        if (kinds[k]->flags & LIP__INPUT || kinds[k]->join || !strcmp(kinds[k]->cls.name, "TFOpLambda"))
            continue;
        for (const struct lip__field *f = kinds[k]->cls.fields; f->name; f++) {
            json_t *values = values_for(f), *value, *written, *again;
            size_t i, taken = 0;
            if (f->flags & (LIP__HIDDEN | LIP__CALL) || !json_array_size(values)) {
                json_decref(values);
                continue;
            }
            for (size_t s = 0; s < SAMPLES; s++) {
                if (strcmp(sample[s].name, kinds[k]->cls.name))
                    continue;
                json_array_foreach(values, i, value)
                {
                    if (!(written = config_with(&sample[s], f->name, value)))
                        continue;
                    const json_t *back = json_object_get(written, f->name);
                    if (f->type == LIP__OBJECT) { /* by its name, then by what that is written as */
                        const char *class = json_string_value(value), *found = json_string_value(json_object_get(back, "class_name"));
                        bool same = found && !strcmp(class, !strcmp(class, "l1_l2") ? "l1_l2" : found);
                        ck_assert_msg(same, "%s %s: %s came back as %s", sample[s].name, f->name, class, found);
                        *accepted(f->of[i]->name) = true;
                    } else if (!(f->flags & LIP__NOT_KERAS && !back) && strcmp(f->name, "n")) { /* n over the channels is resolved */
                        ck_assert_msg(json_is_number(value) ? json_number_value(value) == json_number_value(back) : json_equal(value, back),
                                      "%s: %s = %s came back otherwise", sample[s].name, f->name, json_dumps(value, JSON_ENCODE_ANY));
                    }
                    again = back ? config_with(&sample[s], f->name, back) : json_incref(written);
                    ck_assert_msg(json_equal(again, written), "%s: %s", sample[s].name, f->name);
                    taken++;
                    json_decref(again);
                    json_decref(written);
                }
            }
            for (size_t c = 0; f->type == LIP__OBJECT && f->of[c]; c++)
                accepted(f->of[c]->name);
            char option[120];
            snprintf(option, sizeof option, "%s.%s", kinds[k]->cls.name, f->name);
            if ((taken > 1) == is_fixed(option) && json_array_size(values) > 1)
                snprintf(untested + strlen(untested), sizeof untested - strlen(untested), " %s", option);
            json_decref(values);
        }
    }
    for (size_t i = 0; i < n_tried; i++)
        if (!tried[i].by_name)
            snprintf(untested + strlen(untested), sizeof untested - strlen(untested), " %s", tried[i].name);
    ck_assert_msg(!*untested, "not two values could be tried of%s", untested);
}
END_TEST

/* ---- laws of pairs of kinds ------------------------------------------------------------------------------- */

/* up undoes down, bit for bit, for every shape that the pool divides, in both orders. */
START_TEST(up_undoes_down_for_every_shape)
{
    for (size_t p0 = 1; p0 <= 3; p0++)
        for (size_t p1 = 1; p1 <= 4; p1++)
            for (size_t i = 1; i <= 3; i++)
                for (size_t j = 1; j <= 3; j++)
                    for (size_t c = 1; c <= 3; c += 2) {
                        char config[120];
                        struct rig down, up;
                        sprintf(config, "{'pool_size':[%zu,%zu],'channel_order':'%s'}", p0, p1, _i ? "subpixel_major" : "channel_major");
                        rig_up(&down, &(struct sample){"InvertibleDownSampling", config, LIP__SHAPE(i * p0, j * p1, c)}, 2);
                        forward(&down, down.x, down.y);
                        rig_up(&up, &(struct sample){"InvertibleUpSampling", config, down.l->out}, 2);
                        forward(&up, down.y, up.y);
                        ck_assert(lip_shape_equal(&up.l->out, &down.l->in));
                        ck_assert_mem_eq(up.y, down.x, down.n * down.in * sizeof(float));
                        rig_down(&down), rig_down(&up);
                    }
}
END_TEST

/* <conv(x), z> = <x, transpose(z)> for the same kernel, whatever the window, the stride, the padding and the pixels beyond. */
START_TEST(convolution_and_its_transpose_are_adjoint)
{
    for (size_t kernels = 0; kernels < 16; kernels++)
        for (size_t strides = 0; strides < 27; strides++) {
            size_t beyond = strides / 9; /* 0: none is said; 1: none; 2: as many as there may be */
            size_t kh = 1 + kernels / 4, kw = 1 + kernels % 4, sh = 1 + strides % 9 / 3, sw = 1 + strides % 3, h = 2, w = 3;
            if (beyond && _i && ((kh % 2 == 0 && (beyond == 1 || sh == 1)) || (kw % 2 == 0 && (beyond == 1 || sw == 1))))
                continue; /* which is refused */
            const char *padding = _i ? "same" : "valid";
            char config[200];
            struct rig to, from;
            double left = 0, right = 0, size = 0;

            int at = sprintf(config, "{'filters':2,'kernel_size':[%zu,%zu],'strides':[%zu,%zu],'padding':'%s','use_bias':false", kh, kw, sh,
                             sw, padding);
            if (beyond)
                at += sprintf(config + at, ",'output_padding':[%zu,%zu]", beyond == 2 ? sh - 1 : 0, beyond == 2 ? sw - 1 : 0);
            strcpy(config + at, "}");
            rig_up(&from, &(struct sample){"Conv2DTranspose", config, LIP__SHAPE(h, w, 3)}, 2);
            sprintf(config, "{'filters':3,'kernel_size':[%zu,%zu],'strides':[%zu,%zu],'padding':'%s','use_bias':false}", kh, kw, sh, sw,
                    padding);
            rig_up(&to, &(struct sample){"Conv2D", config, from.l->out}, 2);
            ck_assert_msg(lip_shape_equal(&to.l->out, &from.l->in), "%s", config);
            ck_assert_uint_eq(to.size[0], from.size[0]);
            memcpy(from.w[0], to.w[0], to.size[0] * sizeof(float)); /* (kh, kw, c, f) and (kh, kw, filters, channels) */
            fill(to.x, to.n * to.in, 31), fill(from.x, from.n * from.in, 32);
            forward(&to, to.x, to.y);
            forward(&from, from.x, from.y);
            for (size_t i = 0; i < to.n * to.out; i++)
                left += (double)to.y[i] * from.x[i], size += fabs((double)to.y[i] * from.x[i]);
            for (size_t i = 0; i < to.n * to.in; i++)
                right += (double)to.x[i] * from.y[i];
            ck_assert_msg(fabs(left - right) <= 1e-6 * size, "%s: %g, %g", config, left, right); /* float32 sums of some dozen terms */
            rig_down(&to), rig_down(&from);
        }
}
END_TEST

/* ---- channels first ------------------------------------------------------------------------------------- */

static lip_model *turned_model(const struct sample *s, bool first, bool twice)
{
    char text[1500], config[400], *c;
    lip_shape in = first ? lip__turned(&s->in, false) : s->in;
    lip_error err = {0};
    lip_model *m;

    snprintf(config, sizeof config, "%.*s%s'data_format':'channels_%s','name':'l'}", (int)strlen(s->config) - 1, s->config,
             s->config[1] == '}' ? "" : ",", first ? "first" : "last");
    int at = snprintf(text, sizeof text, "{'class_name':'Sequential','config':{'layers':[{'class_name':'InputLayer','config':"
                      "{'batch_input_shape':[null");
    for (size_t i = 0; i < in.rank; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, ",%zu", in.dim[i]);
    at += snprintf(text + at, sizeof text - (size_t)at, "]}},{'class_name':'%s','config':%s}", s->name, config);
    if (twice) /* one that leaves the layout alone, then a layer that has its own */
        at += snprintf(text + at, sizeof text - (size_t)at, ",{'class_name':'ReLU','config':{'name':'r'}},{'class_name':'MaxMin',"
                       "'config':{'data_format':'channels_%s'}}", first ? "first" : "last");
    snprintf(text + at, sizeof text - (size_t)at, "]}}");
    for (c = text; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    ck_assert_msg(lip_model_read(text, strlen(text), false, &m, &err) == LIP_OK, "%s: %s", text, err.text);
    return m;
}

/* to <- n tensors with their last axis first. */
static void put_first(const lip_shape *last, size_t n, const float *from, float *to)
{
    size_t c = last->rank ? last->dim[last->rank - 1] : 1, pixels = lip_shape_count(last) / c;

    for (size_t s = 0; s < n; s++)
        for (size_t i = 0; i < pixels; i++)
            for (size_t j = 0; j < c; j++)
                to[(s * c + j) * pixels + i] = from[(s * pixels + i) * c + j];
}

/* The same weights on the same numbers, turned, give the same numbers, turned; bit for bit. */
START_TEST(channels_first_is_channels_last_turned)
{
    const struct sample *s = &sample[_i];
    const struct lip__field *f = lip__kind_find(s->name)->cls.fields;
    enum { N = 3 };

    while (f->name && strcmp(f->name, "data_format"))
        f++;
    if (!f->name || strstr(s->config, "data_format") || !strncmp(s->name, "GroupSort", 9) || !strcmp(s->name, "FullSort") ||
        !strcmp(s->name, "Householder"))
        return;
    for (int twice = 0; twice < 2; twice++) {
        lip_model *m[2] = {turned_model(s, false, twice), turned_model(s, true, twice)};
        const lip_shape *in = lip_model_input_shape(m[0], 0), *out = lip_model_output_shape(m[0], 0);
        size_t n_in = N * lip_shape_count(in), n_out = N * lip_shape_count(out);
        float *x = array(n_in), *x_first = array(n_in), *y = array(n_out), *y_first = array(n_out), *wanted = array(n_out);
        lip_workspace *ws = lip_workspace_new();
        lip_shape turned = lip__turned(out, false);

        ck_assert(lip_shape_equal(lip_model_output_shape(m[1], 0), &turned));
        fill(x, n_in, 9);
        put_first(in, N, x, x_first);
        for (int i = 0; i < 2; i++) {
            lip_state *state;
            lip_snapshot *p;
            ck_assert_int_eq(lip_state_new(m[i], 5, &state, NULL), LIP_OK);
            ck_assert_int_eq(lip_state_publish(state, &p, NULL), LIP_OK);
            ck_assert_int_eq(lip_predict(p, ws, N, i ? x_first : x, i ? y_first : y, NULL), LIP_OK);
            lip_snapshot_put(p);
            lip_state_free(state);
        }
        if (!strcmp(s->name, "Flatten")) /* always channels last */
            memcpy(wanted, y, n_out * sizeof *y);
        else
            put_first(out, N, y, wanted);
        ck_assert_mem_eq(y_first, wanted, n_out * sizeof *y);
        lip_workspace_free(ws);
        free(x), free(x_first), free(y), free(y_first), free(wanted);
        lip_model_put(m[0]), lip_model_put(m[1]);
    }
}
END_TEST

/* ---- what is refused, and how it is said ------------------------------------------------------------------ */

static const struct refusal {
    const char *name, *config;
    lip_shape in;
    lip_err code;
    const char *text;
} refusal[] = {
    {"Dense", "{'units':0}", {1, {3}}, LIP_EDEFINITION, "units is 0"},
    {"Dense", "{'units':3}", {0, {0}}, LIP_ESHAPE, "shape [], needs at least one axis"},
    {"Dense", "{'units':3}", {2, {3, 0}}, LIP_ESHAPE, "shape [3,0]"},
    {"Dense", "{'units':2000000000}", {1, {2000000000}}, LIP_ESHAPE, "needs at most 8 axes"},
    {"Dense", "{'units':200000}", {1, {200000}}, LIP_ESHAPE, "kernel of shape [200000,200000] needs more than"},
    {"Dense", "{'units':20}", {2, {50000000, 2}}, LIP_ESHAPE, "its output of shape [50000000,20] needs more than"},
    {"SpectralDense", "{'units':3,'k_coef_lip':'Infinity'}", {1, {3}}, LIP_EDEFINITION, "k_coef_lip is inf"},
    {"SpectralDense", "{'units':3,'eps_spectral':0}", {1, {3}}, LIP_EDEFINITION, "eps_spectral"},
    {"SpectralDense", "{'units':3,'beta_bjorck':0.75}", {1, {3}}, LIP_EDEFINITION, "beta_bjorck"},
    {"Conv2D", "{'filters':0,'kernel_size':3}", {3, {5, 5, 1}}, LIP_EDEFINITION, "filters is 0"},
    {"Conv2D", "{'filters':1,'kernel_size':[3,0]}", {3, {5, 5, 1}}, LIP_EDEFINITION, "kernel_size"},
    {"Conv2D", "{'filters':1,'kernel_size':3,'strides':0}", {3, {5, 5, 1}}, LIP_EDEFINITION, "strides"},
    {"Conv2D", "{'filters':2,'kernel_size':3,'groups':3}", {3, {5, 5, 3}}, LIP_EDEFINITION,
     "groups is 3, needs an integer >= 1 that divides filters, which is 2"},
    {"Conv2D", "{'filters':4,'kernel_size':3,'groups':2}", {3, {5, 5, 3}}, LIP_ESHAPE,
     "groups is 2, needs to divide the channels of its input, which are 3"},
    {"PadConv2D", "{'filters':4,'kernel_size':3,'groups':4}", {3, {5, 5, 6}}, LIP_ESHAPE, "groups is 4, needs to divide the channels"},
    {"Conv2D", "{'filters':2,'kernel_size':3,'dilation_rate':[1,2],'strides':[2,1]}", {3, {5, 5, 2}}, LIP_EDEFINITION,
     "strides is [2,1] and dilation_rate [1,2], one of them needs to be 1"},
    {"Conv2D", "{'filters':2,'kernel_size':3,'dilation_rate':3}", {3, {5, 8, 2}}, LIP_ESHAPE,
     "[5,8,2], smaller than kernel_size [3,3] with its dilation_rate"},
    {"Conv2D", "{'filters':2,'kernel_size':3,'dilation_rate':0}", {3, {5, 8, 2}}, LIP_EDEFINITION, "dilation_rate"},
    {"Conv2DTranspose", "{'filters':2,'kernel_size':3,'dilation_rate':[1,2]}", {3, {5, 5, 2}}, LIP_EDEFINITION,
     "dilation_rate is [1,2], needs equal ones"},
    {"Conv2DTranspose", "{'filters':2,'kernel_size':3,'groups':2}", {3, {5, 5, 2}}, LIP_EUNSUPPORTED,
     "groups is 2, a transposed convolution has only 1"},
    {"Conv2D", "{'filters':2,'kernel_size':3}", {1, {5}}, LIP_ESHAPE, "shape [5], needs [height,width,channels]"},
    {"Conv2D", "{'filters':2,'kernel_size':[2,6]}", {3, {5, 5, 1}}, LIP_ESHAPE, "[5,5,1], smaller than kernel_size [2,6]"},
    {"SpectralConv2D", "{'filters':2,'kernel_size':3,'padding':'valid'}", {3, {5, 5, 2}}, LIP_EDEFINITION,
     "SpectralConv2D only supports padding='same'"},
    {"SpectralConv2D", "{'filters':2,'kernel_size':3,'dilation_rate':[1,2]}", {3, {5, 5, 2}}, LIP_EDEFINITION,
     "SpectralConv2D does not support dilation rate"},
    {"SpectralConv2D", "{'filters':2,'kernel_size':5}", {3, {1, 4, 2}}, LIP_ESHAPE, "no correction factor"},
    {"GroupSort", "{'n':3}", {1, {4}}, LIP_ESHAPE, "n has to be a divisor of the number of channels"},
    {"GroupSort", "{'n':0}", {1, {4}}, LIP_EDEFINITION, "n is 0"},
    {"GroupSort", "{}", {0, {0}}, LIP_ESHAPE, "shape []"},
    {"GroupSort", "{'data_format':'channels_first'}", {1, {4}}, LIP_EDEFINITION, "last axis only"},
    {"ScaledAveragePooling2D", "{'padding':'same'}", {3, {4, 4, 1}}, LIP_EDEFINITION,
     "ScaledAveragePooling2D only supports padding='valid'"},
    {"ScaledAveragePooling2D", "{'strides':1}", {3, {4, 4, 1}}, LIP_EDEFINITION, "stride must be equal to pool_size"},
    {"ScaledAveragePooling2D", "{'pool_size':0}", {3, {4, 4, 1}}, LIP_EDEFINITION, "pool_size"},
    {"ScaledL2NormPooling2D", "{'pool_size':[2,5],'strides':[2,5]}", {3, {4, 4, 1}}, LIP_ESHAPE,
     "[4,4,1], smaller than pool_size [2,5]"},
    {"ScaledL2NormPooling2D", "{}", {2, {4, 4}}, LIP_ESHAPE, "needs [height,width,channels]"},
    {"ScaledL2NormPooling2D", "{'eps_grad_sqrt':-1}", {3, {4, 4, 1}}, LIP_EDEFINITION, "eps_grad_sqrt"},
    {"FrobeniusConv2D", "{'filters':2,'kernel_size':3,'strides':2}", {3, {5, 5, 2}}, LIP_EDEFINITION,
     "FrobeniusConv2D does not support strides"},
    {"FrobeniusConv2D", "{'filters':2,'kernel_size':3,'padding':'valid'}", {3, {5, 5, 2}}, LIP_EDEFINITION,
     "FrobeniusConv2D only supports padding='same'"},
    {"SpectralConv2DTranspose", "{'filters':2,'kernel_size':3,'padding':'valid'}", {3, {5, 5, 2}}, LIP_EDEFINITION,
     "SpectralConv2DTranspose only supports padding='same'"},
    {"SpectralConv2DTranspose", "{'filters':2,'kernel_size':3,'dilation_rate':2}", {3, {5, 5, 2}}, LIP_EDEFINITION,
     "SpectralConv2DTranspose does not support dilation rate"},
    {"SpectralConv2DTranspose", "{'filters':2,'kernel_size':3,'strides':2,'output_padding':1}", {3, {5, 5, 2}}, LIP_EDEFINITION,
     "SpectralConv2DTranspose only supports output_padding=None, found [1,1]"},
    {"Conv2DTranspose", "{'filters':2,'kernel_size':3,'strides':[3,2],'output_padding':2}", {3, {5, 5, 2}}, LIP_EDEFINITION,
     "output_padding is [2,2], needs less than strides, which is [3,2]"},
    {"Conv2DTranspose", "{'filters':2,'kernel_size':2,'strides':2,'padding':'same','output_padding':[1,0]}", {3, {5, 5, 2}},
     LIP_EDEFINITION, "output_padding is [1,0], needs at least 1 where kernel_size is even"},
    {"Conv2DTranspose", "{'filters':2,'kernel_size':2,'output_padding':-1}", {3, {5, 5, 2}}, LIP_EDEFINITION, "output_padding is -1"},
    {"Conv2DTranspose", "{'filters':2,'kernel_size':3,'strides':2000000000}", {3, {5, 5, 2}}, LIP_ESHAPE, "too large"},
    {"Conv2DTranspose", "{'filters':2,'kernel_size':3}", {2, {5, 5}}, LIP_ESHAPE, "needs [height,width,channels]"},
    {"PadConv2D", "{'filters':2,'kernel_size':5,'padding':'reflect'}", {3, {2, 5, 2}}, LIP_ESHAPE,
     "[2,5,2], too small to be continued by [2,2] (reflect)"},
    {"PadConv2D", "{'filters':2,'kernel_size':3,'padding':'mirror'}", {3, {2, 5, 2}}, LIP_EDEFINITION, "padding"},
    {"PadConv2D", "{'filters':2,'kernel_size':7,'padding':'valid'}", {3, {2, 5, 2}}, LIP_ESHAPE, "smaller than kernel_size"},
    {"MaxMin", "{}", {0, {0}}, LIP_ESHAPE, "shape []"},
    {"Householder", "{}", {1, {5}}, LIP_ESHAPE, "2 has to be a divisor of the number of channels, which is 5"},
    {"Householder", "{}", {0, {0}}, LIP_ESHAPE, "shape []"},
    {"Householder", "{'data_format':'channels_first'}", {1, {4}}, LIP_EDEFINITION, "last axis only"},
    {"Softmax", "{'axis':3}", {2, {4, 4}}, LIP_EDEFINITION, "axis is 3, needs 1 to 2 or -2 to -1"},
    {"ScaledGlobalAveragePooling2D", "{}", {2, {4, 4}}, LIP_ESHAPE, "needs [height,width,channels]"},
    {"InvertibleDownSampling", "{'pool_size':2}", {3, {4, 3, 1}}, LIP_ESHAPE,
     "pool_size [2,2] does not divide height and width of its input [4,3,1]"},
    {"InvertibleUpSampling", "{'pool_size':2}", {3, {4, 4, 6}}, LIP_ESHAPE,
     "pool_size [2,2] does not divide the channels of its input [4,4,6]"},
    {"InvertibleUpSampling", "{'pool_size':2}", {1, {4}}, LIP_ESHAPE, "needs [height,width,channels]"},
    {"InvertibleUpSampling", "{'pool_size':0}", {3, {4, 4, 4}}, LIP_EDEFINITION, "pool_size"},
    {"Reshape", "{'target_shape':[4,4]}", {2, {2, 6}}, LIP_ESHAPE, "target_shape [4,4] does not hold its input [2,6]"},
    {"Reshape", "{'target_shape':[5,-1]}", {2, {2, 6}}, LIP_ESHAPE, "target_shape [5,-1] does not hold its input [2,6]"},
    {"Reshape", "{'target_shape':[-1,-1]}", {2, {2, 6}}, LIP_EDEFINITION, "target_shape [-1,-1] has more than one -1"},
    {"Reshape", "{'target_shape':[0,12]}", {2, {2, 6}}, LIP_EDEFINITION, "target_shape"},
    {"Reshape", "{'target_shape':[1,1,1,1,1,1,1,1,12]}", {2, {2, 6}}, LIP_EDEFINITION, "target_shape"},
    {"Permute", "{'dims':[1,1]}", {2, {2, 6}}, LIP_EDEFINITION, "dims [1,1] is no order of the axes 1 to 2"},
    {"Permute", "{'dims':[2,1]}", {3, {2, 6, 2}}, LIP_EDEFINITION, "dims [2,1] is no order of the axes 1 to 3"},
    {"Permute", "{}", {1, {2}}, LIP_EDEFINITION, "dims [] is no order of the axes 1 to 1"},
    {"ZeroPadding2D", "{}", {2, {2, 6}}, LIP_ESHAPE, "needs [height,width,channels]"},
    {"ZeroPadding2D", "{'padding':-1}", {3, {2, 6, 1}}, LIP_EDEFINITION, "padding"},
    {"ZeroPadding2D", "{'padding':[1,2,3]}", {3, {2, 6, 1}}, LIP_EDEFINITION, "padding"},
    {"MaxPooling2D", "{'pool_size':5}", {3, {4, 8, 4}}, LIP_ESHAPE, "[4,8,4], smaller than pool_size [5,5]"},
    {"MaxPooling2D", "{'pool_size':[1,0]}", {3, {4, 8, 4}}, LIP_EDEFINITION, "pool_size"},
    {"AveragePooling2D", "{'strides':[0,1]}", {3, {4, 8, 4}}, LIP_EDEFINITION, "strides"},
    {"AveragePooling2D", "{}", {2, {4, 8}}, LIP_ESHAPE, "needs [height,width,channels]"},
    /* The rest of semantics.md 25. */
    {"Dense", "{'units':-1}", {1, {3}}, LIP_EDEFINITION, "units is -1"},
    {"Dense", "{}", {1, {3}}, LIP_EDEFINITION, "units is missing"},
    {"Dense", "{'units':2,'color':3}", {1, {3}}, LIP_EOPTION, "unknown option \"color\"; accepted: units, activation"},
    {"SpectralDense", "{'units':2,'eps_bjorck':0}", {1, {3}}, LIP_EDEFINITION, "eps_bjorck is 0, needs a number > 0 or null"},
    {"SpectralDense", "{'units':2,'beta_bjorck':0}", {1, {3}}, LIP_EDEFINITION, "beta_bjorck is 0, needs a number > 0 and <= 0.5"},
    {"SpectralDense", "{'units':2,'activation':'GroupSort2'}", {1, {3}}, LIP_EOPTION, "unknown activation \"GroupSort2\""},
    {"SpectralDense", "{'units':2,'activation':3}", {1, {3}}, LIP_EDEFINITION, "activation is a number, needs a name or a layer"},
    {"SpectralConv2D", "{'filters':0,'kernel_size':3}", {3, {5, 5, 2}}, LIP_EDEFINITION, "filters is 0"},
    {"SpectralConv2D", "{'filters':2,'kernel_size':[3,3,3]}", {3, {5, 5, 2}}, LIP_EDEFINITION, "kernel_size is [3,3,3], needs"},
    {"SpectralConv2D", "{'filters':2,'kernel_size':'3'}", {3, {5, 5, 2}}, LIP_EDEFINITION, "kernel_size is \"3\""},
    {"SpectralConv2D", "{'filters':2,'kernel_size':3,'strides':0}", {3, {5, 5, 2}}, LIP_EDEFINITION, "strides is 0"},
    {"SpectralConv2D", "{'filters':2,'kernel_size':3,'groups':3}", {3, {5, 5, 2}}, LIP_EDEFINITION,
     "groups is 3, needs an integer >= 1 that divides filters"},
    {"SpectralConv2D", "{'filters':2,'kernel_size':3,'groups':2}", {3, {5, 5, 2}}, LIP_EUNSUPPORTED,
     "groups is 2, a constrained convolution has only 1"},
    {"SpectralConv2D", "{'filters':2,'kernel_size':3,'data_format':'NHWC'}", {3, {5, 5, 2}}, LIP_EDEFINITION,
     "data_format is \"NHWC\", needs one of channels_last|channels_first"},
    {"SpectralConv2D", "{'filters':2,'kernel_size':3}", {2, {5, 5}}, LIP_ESHAPE, "[5,5], needs [height,width,channels]"},
    {"SpectralConv2D", "{'filters':2,'kernel_size':3,'data_format':'channels_first'}", {2, {5, 6}}, LIP_ESHAPE,
     "[5,6], needs [channels,height,width]"},
    {"FrobeniusConv2D", "{'filters':2,'kernel_size':3,'dilation_rate':2}", {3, {5, 5, 2}}, LIP_EDEFINITION,
     "FrobeniusConv2D does not support dilation rate"},
    {"FrobeniusConv2D", "{'filters':2,'kernel_size':3,'kernel_constraint':'NonNeg'}", {3, {5, 5, 2}}, LIP_EDEFINITION,
     "only supports a SpectralConstraint as kernel_constraint, found NonNeg"},
    {"SpectralConv2D", "{'filters':2,'kernel_size':3,'eps_spectral':-1}", {3, {5, 5, 2}}, LIP_EDEFINITION,
     "eps_spectral is -1, needs a number > 0"},
    {"SpectralConv2DTranspose", "{'filters':2,'kernel_size':3,'eps_bjorck':-1}", {3, {5, 5, 2}}, LIP_EDEFINITION, "eps_bjorck is -1"},
    {"SpectralConv2DTranspose", "{'filters':-1,'kernel_size':3}", {3, {5, 5, 2}}, LIP_EDEFINITION, "filters is -1"},
    {"FrobeniusDense", "{'units':-1}", {1, {3}}, LIP_EDEFINITION, "units is -1"},
    {"FrobeniusDense", "{'units':2}", {0, {0}}, LIP_ESHAPE, "shape []"},
    {"ScaledL2NormPooling2D", "{'strides':[1,2]}", {3, {4, 4, 1}}, LIP_EDEFINITION, "stride must be equal to pool_size"},
    {"ScaledL2NormPooling2D", "{'padding':'same'}", {3, {4, 4, 1}}, LIP_EDEFINITION,
     "ScaledL2NormPooling2D only supports padding='valid'"},
    {"ScaledAveragePooling2D", "{'pool_size':[2,2,2]}", {3, {4, 4, 1}}, LIP_EDEFINITION, "pool_size is [2,2,2], needs"},
    {"ScaledAveragePooling2D", "{'data_format':'first'}", {3, {4, 4, 1}}, LIP_EDEFINITION, "data_format is \"first\""},
    {"ScaledGlobalL2NormPooling2D", "{'eps_grad_sqrt':-1}", {3, {4, 4, 1}}, LIP_EDEFINITION, "eps_grad_sqrt is -1"},
    {"ScaledGlobalL2NormPooling2D", "{}", {3, {0, 4, 1}}, LIP_ESHAPE, "shape [0,4,1]"},
    {"ScaledGlobalAveragePooling2D", "{}", {3, {3, 0, 1}}, LIP_ESHAPE, "shape [3,0,1]"},
    {"ScaledGlobalAveragePooling2D", "{'data_format':'x'}", {3, {3, 3, 1}}, LIP_EDEFINITION, "data_format is \"x\""},
    {"InvertibleDownSampling", "{'pool_size':[2,2,2]}", {3, {4, 4, 1}}, LIP_EDEFINITION, "pool_size is [2,2,2], needs"},
    {"InvertibleUpSampling", "{'pool_size':2,'data_format':'x'}", {3, {4, 4, 4}}, LIP_EDEFINITION, "data_format is \"x\""},
    {"MaxMin", "{'data_format':'x'}", {1, {4}}, LIP_EDEFINITION, "data_format is \"x\""},
    {"GroupSort", "{'n':-2}", {1, {4}}, LIP_EDEFINITION, "n is -2"},
    {"GroupSort2", "{}", {1, {5}}, LIP_ESHAPE, "n has to be a divisor of the number of channels"},
    {"BatchNormalization", "{'axis':[1,2]}", {3, {4, 4, 1}}, LIP_EUNSUPPORTED, "it has 2 axes"},
    {"BatchNormalization", "{'axis':2}", {1, {4}}, LIP_EDEFINITION, "axis is 2, needs 1 to 1 or -1 to -1"},
    {"Dropout", "{}", {1, {4}}, LIP_EDEFINITION, "rate is missing"},
    {"Dropout", "{'rate':1}", {1, {4}}, LIP_EDEFINITION, "rate is 1"},
    {"PReLU", "{'shared_axes':[3]}", {2, {4, 4}}, LIP_EDEFINITION, "shared_axes holds 3, needs axes from 1 to 2"},
    {"TFOpLambda", "{'function':'math.add'}", {1, {4}}, LIP_EDEFINITION, "function is \"math.add\", needs one of math.multiply"},
    {"InputLayer", "{'sparse':true}", {1, {4}}, LIP_EUNSUPPORTED, "sparse"},
    {"SpectralDense", "{'units':-1}", {1, {3}}, LIP_EDEFINITION, "units is -1, needs an integer >= 1"},
    {"SpectralConv2DTranspose", "{'filters':2,'kernel_size':3}", {2, {5, 5}}, LIP_ESHAPE, "[5,5], needs [height,width,channels]"},
    {"SpectralConv2DTranspose", "{'filters':2,'kernel_size':3,'data_format':'x'}", {3, {5, 5, 2}}, LIP_EDEFINITION, "data_format is \"x\""},
    {"FrobeniusConv2D", "{'filters':2,'kernel_size':0}", {3, {5, 5, 2}}, LIP_EDEFINITION, "kernel_size is 0"},
    {"ScaledL2NormPooling2D", "{'pool_size':-1}", {3, {4, 4, 1}}, LIP_EDEFINITION, "pool_size is -1"},
    {"ScaledGlobalL2NormPooling2D", "{'data_format':'x'}", {3, {3, 3, 1}}, LIP_EDEFINITION, "data_format is \"x\""},
    {"InvertibleUpSampling", "{'pool_size':[2]}", {3, {4, 4, 4}}, LIP_EDEFINITION, "pool_size is [2], needs"},
    {"FullSort", "{'data_format':'channels_first'}", {1, {4}}, LIP_EDEFINITION, "last axis only"},
    {"Householder", "{'data_format':'x'}", {1, {4}}, LIP_EDEFINITION, "data_format is \"x\""},
    {"PadConv2D", "{'filters':0,'kernel_size':3}", {3, {5, 5, 2}}, LIP_EDEFINITION, "filters is 0"},
    {"SpectralConv2D", "{'filters':2,'kernel_size':3,'kernel_regularizer':{'class_name':'LorthRegularizer','config':{'dim':1}}}",
     {3, {5, 5, 2}}, LIP_EUNSUPPORTED, "dim"},
};

START_TEST(refuses_with_a_reason)
{
    const struct refusal *r = &refusal[_i];
    lip_error err = {0};
    lip_layer *l;

    ck_assert_msg(make(r->name, r->config, &r->in, &l, &err) == r->code, "%s %s: %s %s", r->name, r->config,
                  lip_err_name(err.code), err.text);
    ck_assert_msg(strstr(err.text, r->text) && strstr(err.text, r->name), "\"%s\" does not say \"%s\"", err.text, r->text);
}
END_TEST

/* And in a model the layer's name, whoever finds the fault. */
START_TEST(refusals_name_the_layer)
{
    const struct refusal *r = &refusal[_i];
    lip_error err = {0};
    lip_model *m;

    if (!lip_shape_count(&r->in) || r->in.rank == 0 || !strcmp(r->name, "InputLayer") || lip__kind_find(r->name)->join ||
        !strcmp(r->name, "TFOpLambda") || r->in.dim[0] > 100000)
        return; /* no such thing behind an InputLayer */
    const char *json = one_layer(r->name, r->config, &r->in, "guilty");
    ck_assert_int_eq(lip_model_read(json, strlen(json), false, &m, &err), r->code);
    ck_assert_msg(strstr(err.text, "\"guilty\" (") && strstr(err.text, r->text), "\"%s\" names no layer", err.text);
    ck_assert_msg(!strncmp(err.pointer, "/config/layers/1", 16), "%s", err.pointer);
}
END_TEST

/* To the last word: a range only where there is one, whole numbers as such, a bound that is out as out. */
START_TEST(refusals_end_where_they_should)
{
    static const struct {
        const char *name, *config, *text;
    } whole[] = {
        {"Dense", "{'units':0}", "units is 0, needs an integer >= 1 and <= 2147483647"},
        {"Dense", "{'units':1,'use_bias':3}", "use_bias is 3, needs true or false"},
        {"Dropout", "{'rate':1}", "rate is 1, needs a number >= 0 and < 1"},
        {"Conv2D", "{'filters':1,'kernel_size':1,'padding':'full'}", "padding is \"full\", needs one of valid|same"},
        {"Conv2D", "{'filters':1,'kernel_size':1,'data_format':1}",
         "data_format is 1, needs one of channels_last|channels_first"},
        {"SpectralDense", "{'units':1,'beta_bjorck':0.75}", "beta_bjorck is 0.75, needs a number > 0 and <= 0.5 or null"},
        {"GroupSort", "{'n':-2}", "n is -2, needs an integer >= 1 and <= 2147483647 or null"},
    };

    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        char text[200];
        lip_error err = {0};
        lip_layer *l;
        snprintf(text, sizeof text, "%s: %s", whole[i].name, whole[i].text);
        ck_assert_int_eq(make(whole[i].name, whole[i].config, &LIP__SHAPE(4, 4, 2), &l, &err), LIP_EDEFINITION);
        ck_assert_str_eq(err.text, text);
    }
}
END_TEST

/* D24, D37: an int is a pair, case does not matter. */
START_TEST(spellings_of_one_thing_are_one_thing)
{
    static const char *const spelt[] = {
        "{'filters':2,'kernel_size':3,'strides':2}",
        "{'filters':2,'kernel_size':[3,3],'strides':[2,2],'padding':'SAME','dilation_rate':1,'data_format':null}"};
    lip_layer *l;

    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(make("SpectralConv2D", spelt[i], &LIP__SHAPE(5, 5, 1), &l, NULL), LIP_OK);
        const struct lip__conv *c = (const struct lip__conv *)l;
        ck_assert_uint_eq(c->kernel[1], 3);
        ck_assert_uint_eq(c->strides[1], 2);
        ck_assert_str_eq(c->padding, "same");
        ck_assert_str_eq(c->data_format, "channels_last");
        lip__layer_free(l);
    }
    ck_assert_int_eq(make("ScaledAveragePooling2D", "{'pool_size':2,'strides':[2,2],'padding':'VALID'}",
                          &LIP__SHAPE(4, 4, 1), &l, NULL), LIP_OK);
    lip__layer_free(l);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("layers");
    TCase *laws = tcase_create("laws"), *conv = tcase_create("convolution"), *single = tcase_create("single");
    int kinds = 0;

    while (lip__kinds()[kinds])
        kinds++;
    tcase_add_loop_test(laws, every_kind_has_a_sample, 0, kinds);
    tcase_add_loop_test(laws, gradient_agrees_with_differences, 0, SAMPLES);
    tcase_add_loop_test(laws, keeps_its_bound, 0, SAMPLES);
    tcase_add_loop_test(laws, parts_of_a_batch_equal_the_whole, 0, SAMPLES);
    tcase_add_loop_test(laws, packed_it_computes_the_same, 0, SAMPLES);
    tcase_add_loop_test(laws, threads_agree_on_gradients, 0, SAMPLES);
    tcase_add_loop_test(laws, unwanted_gradients_are_left_out, 0, SAMPLES);
    tcase_add_loop_test(laws, no_samples_are_no_work, 0, SAMPLES);
    tcase_add_loop_test(laws, survives_every_allocation_that_fails, 0, SAMPLES);
    tcase_add_loop_test(laws, channels_first_is_channels_last_turned, 0, SAMPLES);
    tcase_add_loop_test(laws, condensed_and_exported_it_computes_the_same, 0, SAMPLES);
    tcase_add_loop_test(laws, gradient_of_training_agrees_with_differences, 0, SAMPLES);
    suite_add_tcase(s, laws);

    tcase_add_loop_test(conv, convolution_is_the_formula, 0, 12 * (int)(lip__vector_units() + 1));
    tcase_add_test(conv, panels_join);
    tcase_add_test(conv, windows_lie_where_tensorflow_puts_them);
    tcase_add_test(conv, one_row_examples);
    tcase_add_test(conv, spectral_convolution_example);
    tcase_add_loop_test(conv, convolution_and_its_transpose_are_adjoint, 0, 2);
    tcase_add_loop_test(single, up_undoes_down_for_every_shape, 0, 2);
    tcase_add_loop_test(conv, sound_coefficients_keep_the_claim, 0, 3);
    tcase_add_test(conv, deel_lip_exceeds_its_claim_where_it_was_measured);
    suite_add_tcase(s, conv);

    tcase_add_test(single, dropout_draws_by_step_and_place);
    tcase_add_test(single, variables_come_in_keras_order);
    tcase_add_test(single, options_come_in_keras_order);
    tcase_add_test(single, every_option_comes_back);
    tcase_add_test(single, claims_are_those_of_deel_lip);
    tcase_add_test(single, disjoint_neurons_are_bounded_one_by_one);
    tcase_add_test(single, pooling_examples);
    tcase_add_test(single, norm_pooling_gradient_has_its_epsilon);
    tcase_add_test(single, ties_go_where_tensorflow_sends_them);
    tcase_add_test(single, pairs_with_a_nan_are_nan_and_zeros_copy_the_first);
    tcase_add_test(single, sorting_sorts_and_keeps_norms);
    tcase_add_test(single, relu_examples);
    tcase_add_test(single, functions_have_names);
    tcase_add_test(single, functions_have_slopes_and_constants);
    tcase_add_test(single, functions_have_their_values);
    tcase_add_test(single, householder_examples);
    tcase_add_test(single, householder_starts_as_a_sort);
    tcase_add_test(single, numbers_move_where_numpy_moves_them);
    tcase_add_test(single, transposed_row_examples);
    tcase_add_test(single, transposed_kernels_are_swapped);
    tcase_add_test(single, images_go_on_past_their_edges);
    tcase_add_test(single, max_min_splits_signs);
    tcase_add_test(single, global_pooling_examples);
    tcase_add_test(single, sampling_examples);
    tcase_add_test(single, keras_pooling_examples);
    tcase_add_test(single, spellings_of_one_thing_are_one_thing);
    tcase_add_loop_test(single, refuses_with_a_reason, 0, (int)(sizeof refusal / sizeof *refusal));
    tcase_add_test(single, refusals_end_where_they_should);
    tcase_add_loop_test(single, refusals_name_the_layer, 0, (int)(sizeof refusal / sizeof *refusal));
    suite_add_tcase(s, single);
    return s;
}

CHECK_MAIN(suite)
