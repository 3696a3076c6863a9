/* check_memory.c: what models of every kind of layer take from the heap, and what is left when there is none.
 *
 * Each sample of samples.h becomes a model with a dense head. Inference and training take nothing once they have seen a batch;
 * a forward pass of a chain takes two activations and a panel for each thread; and whatever is made of a model, each
 * allocation in turn fails, of writers jansson's too: an error with a name, the state as before, nothing half-built. (The sanitizers see
 * what is lost.)
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include <onelip/onelip.h>

#include "check_main.h"
#include "model/model.h"
#include "models.h"
#include "samples.h"

/* ---- the heap ------------------------------------------------------------------------------------------ */

static long left = -1; /* allocations that still succeed; < 0: all do */
static size_t taken;

static int hook(void)
{
    taken++;
    return left >= 0 && left-- == 0;
}

static void *json_malloc(size_t bytes)
{
    return hook() ? NULL : malloc(bytes);
}

/* json: what jansson takes too. Its reader drops bytes of a text when there is no memory, so only writers are tried so. */
static void watch(bool json)
{
    lip__alloc_hook = hook;
    if (json)
        json_set_alloc_funcs(json_malloc, free);
}

/* ---- a model ---------------------------------------------------------------------------------------------- */

enum { N = 6 };

#define TRAINING "{\"optimizer\":\"Adam\",\"loss\":\"MeanSquaredError\"}"

/* 'x': the definition, with a Flatten and a Dense behind the layer "l". */
static void write_model(const struct sample *s, char *text, size_t size)
{
    const struct lip__kind *kind = lip__kind_find(s->name);
    size_t inputs = inputs_of(s), at = 0;
    bool call = !strcmp(s->name, "TFOpLambda"), layer = !(kind->flags & LIP__INPUT);

    at += (size_t)snprintf(text + at, size - at, "{'class_name':'Functional','config':{'layers':[");
    for (size_t i = 0; i < inputs; i++) {
        at += (size_t)snprintf(text + at, size - at, "{'class_name':'InputLayer','config':{'batch_input_shape':[null");
        for (size_t j = 0; j < s->in.rank; j++)
            at += (size_t)snprintf(text + at, size - at, ",%zu", s->in.dim[j]);
        at += (size_t)snprintf(text + at, size - at, "],'name':'x%zu'},'name':'x%zu','inbound_nodes':[]},", i, i);
    }
    if (layer) {
        at += (size_t)snprintf(text + at, size - at, "{'class_name':'%s','config':%.*s%s'name':'l'},'name':'l','inbound_nodes':[%s", s->name,
                               (int)strlen(s->config) - 1, s->config, s->config[1] == '}' ? "" : ",", call ? "" : "[");
        for (size_t i = 0; i < inputs; i++)
            at += (size_t)snprintf(text + at, size - at, "%s['x%zu',0,0,{%s}]", i ? "," : "", i, call ? "'y':0.5,'name':null" : "");
        at += (size_t)snprintf(text + at, size - at, "]%s},", call ? "" : "]");
    }
    snprintf(text + at, size - at, "{'class_name':'Flatten','config':{'name':'f'},'name':'f','inbound_nodes':[[['%s',0,0,{}]]]},"
             "{'class_name':'Dense','config':{'units':2,'name':'y'},'name':'y','inbound_nodes':[[['f',0,0,{}]]]}],'input_layers':[",
             layer ? "l" : "x0");
    at = strlen(text);
    for (size_t i = 0; i < inputs; i++)
        at += (size_t)snprintf(text + at, size - at, "%s['x%zu',0,0]", i ? "," : "", i);
    snprintf(text + at, size - at, "],'output_layers':[['y',0,0]]}}");
    for (char *c = text; *c; c++)
        *c = *c == '\'' ? '"' : *c;
}

/* All that one can have of a model. */
struct rig {
    char text[3000];
    lip_model *m;
    lip_state *s;
    lip_snapshot *p;
    lip_trainer *t;
    char *definition;
    void *file;
    size_t size;
    float *x[LIP__MAX_JOINED], y[N * 2], *before;
    const char *layer; /* the one under test; NULL: of an InputLayer */
};

static lip_batch batch_of(const struct rig *r)
{
    return (lip_batch){.n = N, .inputs = (const float *const *)r->x, .y = r->y, .y_shape = {2, {N, 2}}};
}

static float *photograph(const lip_state *s)
{
    const lip_model *m = lip_state_model(s);

    return memcpy(malloc(m->arena * sizeof(float)), s->now, m->arena * sizeof(float));
}

