/* tensor.c: one variable of the head, as JSON, npy or raw bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common.h"
#include "handlers.h"
#include "json_scan.h"
#include "npy.h"
#include "text.h"
#include "values.h"
#include "weights.h"

enum { JSON, NPY, RAW, FORMATS };

static const char *const names[FORMATS] = {[JSON] = "json", [NPY] = "npy", [RAW] = "raw"};
static const char *const types[FORMATS] = {
    [JSON] = "application/json", [NPY] = "application/x-npy", [RAW] = "application/octet-stream"};

/* "d1/kernel" of the path: what stands behind /weights/. */
static const char *variable_name(const struct request *rq, char name[LAYER_NAME_MAX])
{
    size_t n = strlen(layer_of_path(rq, name));

    snprintf(name + n, LAYER_NAME_MAX - n, "/%s", path_param(rq, "{variable}"));
    return name;
}

/* The variable's index; false: 404. */
static bool find(const lip_model *m, const char *name, const char *model, size_t *index, struct reply *rp)
{
    const char *slash = strrchr(name, '/');
    bool layer = false;

    *index = lip_model_find_variable(m, name);
    if (*index < lip_model_variables(m))
        return true;
    for (size_t i = 0; i < lip_model_variables(m); i++)
        layer |= !strncmp(lip_model_variable(m, i)->name, name, (size_t)(slash - name) + 1);
    for (size_t i = 0; i < lip_model_layers(m); i++)
        layer |= !strncmp(lip_layer_name(lip_model_layer(m, i)), name, (size_t)(slash - name)) &&
                 !lip_layer_name(lip_model_layer(m, i))[slash - name];
    if (layer)
        reply_error(rp, 404, "unknown_tensor", NULL, "model '%s' has no tensor \"%.200s\"", model, name);
    else
        reply_error(rp, 404, "unknown_layer", NULL, "model '%s' has no layer \"%.*s\"", model, (int)(slash - name), name);
    return false;
}

/* ?format= wins over Accept. */
static bool choose_format(const struct request *rq, size_t *format, struct reply *rp)
{
    const char *name = request_query(rq, "format");

    *format = name ? 0 : codec_accept(rq, rp, types, FORMATS);
    while (name && *format < FORMATS && strcmp(name, names[*format]))
        ++*format;
    if (*format < FORMATS)
        return true;
    reply_error(rp, 406, "not_acceptable", json_pack("{s:[s, s, s]}", "formats", "json", "npy", "raw"),
                "%.60s is none of json, npy, raw", name ? name : request_header(rq, "Accept"));
    return false;
}

static void *as_json(const char *name, const lip_shape *shape, const float *x, size_t *size)
{
    struct text t = {0};

    text_puts(&t, "{\"name\":");
    text_quote(&t, name);
    text_puts(&t, ",\"datatype\":\"FP32\",\"shape\":[");
    for (size_t i = 0; i < shape->rank; i++)
        text_printf(&t, i ? ",%zu" : "%zu", shape->dim[i]);
    text_puts(&t, "],\"data\":[");
    text_floats(&t, x, lip_shape_count(shape));
    text_puts(&t, "]}");
    if (t.failed) {
        free(t.bytes);
        return NULL;
    }
    *size = t.n;
    return t.bytes;
}

static void *as_raw(const lip_shape *shape, const float *x, size_t *size)
{
    void *bytes;

    *size = lip_shape_count(shape) * sizeof *x;
    if ((bytes = malloc(*size ? *size : 1)))
        memcpy(bytes, x, *size);
    return bytes;
}

/* GET /v2/models/{m}/weights/{layer}/{variable}?format=json|npy|raw */
void handle_tensor_get(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const queries[] = {"format", NULL};
    struct published *now = NULL;
    struct model *model;
    char name[LAYER_NAME_MAX], etag[ETAG_MAX];
    size_t index, size = 0;
    size_t format;

    if (!codec_queries(rq, rp, queries) || !choose_format(rq, &format, rp) || !(model = find_model(ctx, rq, rp)))
        return;
    if (!(now = find_now(model, rp)))
        goto done;
    model_lock(model);
    if (find(lip_state_model(model->state), variable_name(rq, name), model->name, &index, rp)) {
        const lip_variable *v = lip_model_variable(lip_state_model(model->state), index);
        const float *x = lip_state_data(model->state, index);
        void *bytes = NULL;
        etag_of(etag, model->facts.epoch, model->facts.version, model->facts.state_revision, format == JSON ? NULL : names[format]);
        if (!codec_not_modified(rq, rp, etag)) {
            bytes = format == JSON  ? as_json(v->name, &v->shape, x, &size)
                    : format == NPY ? npy_write(CODEC_FP32, &v->shape, x, &size)
                                    : as_raw(&v->shape, x, &size);
            if (bytes)
                reply_bytes(rp, 200, types[format], bytes, size);
            else
                reply_no_memory(rp);
        }
    }
    pthread_mutex_unlock(&model->writing);
done:
    published_put(now);
    store_put(model);
}

