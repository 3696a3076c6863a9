#include "common.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics.h"
#include "settings.h"
#include "sha256.h"
#include "store_private.h"
#include "text.h"

void reply_failure(struct reply *rp, const struct failure *f)
{
    if (!f->status) /* the reply was filled elsewhere */
        return;
    if (f->status == 503 && strcmp(f->code, "unavailable") != 0)
        reply_header(rp, "Retry-After", "1");
    reply_error(rp, f->status, f->code, NULL, "%s", f->text);
}

/* ---- models ----------------------------------------------------------------------------------------------- */

struct model *find_head(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct model *head = store_get(ctx->store, rq->param[0]);

    if (!head)
        reply_error(rp, 404, "unknown_model", NULL, "Request for unknown model: '%s' is not found", rq->param[0]);
    return head;
}

struct model *find_model(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct model *head = find_head(ctx, rq, rp), *model = head;
    const char *label = path_param(rq, "{label}"), *number = path_param(rq, "{v}");
    json_t *labels = head && label ? model_labels(head) : NULL;

    if (label)
        number = json_string_value(json_object_get(labels, label));
    if (head && (number || label)) {
        if (!number || !(model = model_version(head, number))) {
            reply_error(rp, 404, "unknown_version", NULL, "Request for unknown model: '%s' version %s is not found",
                        rq->param[0], rq->param[1]);
            model = NULL;
        }
        store_put(head);
    }
    json_decref(labels);
    return model;
}

bool is_ours(const struct model *model, struct reply *rp)
{
    if (!model->served_only)
        return true;
    reply_error(rp, 403, "read_only", NULL, "model '%s' is served from files that are never written", model->name);
    return false;
}

struct model *find_unfrozen(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct model *model = find_model(ctx, rq, rp);

    if (model && !is_ours(model, rp)) {
        store_put(model);
        return NULL;
    }
    if (!model || !model->frozen)
        return model;
    reply_error(rp, 409, "version_frozen", NULL, "version %s of model '%s' is frozen and does not change", model->facts.version,
                model->name);
    store_put(model);
    return NULL;
}

const char *path_param(const struct request *rq, const char *name)
{
    const char *at = strstr(rq->route->template, name);
    size_t i = 0;

    for (const char *p = rq->route->template; at && p < at; p++)
        i += *p == '{';
    return at ? rq->param[i] : NULL;
}

const char *layer_of_path(const struct request *rq, char name[LAYER_NAME_MAX])
{
    const char *outer = path_param(rq, "{l}"), *inner = path_param(rq, "{inner}");

    snprintf(name, LAYER_NAME_MAX, "%s%s%s", outer, inner ? "/" : "", inner ? inner : "");
    return name;
}

bool find_layer(const struct request *rq, const char *model, const lip_model *m, size_t *layer, struct reply *rp)
{
    char buffer[LAYER_NAME_MAX];
    const char *name = layer_of_path(rq, buffer);

    for (*layer = 0; *layer < lip_model_layers(m); ++*layer)
        if (!strcmp(lip_layer_name(lip_model_layer(m, *layer)), name))
            return true;
    reply_error(rp, 404, "unknown_layer", NULL, "model '%s' has no layer \"%.200s\"", model, name);
    return false;
}

/* Says why a model that is not ready cannot be used. */
static bool ready(struct model *model, struct reply *rp)
{
    char why[512];

    switch (model_stage(model, why, sizeof why)) {
    case MODEL_READY:
        return true;
    case MODEL_LOADING:
        reply_header(rp, "Retry-After", "1");
        reply_error(rp, 503, "loading", NULL, "Request for unknown model: '%s' version %s is not at ready state: loading",
                    model->name, model->facts.version);
        return false;
    case MODEL_UNLOADED:
        if (model->frozen)
            reply_error(rp, 503, "unavailable", NULL, "Request for unknown model: '%s' version %s is not at ready state",
                        model->name, model->facts.version);
        else
            reply_error(rp, 404, "unknown_model", NULL, "Request for unknown model: '%s' has no available versions", model->name);
        return false;
    case MODEL_UNAVAILABLE:
        break;
    }
    reply_error(rp, 503, "unavailable", NULL, "model '%s' is unavailable: %s", model->name, why);
    return false;
}

