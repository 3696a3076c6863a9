/* versions.c: frozen versions of a model, and labels for versions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"

/* ---- versions ------------------------------------------------------------------------------------------------- */

static json_t *labels_of_version(struct model *head, const char *version)
{
    json_t *labels = model_labels(head), *list = json_array(), *number;
    const char *label;

    json_object_foreach(labels, label, number)
        if (!strcmp(json_string_value(number), version))
            json_array_append_new(list, json_string(label));
    json_decref(labels);
    return list;
}

/* {"version", "state", "head", "weights_revision", "labels", "description", "created_at", "frozen_at"} */
static json_t *version_document(struct model *head, struct model *version)
{
    enum model_stage stage = model_stage(version, NULL, 0);
    struct facts facts;
    json_t *json;

    if (!model_facts(version, &facts))
        return NULL;
    json = json_pack("{s:s, s:s, s:b, s:I, s:o, s:o, s:s, s:s?}", "version", facts.version, "state",
                     stage_word(stage),
                     "head", !version->frozen, "weights_revision", (json_int_t)facts.weights_revision, "labels",
                     labels_of_version(head, facts.version), "description",
                     version->frozen ? text_json(facts.description) : json_string(""), "created_at",
                     version->frozen ? facts.created_at : facts.opened_at, "frozen_at",
                     facts.frozen_at[0] ? facts.frozen_at : NULL);
    facts_clear(&facts);
    return json;
}

/* GET /v2/models/{m}/versions?limit=&after=  ->  a list, the newest first: the head, then what was frozen */
void handle_versions(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const names[] = {"limit", "after", NULL};
    struct model *head, **all;
    json_t *list = NULL;
    size_t n = 0;

    if (!codec_queries(rq, rp, names) || !(head = find_head(ctx, rq, rp)))
        return;
    if ((all = model_versions(head, &n)) && (list = json_array()))
        json_array_append_new(list, version_document(head, head));
    for (size_t i = n; all && i-- > 0;) {
        json_array_append_new(list, version_document(head, all[i]));
        store_put(all[i]);
    }
    free(all);
    reply_list(rq, rp, list, "version");
    store_put(head);
}

/* {"description", "labels"}, both optional. */
static bool check_freeze(const json_t *body, struct reply *rp)
{
    static const char *const members[] = {"description", "labels", NULL};
    const json_t *description = json_object_get(body, "description"), *labels = json_object_get(body, "labels"), *label;
    char pointer[40];
    size_t i;

    if (!codec_members(rp, body, "", members))
        return false;
    if (description && !json_is_string(description)) {
        reply_at(rp, 400, "bad_parameter", "/description", "description needs a string");
        return false;
    }
    if (labels && !json_is_array(labels)) {
        reply_at(rp, 400, "bad_parameter", "/labels", "labels needs a list of names");
        return false;
    }
    json_array_foreach((json_t *)labels, i, label) {
        if (json_is_string(label) && store_name_ok(json_string_value(label)))
            continue;
        snprintf(pointer, sizeof pointer, "/labels/%zu", i);
        reply_at(rp, 400, "bad_name", pointer, "a label needs 1 to 128 of A-Z a-z 0-9 _ . -, not \".\" or \"-\" first");
        return false;
    }
    return true;
}

/* POST /v2/models/{m}/versions {"description", "labels"}  ->  201, the version that the head was frozen as */
void handle_version_create(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct failure f = {0};
    struct model *head, *version;
    json_t *body;

    if (!codec_queries(rq, rp, none) || !(body = codec_document(rq, rp)))
        return;
    if (check_freeze(body, rp) && (head = head_begin(ctx, rq, rp))) {
        version = version_freeze(head, json_string_value(json_object_get(body, "description")), json_object_get(body, "labels"), &f);
        if (version) {
            reply_header(rp, "Location", "/v2/models/%s/versions/%s", head->name, version->facts.version);
            reply_state(rp, head);
            reply_json(rp, 201, version_document(head, version));
        } else {
            reply_failure(rp, &f);
        }
        store_put(version);
        write_end(head);
    }
    json_decref(body);
}

