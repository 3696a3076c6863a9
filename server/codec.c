/* codec.c: infer's body and answer, the binary tensor extension included. */
#include "codec.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json_scan.h"
#include "text.h"
#include "values.h"

#define FRAMING "Inference-Header-Content-Length"

static const struct {
    const char *name;
    size_t size;
} types[CODEC_TYPES] = {
    [CODEC_BOOL] = {"BOOL", 1},     [CODEC_UINT8] = {"UINT8", 1},   [CODEC_UINT16] = {"UINT16", 2},
    [CODEC_UINT32] = {"UINT32", 4}, [CODEC_UINT64] = {"UINT64", 8}, [CODEC_INT8] = {"INT8", 1},
    [CODEC_INT16] = {"INT16", 2},   [CODEC_INT32] = {"INT32", 4},   [CODEC_INT64] = {"INT64", 8},
    [CODEC_FP16] = {"FP16", 2},     [CODEC_BF16] = {"BF16", 2},     [CODEC_FP32] = {"FP32", 4},
    [CODEC_FP64] = {"FP64", 8},     [CODEC_BYTES] = {"BYTES", 0},
};

const char *codec_type_name(enum codec_type type)
{
    return types[type].name;
}

size_t codec_type_size(enum codec_type type)
{
    return types[type].size;
}

static bool type_of(const char *name, enum codec_type *type)
{
    for (size_t i = 0; i < CODEC_TYPES; i++)
        if (!strcmp(types[i].name, name)) {
            *type = (enum codec_type)i;
            return true;
        }
    return false;
}

/* ---- reading: parameters, outputs ------------------------------------------------------------------------ */

static bool read_parameters(const json_t *parameters, const char *pointer, struct reply *rp)
{
    const char *key;
    json_t *value;

    if (!parameters || json_is_null(parameters))
        return true;
    if (!json_is_object(parameters)) {
        reply_at(rp, 400, "bad_parameter", pointer, "parameters needs to be an object");
        return false;
    }
    json_object_foreach((json_t *)parameters, key, value) {
        if (json_is_object(value) || json_is_array(value) || json_is_null(value)) {
            reply_at(rp, 400, "bad_parameter", pointer, "parameter '%.100s' needs to be a string, a number or a boolean", key);
            return false;
        }
    }
    return true;
}

/* A boolean parameter: *value 0 or 1, unchanged when it is not there. */
static bool read_flag(const json_t *parameters, const char *name, int *value, const char *pointer, struct reply *rp)
{
    const json_t *flag = json_object_get(parameters, name);

    if (!flag)
        return true;
    if (!json_is_boolean(flag)) {
        reply_at(rp, 400, "bad_parameter", pointer, "parameter '%s' needs to be true or false", name);
        return false;
    }
    *value = json_is_true(flag);
    return true;
}

static bool read_outputs(struct codec_body *b, struct reply *rp)
{
    const json_t *outputs = json_object_get(b->json, "outputs"), *one;
    size_t i;

    if (!outputs || json_is_null(outputs))
        return true;
    if (!json_is_array(outputs) || json_array_size(outputs) > CODEC_MAX_INPUTS) {
        reply_at(rp, 400, "bad_request", "/outputs", "outputs needs to be a list of at most %d objects", CODEC_MAX_INPUTS);
        return false;
    }
    b->outputs_given = json_array_size(outputs) > 0;
    json_array_foreach((json_t *)outputs, i, one) {
        const char *name = json_string_value(json_object_get(one, "name"));
        const json_t *parameters = json_object_get(one, "parameters");
        char pointer[48];
        int shared = 0;

        snprintf(pointer, sizeof pointer, "/outputs/%zu", i);
        if (!name) {
            reply_at(rp, 400, "bad_request", pointer, "an output needs a name");
            return false;
        }
        for (size_t k = 0; k < i; k++)
            if (!strcmp(b->output[k].name, name)) {
                reply_at(rp, 400, "bad_request", pointer, "output '%.200s' already exists in request", name);
                return false;
            }
        b->output[i].name = name;
        b->output[i].binary = -1;
        b->n_outputs = i + 1;
        if (!read_parameters(parameters, pointer, rp) ||
            !read_flag(parameters, "binary_data", &b->output[i].binary, pointer, rp))
            return false;
        const json_t *classes = json_object_get(parameters, "classification");
        if (json_integer_value(classes) || json_real_value(classes) > 0) {
            reply_at(rp, 501, "unsupported", pointer, "the classification extension is not supported");
            return false;
        }
        shared = json_object_get(parameters, "shared_memory_region") != NULL;
        if (shared) {
            reply_at(rp, 400, "bad_parameter", pointer, "Unable to find shared memory region: '%.100s'",
                     json_string_value(json_object_get(parameters, "shared_memory_region"))
                         ? json_string_value(json_object_get(parameters, "shared_memory_region"))
                         : "");
            return false;
        }
    }
    return true;
}

