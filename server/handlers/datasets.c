/* datasets.c: named data: put as files, listed, shown, read in pages, deleted. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "datasets.h"
#include "handlers.h"
#include "jobs.h"
#include "npy.h"
#include "settings.h"
#include "text.h"
#include "values.h"

static struct dataset *find(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct dataset *d = dataset_get(ctx->datasets, rq->param[0]);

    if (!d)
        reply_error(rp, 404, "unknown_dataset", NULL, "there is no dataset '%s'", rq->param[0]);
    return d;
}

/* A number of the query; it has to be finite. */
static bool query_number(const struct request *rq, struct reply *rp, const char *name, double *value)
{
    const char *text = request_query(rq, name);
    char *end;

    if (!text)
        return true;
    *value = strtod(text, &end);
    if (*text && !*end && !strpbrk(text, "xX \t") && isfinite(*value))
        return true;
    reply_error(rp, 400, "bad_parameter", NULL, "%s is \"%.40s\", needs a finite number", name, text);
    return false;
}

static bool query_count(const struct request *rq, struct reply *rp, const char *name, size_t most, size_t *value)
{
    const char *text = request_query(rq, name);
    char *end;

    if (!text)
        return true;
    *value = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && strlen(text) < 19 && *value <= most)
        return true;
    reply_error(rp, 400, "bad_parameter", NULL, "%s is \"%.40s\", needs an integer from 0 to %zu", name, text, most);
    return false;
}

static void answer(struct reply *rp, int status, struct dataset *d)
{
    if (status == 201)
        reply_header(rp, "Location", "/v2/datasets/%s", d->name);
    reply_header(rp, "ETag", "\"%s\"", d->id);
    reply_json(rp, status, dataset_json(d));
    dataset_put(d);
}

/* If-Match and If-None-Match of a write. */
static bool allowed(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    struct dataset *d = dataset_get(ctx->datasets, rq->param[0]);
    char etag[32];

    if (d)
        snprintf(etag, sizeof etag, "\"%s\"", d->id);
    dataset_put(d);
    return codec_precondition(rq, rp, d ? etag : NULL);
}

/* That no job reads it: one that goes on after a restart needs the same samples. */
struct asked {
    struct ctx *ctx;
    struct reply *rp;
};

static bool unused(void *arg, const char *name)
{
    struct asked *a = arg;

    if (!jobs_use_dataset(a->ctx->jobs, name))
        return true;
    reply_error(a->rp, 409, "in_use", NULL, "a job that has not finished reads dataset '%s'", name);
    return false;
}

static void put(struct ctx *ctx, const struct request *rq, struct reply *rp, const char *tensor)
{
    const char *label = request_query(rq, "label");
    struct array_room room = {.folder = store_folder(ctx->store), .left = (size_t)ctx->config->max_upload_bytes};
    struct arrays *arrays = calloc(1, sizeof *arrays);
    double scale = 1, offset = 0;
    struct asked asked = {ctx, rp};
    struct failure f = {0};
    struct dataset *d;
    bool created;

    if (!arrays) {
        reply_no_memory(rp);
        return;
    }
    if (!query_number(rq, rp, "scale", &scale) || !query_number(rq, rp, "offset", &offset) || !allowed(ctx, rq, rp))
        goto done;
    if (!arrays_read(rq->body, rq->bytes, tensor != NULL, label, &room, arrays, &f) ||
        !(d = datasets_store(ctx->datasets, rq->param[0], arrays, scale, offset, tensor, unused, &asked, &created, &f)))
        reply_failure(rp, &f);
    else
        answer(rp, created ? 201 : 200, d);
done:
    arrays_clear(arrays);
    free(arrays);
}

/* PUT /v2/datasets/{d}  npz, safetensors or CSV (?label=COLUMN)  ->  201 or 200, the description */
void handle_dataset_put(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const names[] = {"label", "filename", NULL};

    if (codec_queries(rq, rp, names))
        put(ctx, rq, rp, NULL);
}

