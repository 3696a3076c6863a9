/* weights.c: every variable of the head, as safetensors. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "handlers.h"
#include "weights.h"

/* Distances beyond these are worth a warning. */
#define STORED_TOLERANCE 1e-5
#define KERNEL_TOLERANCE 1e-3

static json_t *index_of(struct model *model)
{
    const lip_model *m = lip_state_model(model->state);
    json_t *list = json_array();

    for (size_t i = 0; i < lip_model_variables(m); i++) {
        const lip_variable *v = lip_model_variable(m, i);
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:b, s:I}", "name", v->name, "datatype", "FP32", "shape",
                                              codec_shape(&v->shape, NULL), "trainable", v->trainable, "bytes",
                                              (json_int_t)(lip_shape_count(&v->shape) * sizeof(float))));
    }
    return json_pack("{s:s, s:s, s:I, s:o}", "model_name", model->name, "model_version", model->facts.version, "state_revision",
                     (json_int_t)model->facts.state_revision, "tensors", list);
}

/* GET /v2/models/{m}/weights  ->  safetensors; ?list=true  ->  their index */
void handle_weights_get(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const names[] = {"list", "format", NULL};
    const char *format = request_query(rq, "format");
    char etag[ETAG_MAX];
    struct published *now = NULL;
    struct model *model;
    bool list = false;
    void *bytes = NULL, *copy = NULL;
    json_t *json = NULL;
    size_t size = 0;

    if (!codec_queries(rq, rp, names) || !codec_query_bool(rq, rp, "list", &list) || !(model = find_model(ctx, rq, rp)))
        return;
    if (format && strcmp(format, "safetensors") != 0) {
        reply_error(rp, 406, "not_acceptable", json_pack("{s:[s]}", "formats", "safetensors"),
                    "format is \"%.40s\"; there is safetensors", format);
    } else if ((now = find_now(model, rp))) {
        /* Cut between two steps: the state, and the revision it is of. */
        model_lock(model);
        etag_of(etag, model->facts.epoch, model->facts.version, model->facts.state_revision, NULL);
        if (!codec_not_modified(rq, rp, etag)) {
            if (list)
                json = index_of(model);
            else
                bytes = lip_state_save(model->state, &size);
        }
        pthread_mutex_unlock(&model->writing);
    }
    if (now && !rp->status) {
        if (list) {
            reply_json(rp, 200, json);
        } else if (!bytes || !(copy = malloc(size ? size : 1))) {
            reply_no_memory(rp);
        } else {
            memcpy(copy, bytes, size);
            reply_bytes(rp, 200, "application/x-safetensors", copy, size);
        }
    }
    lip_free(bytes);
    published_put(now);
    store_put(model);
}

/* What lip_state_load finds wrong, by list. */
static void problem(void *ctx, const char *list, const char *name, const char *text)
{
    json_t *extra = ctx, *names = json_object_get(extra, list);

    if (!names)
        json_object_set_new(extra, list, names = json_array());
    if (!strcmp(list, "shape"))
        json_array_append_new(names, json_pack("{s:o, s:o}", "name", text_json(name), "detail", text_json(text ? text : "")));
    else
        json_array_append_new(names, text_json(name));
}

/* ||a - b|| / ||b|| */
static double relative(const float *a, const float *b, size_t n)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return norm > 0 ? sqrt(difference / norm) : NAN;
}

static json_t *warning(const char *layer, const char *code, double distance, const char *text)
{
    return json_pack("{s:s, s:s, s:o, s:s}", "layer", layer, "code", code, "distance", codec_real(distance), "text", text);
}

