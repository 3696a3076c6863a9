/* knobs.c: one table says what a ModelConfig may hold. Source: Triton Inference Server, "Model Configuration". */
#include "knobs.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { INTEGER, INTEGERS, FLAG, ACTION, OBJECT, PARAMETERS, ANYTHING };

struct member {
    const char *name;
    enum kind kind;
    long least, most;            /* of integers */
    const struct member *inside; /* of an object; ends with a NULL name */
};

#define MICROSECONDS 0, 86400000000
#define MOST_BUDGET_US 60000000

static const struct member queue_policy[] = {{"timeout_action", ACTION, 0, 0, NULL},
                                             {"default_timeout_microseconds", INTEGER, MICROSECONDS, NULL},
                                             {"allow_timeout_override", FLAG, 0, 0, NULL},
                                             {"max_queue_size", INTEGER, 0, 1000000, NULL},
                                             {NULL, FLAG, 0, 0, NULL}};
static const struct member batching[] = {{"preferred_batch_size", INTEGERS, 1, KNOBS_MAX_BATCH, NULL},
                                         {"max_queue_delay_microseconds", INTEGER, 0, 10000000, NULL},
                                         {"preserve_ordering", FLAG, 0, 0, NULL},
                                         {"priority_levels", INTEGER, 0, BATCH_PRIORITIES, NULL},
                                         {"default_priority_level", INTEGER, 0, BATCH_PRIORITIES, NULL},
                                         {"default_queue_policy", OBJECT, 0, 0, queue_policy},
                                         {NULL, FLAG, 0, 0, NULL}};
static const struct member cache[] = {{"enable", FLAG, 0, 0, NULL}, {NULL, FLAG, 0, 0, NULL}};
static const struct member top[] = {{"max_batch_size", INTEGER, 1, KNOBS_MAX_BATCH, NULL},
                                    {"dynamic_batching", OBJECT, 0, 0, batching},
                                    {"response_cache", OBJECT, 0, 0, cache},
                                    {"parameters", PARAMETERS, 0, 0, NULL},
                                    {"version_policy", ANYTHING, 0, 0, NULL},
                                    {"instance_group", ANYTHING, 0, 0, NULL},
                                    {"model_warmup", ANYTHING, 0, 0, NULL},
                                    {NULL, FLAG, 0, 0, NULL}};

/* What the model itself says: given back, never told. */
static const char *const decided[] = {"name", "platform", "backend", "input", "output", NULL};

