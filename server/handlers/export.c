/* export.c: download in another format, perhaps with what a target's arithmetic loses, perhaps read again and compared. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "guard.h"
#include "handlers.h"
#include "probe.h"
#include "sha256.h"
#include "text.h"

enum { NO_TRANSFER = -1 };
enum { SAFETENSORS, KERAS_JSON, FORMATS };

struct wish {
    size_t format; /* SAFETENSORS or KERAS_JSON */
    bool vanilla, legacy, verify;
    int transfer;      /* a lip_format, or NO_TRANSFER */
    double input_norm; /* of transfer */
};

static const struct {
    const char *name, *suffix;
} formats[FORMATS] = {
    [SAFETENSORS] = {"safetensors", "safetensors"},
    [KERAS_JSON] = {"keras_json", "json"},
};
static const char *const types[FORMATS] = {[SAFETENSORS] = "application/x-safetensors", [KERAS_JSON] = "application/vnd.keras+json"};

static const char *const arithmetics[] = {[LIP_FP32] = "fp32", [LIP_TF32] = "tf32", [LIP_BF16] = "bf16", [LIP_FP16] = "fp16"};
enum { ARITHMETICS = sizeof arithmetics / sizeof *arithmetics };

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

    w->format = name ? 0 : codec_accept(rq, rp, types, FORMATS);
    while (name && w->format < FORMATS && strcmp(name, formats[w->format].name))
        w->format++;
    if (w->format == FORMATS && !name && guard_accepts(accept, "application/octet-stream")) /* bytes, whatever they are */
        w->format = SAFETENSORS;
    return w->format < FORMATS || no_format(rp, name ? name : accept);
}

static bool read_transfer(const struct request *rq, struct wish *w, struct reply *rp)
{
    const char *transfer = request_query(rq, "transfer");

    w->transfer = NO_TRANSFER;
    if (!codec_query_positive(rq, rp, "input_norm", &w->input_norm))
        return false;
    for (int i = 0; transfer && i < ARITHMETICS; i++)
        if (!strcmp(transfer, arithmetics[i]))
            w->transfer = i;
    if (transfer && w->transfer == NO_TRANSFER)
        reply_error(rp, 400, "bad_parameter", NULL, "transfer is \"%.40s\", needs fp32, tf32, bf16 or fp16", transfer);
    else if (transfer && request_query(rq, "vanilla") && !w->vanilla)
        reply_error(rp, 400, "bad_parameter", NULL, "transfer is of plain layers, which vanilla=false does not give");
    else if (!transfer && w->input_norm > 0)
        reply_error(rp, 400, "bad_parameter", NULL, "input_norm goes with transfer");
    if (transfer)
        w->vanilla = true;
    return !rp->status;
}

static bool read_wish(const struct request *rq, struct wish *w, struct reply *rp)
{
    static const char *const names[] = {"format", "vanilla", "dialect", "verify", "transfer", "input_norm", "file", NULL};
    const char *dialect = request_query(rq, "dialect");

    *w = (struct wish){0};
    if (!codec_queries(rq, rp, names) || !codec_query_bool(rq, rp, "vanilla", &w->vanilla) ||
        !codec_query_bool(rq, rp, "verify", &w->verify) || !read_transfer(rq, w, rp) || !choose_format(rq, w, rp))
        return false;
    if (dialect && strcmp(dialect, "v3") && strcmp(dialect, "legacy")) {
        reply_error(rp, 400, "bad_parameter", NULL, "dialect is \"%.40s\", needs v3 or legacy", dialect);
        return false;
    }
    w->legacy = dialect && !strcmp(dialect, "legacy");
    return true;
}

/* ---- the file ------------------------------------------------------------------------------------------------------- */

/* What is sent, and what it was made of. */
struct file {
    void *bytes; /* for lip_free */
    size_t size;
    uint64_t revision;
    lip_snapshot *of;   /* what it computes; counted */
    double input_norm;  /* of transfer: for inputs up to it the outputs … */
    double deviation;   /* … are no farther from the real ones */
    double found;       /* by verify: between the outputs and those of the file */
    char etag[ETAG_MAX];
};

static double root_of_inputs(const lip_model *m)
{
    size_t n = 0;

    for (size_t i = 0; i < lip_model_inputs(m); i++)
        n += lip_shape_count(lip_model_input_shape(m, i));
    return sqrt((double)n);
}

/* The certificate of certify.md C10. false: err, or the reply says that there is none. */
static bool certify_transfer(const struct wish *w, struct file *f, struct reply *rp, lip_error *err)
{
    f->input_norm = w->input_norm > 0 ? w->input_norm : root_of_inputs(lip_snapshot_model(f->of));
    if (lip_bound_transfer(f->of, (lip_format)w->transfer, f->input_norm, &f->deviation, err))
        return false;
    if (isnan(f->deviation))
        reply_error(rp, 422, "no_bound", NULL,
                    "there is no bound of what %s loses for inputs of norm up to %g: a number could leave its range, or no rule covers "
                    "a layer",
                    arithmetics[w->transfer], f->input_norm);
    return !rp->status;
}

