/* callbacks.c: the callbacks of deel-lip and Keras that this library acts on: their options, and what a trainer does
 * with them at the end of an epoch. What they do in a step is in train.c.
 *
 * Source: deel-lip's callbacks.py, semantics.md 15; Keras 2.15, callbacks.py.
 */
#include "model/callbacks.h"

#include <math.h>
#include <string.h>

#include "model/train.h"
#include "tensor/gemm.h"

/* ---- options -------------------------------------------------------------------------------------------- */

#define AT(member) LIP__FIELD(lip__callback, member)
#define FLAG(name_, default_) {.name = #name_, .type = LIP__BOOL, .offset = AT(name_), .def = default_}
#define WORD(name_, default_) {.name = #name_, .type = LIP__STRING, .offset = AT(name_), .choices = default_}
#define NUMBERS(name_) {.name = #name_, .type = LIP__FLOATS, .offset = AT(name_), .min = -INFINITY, .max = 1e30}
#define COUNT(name_, default_, min_)                                                                                 \
    {.name = #name_, .type = LIP__INT, .offset = AT(name_), .def = default_, .min = min_, .max = 1e15}
#define PARAM {.name = "param_name", .type = LIP__STRING, .offset = AT(param_name), .def = NAN}
#define MODE {.name = "mode", .type = LIP__CHOICE, .offset = AT(mode), .choices = "auto|min|max"}
#define MAYBE(name_, member)                                                                                         \
    {.name = name_,                                                                                                  \
     .type = LIP__FLOAT,                                                                                             \
     .offset = AT(member),                                                                                           \
     .def = NAN,                                                                                                     \
     .min = -1e300,                                                                                                  \
     .max = 1e300,                                                                                                   \
     .flags = LIP__NONE_OK}
#define END {.name = NULL}

static const struct lip__field scheduler_fields[] = {PARAM, NUMBERS(fp), NUMBERS(xp), COUNT(step, 0, 0), END};
static const struct lip__field log_fields[] = {PARAM, COUNT(rate, 1, 1), END};
static const struct lip__field condense_fields[] = {FLAG(on_epoch, 1), FLAG(on_batch, 0), END};
static const struct lip__field monitor_fields[] = {
    {.name = "monitored_layers", .type = LIP__STRINGS, .offset = AT(monitored_layers)},
    {.name = "logdir", .type = LIP__STRING, .offset = AT(logdir), .flags = LIP__NONE_OK},
    {.name = "target", .type = LIP__CHOICE, .offset = AT(target), .choices = "kernel|wbar"},
    {.name = "what", .type = LIP__CHOICE, .offset = AT(what), .choices = "max|all"},
    FLAG(on_epoch, 1),
    FLAG(on_batch, 0),
    END};
static const struct lip__field stopping_fields[] = {
    WORD(monitor, "val_loss"),
    {.name = "min_delta", .type = LIP__FLOAT, .offset = AT(min_delta), .min = -1e300, .max = 1e300},
    COUNT(patience, 0, 0),
    COUNT(verbose, 0, 0),
    MODE,
    MAYBE("baseline", baseline),
    FLAG(restore_best_weights, 0),
    COUNT(start_from_epoch, 0, 0),
    END};
static const struct lip__field checkpoint_fields[] = {
    {.name = "filepath", .type = LIP__STRING, .offset = AT(filepath), .flags = LIP__NONE_OK},
    WORD(monitor, "val_loss"),
    COUNT(verbose, 0, 0),
    FLAG(save_best_only, 0),
    FLAG(save_weights_only, 0),
    MODE,
    {.name = "save_freq", .type = LIP__FIXED, .choices = "\"epoch\""},
    {.name = "options", .type = LIP__NULL},
    MAYBE("initial_value_threshold", threshold),
    END};

#define CLASS(variable, class_name, module_, package_, fields_)                                                      \
    static const struct lip__class variable = {.name = class_name,                                                   \
                                               .module = module_,                                                    \
                                               .package = package_,                                                  \
                                               .size = sizeof(struct lip__callback),                                 \
                                               .fields = fields_}

CLASS(scheduler, "LossParamScheduler", "deel.lip.callbacks", "deel-lip", scheduler_fields);
CLASS(param_log, "LossParamLog", "deel.lip.callbacks", "deel-lip", log_fields);
CLASS(condense, "CondenseCallback", "deel.lip.callbacks", "deel-lip", condense_fields);
CLASS(monitor, "MonitorCallback", "deel.lip.callbacks", "deel-lip", monitor_fields);
CLASS(stopping, "EarlyStopping", "keras.callbacks", NULL, stopping_fields);
CLASS(checkpoint, "ModelCheckpoint", "keras.callbacks", NULL, checkpoint_fields);

const struct lip__class *const lip__callbacks[] = {
    [LIP__PARAM_SCHEDULER] = &scheduler, [LIP__PARAM_LOG] = &param_log,     [LIP__CONDENSE] = &condense,
    [LIP__MONITOR] = &monitor,           [LIP__EARLY_STOPPING] = &stopping, [LIP__CHECKPOINT] = &checkpoint,
    [LIP__CHECKPOINT + 1] = NULL};

enum lip__callback_kind lip__callback_kind(const struct lip__object *callback)
{
    int kind = 0;

    while (lip__callbacks[kind] != callback->cls)
        kind++;
    return (enum lip__callback_kind)kind;
}

double lip__interpolate(const struct lip__callback *c, double x)
{
    const double *xp = c->xp.v, *fp = c->fp.v;
    size_t i = 0;

    while (i < c->xp.n && xp[i] <= x)
        i++;
    if (i == 0 || i == c->xp.n)
        return fp[i ? i - 1 : 0];
    return fp[i - 1] + (fp[i] - fp[i - 1]) * (x - xp[i - 1]) / (xp[i] - xp[i - 1]);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n >= m && !strcmp(text + n - m, end);
}

static const char *monitored(const struct lip__callback *c)
{
    return c->monitor ? c->monitor : "val_loss";
}

bool lip__rises(const struct lip__callback *c)
{
    const char *name = monitored(c);

    if (!strcmp(c->mode, "auto"))
        return lip__callback_kind(&c->base) == LIP__CHECKPOINT
                   ? strstr(name, "acc") || !strncmp(name, "fmeasure", 8)
                   : ends_with(name, "acc") || ends_with(name, "accuracy") || ends_with(name, "auc");
    return !strcmp(c->mode, "max");
}

/* ---- against the losses and the model ---------------------------------------------------------------------- */

/* A number that a loss of this class has; NULL: none. */
static const struct lip__field *parameter(const struct lip__class *loss, const char *name)
{
    for (const struct lip__field *f = loss->fields; f->name; f++)
        if (f->type == LIP__FLOAT && !strcmp(f->name, name))
            return f;
    return NULL;
}

static lip_err check_parameter(const lip_trainer *t, const struct lip__callback *c, const char *pointer, lip_error *err)
{
    bool found = false;

    for (size_t h = 0; h < t->model->n_outputs; h++) {
        const struct lip__object *loss = t->judge.head[h].loss;
        const struct lip__field *f = loss ? parameter(loss->cls, c->param_name) : NULL;
        found |= f != NULL;
        for (size_t i = 0; f && i < c->fp.n; i++)
            if (!(c->fp.v[i] >= f->min && c->fp.v[i] <= f->max) || !isfinite(c->fp.v[i]))
                return lip__fail_at(err, LIP_EDEFINITION, pointer,
                                    "%.60s: fp has %g; %.60s of %.60s needs finite numbers from %g on",
                                    c->base.cls->name, c->fp.v[i], f->name, loss->cls->name, f->min);
    }
    if (found)
        return LIP_OK;
    return lip__fail_at(err, LIP_EOPTION, pointer, "%.60s: no loss has a number \"%.60s\"", c->base.cls->name,
                        c->param_name);
}

static lip_err check_points(const struct lip__callback *c, const char *pointer, lip_error *err)
{
    if (c->xp.n != c->fp.n)
        return lip__fail_at(err, LIP_EDEFINITION, pointer,
                            "LossParamScheduler: xp has %zu numbers and fp %zu, need as many", c->xp.n, c->fp.n);
    for (size_t i = 1; i < c->xp.n; i++)
        if (!(c->xp.v[i] > c->xp.v[i - 1]))
            return lip__fail_at(err, LIP_EDEFINITION, pointer,
                                "LossParamScheduler: xp[%zu] = %g does not rise above %g", i, c->xp.v[i],
                                c->xp.v[i - 1]);
    return LIP_OK;
}

/* The variable that a MonitorCallback looks at; n_variables: the layer has none of that name. */
static size_t target(const lip_model *m, const struct lip__callback *c, const char *layer)
{
    char name[400];

    snprintf(name, sizeof name, "%.300s/%s", layer, c->target);
    return lip_model_find_variable(m, name);
}

static lip_err check_layers(const lip_model *m, const struct lip__callback *c, const char *pointer, lip_error *err)
{
    for (size_t i = 0; i < c->monitored_layers.n; i++)
        if (target(m, c, c->monitored_layers.v[i]) == m->n_variables)
            return lip__fail_at(err, LIP_EOPTION, pointer, "MonitorCallback: the model has no variable \"%.100s/%s\"",
                                c->monitored_layers.v[i], c->target);
    return LIP_OK;
}

lip_err lip__callbacks_check(const lip_trainer *t, lip_error *err)
{
    lip_err rc = LIP_OK;

    for (size_t i = 0; rc == LIP_OK && i < t->n_callbacks; i++) {
        const struct lip__callback *c = (const struct lip__callback *)t->callback[i];
        char pointer[64];

        snprintf(pointer, sizeof pointer, "/callbacks/%zu/config", i);
        switch (lip__callback_kind(t->callback[i])) {
        case LIP__PARAM_SCHEDULER:
            rc = check_points(c, pointer, err);
            if (rc == LIP_OK)
                rc = check_parameter(t, c, pointer, err);
            break;
        case LIP__PARAM_LOG:
            rc = check_parameter(t, c, pointer, err);
            break;
        case LIP__MONITOR:
            rc = check_layers(t->model, c, pointer, err);
            break;
        default:
            break;
        }
    }
    return rc;
}

bool lip__callbacks_remember(const lip_trainer *t)
{
    for (size_t i = 0; i < t->n_callbacks; i++) {
        enum lip__callback_kind kind = lip__callback_kind(t->callback[i]);
        if (kind == LIP__PARAM_SCHEDULER || kind == LIP__EARLY_STOPPING || kind == LIP__CHECKPOINT)
            return true;
    }
    return false;
}

/* ---- what they remember, and what they set in a step ---------------------------------------------------------- */

/* The best figure is yet to come. */
static void forget_best(const struct lip__callback *c, double *memory)
{
    enum lip__callback_kind kind = lip__callback_kind(&c->base);

    if (kind != LIP__EARLY_STOPPING && kind != LIP__CHECKPOINT)
        return;
    memory[0] = kind == LIP__CHECKPOINT && !isnan(c->threshold) ? c->threshold : lip__rises(c) ? -INFINITY : INFINITY;
    memory[1] = memory[2] = 0;
}

void lip__callbacks_begin(lip_trainer *t)
{
    for (size_t i = 0; i < t->n_callbacks; i++) {
        const struct lip__callback *c = (const struct lip__callback *)t->callback[i];
        double *memory = t->remembered[i];

        memory[0] = lip__callback_kind(t->callback[i]) == LIP__PARAM_SCHEDULER ? (double)c->step : 0;
        memory[1] = memory[2] = 0;
        forget_best(c, memory);
    }
}

void lip_trainer_begin(lip_trainer *t)
{
    for (size_t i = 0; i < t->n_callbacks; i++)
        forget_best((const struct lip__callback *)t->callback[i], t->remembered[i]);
    lip__trainer_remember(t);
}

bool lip_trainer_averages(const lip_trainer *t)
{
    return ((const struct lip__optimizer *)t->optimizer)->use_ema;
}

void lip__callbacks_set(const lip_trainer *t, double ahead, struct lip__loss *now)
{
    for (size_t i = 0; i < t->n_callbacks; i++) {
        const struct lip__callback *c = (const struct lip__callback *)t->callback[i];

        if (lip__callback_kind(t->callback[i]) != LIP__PARAM_SCHEDULER || t->remembered[i][0] + ahead < (double)c->step)
            continue;
        for (size_t h = 0; h < t->model->n_outputs; h++) {
            const struct lip__object *loss = t->judge.head[h].loss;
            const struct lip__field *f = loss ? parameter(loss->cls, c->param_name) : NULL;
            if (f)
                *(double *)(void *)((char *)&now[h] + f->offset) =
                    (float)lip__interpolate(c, t->remembered[i][0] + ahead);
        }
    }
}

void lip__callbacks_stepped(lip_trainer *t)
{
    for (size_t i = 0; i < t->n_callbacks; i++)
        if (lip__callback_kind(t->callback[i]) == LIP__PARAM_SCHEDULER)
            t->remembered[i][0] += 1;
}

bool lip__callbacks_condense(const lip_trainer *t)
{
    for (size_t i = 0; i < t->n_callbacks; i++)
        if (lip__callback_kind(t->callback[i]) == LIP__CONDENSE &&
            ((const struct lip__callback *)t->callback[i])->on_batch)
            return true;
    return false;
}

/* ---- the end of an epoch ----------------------------------------------------------------------------------- */

static const lip_metric *find(const lip_metric *metrics, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(metrics[i].name, name))
            return &metrics[i];
    return NULL;
}