struct published *find_now(struct model *model, struct reply *rp)
{
    return ready(model, rp) ? model_now(model) : NULL;
}

static bool needs_if_match(struct model *model)
{
    struct knobs *knobs = model_knobs(model);
    bool needs = knobs->require_if_match;

    knobs_put(knobs);
    return needs;
}

bool model_casts(struct model *model)
{
    struct knobs *knobs = model_knobs(model);
    bool casts = knobs->cast_inputs;

    knobs_put(knobs);
    return casts;
}

bool precondition(const struct request *rq, struct model *present, const char *own, struct reply *rp)
{
    char etag[ETAG_MAX] = "";
    uint64_t revision = 0;

    if (present && needs_if_match(present) && !request_header(rq, "If-Match")) {
        reply_error(rp, 428, "precondition_required", NULL, "model '%s' takes changes only with If-Match", present->name);
        return false;
    }
    if (present) {
        pthread_mutex_lock(&present->lock);
        revision = present->facts.state_revision;
        etag_of(etag, present->facts.epoch, present->facts.version, revision, NULL);
        pthread_mutex_unlock(&present->lock);
    }
    if (codec_conditions_hold(rq, present ? etag : NULL, own && *own ? own : NULL))
        return true;
    if (revision) /* else it is unavailable */
        reply_text(rp, "ETag", etag);
    reply_error(rp, 412, "precondition_failed",
                json_pack("{s:o}", "current_revision", present ? json_integer((json_int_t)revision) : json_null()),
                present ? "the model's state is %s, not what the request asks for" : "there is no such model%s", etag);
    return false;
}

bool not_a_jobs(struct model *model, struct reply *rp)
{
    if (!model->job)
        return true;
    reply_header(rp, "Retry-After", "5");
    reply_error(rp, 409, "job_running", NULL, "job %s is training model '%s'; pause or cancel it first", model->job, model->name);
    return false;
}

/* Takes the reference over. */
static struct model *begin(struct model *model, const struct request *rq, own_tag *tag, struct reply *rp)
{
    char own[ETAG_MAX] = "";

    if (!model)
        return NULL;
    model_lock(model);
    if (tag && (request_header(rq, "If-Match") || request_header(rq, "If-None-Match")) && !model->gone &&
        model_stage(model, NULL, 0) == MODEL_READY)
        tag(model, rq, own);
    if (model->gone)
        reply_error(rp, 404, "unknown_model", NULL, "Request for unknown model: '%s' is not found", model->name);
    else if (is_ours(model, rp) && ready(model, rp) && not_a_jobs(model, rp) && precondition(rq, model, own, rp))
        return model;
    write_end(model);
    return NULL;
}

struct model *write_begin(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    return begin(find_unfrozen(ctx, rq, rp), rq, NULL, rp);
}

struct model *write_begin_as(struct ctx *ctx, const struct request *rq, own_tag *tag, struct reply *rp)
{
    return begin(find_unfrozen(ctx, rq, rp), rq, tag, rp);
}

struct model *head_begin_as(struct ctx *ctx, const struct request *rq, own_tag *tag, struct reply *rp)
{
    return begin(find_head(ctx, rq, rp), rq, tag, rp);
}

struct model *head_begin(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    return begin(find_head(ctx, rq, rp), rq, NULL, rp);
}

void write_end(struct model *model)
{
    pthread_mutex_unlock(&model->writing);
    store_put(model);
}

/* ---- revisions in headers ----------------------------------------------------------------------------------- */

void etag_of(char etag[ETAG_MAX], const char *epoch, const char *version, uint64_t revision, const char *options)
{
    char *at = stpcpy(stpcpy(stpcpy(stpcpy(stpcpy(etag, "\""), epoch), "-"), version), "-"), sum[65];

    at = text_digits(at, revision);
    if (options) {
        sha256_text(options, strlen(options), sum);
        sum[8] = '\0';
        at = stpcpy(stpcpy(at, "-"), sum);
    }
    stpcpy(at, "\"");
}

