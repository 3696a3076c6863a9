/* export.c: download in another format. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"
#include "sha256.h"

struct wish {
    enum { SAFETENSORS, KERAS_JSON } format;
    bool vanilla, legacy;
};

static const struct {
    const char *name, *type, *suffix;
} formats[] = {
    [SAFETENSORS] = {"safetensors", "application/x-safetensors", "safetensors"},
    [KERAS_JSON] = {"keras_json", "application/vnd.keras+json", "json"},
};
enum { FORMATS = sizeof formats / sizeof *formats };

static bool no_format(struct reply *rp, const char *asked)
{
    reply_error(rp, 406, "not_acceptable", json_pack("{s:[s, s]}", "formats", formats[0].name, formats[1].name),
                "%.60s is not among the formats of this build: safetensors, keras_json", asked);
    return false;
}

/* ?format= wins over Accept; neither: safetensors. */
static bool choose_format(const struct request *rq, struct wish *w, struct reply *rp)
{
    const char *name = request_query(rq, "format"), *accept = request_header(rq, "Accept");

    w->format = SAFETENSORS;
    for (size_t i = 0; i < FORMATS; i++)
        if (name ? !strcmp(name, formats[i].name) : accept && strstr(accept, formats[i].type)) {
            w->format = i;
            return true;
        }
    if (name)
        return no_format(rp, name);
    return !accept || strstr(accept, "*/*") || strstr(accept, "application/*") || strstr(accept, "application/octet-stream")
               ? true
               : no_format(rp, accept);
}

static bool read_wish(const struct request *rq, struct wish *w, struct reply *rp)
{
    static const char *const names[] = {"format", "vanilla", "dialect", "verify", "transfer", "file", NULL};
    const char *dialect = request_query(rq, "dialect"), *transfer = request_query(rq, "transfer");
    bool verify = false;

    *w = (struct wish){0};
    if (!codec_queries(rq, rp, names) || !codec_query_bool(rq, rp, "vanilla", &w->vanilla) ||
        !codec_query_bool(rq, rp, "verify", &verify) || !choose_format(rq, w, rp))
        return false;
    if (verify || transfer) {
        reply_error(rp, 501, "unsupported", NULL, "%s of exports is not built in", verify ? "verify" : "transfer");
        return false;
    }
    if (dialect && strcmp(dialect, "v3") && strcmp(dialect, "legacy")) {
        reply_error(rp, 400, "bad_parameter", NULL, "dialect is \"%.40s\", needs v3 or legacy", dialect);
        return false;
    }
    w->legacy = dialect && !strcmp(dialect, "legacy");
    return true;
}

/* The file's bytes, for lip_free; NULL: err. */
static void *vanilla(const lip_snapshot *snapshot, const struct wish *w, size_t *size, lip_error *err)
{
    lip_model *model = NULL;
    lip_state *state = NULL;
    void *bytes = NULL;

    if (!lip_model_vanilla(lip_snapshot_model(snapshot), &model, err)) {
        if (w->format == KERAS_JSON) {
            bytes = lip_model_definition(model, w->legacy);
            *size = bytes ? strlen(bytes) : 0;
        } else if (!lip_snapshot_vanilla(snapshot, model, &state, err)) {
            bytes = lip_state_save(state, size);
        }
    }
    if (!bytes && err->code == LIP_OK)
        err->code = LIP_ENOMEM;
    lip_state_free(state);
    lip_model_put(model);
    return bytes;
}

static void send_file(const struct request *rq, struct reply *rp, const char *model, const struct wish *w, const void *bytes,
                      size_t size, uint64_t revision, const char *etag)
{
    unsigned char digest[32];
    struct sha256 sum;
    char *text, *copy;

    if (codec_not_modified(rq, rp, etag))
        return;
    sha256_init(&sum);
    sha256_add(&sum, bytes, size);
    sha256_end(&sum, digest);
    text = base64(digest, sizeof digest);
    copy = malloc(size ? size : 1);
    if (!text || !copy) {
        reply_no_memory(rp);
        free(copy);
    } else {
        memcpy(copy, bytes, size);
        reply_header(rp, "Content-Disposition", "attachment; filename=\"%s-1-%llu.%s\"", model, (unsigned long long)revision,
                     formats[w->format].suffix);
        reply_header(rp, "Repr-Digest", "sha-256=:%s:", text);
        reply_header(rp, "Accept-Ranges", "none");
        reply_bytes(rp, 200, formats[w->format].type, copy, size);
    }
    free(text);
}

/* GET /v2/models/{m}/export?format=safetensors|keras_json&vanilla=true|false */
void handle_export(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct published *now = NULL;
    struct model *model;
    struct wish w;
    lip_error err = {0};
    char etag[ETAG_MAX], options[64];
    uint64_t revision;
    void *bytes;
    size_t size = 0;

    if (!read_wish(rq, &w, rp) || !(model = find_model(ctx, rq, rp)))
        return;
    snprintf(options, sizeof options, "%s vanilla=%d legacy=%d", formats[w.format].name, w.vanilla, w.legacy);
    if (!(now = find_now(model, rp)))
        goto done;
    if (w.vanilla || w.format == KERAS_JSON) { /* what is served, or nothing of the weights */
        revision = now->weights_revision;
        etag_of(etag, now->epoch, now->version, revision, options);
        if (w.vanilla) {
            bytes = vanilla(now->snapshot, &w, &size, &err);
        } else {
            bytes = lip_model_definition(lip_snapshot_model(now->snapshot), w.legacy);
            size = bytes ? strlen(bytes) : 0;
        }
        reply_weights_revision(rp, revision);
    } else { /* trainable state: cut from the head between two steps */
        model_lock(model);
        revision = model->facts.state_revision;
        etag_of(etag, model->facts.epoch, model->facts.version, revision, options);
        bytes = lip_state_save(model->state, &size);
        reply_weights_revision(rp, model->facts.weights_revision);
        pthread_mutex_unlock(&model->writing);
    }
    if (bytes)
        send_file(rq, rp, model->name, &w, bytes, size, revision, etag);
    else if (err.code && err.code != LIP_ENOMEM)
        reply_lip_error(rp, &err, ABOUT_WEIGHTS, NULL);
    else
        reply_no_memory(rp);
    lip_free(bytes);
done:
    published_put(now);
    store_put(model);
}