static void setup(struct rig *r, const char *text)
{
    lip_error err = {0};
    lip_random random = {3, 1, 0};

    *r = (struct rig){.text = ""};
    snprintf(r->text, sizeof r->text, "%s", text);
    ck_assert_msg(lip_model_read(r->text, strlen(r->text), false, &r->m, &err) == LIP_OK, "%s: %s", r->text, err.text);
    ck_assert_int_eq(lip_state_new(r->m, 5, &r->s, NULL), LIP_OK);
    ck_assert_int_eq(lip_state_publish(r->s, &r->p, NULL), LIP_OK);
    ck_assert_msg(lip_trainer_new(r->m, TRAINING, strlen(TRAINING), &r->t, &err) == LIP_OK, "%s", err.text);
    r->definition = lip_model_definition(r->m, false);
    r->file = lip_state_save(r->s, &r->size);
    for (size_t i = 0; i < lip_model_inputs(r->m); i++) {
        size_t n = N * lip_shape_count(lip_model_input_shape(r->m, i));
        r->x[i] = malloc(n * sizeof(float));
        lip_random_normal(&random, r->x[i], n);
    }
    for (size_t i = 0; i < N * 2; i++)
        r->y[i] = (float)i / N;
    r->layer = lip_model_find_layer(r->m, "l") ? "l" : NULL;
    r->before = photograph(r->s);
}

static void teardown(struct rig *r)
{
    free(r->before);
    for (size_t i = 0; i < lip_model_inputs(r->m); i++)
        free(r->x[i]);
    lip_free(r->file);
    lip_free(r->definition);
    lip_trainer_free(r->t);
    lip_snapshot_put(r->p);
    lip_state_free(r->s);
    lip_model_put(r->m);
}

/* ---- steady state ------------------------------------------------------------------------------------------ */

/* Inference and training steps of batches no larger than the first take nothing. */
static void ck_takes_nothing(struct rig *r)
{
    lip_workspace *ws = lip_workspace_new();
    lip_batch batch = batch_of(r);
    lip_step_report report;
    float y[N * 2], *out[] = {y};
    lip_error err = {0};

    for (int round = 0; round < 3; round++) {
        if (round == 1) {
            taken = 0;
            watch(true);
            batch.n = batch.y_shape.dim[0] = N - 2;
        }
        ck_assert_int_eq(lip_predict_graph(r->p, ws, batch.n, batch.inputs, out, NULL), LIP_OK);
        ck_assert_msg(lip_train_step(r->t, r->s, &batch, NULL, &report, &err) == LIP_OK, "%s", err.text);
    }
    lip__alloc_hook = NULL;
    json_set_alloc_funcs(malloc, free);
    ck_assert_uint_eq(taken, 0);
    lip_workspace_free(ws);
}

START_TEST(steady_state_takes_nothing)
{
    struct rig r;
    char text[3000];

    write_model(&sample[_i], text, sizeof text);
    for (size_t threads = 1; threads <= 3; threads += 2) {
        ck_assert_int_eq(lip_set_threads(threads, NULL), LIP_OK);
        setup(&r, text);
        ck_takes_nothing(&r);
        teardown(&r);
    }
}
END_TEST

/* ---- a forward pass ------------------------------------------------------------------------------------------ */