void reply_weights_revision(struct reply *rp, uint64_t revision)
{
    char digits[21];

    text_digits(digits, revision);
    reply_text(rp, "Onelip-Weights-Revision", digits);
}

void labels_of(char labels[LABELS_MAX], const char *model, const char *version)
{
    stpcpy(stpcpy(stpcpy(stpcpy(stpcpy(labels, "model=\""), model), "\",version=\""), version), "\"");
}

void forget_metrics(struct ctx *ctx, const char *model, const char *version)
{
    char labels[LABELS_MAX];

    labels_of(labels, model, version);
    metrics_drop(ctx->metrics, labels);
}

void reply_state(struct reply *rp, struct model *model)
{
    char etag[ETAG_MAX];
    uint64_t weights;

    pthread_mutex_lock(&model->lock);
    etag_of(etag, model->facts.epoch, model->facts.version, model->facts.state_revision, NULL);
    weights = model->facts.weights_revision;
    pthread_mutex_unlock(&model->lock);
    reply_text(rp, "ETag", etag);
    reply_weights_revision(rp, weights);
}

/* ---- documents ------------------------------------------------------------------------------------------------- */

json_t *tensors_json(const lip_model *m, bool inputs)
{
    json_t *list = json_array();
    size_t n = inputs ? lip_model_inputs(m) : lip_model_outputs(m);

    for (size_t i = 0; i < n; i++) {
        const char *name = inputs ? lip_model_input_name(m, i) : lip_model_output_name(m, i);
        const lip_shape *shape = inputs ? lip_model_input_shape(m, i) : lip_model_output_shape(m, i);
        json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "name", name, "datatype", "FP32", "shape",
                                              codec_shape(shape, json_integer(-1))));
    }
    return list;
}

static json_t *warnings(const lip_model *m, const struct knobs *knobs)
{
    json_t *list = json_array();

    for (size_t i = 0; m && i < lip_model_warnings(m); i++)
        json_array_append_new(list, json_pack("{s:s, s:s}", "code", "definition", "text", lip_model_warning(m, i)));
    knobs_warnings(knobs, list);
    return list;
}

/* All versions by number, the head's last; *head: its own. */
static json_t *version_numbers(struct model *head, char number[VERSION_MAX])
{
    json_t *list = json_array();

    pthread_mutex_lock(&head->lock);
    for (size_t i = 0; i < head->n_versions; i++)
        json_array_append_new(list, json_string(head->version[i]->facts.version));
    memcpy(number, head->facts.version, VERSION_MAX);
    pthread_mutex_unlock(&head->lock);
    if (*number)
        json_array_append_new(list, json_string(number));
    return list;
}

const char *stage_word(enum model_stage stage)
{
    return stage == MODEL_READY ? "READY" : stage == MODEL_LOADING ? "LOADING" : "UNAVAILABLE";
}