/* Keras: a - delta better than b. */
static bool better(const struct lip__callback *c, double a, double b)
{
    double delta = fabs(c->min_delta);

    return lip__rises(c) ? a - delta > b : a + delta < b;
}

static void stop_early(const struct lip__callback *c, double *memory, uint64_t epoch, double now, lip_epoch *told)
{
    bool first = memory[2] == 0; /* no weights are kept yet */

    if (epoch < (uint64_t)c->start_from_epoch)
        return;
    memory[1] += 1; /* epochs without progress */
    told->keep |= c->restore_best_weights && first;
    memory[2] = 1;
    if (better(c, now, memory[0])) {
        memory[0] = now;
        told->keep |= c->restore_best_weights;
        if (isnan(c->baseline) || better(c, now, c->baseline))
            memory[1] = 0;
        return;
    }
    if (memory[1] >= (double)c->patience && epoch > 0) {
        told->stop = true;
        told->restore |= c->restore_best_weights;
    }
}

static void save(const struct lip__callback *c, double *memory, double now, lip_epoch *told)
{
    if (!c->save_best_only) {
        told->checkpoint = true;
    } else if (lip__rises(c) ? now > memory[0] : now < memory[0]) {
        memory[0] = now;
        told->checkpoint = true;
    }
}

static void log_parameter(const lip_trainer *t, const struct lip__callback *c, lip_epoch *told)
{
    for (size_t h = 0; h < t->model->n_outputs && told->n_logged < LIP_MAX_LOGGED; h++) {
        const struct lip__object *loss = t->judge.head[h].loss;
        const struct lip__field *f = loss ? parameter(loss->cls, c->param_name) : NULL;
        if (f)
            told->logged[told->n_logged++] =
                (lip_logged){loss->cls->name, f->name, *(const double *)(const void *)((const char *)loss + f->offset)};
    }
}