/* ---- writing ---------------------------------------------------------------------------------------------- */

/* {"datatype", "shape", "data"}: what GET gives; only data is needed. */
static bool read_json(const struct request *rq, const lip_variable *v, lip_shape *shape, float **x, struct reply *rp)
{
    static const char *const members[] = {"name", "datatype", "shape", "data", NULL};
    struct json_spans spans = {.top = true};
    char why[256];
    const char *datatype, *name, *code;
    json_t *json, *dims, *dim;
    size_t i, count = 1;
    bool ok = false;

    if (!(json = json_scan((const char *)rq->body, rq->bytes, &spans, why, sizeof why))) {
        reply_error(rp, 400, "bad_json", NULL, "the body is not valid JSON: %s", why);
        return false;
    }
    *shape = v->shape;
    if (!json_is_object(json)) {
        reply_at(rp, 400, "bad_request", "", "the body needs to be a JSON object");
        goto done;
    }
    if (!codec_members(rp, json, "", members))
        goto done;
    name = json_string_value(json_object_get(json, "name"));
    if (name && strcmp(name, v->name) != 0) {
        reply_at(rp, 400, "bad_request", "/name", "the body is of \"%.200s\", the path of \"%.200s\"", name, v->name);
        goto done;
    }
    datatype = json_string_value(json_object_get(json, "datatype"));
    if (json_object_get(json, "datatype") && (!datatype || (strcmp(datatype, "FP32") && strcmp(datatype, "FP64")))) {
        reply_at(rp, 400, "datatype_mismatch", "/datatype", "weights are FP32 (or FP64, rounded)");
        goto done;
    }
    if ((dims = json_object_get(json, "shape"))) {
        *shape = (lip_shape){0};
        if (!json_is_array(dims) || json_array_size(dims) > LIP_MAX_RANK) {
            reply_at(rp, 400, "bad_request", "/shape", "shape needs to be a list of at most %d integers", LIP_MAX_RANK);
            goto done;
        }
        json_array_foreach(dims, i, dim) {
            json_int_t n = json_integer_value(dim);
            if (!json_is_integer(dim) || n < 0 || __builtin_mul_overflow(count, (size_t)n, &count) || count > rq->bytes) {
                reply_at(rp, 400, "size_mismatch", "/shape", "the shape does not fit the data");
                goto done;
            }
            shape->dim[shape->rank++] = (size_t)n;
        }
    }
    if (spans.n != 1) {
        reply_at(rp, 400, "bad_request", "/data", "the body needs \"data\", a list of numbers");
        goto done;
    }
    count = lip_shape_count(shape);
    if (!(*x = malloc((count + 1) * sizeof **x))) {
        reply_no_memory(rp);
        goto done;
    }
    code = values_from_json(CODEC_FP32, shape, count, spans.span[0].at, spans.span[0].at + spans.span[0].bytes, *x, why, sizeof why);
    if (code)
        reply_at(rp, 400, code, "/data", "%s", why);
    ok = code == NULL;
done:
    json_decref(json);
    return ok;
}

static bool read_body(const struct request *rq, const lip_variable *v, lip_shape *shape, float **x, struct reply *rp)
{
    const char *type = request_header(rq, "Content-Type");
    size_t count = lip_shape_count(&v->shape);
    char why[200];

    if (npy_is(rq->body, rq->bytes)) {
        if (npy_read(rq->body, rq->bytes, shape, x, why, sizeof why))
            return true;
        reply_error(rp, 422, "bad_file", NULL, "%s", why);
        return false;
    }
    bool json = type && !strncasecmp(type, "application/json", 16), raw = type && !strncasecmp(type, "application/octet-stream", 24);
    if (json || (!raw && rq->bytes && rq->body[0] == '{'))
        return read_json(rq, v, shape, x, rp);
    if (rq->bytes != count * sizeof **x) {
        reply_error(rp, 400, "size_mismatch", NULL, "\"%s\" needs %zu bytes, got %zu", v->name, count * sizeof **x, rq->bytes);
        return false;
    }
    *shape = v->shape;
    if (!(*x = malloc(rq->bytes + 1))) {
        reply_no_memory(rp);
        return false;
    }
    memcpy(*x, rq->body, rq->bytes);
    return true;
}

/* PUT /v2/models/{m}/weights/{layer}/{variable}  <-  JSON, npy or raw float32 */
void handle_tensor_put(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const queries[] = {"filename", NULL};
    struct model *model;
    lip_named tensor = {0};
    char name[LAYER_NAME_MAX];
    size_t index;
    float *x = NULL;

    if (!codec_queries(rq, rp, queries) || !(model = write_begin(ctx, rq, rp)))
        return;
    if (find(lip_state_model(model->state), variable_name(rq, name), model->name, &index, rp)) {
        const lip_variable *v = lip_model_variable(lip_state_model(model->state), index);
        if (read_body(rq, v, &tensor.shape, &x, rp)) {
            tensor.name = v->name;
            tensor.data = x;
            weights_load(model, &tensor, 1, true, rp);
        }
    }
    free(x);
    write_end(model);
}