/* ---- reading: inputs ------------------------------------------------------------------------------------------ */

/* The shape and its number of elements; a product beyond what any body could hold is refused, not computed. */
static bool read_shape(const json_t *shape, struct codec_tensor *t, const char *pointer, struct reply *rp)
{
    const json_t *dim;
    size_t i, count = 1;
    bool empty = false, overflow = false;
    char at[96];

    snprintf(at, sizeof at, "%s/shape", pointer);
    if (!json_is_array(shape)) {
        reply_at(rp, 400, "bad_request", at, "input '%.200s' needs a shape, a list of integers", t->name);
        return false;
    }
    if (json_array_size(shape) > LIP_MAX_RANK) {
        reply_at(rp, 400, "shape_mismatch", at, "input '%.200s' has %zu axes, at most %d are possible", t->name,
                 json_array_size(shape), LIP_MAX_RANK);
        return false;
    }
    json_array_foreach((json_t *)shape, i, dim) {
        if (!json_is_integer(dim) || json_integer_value(dim) < 0) {
            snprintf(at, sizeof at, "%s/shape/%zu", pointer, i);
            reply_at(rp, 400, "bad_request", at, "the shape of input '%.200s' needs integers that are not negative", t->name);
            return false;
        }
        t->shape.dim[i] = (size_t)json_integer_value(dim);
        empty |= t->shape.dim[i] == 0;
        overflow |= __builtin_mul_overflow(count, t->shape.dim[i], &count);
    }
    t->shape.rank = json_array_size(shape);
    t->count = empty ? 0 : count;
    if (overflow && !empty) {
        reply_at(rp, 400, "size_mismatch", at, "the shape of input '%.200s' has more elements than memory has bytes", t->name);
        return false;
    }
    return true;
}

static bool one_of(struct reply *rp, const char *pointer, bool any)
{
    reply_at(rp, 400, "bad_request", pointer,
             "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
             "'shared_memory_region' in 'parameters'. But %s field is set",
             any ? "more than one" : "no");
    return false;
}