lip_err lip_trainer_epoch(lip_trainer *t, lip_state *s, uint64_t epoch, const lip_metric *metrics, size_t n,
                          lip_epoch *told, lip_error *err)
{
    lip_err rc;

    *told = (lip_epoch){0};
    for (size_t i = 0; i < t->n_callbacks; i++) {
        const struct lip__callback *c = (const struct lip__callback *)t->callback[i];
        enum lip__callback_kind kind = lip__callback_kind(t->callback[i]);
        const lip_metric *now =
            kind == LIP__EARLY_STOPPING || kind == LIP__CHECKPOINT ? find(metrics, n, monitored(c)) : NULL;

        if (kind == LIP__CONDENSE && c->on_epoch) {
            if ((rc = lip_state_condense(s, NULL, NULL, err)) != LIP_OK)
                return rc;
            told->condensed = true;
        } else if (kind == LIP__PARAM_LOG && epoch % (uint64_t)c->rate == 0) {
            log_parameter(t, c, told);
        } else if (kind == LIP__EARLY_STOPPING && now) {
            stop_early(c, t->remembered[i], epoch, now->value, told);
        } else if (kind == LIP__CHECKPOINT && (now || !c->save_best_only)) {
            save(c, t->remembered[i], now ? now->value : 0, told);
        } else if (kind == LIP__EARLY_STOPPING || kind == LIP__CHECKPOINT) {
            told->missing = monitored(c);
        }
    }
    lip__trainer_remember(t);
    return LIP_OK;
}