/* It as metadata: text, for free(). NULL: out of memory. */
static char *certificate_text(const struct wish *w, const struct file *f)
{
    bool rounded = w->transfer == LIP_FP16 || w->transfer == LIP_BF16;
    json_t *json = json_pack("{s:s, s:f, s:f, s:s, s:b, s:s, s:s}", "arithmetic", arithmetics[w->transfer], "deviation", f->deviation,
                             "input_norm", f->input_norm, "norm", "l2", "weights_rounded", rounded, "sums", "float32, in any order",
                             "excluded", "Winograd, Strassen and Fourier convolutions");
    char *text = document_text(json);

    json_decref(json);
    return text;
}

static void *save(const lip_state *state, const struct wish *w, const struct file *f, size_t *size)
{
    static const lip_dtype dtypes[] = {[LIP_BF16] = LIP_DTYPE_BF16, [LIP_FP16] = LIP_DTYPE_F16}; /* the others as they are */
    char *text;
    void *bytes;

    if (w->transfer == NO_TRANSFER)
        return lip_state_save(state, size);
    if (!(text = certificate_text(w, f)))
        return NULL;
    bytes = lip_state_save_as(state, dtypes[w->transfer], (const char *const[]){"transfer", text}, 1, size);
    free(text);
    return bytes;
}

/* Plain layers with the weights served. NULL bytes: err, or out of memory. */
static void make_vanilla(const struct wish *w, struct file *f, lip_error *err)
{
    lip_model *model = NULL;
    lip_state *state = NULL;

    if (!lip_model_vanilla(lip_snapshot_model(f->of), &model, err)) {
        if (w->format == KERAS_JSON) {
            f->bytes = lip_model_definition(model, w->legacy);
            f->size = f->bytes ? strlen(f->bytes) : 0;
        } else if (!lip_snapshot_vanilla(f->of, model, &state, err)) {
            f->bytes = save(state, w, f, &f->size);
        }
    }
    lip_state_free(state);
    lip_model_put(model);
}

/* ---- verify --------------------------------------------------------------------------------------------------------- */

/* A safetensors file as what it computes. NULL: err. */
static lip_snapshot *reload(const void *bytes, size_t size, lip_error *err)
{
    lip_safetensors *file = NULL;
    lip_model *model = NULL;
    lip_state *state = NULL;
    lip_snapshot *snapshot = NULL;
    const char *definition;

    if (!lip_safetensors_read(bytes, size, &file, err)) {
        if (!(definition = lip_safetensors_metadata(file, "definition")))
            err->code = LIP_EFILE;
        else if (!lip_model_read(definition, strlen(definition), false, &model, err) && !lip_state_new(model, 0, &state, err) &&
                 !lip_state_load(state, lip_safetensors_tensors(file), lip_safetensors_count(file), false, NULL, NULL, err))
            lip_state_publish(state, &snapshot, err);
    }
    lip_state_free(state);
    lip_model_put(model);
    lip_safetensors_free(file);
    return snapshot;
}

/* How far two ways of computing may be apart at the points of the unit cube: each no farther from the real outputs than is
 * proven; where nothing is, some hundred roundings. */
static bool expected(const struct wish *w, const struct file *f, double largest, double *most, lip_error *err)
{
    double norm = root_of_inputs(lip_snapshot_model(f->of)), other;

    if (lip_bound_transfer(f->of, LIP_FP32, norm, most, err) ||
        lip_bound_transfer(f->of, w->transfer == NO_TRANSFER ? LIP_FP32 : (lip_format)w->transfer, norm, &other, err))
        return false;
    *most += other;
    if (isnan(*most))
        *most = 1e-5 * (1 + largest);
    return true;
}

/* Whether a definition reads as what it was written from. */
static bool same_definition(const struct wish *w, const struct file *f, lip_error *err)
{
    lip_model *model = NULL;
    char *text = lip_model_read(f->bytes, f->size, false, &model, err) ? NULL : lip_model_definition(model, w->legacy);
    bool same = text && !strcmp(text, f->bytes);

    lip_free(text);
    lip_model_put(model);
    return same;
}

static bool same_function(const struct request *rq, const struct wish *w, struct file *f, struct reply *rp, lip_error *err)
{
    lip_snapshot *again = reload(f->bytes, f->size, err);
    double largest, most;
    bool same = again && go_on(rq, UINT64_MAX, rp) && probe_change(f->of, again, &f->found, &largest, err) &&
                go_on(rq, UINT64_MAX, rp) && expected(w, f, largest, &most, err) &&
                f->found <= most;

    lip_snapshot_put(again);
    return same;
}