/* Where the input's numbers are: a span that was cut, or the next bytes behind the JSON. */
static bool read_place(const json_t *input, const struct json_spans *spans, struct codec_tensor *t, const char *model,
                       const char *pointer, const unsigned char **at, const unsigned char *end, bool framed, struct reply *rp)
{
    const json_t *data = json_object_get(input, "data"), *parameters = json_object_get(input, "parameters");
    const json_t *size = json_object_get(parameters, "binary_data_size");
    const json_t *region = json_object_get(parameters, "shared_memory_region");
    char place[96];

    if (json_is_null(data))
        data = NULL;
    if ((data != NULL) + (size != NULL) + (region != NULL) != 1)
        return one_of(rp, pointer, data || size || region);
    if (region) {
        const char *name = json_string_value(region);
        reply_at(rp, 400, "bad_parameter", pointer, "Unable to find shared memory region: '%.100s'", name ? name : "");
        return false;
    }
    if (size) {
        snprintf(place, sizeof place, "%s/parameters/binary_data_size", pointer);
        json_int_t n = json_integer_value(size);
        if (!json_is_integer(size) || n < 0) {
            reply_at(rp, 400, "bad_parameter", place, "binary_data_size of input '%.200s' needs an integer that is not negative",
                     t->name);
            return false;
        }
        if (!framed) {
            reply_at(rp, 400, "bad_request", place,
                     "input '%.200s' has binary_data_size, but the header " FRAMING " is missing", t->name);
            return false;
        }
        if ((uint64_t)n > (uint64_t)(end - *at)) {
            reply_at(rp, 400, "size_mismatch", place, "unexpected size for input '%.200s', expecting %lld additional bytes for model '%s'",
                     t->name, (long long)(n - (end - *at)), model);
            return false;
        }
        t->binary = true;
        t->data = *at;
        t->bytes = (size_t)n;
        *at += n;
        if (t->type == CODEC_BYTES) {
            reply_at(rp, 400, "datatype_mismatch", pointer, "input '%.200s' is BYTES, but numbers are needed", t->name);
            return false;
        }
        if (t->bytes % types[t->type].size || t->bytes / types[t->type].size != t->count) {
            reply_at(rp, 400, "size_mismatch", place,
                     "input byte size mismatch for input '%.200s' for model '%s'. Expected %zu, got %zu", t->name, model,
                     t->count * types[t->type].size, t->bytes);
            return false;
        }
        return true;
    }
    snprintf(place, sizeof place, "%s/data", pointer);
    size_t span = (size_t)json_integer_value(json_array_get(data, 0));
    if (!json_is_array(data) || span >= spans->n) {
        reply_at(rp, 400, "bad_request", place, "data of input '%.200s' needs to be a list", t->name);
        return false;
    }
    if (t->type == CODEC_FP16 || t->type == CODEC_BF16) {
        reply_at(rp, 400, "datatype_mismatch", place,
                 "receiving %s data via JSON is not supported. Please use the binary data format for input %.200s",
                 types[t->type].name, t->name);
        return false;
    }
    if (t->type == CODEC_BYTES) {
        reply_at(rp, 400, "datatype_mismatch", place, "input '%.200s' is BYTES, but numbers are needed", t->name);
        return false;
    }
    t->data = (const unsigned char *)spans->span[span].at;
    t->bytes = spans->span[span].bytes;
    if (t->count > t->bytes) { /* every number takes a byte and a comma */
        reply_at(rp, 400, "size_mismatch", place, "Unable to parse 'data': Shape does not match true shape of 'data' field");
        return false;
    }
    return true;
}

static const char *const input_members[] = {"name", "shape", "datatype", "parameters", "data", NULL};

static bool read_inputs(struct codec_body *b, const struct json_spans *spans, const char *model, bool native,
                        const unsigned char *at, const unsigned char *end, bool framed, struct reply *rp)
{
    const json_t *inputs = json_object_get(b->json, "inputs"), *one;
    size_t i;

    if (!inputs && native && json_object_get(b->json, "dataset") && at == end)
        return true;
    if (!inputs || !json_is_array(inputs) || json_array_size(inputs) > CODEC_MAX_INPUTS) {
        reply_at(rp, 400, "bad_request", inputs ? "/inputs" : "", "the body needs \"inputs\", a list of at most %d objects",
                 CODEC_MAX_INPUTS);
        return false;
    }
    json_array_foreach((json_t *)inputs, i, one) {
        struct codec_tensor *t = &b->input[i];
        const char *type;
        char pointer[40];

        *t = (struct codec_tensor){0};
        snprintf(pointer, sizeof pointer, "/inputs/%zu", i);
        if (!json_is_object(one) || !(t->name = json_string_value(json_object_get(one, "name")))) {
            reply_at(rp, 400, "bad_request", pointer, "an input needs to be an object with a name");
            return false;
        }
        if (native && !codec_members(rp, one, pointer, input_members))
            return false;
        t->index = i;
        for (size_t k = 0; k < i; k++)
            if (!strcmp(b->input[k].name, t->name)) {
                reply_at(rp, 400, "bad_request", pointer, "input '%.200s' already exists in request", t->name);
                return false;
            }
        b->n_inputs = i + 1;
        type = json_string_value(json_object_get(one, "datatype"));
        if (!type || !type_of(type, &t->type)) {
            char place[96];
            snprintf(place, sizeof place, "%s/datatype", pointer);
            reply_at(rp, 400, type ? "datatype_mismatch" : "bad_request", place,
                     type ? "input '%.200s' has the unknown datatype '%.100s'" : "input '%.200s' needs a datatype%s", t->name,
                     type ? type : "");
            return false;
        }
        if (!read_shape(json_object_get(one, "shape"), t, pointer, rp) ||
            !read_parameters(json_object_get(one, "parameters"), pointer, rp) ||
            !read_place(one, spans, t, model, pointer, &at, end, framed, rp))
            return false;
    }
    if (at < end) {
        reply_error(rp, 400, "size_mismatch", NULL, "unexpected additional input data for model '%s'", model);
        return false;
    }
    return true;
}