lip_err lip_trainer_finish(lip_trainer *t, lip_state *s, lip_error *err)
{
    const struct lip__optimizer *o = (const struct lip__optimizer *)t->optimizer;
    const lip_model *m = t->model;
    const float *average = t->slot_now + (t->slots - 1) * m->trained;
    lip_named *tensors;
    size_t n = 0;
    lip_err rc;

    if (!o->use_ema || t->steps == 0)
        return LIP_OK;
    if (!(tensors = lip__alloc(m->n_variables, sizeof *tensors)))
        return lip__nomem(err, m->n_variables * sizeof *tensors);
    for (size_t v = 0; v < m->n_variables; v++)
        if (lip__trains(m->variable[v].role) && m->variable[v].trainable)
            tensors[n++] = (lip_named){m->variable[v].name, m->variable[v].shape, average + m->offset[v]};
    rc = lip_state_load(s, tensors, n, true, NULL, NULL, err);
    lip__free(tensors);
    return rc;
}

/* ---- MonitorCallback ------------------------------------------------------------------------------------------ */

/* Both flags: deel-lip switches the epochs off. */
static bool due(const struct lip__callback *c, bool epoch)
{
    return epoch ? c->on_epoch && !c->on_batch : c->on_batch;
}

static lip_err sigmas_of(const lip_state *s, const struct lip__callback *c, const char *layer, lip_sigmas *out,
                         lip_error *err)
{
    const lip_model *m = s->model;
    size_t v = target(m, c, layer), count = lip_shape_count(&m->variable[v].shape), columns, rows, few;
    const lip_shape *shape = &m->variable[v].shape;
    char name[400];
    double *copy;
    int info;

    *out = (lip_sigmas){.layer = layer, .target = c->target};
    snprintf(name, sizeof name, "%.300s/sigma", layer);
    if (!strcmp(c->target, "kernel") && !strcmp(c->what, "max") && lip_model_find_variable(m, name) < m->n_variables) {
        if (!(out->sigma = lip__alloc(1, sizeof *out->sigma)))
            return lip__nomem(err, sizeof *out->sigma);
        out->sigma[out->n++] = *lip_state_data(s, lip_model_find_variable(m, name));
        return LIP_OK;
    }
    columns = shape->rank ? shape->dim[shape->rank - 1] : 1;
    rows = count / columns;
    few = rows < columns ? rows : columns;
    copy = lip__alloc(count, sizeof *copy);
    out->sigma = lip__alloc(few, sizeof *out->sigma);
    if (!copy || !out->sigma) {
        lip__free(copy);
        return lip__nomem(err, count * sizeof *copy);
    }
    for (size_t i = 0; i < count; i++)
        copy[i] = lip_state_data(s, v)[i];
    info = lip__singular_values(rows, columns, copy, out->sigma);
    lip__free(copy);
    if (info)
        return info == -1 ? lip__nomem(err, few)
                          : lip__fail(err, LIP_ENUMERIC, "layer \"%.100s\": no singular values were found", layer);
    out->n = strcmp(c->what, "max") ? few : 1;
    return LIP_OK;
}