static bool fault_at(struct knobs_fault *f, int status, const char *code, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static bool fault_at(struct knobs_fault *f, int status, const char *code, const char *pointer, const char *format, ...)
{
    va_list args;

    f->status = status;
    f->code = code;
    snprintf(f->pointer, sizeof f->pointer, "%s", pointer);
    va_start(args, format);
    vsnprintf(f->text, sizeof f->text, format, args);
    va_end(args);
    return false;
}

/* An integer, or one as a string. */
static bool read_integer(const json_t *v, long long *n)
{
    const char *text = json_string_value(v);
    char *end;

    if (json_is_integer(v)) {
        *n = json_integer_value(v);
        return true;
    }
    errno = 0;
    *n = text ? strtoll(text, &end, 10) : 0;
    return text && *text && !*end && !errno && strspn(text, "-0123456789") == strlen(text);
}

static json_t *integer(const struct member *m, const json_t *v, const char *pointer, struct knobs_fault *f)
{
    long long n;

    if (read_integer(v, &n) && n >= m->least && n <= m->most)
        return json_integer(n);
    fault_at(f, 400, "bad_parameter", pointer, "%s needs an integer from %ld to %ld", m->name, m->least, m->most);
    return NULL;
}

static json_t *read_object(const struct member *members, const json_t *object, const char *pointer, struct knobs_fault *f);

/* {"k":{"string_value":"v"}} */
static json_t *read_parameters(const json_t *v, const char *pointer, struct knobs_fault *f)
{
    static const char *const flags[] = {"cast_inputs", "deterministic", "require_if_match"};
    const char *key;
    json_t *one;

    if (!json_is_object(v)) {
        fault_at(f, 400, "bad_parameter", pointer, "parameters needs an object of {\"string_value\":\"…\"}");
        return NULL;
    }
    json_object_foreach((json_t *)v, key, one) {
        const char *text = json_string_value(json_object_get(one, "string_value"));
        char at[200];
        long long n;

        snprintf(at, sizeof at, "%.100s/%.80s", pointer, key);
        if (!text || json_object_size(one) != 1) {
            fault_at(f, 400, "bad_parameter", at, "parameter \"%.80s\" needs to be {\"string_value\":\"…\"}", key);
            return NULL;
        }
        for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
            if (!strcmp(key, flags[i]) && strcmp(text, "true") && strcmp(text, "false")) {
                fault_at(f, 400, "bad_parameter", at, "parameter \"%s\" is \"%.40s\", needs \"true\" or \"false\"", key, text);
                return NULL;
            }
        if (!strcmp(key, "latency_budget_us") &&
            (!read_integer(json_object_get(one, "string_value"), &n) || n < 1 || n > MOST_BUDGET_US)) {
            fault_at(f, 400, "bad_parameter", at, "parameter \"%s\" is \"%.40s\", needs an integer from 1 to %d", key, text,
                     MOST_BUDGET_US);
            return NULL;
        }
    }
    return json_deep_copy(v);
}

/* One member, checked and made canonical; NULL: fault. */
static json_t *read_member(const struct member *m, const json_t *v, const char *pointer, struct knobs_fault *f)
{
    const char *word = json_string_value(v);
    json_t *list, *one, *item;
    char at[200];
    size_t i;

    switch (m->kind) {
    case INTEGER:
        return integer(m, v, pointer, f);
    case INTEGERS:
        if (!json_is_array(v) || json_array_size(v) > BATCH_PREFERRED) {
            fault_at(f, 400, "bad_parameter", pointer, "%s needs a list of at most %d integers", m->name, BATCH_PREFERRED);
            return NULL;
        }
        list = json_array();
        json_array_foreach((json_t *)v, i, item) {
            snprintf(at, sizeof at, "%.150s/%zu", pointer, i);
            if (!(one = integer(m, item, at, f)) || json_array_append_new(list, one)) {
                json_decref(list);
                return NULL;
            }
        }
        return list;
    case FLAG:
        if (json_is_boolean(v))
            return json_boolean(json_is_true(v));
        fault_at(f, 400, "bad_parameter", pointer, "%s needs true or false", m->name);
        return NULL;
    case ACTION:
        if ((word && !strcmp(word, "REJECT")) || (json_is_integer(v) && json_integer_value(v) == 0))
            return json_string("REJECT");
        if ((word && !strcmp(word, "DELAY")) || (json_is_integer(v) && json_integer_value(v) == 1))
            return json_string("DELAY");
        fault_at(f, 400, "bad_parameter", pointer, "%s needs \"REJECT\" or \"DELAY\"", m->name);
        return NULL;
    case OBJECT:
        return read_object(m->inside, v, pointer, f);
    case PARAMETERS:
        return read_parameters(v, pointer, f);
    case ANYTHING:
        break;
    }
    return json_deep_copy(v);
}

static bool is_decided(const struct member *members, const char *key)
{
    for (size_t i = 0; members == top && decided[i]; i++)
        if (!strcmp(decided[i], key))
            return true;
    return false;
}

static json_t *read_object(const struct member *members, const json_t *object, const char *pointer, struct knobs_fault *f)
{
    json_t *made = json_object(), *v, *one;
    const char *key;

    if (!json_is_object(object)) {
        fault_at(f, 400, "bad_parameter", pointer, "an object is needed here");
        json_decref(made);
        return NULL;
    }
    json_object_foreach((json_t *)object, key, v) {
        const struct member *m = members;
        char at[200];

        while (m->name && strcmp(m->name, key))
            m++;
        snprintf(at, sizeof at, "%.100s/%.80s", pointer, key);
        if (is_decided(members, key) || (m->name && json_is_null(v)))
            continue;
        if (!m->name)
            fault_at(f, 400, "unknown_member", at, "unknown member \"%.80s\" of a model configuration", key);
        if (!m->name || !(one = read_member(m, v, at, f)) || json_object_set_new(made, key, one)) {
            json_decref(made);
            return NULL;
        }
    }
    return made;
}

/* ---- what is acted on ------------------------------------------------------------------------------------------ */

static const char *parameter(const json_t *told, const char *name)
{
    return json_string_value(json_object_get(json_object_get(json_object_get(told, "parameters"), name), "string_value"));
}

static bool flag(const json_t *told, const char *name)
{
    const char *text = parameter(told, name);

    return text && !strcmp(text, "true");
}

static uint64_t number(const json_t *object, const char *name, uint64_t usual)
{
    const json_t *v = json_object_get(object, name);

    return v ? (uint64_t)json_integer_value(v) : usual;
}

static int ascending(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;

    return (x > y) - (x < y);
}

/* Of a configuration that was checked. */
static void read_batching(const json_t *told, struct batch_config *c)
{
    const json_t *dynamic = json_object_get(told, "dynamic_batching"), *policy = json_object_get(dynamic, "default_queue_policy");
    const json_t *list = json_object_get(dynamic, "preferred_batch_size"), *override = json_object_get(policy, "allow_timeout_override");
    const char *action = json_string_value(json_object_get(policy, "timeout_action")), *budget = parameter(told, "latency_budget_us");

    batch_config_init(c);
    c->dynamic = dynamic != NULL;
    c->n_preferred = json_array_size(list);
    for (size_t i = 0; i < c->n_preferred; i++)
        c->preferred[i] = (size_t)json_integer_value(json_array_get(list, i));
    qsort(c->preferred, c->n_preferred, sizeof *c->preferred, ascending);
    c->max_queue_delay_us = number(dynamic, "max_queue_delay_microseconds", 0);
    c->preserve_ordering = json_is_true(json_object_get(dynamic, "preserve_ordering"));
    c->priority_levels = number(dynamic, "priority_levels", 0);
    c->default_priority = number(dynamic, "default_priority_level", 0);
    c->delay_expired = action && !strcmp(action, "DELAY");
    c->default_timeout_us = number(policy, "default_timeout_microseconds", 0);
    c->allow_timeout_override = !override || json_is_true(override);
    c->max_queue_size = number(policy, "max_queue_size", c->max_queue_size);
    c->deterministic = flag(told, "deterministic");
    c->latency_budget_us = budget ? strtoull(budget, NULL, 10) : c->latency_budget_us;
}

/* What no member says alone. */
static bool agrees(const struct knobs *k, struct knobs_fault *f)
{
    const struct batch_config *c = &k->batch;

    if (json_is_true(json_object_get(json_object_get(k->told, "response_cache"), "enable")))
        return fault_at(f, 501, "unsupported", "/response_cache/enable", "a response cache is not built in");
    if (c->priority_levels ? c->default_priority < 1 || c->default_priority > c->priority_levels : c->default_priority > 0)
        return fault_at(f, 400, "bad_parameter", "/dynamic_batching/default_priority_level",
                        "default_priority_level needs to be one of the priority_levels");
    /* As Triton has it: who goes before others, or behind them, cannot be answered in order. */
    if (c->preserve_ordering && c->priority_levels > 1)
        return fault_at(f, 400, "bad_parameter", "/dynamic_batching/priority_levels",
                        "only one of the priority_levels is allowed when preserve_ordering is true");
    if (c->preserve_ordering && c->delay_expired)
        return fault_at(f, 400, "bad_parameter", "/dynamic_batching/default_queue_policy/timeout_action",
                        "timeout_action cannot be \"DELAY\" when preserve_ordering is true");
    return true;
}

struct knobs *knobs_make(const json_t *object, struct knobs_fault *f)
{
    struct knobs *k = calloc(1, sizeof *k);
    const json_t *size;

    *f = (struct knobs_fault){0};
    if (!k) {
        fault_at(f, 503, "out_of_memory", "", "out of memory for a model configuration");
        return NULL;
    }
    atomic_init(&k->refs, 1);
    k->told = object ? read_object(top, object, "", f) : json_object();
    if (k->told) {
        size = json_object_get(k->told, "max_batch_size");
        read_batching(k->told, &k->batch);
        k->max_batch_size = size ? (long)json_integer_value(size) : KNOBS_MAX_BATCH;
        k->cast_inputs = flag(k->told, "cast_inputs");
        k->require_if_match = flag(k->told, "require_if_match");
        if (agrees(k, f))
            return k;
    } else if (!f->status) {
        fault_at(f, 503, "out_of_memory", "", "out of memory for a model configuration");
    }
    knobs_put(k);
    return NULL;
}

struct knobs *knobs_get(struct knobs *k)
{
    atomic_fetch_add(&k->refs, 1);
    return k;
}

void knobs_put(struct knobs *k)
{
    if (!k || atomic_fetch_sub(&k->refs, 1) != 1)
        return;
    json_decref(k->told);
    free(k);
}

void knobs_warnings(const struct knobs *k, json_t *list)
{
    for (const struct member *m = top; m->name; m++)
        if (m->kind == ANYTHING && json_object_get(k->told, m->name))
            json_array_append_new(list, json_pack("{s:s, s:o}", "code", "config", "text",
                                                  json_sprintf("%s of the model configuration is kept, but not acted on", m->name)));
}