/* The length of the JSON in front of the tensors. false: the header is impossible. */
static bool read_framing(const struct request *rq, bool *framed, size_t *length, struct reply *rp)
{
    const char *header = request_header(rq, FRAMING);
    unsigned long long n;
    char *end;

    *framed = header != NULL;
    *length = rq->bytes;
    if (!header)
        return true;
    errno = 0;
    n = strtoull(header, &end, 10);
    if (header[0] < '0' || header[0] > '9' || *end || errno || n > rq->bytes) {
        reply_error(rp, 400, "bad_request", NULL, "inference header size should be in range (0, %zu), got: %.40s", rq->bytes,
                    header);
        return false;
    }
    *length = (size_t)n;
    return true;
}

/* Only what is looked at before it is set: the tables of inputs and outputs are 12 KB. */
static void begin_body(struct codec_body *b)
{
    b->json = NULL;
    b->id = NULL;
    b->parameters = NULL;
    b->raw = b->outputs_given = false;
    b->binary_output = -1;
    b->n_inputs = b->n_outputs = 0;
}

bool codec_read_body(const struct request *rq, const char *model, const char *const *members, struct codec_body *b,
                     struct reply *rp)
{
    struct json_spans spans = {.shared = true};
    const unsigned char *end = rq->body + rq->bytes;
    const json_t *id;
    size_t length;
    bool framed;
    char why[256];

    begin_body(b);
    if (!read_framing(rq, &framed, &length, rp))
        return false;
    if (framed && length == 0) {
        b->raw = true;
        b->binary_output = 1;
        b->n_inputs = 1;
        b->input[0] = (struct codec_tensor){
            .name = "", .type = CODEC_FP32, .data = rq->body, .bytes = rq->bytes, .count = rq->bytes / 4, .binary = true};
        return true;
    }
    if (!(b->json = json_scan((const char *)rq->body, length, &spans, why, sizeof why))) {
        reply_error(rp, 400, "bad_json", NULL, "%s is not valid JSON: %s", framed ? "the inference header" : "the body", why);
        return false;
    }
    if (!json_is_object(b->json)) {
        reply_at(rp, 400, "bad_request", "", "the body needs to be a JSON object");
        return false;
    }
    if (members && !codec_members(rp, b->json, "", members))
        return false;
    id = json_object_get(b->json, "id");
    if (id && !json_is_string(id) && !json_is_null(id)) {
        reply_at(rp, 400, "bad_request", "/id", "id needs to be a string");
        return false;
    }
    b->id = json_string_value(id);
    b->parameters = json_object_get(b->json, "parameters");
    return read_parameters(b->parameters, "/parameters", rp) &&
           read_flag(b->parameters, "binary_data_output", &b->binary_output, "/parameters/binary_data_output", rp) &&
           read_outputs(b, rp) && read_inputs(b, &spans, model, members != NULL, rq->body + length, end, framed, rp);
}

void codec_clear_body(struct codec_body *b)
{
    json_decref(b->json);
    begin_body(b);
}

struct codec_tensor *codec_find(struct codec_body *b, const char *name)
{
    for (size_t i = 0; i < b->n_inputs; i++)
        if (!strcmp(b->input[i].name, name))
            return &b->input[i];
    return NULL;
}

/* ---- tensors ---------------------------------------------------------------------------------------------------- */