/* PUT /v2/datasets/{d}/{tensor}?scale=&offset=  npy or IDX, plain or gzip  ->  the description */
void handle_dataset_tensor_put(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const names[] = {"scale", "offset", "filename", NULL};

    if (!codec_queries(rq, rp, names))
        return;
    if (!array_name_ok(rq->param[1]))
        reply_error(rp, 400, "bad_name", NULL, "\"%.140s\" is no name for a tensor", rq->param[1]);
    else
        put(ctx, rq, rp, rq->param[1]);
}

/* GET /v2/datasets/{d} */
void handle_dataset_get(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct dataset *d;
    char etag[32];

    if (!codec_queries(rq, rp, none) || !(d = find(ctx, rq, rp)))
        return;
    snprintf(etag, sizeof etag, "\"%s\"", d->id);
    if (!codec_not_modified(rq, rp, etag))
        reply_json(rp, 200, dataset_json(d));
    dataset_put(d);
}

/* GET /v2/datasets?limit=&after= */
void handle_datasets_list(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const names[] = {"limit", "after", NULL};
    struct dataset **list;
    json_t *json;
    size_t n = 0;

    if (!codec_queries(rq, rp, names))
        return;
    list = datasets_list(ctx->datasets, &n);
    json = list ? json_array() : NULL;
    for (size_t i = 0; list && i < n; i++) {
        json_array_append_new(json, dataset_json(list[i]));
        dataset_put(list[i]);
    }
    free(list);
    reply_list(rq, rp, json, "name");
}

/* DELETE /v2/datasets/{d}  ->  204 */
void handle_dataset_delete(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const none[] = {NULL};
    struct asked asked = {ctx, rp};
    struct failure f = {0};

    if (!codec_queries(rq, rp, none) || !allowed(ctx, rq, rp))
        return;
    if (datasets_delete(ctx->datasets, rq->param[0], unused, &asked, &f))
        reply_bytes(rp, 204, NULL, NULL, 0);
    else
        reply_failure(rp, &f);
}

/* ---- one tensor, in pages --------------------------------------------------------------------------------------- */

/* n values as JSON numbers, integers in all their digits. false: out of memory. */
static bool print(struct text *t, enum codec_type type, const unsigned char *bytes, size_t n)
{
#define EACH(T, FORMAT, CAST)                                    \
    for (size_t i = 0; i < n; i++) {                             \
        T v;                                                     \
        memcpy(&v, bytes + i * sizeof v, sizeof v);              \
        text_printf(t, i ? "," FORMAT : FORMAT, (CAST)v);        \
    }                                                            \
    return true
    float *x;

    switch (type) {
    case CODEC_BOOL:
        for (size_t i = 0; i < n; i++)
            text_puts(t, bytes[i] ? i ? ",true" : "true" : i ? ",false" : "false");
        return true;
    case CODEC_UINT8:
        EACH(uint8_t, "%u", unsigned);
    case CODEC_INT8:
        EACH(int8_t, "%d", int);
    case CODEC_UINT16:
        EACH(uint16_t, "%u", unsigned);
    case CODEC_INT16:
        EACH(int16_t, "%d", int);
    case CODEC_UINT32:
        EACH(uint32_t, "%" PRIu32, uint32_t);
    case CODEC_INT32:
        EACH(int32_t, "%" PRId32, int32_t);
    case CODEC_UINT64:
        EACH(uint64_t, "%" PRIu64, uint64_t);
    case CODEC_INT64:
        EACH(int64_t, "%" PRId64, int64_t);
    case CODEC_FP64: {
        double *d = malloc((n + 1) * sizeof *d); /* aligned */
        if (d) {
            memcpy(d, bytes, n * sizeof *d);
            text_doubles(t, d, n);
        }
        free(d);
        return d != NULL;
    }
    default:
        if ((x = malloc((n + 1) * sizeof *x))) {
            values_from_bytes(type, bytes, n, x);
            text_floats(t, x, n);
        }
        free(x);
        return x != NULL;
    }
#undef EACH
}