/* The file is read again and compared. false: it is not what it should be, and that is said. */
static bool verify(const struct request *rq, const struct wish *w, struct file *f, struct reply *rp)
{
    lip_error err = {0};

    if (w->format == KERAS_JSON ? same_definition(w, f, &err) : same_function(rq, w, f, rp, &err))
        return true;
    if (rp->status) /* nobody waits for it any more */
        return false;
    if (err.code == LIP_ENOMEM)
        reply_no_memory(rp);
    else
        reply_error(rp, 500, "internal", NULL, "the exported file is not what it was made of: %s",
                    err.code ? err.text : "read again it computes something else");
    return false;
}

/* ---- the answer ----------------------------------------------------------------------------------------------------- */

static void send_file(const struct request *rq, struct reply *rp, const struct published *now, const char *model,
                      const struct wish *w, struct file *f)
{
    unsigned char digest[32];
    struct sha256 sum;
    char *text, *copy;

    if (codec_not_modified(rq, rp, f->etag) || (w->verify && !verify(rq, w, f, rp)))
        return;
    sha256_init(&sum);
    sha256_add(&sum, f->bytes, f->size);
    sha256_end(&sum, digest);
    text = base64(digest, sizeof digest);
    copy = malloc(f->size ? f->size : 1);
    if (!text || !copy) {
        reply_no_memory(rp);
        free(copy);
    } else {
        memcpy(copy, f->bytes, f->size);
        reply_header(rp, "Content-Disposition", "attachment; filename=\"%s-%s-%llu.%s\"", model, now->version,
                     (unsigned long long)f->revision, formats[w->format].suffix);
        reply_header(rp, "Repr-Digest", "sha-256=:%s:", text);
        reply_header(rp, "Accept-Ranges", "none");
        if (w->transfer != NO_TRANSFER)
            reply_header(rp, "Onelip-Transfer-Deviation", "%.17g", f->deviation);
        if (w->verify)
            reply_header(rp, "Onelip-Verify-Deviation", "%.17g", f->found);
        reply_bytes(rp, 200, types[w->format], copy, f->size);
    }
    free(text);
}

/* What is served, or nothing of the weights. */
static void make_served(const struct wish *w, struct published *now, const char *options, struct file *f, struct reply *rp,
                        lip_error *err)
{
    f->of = lip_snapshot_get(now->snapshot);
    f->revision = now->weights_revision;
    etag_of(f->etag, now->epoch, now->version, f->revision, options);
    reply_weights_revision(rp, f->revision);
    if (w->transfer != NO_TRANSFER && !certify_transfer(w, f, rp, err))
        return;
    if (w->vanilla) {
        make_vanilla(w, f, err);
    } else {
        f->bytes = lip_model_definition(lip_snapshot_model(f->of), w->legacy);
        f->size = f->bytes ? strlen(f->bytes) : 0;
    }
}

/* Trainable state: cut from the head between two steps. */
static void make_state(const struct wish *w, struct model *model, const char *options, struct file *f, struct reply *rp, lip_error *err)
{
    model_lock(model);
    f->revision = model->facts.state_revision;
    etag_of(f->etag, model->facts.epoch, model->facts.version, f->revision, options);
    reply_weights_revision(rp, model->facts.weights_revision);
    if (!w->verify || !lip_state_publish(model->state, &f->of, err))
        f->bytes = save(model->state, w, f, &f->size);
    pthread_mutex_unlock(&model->writing);
}

/* GET /v2/models/{m}/export?format=safetensors|keras_json&vanilla=true|false&transfer=fp32|tf32|bf16|fp16&verify=true */
void handle_export(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct published *now = NULL;
    struct file f = {0};
    struct model *model;
    struct wish w;
    lip_error err = {0};
    char options[128];

    if (!read_wish(rq, &w, rp) || !(model = find_model(ctx, rq, rp)))
        return;
    snprintf(options, sizeof options, "%s vanilla=%d legacy=%d transfer=%d input_norm=%.17g", formats[w.format].name, w.vanilla,
             w.legacy, w.transfer, w.input_norm);
    if ((now = find_now(model, rp)) && !rq->dry) {
        if (w.vanilla || w.format == KERAS_JSON)
            make_served(&w, now, options, &f, rp, &err);
        else
            make_state(&w, model, options, &f, rp, &err);
        if (f.bytes)
            send_file(rq, rp, now, model->name, &w, &f);
        else if (err.code && err.code != LIP_ENOMEM)
            reply_lip_error(rp, &err, ABOUT_WEIGHTS, NULL);
        else
            reply_no_memory(rp);
    }
    lip_free(f.bytes);
    lip_snapshot_put(f.of);
    published_put(now);
    store_put(model);
}