float *codec_floats(const struct codec_tensor *t, struct reply *rp)
{
    float *x = NULL;
    char why[256], pointer[48];

    if (t->count > SIZE_MAX / sizeof *x - 64 || posix_memalign((void **)&x, 64, t->count * sizeof *x + 64)) {
        reply_no_memory(rp);
        return NULL;
    }
    if (t->binary) {
        if (values_from_bytes(t->type, t->data, t->count, x))
            return x;
        snprintf(pointer, sizeof pointer, "/inputs/%zu", t->index);
        reply_at(rp, 400, "datatype_mismatch", pointer, "input '%.200s' holds a finite number that is beyond FP32", t->name);
        free(x);
        return NULL;
    }
    snprintf(pointer, sizeof pointer, "/inputs/%zu/data", t->index);
    const char *code = values_from_json(t->type, &t->shape, t->count, (const char *)t->data, (const char *)t->data + t->bytes, x,
                                        why, sizeof why);
    if (!code)
        return x;
    reply_at(rp, 400, code, pointer, "%s (input '%.200s')", why, t->name);
    free(x);
    return NULL;
}

/* "[-1,784]" */
static void expected(const lip_shape *shape, char *text, size_t size)
{
    size_t n = (size_t)snprintf(text, size, "[-1");
    for (size_t i = 0; i < shape->rank && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, ",%zu", shape->dim[i]);
    if (n < size)
        snprintf(text + n, size - n, "]");
}

static bool shape_differs(const struct codec_tensor *t, const char *model, const lip_shape *shape, struct reply *rp)
{
    char want[256], got[256], pointer[64];
    json_t *where;
    size_t axis = 0;

    expected(shape, want, sizeof want);
    lip_shape_text(&t->shape, got, sizeof got);
    snprintf(pointer, sizeof pointer, "/inputs/%zu/shape", t->index);
    where = error_at(pointer, "expected %zu axes, got %zu", shape->rank + 1, t->shape.rank);
    if (t->shape.rank == shape->rank + 1) {
        while (axis < shape->rank && t->shape.dim[axis + 1] == shape->dim[axis])
            axis++;
        snprintf(pointer, sizeof pointer, "/inputs/%zu/shape/%zu", t->index, axis + 1);
        json_decref(where);
        where = error_at(pointer, "expected %zu, got %zu", shape->dim[axis], t->shape.dim[axis + 1]);
    }
    reply_error(rp, 400, "shape_mismatch", json_pack("{s:[o]}", "errors", where),
                "unexpected shape for input '%s' for model '%s'. Expected %s, got %s.", t->name, model, want, got);
    return false;
}

static bool known_input(const lip_model *definition, const char *const *others, const char *name)
{
    for (size_t i = 0; i < lip_model_inputs(definition); i++)
        if (!strcmp(lip_model_input_name(definition, i), name))
            return true;
    for (; others && *others; others++)
        if (!strcmp(*others, name))
            return true;
    return false;
}

static bool missing_input(const struct codec_body *b, const char *model, const lip_model *definition, const char *name,
                          struct reply *rp)
{
    struct text got = {0};

    for (size_t i = 0; i < b->n_inputs; i++)
        text_printf(&got, "%s'%s'", i ? "," : "", b->input[i].name);
    text_add(&got, "", 1);
    reply_at(rp, 400, "missing_input", "/inputs",
             "expected %zu inputs but got %zu inputs for model '%s'. Got input(s) [%s], but missing required input(s) "
             "['%s']. Please provide all required input(s).",
             lip_model_inputs(definition), b->n_inputs, model, got.failed ? "" : got.bytes, name);
    free(got.bytes);
    return false;
}

static bool castable(enum codec_type type)
{
    return type == CODEC_UINT8 || type == CODEC_FP16 || type == CODEC_BF16 || type == CODEC_FP64;
}