static void reply_tensor_json(struct reply *rp, const struct dataset_tensor *t, const lip_shape *shape, const unsigned char *bytes)
{
    struct text text = {0};
    bool ok;

    text_puts(&text, "{\"name\":");
    text_quote(&text, t->name);
    text_printf(&text, ",\"datatype\":\"%s\",\"shape\":[", codec_type_name(t->type));
    for (size_t i = 0; i < shape->rank; i++)
        text_printf(&text, i ? ",%zu" : "%zu", shape->dim[i]);
    text_puts(&text, "],\"data\":[");
    ok = print(&text, t->type, bytes, lip_shape_count(shape));
    text_puts(&text, "]}");
    if (ok && !text.failed) {
        reply_bytes(rp, 200, "application/json", text.bytes, text.n);
    } else {
        free(text.bytes);
        reply_no_memory(rp);
    }
}

static void reply_tensor_npy(struct reply *rp, const struct dataset_tensor *t, const lip_shape *shape, const unsigned char *bytes)
{
    size_t n = lip_shape_count(shape), size;
    float *x = NULL;
    void *file = NULL;

    if (t->type != CODEC_BF16) {
        file = npy_write(t->type, shape, bytes, &size);
    } else if ((x = malloc((n + 1) * sizeof *x))) { /* NumPy has no such type */
        values_from_bytes(t->type, bytes, n, x);
        file = npy_write(CODEC_FP32, shape, x, &size);
    }
    free(x);
    if (file)
        reply_bytes(rp, 200, "application/x-npy", file, size);
    else
        reply_no_memory(rp);
}

static void page_of(struct ctx *ctx, const struct request *rq, struct reply *rp, const struct dataset *d,
                    const struct dataset_tensor *t, bool npy)
{
    size_t start = 0, count = 16, limit = (size_t)ctx->config->max_body_bytes;
    lip_shape shape = t->shape;
    struct failure f = {0};
    unsigned char *bytes;

    if (!query_count(rq, rp, "start", d->samples, &start) || !query_count(rq, rp, "count", SIZE_MAX, &count))
        return;
    if (count > d->samples - start)
        count = d->samples - start;
    if (count > limit / t->row) {
        reply_error(rp, 400, "bad_parameter", NULL, "count is %zu; an answer holds %zu bytes at most, %zu samples", count, limit,
                    limit / t->row);
        return;
    }
    shape.dim[0] = count;
    if (!(bytes = malloc(count * t->row + 1)))
        reply_no_memory(rp);
    else if (!dataset_bytes(d, t, start, count, bytes, &f))
        reply_failure(rp, &f);
    else if (npy)
        reply_tensor_npy(rp, t, &shape, bytes);
    else
        reply_tensor_json(rp, t, &shape, bytes);
    free(bytes);
}

/* GET /v2/datasets/{d}/{tensor}?start=0&count=16  ->  one OIP tensor; npy by Accept */
void handle_dataset_tensor_get(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const names[] = {"start", "count", NULL}, *const types[] = {"application/json", "application/x-npy"};
    const struct dataset_tensor *t;
    struct dataset *d;
    size_t type = codec_accept(rq, rp, types, 2);
    char etag[40];

    if (!codec_queries(rq, rp, names) || !(d = find(ctx, rq, rp)))
        return;
    snprintf(etag, sizeof etag, "\"%s%s\"", d->id, type == 1 ? "-npy" : "");
    if (d->damage)
        reply_error(rp, 503, "unavailable", NULL, "dataset '%s' is unavailable: %s", d->name, d->damage);
    else if (!(t = dataset_find(d, rq->param[1])))
        reply_error(rp, 404, "unknown_tensor", NULL, "dataset '%s' has no tensor \"%.140s\"", d->name, rq->param[1]);
    else if (type == 2)
        reply_error(rp, 406, "not_acceptable", json_pack("{s:[s, s]}", "formats", types[0], types[1]), "%.60s is neither %s nor %s",
                    request_header(rq, "Accept"), types[0], types[1]);
    else if (!codec_not_modified(rq, rp, etag))
        page_of(ctx, rq, rp, d, t, type == 1);
    dataset_put(d);
}