lip_err lip_trainer_sigmas(const lip_trainer *t, const lip_state *s, bool epoch, lip_sigmas **list, size_t *n,
                           lip_error *err)
{
    size_t most = 0;
    lip_err rc = LIP_OK;

    *list = NULL;
    *n = 0;
    for (size_t i = 0; i < t->n_callbacks; i++)
        if (lip__callback_kind(t->callback[i]) == LIP__MONITOR &&
            due((const struct lip__callback *)t->callback[i], epoch))
            most += ((const struct lip__callback *)t->callback[i])->monitored_layers.n;
    if (most == 0)
        return LIP_OK;
    if (!(*list = lip__alloc(most, sizeof **list)))
        return lip__nomem(err, most * sizeof **list);
    for (size_t i = 0; i < t->n_callbacks; i++) {
        const struct lip__callback *c = (const struct lip__callback *)t->callback[i];
        if (lip__callback_kind(t->callback[i]) != LIP__MONITOR || !due(c, epoch))
            continue;
        for (size_t k = 0; rc == LIP_OK && k < c->monitored_layers.n; k++)
            rc = sigmas_of(s, c, c->monitored_layers.v[k], &(*list)[(*n)++], err);
    }
    if (rc != LIP_OK) {
        lip_sigmas_free(*list, *n);
        *list = NULL;
        *n = 0;
    }
    return rc;
}

void lip_sigmas_free(lip_sigmas *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        lip__free(list[i].sigma);
    lip__free(list);
}