/* Input i of the model, whose samples are *n if `set`. */
static bool one_input(struct codec_body *b, const char *model, const lip_model *definition, size_t i, bool cast, bool set,
                      size_t *n, const float **x, float **owned, struct reply *rp)
{
    const char *name = lip_model_input_name(definition, i);
    const lip_shape *shape = lip_model_input_shape(definition, i);
    size_t each = lip_shape_count(shape);
    struct codec_tensor *t = b->raw ? &b->input[0] : codec_find(b, name);
    char pointer[64];

    if (b->raw) {
        if (t->bytes != each * sizeof(float)) {
            reply_error(rp, 400, "size_mismatch", NULL,
                        "input byte size mismatch for input '%s' for model '%s'. Expected %zu, got %zu", name, model,
                        each * sizeof(float), t->bytes);
            return false;
        }
        t->shape.rank = shape->rank + 1;
        t->shape.dim[0] = 1;
        memcpy(t->shape.dim + 1, shape->dim, shape->rank * sizeof *shape->dim);
    } else if (!t) {
        return missing_input(b, model, definition, name, rp);
    } else if (t->type != CODEC_FP32 && !(cast && castable(t->type))) {
        snprintf(pointer, sizeof pointer, "/inputs/%zu/datatype", t->index);
        reply_at(rp, 400, "datatype_mismatch", pointer, "inference input '%s' data-type is '%s', but model '%s' expects 'FP32'",
                 name, types[t->type].name, model);
        return false;
    } else if (t->shape.rank != shape->rank + 1 ||
               memcmp(t->shape.dim + 1, shape->dim, shape->rank * sizeof *shape->dim) != 0) {
        return shape_differs(t, model, shape, rp);
    }
    if (set && t->shape.dim[0] != *n) {
        snprintf(pointer, sizeof pointer, "/inputs/%zu/shape/0", t->index);
        reply_at(rp, 400, "shape_mismatch", pointer,
                 "input '%s' batch size does not match other inputs for '%s': %zu samples, got %zu", name, model, *n,
                 t->shape.dim[0]);
        return false;
    }
    *n = t->shape.dim[0];
    if (t->binary && t->type == CODEC_FP32 && (uintptr_t)t->data % sizeof(float) == 0) {
        *x = (const float *)(const void *)t->data;
        return true;
    }
    *x = *owned = codec_floats(t, rp);
    return *x != NULL;
}

bool codec_inputs(struct codec_body *b, const char *model, const lip_model *definition, const char *const *others, bool cast,
                  size_t *n, const float **x, float **owned, struct reply *rp)
{
    size_t inputs = lip_model_inputs(definition);

    memset(owned, 0, inputs * sizeof *owned);
    if (b->raw && inputs > 1) {
        reply_error(rp, 400, "bad_request", NULL, "a raw binary request holds one input, model '%s' has %zu", model, inputs);
        return false;
    }
    for (size_t i = 0; !b->raw && i < b->n_inputs; i++)
        if (!known_input(definition, others, b->input[i].name)) {
            char pointer[40];
            snprintf(pointer, sizeof pointer, "/inputs/%zu/name", i);
            reply_at(rp, 400, "unknown_input", pointer, "unexpected inference input '%.200s' for model '%s'", b->input[i].name,
                     model);
            return false;
        }
    for (size_t i = 0; i < inputs; i++)
        if (!one_input(b, model, definition, i, cast, i > 0, n, &x[i], &owned[i], rp))
            return false;
    return true;
}

bool codec_samples(const struct codec_tensor *t, const char *model, const lip_shape *shape, size_t *n, const float **x,
                   float **owned, struct reply *rp)
{
    *owned = NULL;
    if (t->shape.rank != shape->rank + 1 || memcmp(t->shape.dim + 1, shape->dim, shape->rank * sizeof *shape->dim) != 0)
        return shape_differs(t, model, shape, rp);
    *n = t->shape.dim[0];
    *x = *owned = codec_floats(t, rp);
    return *x != NULL;
}

/* ---- answers: which ------------------------------------------------------------------------------------------- */

bool codec_choose(const struct codec_body *b, const char *model, struct codec_result *results, size_t *n, struct reply *rp)
{
    size_t kept = 0;

    for (size_t i = 0; i < b->n_outputs; i++) {
        char pointer[48];
        size_t k = 0;
        while (k < *n && strcmp(results[k].name, b->output[i].name))
            k++;
        if (k < *n)
            continue;
        snprintf(pointer, sizeof pointer, "/outputs/%zu/name", i);
        reply_at(rp, 400, "unknown_output", pointer, "unexpected inference output '%.200s' for model '%s'", b->output[i].name,
                 model);
        return false;
    }
    for (size_t k = 0; k < *n; k++) {
        size_t i = 0;
        while (i < b->n_outputs && strcmp(results[k].name, b->output[i].name))
            i++;
        if (b->outputs_given && i == b->n_outputs)
            continue;
        results[kept] = results[k];
        results[kept++].binary = i < b->n_outputs && b->output[i].binary >= 0 ? b->output[i].binary : b->binary_output == 1;
    }
    *n = kept;
    return true;
}