/* Chains that get narrower and wider again, deep and shallow ones. */
static const char *const chain[] = {MLP, CNN,
    "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,4,4,2]}},"
    "{\"class_name\":\"Conv2D\",\"config\":{\"filters\":30,\"kernel_size\":3,\"padding\":\"same\",\"activation\":\"relu\"}},"
    "{\"class_name\":\"Conv2D\",\"config\":{\"filters\":2,\"kernel_size\":3,\"data_format\":\"channels_first\",\"padding\":\"same\"}},"
    "{\"class_name\":\"Conv2D\",\"config\":{\"filters\":70,\"kernel_size\":1,\"padding\":\"same\",\"activation\":\"elu\"}},"
    "{\"class_name\":\"MaxPooling2D\",\"config\":{\"pool_size\":[1,2]}},{\"class_name\":\"BatchNormalization\",\"config\":{}},"
    "{\"class_name\":\"Conv2DTranspose\",\"config\":{\"filters\":9,\"kernel_size\":3,\"strides\":[1,2]}},"
    "{\"class_name\":\"Flatten\",\"config\":{}},{\"class_name\":\"Dense\",\"config\":{\"units\":700}},"
    "{\"class_name\":\"GroupSort2\",\"config\":{}},{\"class_name\":\"Dense\",\"config\":{\"units\":3}}]}}",
    /* Kernels larger than a panel. */
    "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[{\"class_name\":\"InputLayer\",\"config\":{\"batch_input_shape\":[null,7,5,64]}},"
    "{\"class_name\":\"SpectralConv2D\",\"config\":{\"filters\":128,\"kernel_size\":[3,4]}},"
    "{\"class_name\":\"PadConv2D\",\"config\":{\"filters\":64,\"kernel_size\":[3,3],\"padding\":\"reflect\"}},"
    "{\"class_name\":\"SpectralConv2DTranspose\",\"config\":{\"filters\":128,\"kernel_size\":[3,3]}},"
    "{\"class_name\":\"Conv2D\",\"config\":{\"filters\":256,\"kernel_size\":[3,3],\"groups\":2,\"strides\":2}},"
    "{\"class_name\":\"Conv2DTranspose\",\"config\":{\"filters\":32,\"kernel_size\":[3,3],\"strides\":2}},"
    "{\"class_name\":\"Conv2D\",\"config\":{\"filters\":128,\"kernel_size\":[3,3],\"dilation_rate\":2,\"padding\":\"same\"}}]}}"};

/* PANEL: floats for each thread, all that a layer takes for itself. None of the rows of windows above reads more. */
enum { CHAINS = sizeof chain / sizeof *chain, PANEL = 65536 };

/* Two activations of the samples that run at once, and a panel, for each thread. */
START_TEST(a_forward_pass_takes_two_activations_and_a_panel)
{
    char text[3000];
    bool model = _i < CHAINS;
    const struct sample *s = &sample[model ? 0 : _i - CHAINS];

    if (!model && lip__kind_find(s->name)->join)
        return;
    if (!model)
        write_model(s, text, sizeof text);
    for (size_t threads = 1; threads <= 4; threads += 3) {
        ck_assert_int_eq(lip_set_threads(threads, NULL), LIP_OK);
        lip_model *m;
        const char *json = model ? chain[_i] : text;
        ck_assert_int_eq(lip_model_read(json, strlen(json), false, &m, NULL), LIP_OK);
        lip_state *state;
        ck_assert_int_eq(lip_state_new(m, 1, &state, NULL), LIP_OK);
        lip_snapshot *p;
        ck_assert_int_eq(lip_state_publish(state, &p, NULL), LIP_OK);
        size_t in = lip_shape_count(lip_model_input_shape(m, 0)), out = lip_shape_count(lip_model_output_shape(m, 0));
        for (size_t n = 1; n <= 2000; n = n * 6 + 1) {
            lip_workspace *ws = lip_workspace_new();
            float *x = calloc(n * in, sizeof *x), *y = calloc(n * out, sizeof *y);
            taken = 0;
            watch(true);
            ck_assert_int_eq(lip_predict(p, ws, n, x, y, NULL), LIP_OK);
            lip__alloc_hook = NULL;
            json_set_alloc_funcs(malloc, free);
            size_t most = 2 * lip__round(lip__block_size(m, n) * m->widest) + PANEL;
            ck_assert_msg(ws->size <= threads * most, "%zu floats for %zu samples and %zu threads, may be %zu", ws->size, n, threads,
                          threads * most);
            ck_assert_uint_le(taken, 1); /* and nothing else */
            free(x), free(y);
            lip_workspace_free(ws);
        }
        lip_snapshot_put(p);
        lip_state_free(state);
        lip_model_put(m);
    }
}
END_TEST

/* In a graph as much as is alive at once: three for a block that adds to what it read, however often that happens. */
START_TEST(a_residual_network_needs_three_activations)
{
    char text[9000];
    size_t at = (size_t)snprintf(text, sizeof text, "{\"class_name\":\"Functional\",\"config\":{\"layers\":[{\"class_name\":\"InputLayer\","
                                 "\"config\":{\"batch_input_shape\":[null,8],\"name\":\"s0\"},\"inbound_nodes\":[]}");
    lip_model *m;
    lip_error err = {0};

    for (int i = 1; i <= 12; i++)
        at += (size_t)snprintf(text + at, sizeof text - at,
                               ",{\"class_name\":\"SpectralDense\",\"config\":{\"units\":8,\"activation\":\"relu\",\"name\":\"a%d\"},"
                               "\"inbound_nodes\":[[[\"s%d\",0,0]]]},{\"class_name\":\"SpectralDense\",\"config\":{\"units\":8,\"name\":\"b%d\"},"
                               "\"inbound_nodes\":[[[\"a%d\",0,0]]]},{\"class_name\":\"Add\",\"config\":{\"name\":\"s%d\"},"
                               "\"inbound_nodes\":[[[\"s%d\",0,0],[\"b%d\",0,0]]]}", i, i - 1, i, i, i, i - 1, i);
    snprintf(text + at, sizeof text - at, "],\"input_layers\":[[\"s0\",0,0]],\"output_layers\":[[\"s12\",0,0]]}}");
    ck_assert_msg(lip_model_read(text, strlen(text), false, &m, &err) == LIP_OK, "%s", err.text);
    ck_assert_uint_le(lip__run_area(m, 64), 3 * 64 * m->widest + PANEL);
    lip_model_put(m);
}
END_TEST