/* How the kernels that came stand to the constraint. */
static void inspect(const lip_state *state, const lip_snapshot *snapshot, json_t *effective, json_t *warnings)
{
    const lip_model *m = lip_state_model(state);

    for (size_t i = 0; i < lip_model_layers(m); i++) {
        const lip_layer *layer = lip_model_layer(m, i);
        const lip_variable *kernel = NULL;
        size_t first = lip_layer_first_variable(layer), at = 0;
        double distance;
        if (!lip_layer_has_effective(layer))
            continue;
        lip_effective e = lip_state_effective(state, i);
        json_object_set_new(effective, lip_layer_name(layer), json_string(e == LIP_STORED ? "stored" : "computed"));
        distance = lip_snapshot_stored_distance(snapshot, i);
        if (e == LIP_STORED && distance > STORED_TOLERANCE)
            json_array_append_new(warnings, warning(lip_layer_name(layer), "stored_kernel", distance,
                                                    "the effective kernel that came differs from the one that kernel and u give; "
                                                    "it is served until a step, condense or refresh"));
        for (size_t k = 0; k < lip_layer_variables(layer); k++)
            if (lip_model_variable(m, first + k)->role == LIP_KERNEL)
                kernel = lip_model_variable(m, at = first + k);
        if (!kernel || !lip_snapshot_kernel(snapshot, i))
            continue;
        distance = relative(lip_state_data(state, at), lip_snapshot_kernel(snapshot, i), lip_shape_count(&kernel->shape));
        if (!(distance <= KERNEL_TOLERANCE))
            json_array_append_new(warnings, warning(lip_layer_name(layer), "unconstrained_kernel", distance,
                                                    "the kernel does not satisfy the constraint; what is served is its "
                                                    "normalised form"));
    }
}

void weights_load(struct model *model, const lip_named *tensors, size_t n, bool partial, struct reply *rp)
{
    json_t *extra = json_object(), *effective = json_object(), *warnings = json_array();
    lip_state *changed = NULL;
    lip_error err = {0};
    struct failure f = {0};
    struct published *now;
    size_t bytes = 0;

    if (lip_state_copy(model->state, &changed, &err)) {
        reply_lip_error(rp, &err, ABOUT_WEIGHTS, NULL);
    } else if (lip_state_load(changed, tensors, n, partial, problem, extra, &err)) {
        if (err.code == LIP_EWEIGHTS) {
            static const char *const lists[] = {"missing", "unexpected", "shape"};
            for (size_t i = 0; i < 3; i++)
                if (!json_object_get(extra, lists[i]))
                    json_object_set_new(extra, lists[i], json_array());
            reply_error(rp, 422, "bad_weights", json_incref(extra), "%s", err.text);
        } else {
            reply_lip_error(rp, &err, ABOUT_WEIGHTS, NULL);
        }
    } else if (!model_replace_state(model, changed, &f)) {
        reply_failure(rp, &f);
    } else {
        changed = NULL;
        for (size_t i = 0; i < n; i++)
            bytes += lip_shape_count(&tensors[i].shape) * sizeof(float);
        if ((now = model_now(model)))
            inspect(model->state, now->snapshot, effective, warnings);
        published_put(now);
        reply_state(rp, model);
        reply_json(rp, 200,
                   json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:O, s:O}", "model_name", model->name, "model_version", model->facts.version,
                             "state_revision", (json_int_t)model->facts.state_revision, "weights_revision",
                             (json_int_t)model->facts.weights_revision, "tensors", (json_int_t)n, "bytes", (json_int_t)bytes,
                             "effective_kernel", effective, "warnings", warnings));
    }
    lip_state_free(changed);
    json_decref(extra);
    json_decref(effective);
    json_decref(warnings);
}

/* PUT /v2/models/{m}/weights  <-  safetensors */
void handle_weights_put(struct ctx *ctx, const struct request *rq, struct reply *rp)
{
    static const char *const names[] = {"filename", NULL};
    lip_safetensors *file = NULL;
    lip_error err = {0};
    struct model *model = NULL;

    if (!codec_queries(rq, rp, names))
        return;
    if (rq->bytes >= 4 && (!memcmp(rq->body, "PK\3\4", 4) || !memcmp(rq->body, "\211HDF", 4)))
        reply_error(rp, 501, "unsupported", NULL, "reading npz, .h5 and .keras files is not built in; safetensors is");
    else if (lip_safetensors_read(rq->body, rq->bytes, &file, &err))
        reply_lip_error(rp, &err, ABOUT_WEIGHTS, NULL);
    else if ((model = write_begin(ctx, rq, rp)))
        weights_load(model, lip_safetensors_tensors(file), lip_safetensors_count(file), false, rp);
    if (model)
        write_end(model);
    lip_safetensors_free(file);
}
