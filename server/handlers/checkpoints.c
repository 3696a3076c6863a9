/* checkpoints.c: named states of the head. */
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"
#include "text.h"

/* GET /v2/models/{m}/checkpoints?limit=&after=  ->  a list, the newest first */
void handle_checkpoints(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const names[] = {"limit", "after", NULL};
    struct model *model;

    if (!codec_queries(rq, rp, names) || !(model = find_model(ctx, rq, rp)))
        return;
    reply_list(rq, rp, checkpoint_list(model), "name");
    store_put(model);
}

/* GET /v2/models/{m}/checkpoints/{c}  ->  {"name", "step", "state_revision", "bytes", "job", "created_at"} */
void handle_checkpoint(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct model *model;
    json_t *document;

    if (!codec_queries(rq, rp, none) || !(model = find_model(ctx, rq, rp)))
        return;
    if ((document = checkpoint_document(model, path_param(rq, "{c}"))))
        reply_json_tagged(rq, rp, document);
    else
        reply_error(rp, 404, "unknown_checkpoint", NULL, "model '%s' has no checkpoint \"%s\"", model->name,
                    path_param(rq, "{c}"));
    store_put(model);
}

/* POST /v2/models/{m}/checkpoints {"name"}  ->  201, its document */
void handle_checkpoint_create(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL}, *const members[] = {"name", NULL};
    struct failure f = {0};
    struct model *model;
    json_t *body, *name, *document;

    if (!codec_queries(rq, rp, none) || !(body = codec_document(rq, rp)))
        return;
    name = json_object_get(body, "name");
    if (!codec_members(rp, body, "", members)) {
        ;
    } else if (name && !json_is_null(name) && (!json_is_string(name) || !store_name_ok(json_string_value(name)))) {
        reply_at(rp, 400, "bad_name", "/name", "a checkpoint's name needs 1 to 128 of A-Z a-z 0-9 _ . -, not \".\" or \"-\" first");
    } else if ((model = write_begin(ctx, rq, rp))) {
        if ((document = checkpoint_make(model, json_string_value(name), NULL, &f))) {
            reply_header(rp, "Location", "/v2/models/%s/checkpoints/%s", model->name,
                         json_string_value(json_object_get(document, "name")));
            reply_state(rp, model);
            reply_json(rp, 201, document);
        } else {
            reply_failure(rp, &f);
        }
        write_end(model);
    }
    json_decref(body);
}

/* POST /v2/models/{m}/checkpoints/{c}/restore {}  ->  the head is as it was then, under a new revision */
void handle_checkpoint_restore(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct failure f = {0};
    struct model *model;
    json_t *body, *document;

    if (!codec_queries(rq, rp, none) || !(body = codec_document(rq, rp)))
        return;
    if (codec_members(rp, body, "", none) && (model = write_begin(ctx, rq, rp))) {
        if (checkpoint_restore(model, path_param(rq, "{c}"), &document, &f)) {
            reply_state(rp, model);
            reply_json(rp, 200,
                       json_pack("{s:s, s:s, s:O, s:I, s:I, s:I}", "model_name", model->name, "model_version",
                                 model->facts.version, "restored", json_object_get(document, "name"), "step",
                                 (json_int_t)(model->trainer ? lip_trainer_steps(model->trainer) : 0), "state_revision",
                                 (json_int_t)model->facts.state_revision, "weights_revision",
                                 (json_int_t)model->facts.weights_revision));
            json_decref(document);
        } else {
            reply_failure(rp, &f);
        }
        write_end(model);
    }
    json_decref(body);
}

/* The tag of what GET of the checkpoint shows. */
static void checkpoint_tag(struct model *model, const struct request *rq, char etag[ETAG_MAX])
{
    json_t *json = checkpoint_document(model, path_param(rq, "{c}"));
    char *text = json ? document_text(json) : NULL;

    if (text)
        codec_hash_of(etag, text, strlen(text));
    free(text);
    json_decref(json);
}

/* DELETE /v2/models/{m}/checkpoints/{c}  ->  204 */
void handle_checkpoint_delete(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct failure f = {0};
    struct model *model;

    if (!codec_queries(rq, rp, none) || !(model = write_begin_as(ctx, rq, checkpoint_tag, rp)))
        return;
    if (checkpoint_remove(model, path_param(rq, "{c}"), &f))
        reply_bytes(rp, 204, "application/json", NULL, 0);
    else
        reply_failure(rp, &f);
    write_end(model);
}