/* ---- every allocation fails once --------------------------------------------------------------------------- */

static lip_err made(void *thing)
{
    return thing ? LIP_OK : LIP_ENOMEM;
}

static lip_err read_it(struct rig *r)
{
    lip_model *m = NULL;
    lip_error err = {0};
    lip_err rc = lip_model_read(r->text, strlen(r->text), false, &m, &err);
    ck_assert(rc == LIP_OK || (!m && err.code == rc && err.text[0]));
    lip_model_put(m);
    return rc;
}

static lip_err write_it(struct rig *r)
{
    char *text = lip_model_definition(r->m, false);
    lip_err rc = made(text);

    if (text) /* whole, or not at all */
        ck_assert_msg(!strcmp(text, r->definition), "the definition lacks something");
    lip_free(text);
    return rc;
}

static lip_err write_config(struct rig *r)
{
    char *text = r->layer ? lip_layer_config(lip_model_find_layer(r->m, r->layer)) : NULL;
    lip_err rc = r->layer ? made(text) : LIP_OK;

    if (text)
        ck_assert_ptr_nonnull(strstr(r->definition, text)); /* compact, as in the definition */
    lip_free(text);
    return rc;
}

static lip_err changed_k(struct rig *r)
{
    lip_model *m = NULL;
    const lip_layer *l = r->layer ? lip_model_find_layer(r->m, r->layer) : NULL;
    lip_err rc = l && lip_layer_is_lipschitz(l) ? lip_model_with_k(r->m, "l", 2, &m, NULL) : LIP_OK;

    lip_model_put(m);
    return rc;
}

static lip_err changed_coefficient(struct rig *r)
{
    lip_model *m = NULL;
    lip_err rc = lip_model_with_coefficient(r->m, LIP_SOUND, &m, NULL);

    lip_model_put(m);
    return rc;
}

static lip_err changed_coef(struct rig *r)
{
    lip_model *m = NULL;
    const lip_layer *l = r->layer ? lip_model_find_layer(r->m, r->layer) : NULL;
    lip_err rc = l && lip_layer_has_effective(l) ? lip_model_with_coef(r->m, "l", 0.5, &m, NULL) : LIP_OK;

    lip_model_put(m);
    return rc;
}

static lip_err changed_trainable(struct rig *r)
{
    lip_model *m = NULL;
    lip_err rc = lip_model_with_trainable(r->m, "y", false, &m, NULL);

    lip_model_put(m);
    return rc;
}

static lip_err exported(struct rig *r)
{
    lip_model *vanilla = NULL;
    lip_state *s = NULL;
    lip_err rc = lip_model_vanilla(r->m, &vanilla, NULL);

    if (rc == LIP_OK)
        rc = lip_snapshot_vanilla(r->p, vanilla, &s, NULL);
    lip_state_free(s);
    lip_model_put(vanilla);
    return rc;
}

static lip_err new_state(struct rig *r)
{
    lip_state *s = NULL, *copy = NULL, *moved = NULL;
    lip_err rc = lip_state_new(r->m, 7, &s, NULL);

    if (rc == LIP_OK)
        rc = lip_state_copy(s, &copy, NULL);
    for (int keep = 0; keep < 2 && rc == LIP_OK; keep++) {
        lip_state_free(moved);
        moved = NULL;
        rc = lip_state_move(copy, r->m, keep, &moved, NULL);
    }
    lip_state_free(moved);
    lip_state_free(copy);
    lip_state_free(s);
    return rc;
}