json_t *model_document(struct model *head, struct model *model, char *etag)
{
    struct published *now = model_now(model);
    const lip_model *m = now ? lip_snapshot_model(now->snapshot) : NULL;
    struct facts facts;
    json_t *json;
    char number[VERSION_MAX];
    struct knobs *knobs;
    size_t parameters = 0;

    if (etag)
        etag[0] = 0;
    if (!model_facts(model, &facts)) {
        published_put(now);
        return NULL;
    }
    if (etag && facts.state_revision)
        etag_of(etag, facts.epoch, facts.version, facts.state_revision, NULL);
    for (size_t i = 0; m && i < lip_model_layers(m); i++)
        parameters += lip_layer_parameters(lip_model_layer(m, i));
    knobs = model_knobs(model);
    json = json_pack("{s:s, s:o, s:s, s:o, s:o, s:s, s:s, s:o}", "name", model->name, "versions",
                     version_numbers(head, number), "platform",
                     "onelip_keras_json", "inputs", m ? tensors_json(m, true) : json_array(), "outputs",
                     m ? tensors_json(m, false) : json_array(), "state",
                     stage_word(model_stage(model, NULL, 0)), "head", number, "labels",
                     model_labels(head));
    if (json && facts.damage)
        json_object_set_new(json, "reason", text_json(facts.damage));
    if (json && facts.state_revision)
        json_object_update_new(json, json_pack("{s:s, s:I, s:I, s:I}", "epoch", facts.epoch, "state_revision",
                                               (json_int_t)facts.state_revision, "weights_revision",
                                               (json_int_t)facts.weights_revision, "checkpointed_revision",
                                               (json_int_t)facts.checkpointed_revision));
    if (json && m)
        json_object_update_new(json, json_pack("{s:o, s:s, s:I}", "k_coef_lip", codec_real_or_null(lip_model_k(m)),
                                               "coefficient", coefficient_word(m), "trainable_parameters", (json_int_t)parameters));
    if (json)
        json_object_update_new(json,
                               json_pack("{s:o, s:O, s:s, s:s, s:o}", "description", text_json(facts.description), "tags",
                                         facts.tags ? facts.tags : json_null(), "source", "json", "created_at",
                                         facts.created_at, "warnings", warnings(m, knobs)));
    knobs_put(knobs);
    facts_clear(&facts);
    published_put(now);
    return json;
}

json_t *changes_json(const lip_change *changes, size_t n, const char *distance, bool sigma)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        json_t *one = json_pack("{s:s, s:o}", "name", changes[i].layer, distance, codec_real(changes[i].distance));
        if (sigma)
            json_object_set_new(one, "sigma", codec_real_or_null(changes[i].sigma));
        json_object_set_new(one, "bjorck_iterations", json_integer(changes[i].bjorck_iterations));
        json_object_set_new(one, "residual", codec_real_or_null(changes[i].residual));
        json_array_append_new(list, one);
    }
    return list;
}

/* ---- native paths ------------------------------------------------------------------------------------------------- */

bool native_parameters(struct ctx *ctx, const struct request *rq, const struct codec_body *body, const char *const *names,
                       uint64_t *deadline, struct reply *rp)
{
    static const char *const common[] = {"priority", "timeout", "binary_data_output", "headers"};
    const char *known[32];
    size_t n = 0;

    *deadline = rq->job ? UINT64_MAX : rq->start_ns + (uint64_t)(ctx->config->request_timeout_seconds * 1e9);
    for (size_t i = 0; i < sizeof common / sizeof *common; i++)
        known[n++] = common[i];
    for (size_t i = 0; names && names[i]; i++)
        known[n++] = names[i];
    known[n] = NULL;
    if (!json_is_object(body->parameters))
        return true;
    if (!codec_members(rp, body->parameters, "/parameters", known))
        return false;
    for (size_t i = 0; i < 2; i++) {
        const json_t *v = json_object_get(body->parameters, common[i]);
        char pointer[48];
        snprintf(pointer, sizeof pointer, "/parameters/%s", common[i]);
        if (v && (!json_is_integer(v) || json_integer_value(v) < 0)) {
            reply_at(rp, 400, "bad_parameter", pointer, "parameter '%s' needs an integer that is not negative", common[i]);
            return false;
        }
    }
    json_int_t us = json_integer_value(json_object_get(body->parameters, "timeout"));
    if (us > 0 && (double)us * 1e3 < (double)(*deadline - rq->start_ns))
        *deadline = rq->start_ns + (uint64_t)us * 1000;
    return go_on(rq, *deadline, rp);
}

bool go_on(const struct request *rq, uint64_t deadline, struct reply *rp)
{
    if (now_ns() >= deadline)
        reply_error(rp, 504, "deadline_exceeded", NULL, "Request timeout expired");
    else if (request_gone(rq))
        reply_bytes(rp, 499, NULL, NULL, 0);
    else
        return true;
    return false;
}

static bool client_left(void *rq)
{
    return request_gone(rq);
}