/* The tag of what GET of the version shows. */
static void version_tag(struct model *head, const struct request *rq, char etag[ETAG_MAX])
{
    struct model *version = model_version(head, path_param(rq, "{v}"));

    if (version && version->facts.state_revision)
        etag_of(etag, version->facts.epoch, version->facts.version, version->facts.state_revision, NULL);
    store_put(version);
}

/* DELETE /v2/models/{m}/versions/{v}  ->  204 */
void handle_version_delete(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct failure f = {0};
    struct model *head;

    if (!codec_queries(rq, rp, none) || !(head = head_begin_as(ctx, rq, version_tag, rp)))
        return;
    if (version_remove(head, path_param(rq, "{v}"), &f)) {
        reply_bytes(rp, 204, "application/json", NULL, 0);
        forget_metrics(ctx, head->name, path_param(rq, "{v}"));
    } else {
        reply_failure(rp, &f);
    }
    write_end(head);
}

/* ---- labels --------------------------------------------------------------------------------------------------- */

/* GET /v2/models/{m}/labels  ->  {"labels":{"stable":"1"}} */
void handle_labels(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct model *head;

    if (!codec_queries(rq, rp, none) || !(head = find_head(ctx, rq, rp)))
        return;
    reply_json_tagged(rq, rp, json_pack("{s:o}", "labels", model_labels(head)));
    store_put(head);
}

/* {"label":"stable","version":"1"}; NULL: the model has no such label. */
static json_t *label_document(struct model *head, const char *label)
{
    json_t *labels = model_labels(head), *number = json_object_get(labels, label);
    json_t *json = number ? json_pack("{s:s, s:O}", "label", label, "version", number) : NULL;

    json_decref(labels);
    return json;
}

/* GET /v2/models/{m}/labels/{label} */
void handle_label(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct model *head;
    json_t *json;

    if (!codec_queries(rq, rp, none) || !(head = find_head(ctx, rq, rp)))
        return;
    if ((json = label_document(head, path_param(rq, "{label}"))))
        reply_json_tagged(rq, rp, json);
    else
        reply_error(rp, 404, "not_found", NULL, "model '%s' has no label \"%s\"", head->name, path_param(rq, "{label}"));
    store_put(head);
}

/* The head of the path with `writing` held and the label's own If-Match satisfied. */
static struct model *label_begin(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct model *head = find_head(ctx, rq, rp);
    json_t *present;

    if (!head)
        return NULL;
    pthread_mutex_lock(&head->writing);
    present = label_document(head, path_param(rq, "{label}"));
    if (!is_ours(head, rp) || !codec_precondition_json(rq, rp, present)) {
        write_end(head);
        head = NULL;
    }
    json_decref(present);
    return head;
}

/* PUT /v2/models/{m}/labels/{label} {"version":"1"}  ->  {"label", "version"} */
void handle_label_put(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL}, *const members[] = {"version", NULL};
    const char *label = path_param(rq, "{label}");
    char number[VERSION_MAX] = "";
    struct failure f = {0};
    struct model *head;
    json_t *body, *v;

    if (!codec_queries(rq, rp, none) || !(body = codec_document(rq, rp)))
        return;
    v = json_object_get(body, "version");
    if (json_is_string(v))
        snprintf(number, sizeof number, "%s", json_string_value(v));
    if (!codec_members(rp, body, "", members)) {
        ;
    } else if (!number[0] || strspn(number, "0123456789") != strlen(number)) {
        reply_at(rp, 400, "bad_parameter", "/version", "version needs the number of a version, as \"1\"");
    } else if ((head = label_begin(ctx, rq, rp))) {
        if (label_set(head, label, number, &f))
            reply_json_tagged(rq, rp, label_document(head, label));
        else
            reply_failure(rp, &f);
        write_end(head);
    }
    json_decref(body);
}

/* DELETE /v2/models/{m}/labels/{label}  ->  204 */
void handle_label_delete(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct failure f = {0};
    struct model *head;

    if (!codec_queries(rq, rp, none) || !(head = label_begin(ctx, rq, rp)))
        return;
    if (label_set(head, path_param(rq, "{label}"), NULL, &f))
        reply_bytes(rp, 204, "application/json", NULL, 0);
    else
        reply_failure(rp, &f);
    write_end(head);
}