/* ---- answers ------------------------------------------------------------------------------------------------------ */

static void add_members(struct text *t, const json_t *object)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)object, key, value) {
        text_puts(t, ",");
        text_quote(t, key);
        text_puts(t, ":");
        text_document(t, value);
    }
}

static size_t result_bytes(const struct codec_result *r)
{
    size_t count = lip_shape_count(&r->shape), n = count * types[r->type].size;

    for (size_t i = 0; r->type == CODEC_BYTES && i < count; i++)
        n += 4 + strlen(((const char *const *)r->data)[i]);
    return n;
}

static void add_bytes(struct text *t, const struct codec_result *r)
{
    if (r->type != CODEC_BYTES) {
        text_add(t, r->data, result_bytes(r));
        return;
    }
    for (size_t i = 0; i < lip_shape_count(&r->shape); i++) {
        const char *s = ((const char *const *)r->data)[i];
        size_t n = strlen(s);
        text_add(t, (char[]){(char)n, (char)(n >> 8), (char)(n >> 16), (char)(n >> 24)}, 4);
        text_add(t, s, n);
    }
}

static void add_values(struct text *t, const struct codec_result *r)
{
    size_t count = lip_shape_count(&r->shape);

    if (r->type == CODEC_FP32)
        text_floats(t, r->data, count);
    else if (r->type == CODEC_FP64)
        text_doubles(t, r->data, count);
    for (size_t i = 0; i < count && (r->type == CODEC_INT64 || r->type == CODEC_BYTES); i++) {
        text_puts(t, i ? "," : "");
        if (r->type == CODEC_INT64)
            text_printf(t, "%lld", (long long)((const int64_t *)r->data)[i]);
        else
            text_quote(t, ((const char *const *)r->data)[i]);
    }
}

void codec_answer(struct reply *rp, const char *model, const char *version, const char *id, const json_t *parameters,
                  const json_t *more, const struct codec_result *results, size_t n)
{
    struct text t = {0};
    size_t header, binary = 0, room = 512;
    char digits[21];

    for (size_t i = 0; i < n; i++)
        room += results[i].binary ? result_bytes(&results[i]) : 12 * lip_shape_count(&results[i].shape);
    text_room(&t, room);
    text_puts(&t, "{\"model_name\":");
    text_quote(&t, model);
    text_puts(&t, ",\"model_version\":");
    text_quote(&t, version);
    if (id) {
        text_puts(&t, ",\"id\":");
        text_quote(&t, id);
    }
    if (parameters) {
        text_puts(&t, ",\"parameters\":");
        text_document(&t, parameters);
    }
    if (more)
        add_members(&t, more);
    text_puts(&t, ",\"outputs\":[");
    for (size_t i = 0; i < n; i++) {
        const struct codec_result *r = &results[i];
        text_puts(&t, i ? ",{\"name\":" : "{\"name\":");
        text_quote(&t, r->name);
        text_puts(&t, ",\"datatype\":\"");
        text_puts(&t, types[r->type].name);
        text_puts(&t, "\",\"shape\":[");
        for (size_t k = 0; k < r->shape.rank; k++) {
            text_puts(&t, k ? "," : "");
            text_number(&t, r->shape.dim[k]);
        }
        if (r->binary) {
            text_puts(&t, "],\"parameters\":{\"binary_data_size\":");
            text_number(&t, result_bytes(r));
            text_puts(&t, "}}");
            binary += result_bytes(r);
        } else {
            text_puts(&t, "],\"data\":[");
            add_values(&t, r);
            text_puts(&t, "]}");
        }
    }
    text_puts(&t, "]}");
    header = t.n;
    for (size_t i = 0; binary && i < n; i++)
        if (results[i].binary)
            add_bytes(&t, &results[i]);
    if (t.failed) {
        free(t.bytes);
        reply_no_memory(rp);
        return;
    }
    if (binary) {
        text_digits(digits, header);
        reply_text(rp, FRAMING, digits);
    }
    reply_bytes(rp, 200, binary ? "application/octet-stream" : "application/json", t.bytes, t.n);
}