static lip_err published(struct rig *r)
{
    lip_snapshot *p = NULL;
    lip_workspace *ws = NULL;
    float y[N * 2], *out[] = {y};
    lip_err rc = lip_state_publish(r->s, &p, NULL);

    if (rc == LIP_OK)
        rc = made(ws = lip_workspace_new());
    if (rc == LIP_OK)
        rc = lip_predict_graph(p, ws, N, (const float *const *)r->x, out, NULL);
    lip_workspace_free(ws);
    lip_snapshot_put(p);
    return rc;
}

static lip_err saved(struct rig *r)
{
    size_t size = 0;
    void *file = lip_state_save(r->s, &size);
    lip_err rc = made(file);

    if (file) {
        ck_assert_uint_eq(size, r->size);
        ck_assert_mem_eq(file, r->file, size);
    }
    lip_free(file);
    return rc;
}

static lip_err loaded(struct rig *r)
{
    lip_safetensors *file = NULL;
    lip_err rc = lip_safetensors_read(r->file, r->size, &file, NULL);

    if (rc == LIP_OK)
        rc = lip_state_load(r->s, lip_safetensors_tensors(file), lip_safetensors_count(file), false, NULL, NULL, NULL);
    lip_safetensors_free(file);
    return rc;
}

static lip_err tightened(struct rig *r)
{
    lip_state *s = NULL;
    lip_err rc = lip_tighten(r->s, &s, NULL, NULL, NULL);

    lip_state_free(s);
    return rc;
}

static lip_err trained(struct rig *r)
{
    lip_batch batch = batch_of(r);
    lip_step_report report;
    lip_trainer *t = NULL;
    lip_state *s = NULL;
    lip_err rc = lip_trainer_new(r->m, TRAINING, strlen(TRAINING), &t, NULL);

    if (rc == LIP_OK)
        rc = lip_state_copy(r->s, &s, NULL);
    if (rc == LIP_OK && (rc = lip_train_step(t, s, &batch, NULL, &report, NULL)) != LIP_OK)
        ck_assert_mem_eq(s->now, r->before, r->m->arena * sizeof(float));
    lip_state_free(s);
    lip_trainer_free(t);
    return rc;
}

static lip_err condensed(struct rig *r) /* last: it may change the state */
{
    lip_err rc = lip_state_refresh(r->s, NULL, NULL, NULL);

    return rc == LIP_OK ? lip_state_condense(r->s, NULL, NULL, NULL) : rc;
}

static const struct {
    const char *name;
    lip_err (*run)(struct rig *);
    bool writes;
} act[] = {
    {"read", read_it, false},       {"write", write_it, true},      {"config", write_config, true},
    {"with_k", changed_k, false},   {"coefficient", changed_coefficient, false},
    {"coef", changed_coef, false},  {"trainable", changed_trainable, false},
    {"export", exported, false},    {"state", new_state, false},    {"publish", published, false},
    {"save", saved, true},          {"load", loaded, false},        {"tighten", tightened, false},
    {"train", trained, false},      {"condense", condensed, false},
};

START_TEST(each_allocation_may_fail)
{
    struct rig r;
    char text[3000];

    write_model(&sample[_i], text, sizeof text);
    setup(&r, text);
    for (size_t a = 0; a < sizeof act / sizeof *act; a++) {
        left = -1;
        for (long fail = 0; left < 0; fail++) { /* until none fails */
            left = fail;
            watch(act[a].writes);
            lip_err rc = act[a].run(&r);
            lip__alloc_hook = NULL;
            json_set_alloc_funcs(malloc, free);
            /* A table of jansson's that cannot grow goes on as it is, and what is written is whole: see the writers. */
            if (left >= 0 || !act[a].writes || rc != LIP_OK)
                ck_assert_msg(rc == (left >= 0 ? LIP_OK : LIP_ENOMEM), "%s: allocation %ld fails, and it says %s", act[a].name, fail,
                              lip_err_name(rc));
            ck_assert_int_lt(fail, 5000);
            if (rc != LIP_OK)
                ck_assert_mem_eq(r.s->now, r.before, r.m->arena * sizeof(float));
        }
        left = -1;
    }
    teardown(&r);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("memory");
    TCase *t = tcase_create("memory");

    tcase_add_loop_test(t, steady_state_takes_nothing, 0, SAMPLES);
    tcase_add_loop_test(t, a_forward_pass_takes_two_activations_and_a_panel, 0, CHAINS + SAMPLES);
    tcase_add_test(t, a_residual_network_needs_three_activations);
    tcase_add_loop_test(t, each_allocation_may_fail, 0, SAMPLES);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