void heed_client(const struct request *rq)
{
    lip_interrupt(rq ? client_left : NULL, (void *)rq);
}

const lip_certifier *find_certifier(struct published *now, lip_norm norm, struct reply *rp)
{
    lip_certifier *made = NULL;
    const lip_certifier *found;
    lip_error err = {0};

    pthread_mutex_lock(&now->lock);
    found = now->certifier[norm];
    pthread_mutex_unlock(&now->lock);
    if (found)
        return found;
    if (lip_certifier_new(now->snapshot, &(lip_certifier_options){.norm = norm}, &made, &err)) {
        reply_lip_error(rp, &err, ABOUT_WEIGHTS, NULL);
        return NULL;
    }
    pthread_mutex_lock(&now->lock);
    if (!now->certifier[norm]) {
        now->certifier[norm] = made;
        made = NULL;
    }
    found = now->certifier[norm];
    pthread_mutex_unlock(&now->lock);
    lip_certifier_free(made);
    return found;
}

/* ---- odds and ends ------------------------------------------------------------------------------------------------ */

static pthread_key_t workspace_key;
static pthread_once_t workspace_once = PTHREAD_ONCE_INIT;

static void workspace_end(void *ws)
{
    lip_workspace_free(ws);
}

static void workspace_begin(void)
{
    pthread_key_create(&workspace_key, workspace_end);
}

lip_workspace *thread_workspace(void)
{
    lip_workspace *ws;

    pthread_once(&workspace_once, workspace_begin);
    ws = pthread_getspecific(workspace_key);
    if (!ws && (ws = lip_workspace_new()) && pthread_setspecific(workspace_key, ws)) {
        lip_workspace_free(ws);
        ws = NULL;
    }
    return ws;
}

char *base64(const unsigned char *bytes, size_t n)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc((n + 2) / 3 * 4 + 1), *out = text;

    for (size_t i = 0; text && i < n; i += 3) {
        unsigned v = (unsigned)bytes[i] << 16 | (i + 1 < n ? (unsigned)bytes[i + 1] << 8 : 0) | (i + 2 < n ? bytes[i + 2] : 0);
        *out++ = alphabet[v >> 18];
        *out++ = alphabet[v >> 12 & 63];
        *out++ = i + 1 < n ? alphabet[v >> 6 & 63] : '=';
        *out++ = i + 2 < n ? alphabet[v & 63] : '=';
    }
    if (text)
        *out = 0;
    return text;
}

void *unbase64(const char *text, size_t *size)
{
    size_t n = strlen(text), padding = n && text[n - 1] == '=' ? 1 + (n > 1 && text[n - 2] == '=') : 0;
    unsigned char *bytes = n % 4 ? NULL : malloc(n / 4 * 3 + 1), *out = bytes;
    unsigned v = 0;

    for (size_t i = 0; bytes && i < n; i++) {
        const char c = text[i];
        int digit = c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 : c >= '0' && c <= '9' ? c - '0' + 52
                    : c == '+' ? 62 : c == '/' ? 63 : c == '=' && i >= n - padding ? 0 : -1;

        if (digit < 0) {
            free(bytes);
            return NULL;
        }
        v = v << 6 | (unsigned)digit;
        if (i % 4 == 3) {
            *out++ = (unsigned char)(v >> 16);
            *out++ = (unsigned char)(v >> 8);
            *out++ = (unsigned char)v;
        }
    }
    *size = n / 4 * 3 - padding;
    return bytes;
}

static const char *const coefficients[] = {[LIP_DEEL_LIP] = "deel_lip", [LIP_SOUND] = "sound"};

bool coefficient_of(const char *word, lip_coefficient *coefficient)
{
    for (size_t i = 0; word && i < sizeof coefficients / sizeof *coefficients; i++)
        if (!strcmp(word, coefficients[i])) {
            *coefficient = (lip_coefficient)i;
            return true;
        }
    return false;
}

const char *coefficient_word(const lip_model *model)
{
    return coefficients[lip_model_coefficient(model)];
}
