/* data.c: images and labels from IDX files into requests. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

void data_clear(struct data *d)
{
    free(d->body);
    idx_clear(&d->labels);
    idx_clear(&d->images);
}

int no_memory(size_t samples)
{
    fprintf(stderr, "onelip: out of memory for %zu samples\n", samples);
    return EXIT_DATA;
}

/* The model's input: its name, and its shape when its size is that of an image. */
static int ask_input(struct data *d, const struct options *o, struct server *s)
{
    char path[512];
    json_t *answer = NULL, *size;
    size_t i, count = 1;
    int rc = server_call(s, "GET", model_path(path, sizeof path, o->word[1], ""), NULL, &answer);

    if (rc != EXIT_OK)
        return rc;
    const json_t *input = json_array_get(json_object_get(answer, "inputs"), 0);
    const char *name = json_string_value(json_object_get(input, "name"));
    snprintf(d->input, sizeof d->input, "%s", name ? name : "");
    json_array_foreach(json_object_get(input, "shape"), i, size) {
        size_t n = strlen(d->shape);
        if (i == 0)
            continue;
        count *= (size_t)json_integer_value(size);
        snprintf(d->shape + n, sizeof d->shape - n, "%s%lld", i > 1 ? "," : "", (long long)json_integer_value(size));
    }
    json_decref(answer);
    if (name && count == d->images.item)
        return EXIT_OK;
    fprintf(stderr, "onelip: an image of %s has %zu numbers, the input \"%s\" of %s takes %zu\n", o->images, d->images.item,
            d->input, o->word[1], count);
    return EXIT_DATA;
}

int data_open(struct data *d, const struct options *o, struct server *s)
{
    memset(d, 0, sizeof *d);
    if (!o->images || !o->labels) {
        fprintf(stderr, "onelip: %s needs --images and --labels; see onelip --help\n", o->word[0]);
        return EXIT_USAGE;
    }
    if (idx_read(&d->images, o->images) || idx_read(&d->labels, o->labels))
        return EXIT_DATA;
    if (d->labels.item != 1 || d->labels.dim[0] != d->images.dim[0]) {
        fprintf(stderr, "onelip: %s has %zu images and %s %zu labels\n", o->images, d->images.dim[0], o->labels,
                d->labels.dim[0]);
        return EXIT_DATA;
    }
    return ask_input(d, o, s);
}

size_t data_samples(const struct data *d, const struct options *o)
{
    return o->samples && (size_t)o->samples < d->images.dim[0] ? (size_t)o->samples : d->images.dim[0];
}

/* ---- requests ------------------------------------------------------------------------------------------- */

/* A tensor of a request, its bytes behind the header. Takes nothing; NULL: out of memory, or its shape is too long. */
static json_t *tensor(const char *name, size_t n, const char *each, const char *type, size_t bytes)
{
    char shape[160];
    json_t *dims;

    snprintf(shape, sizeof shape, *each ? "[%zu,%s]" : "[%zu]", n, each);
    dims = json_loads(shape, 0, NULL);
    return dims ? json_pack("{s:s, s:o, s:s, s:{s:I}}", "name", name, "shape", dims, "datatype", type, "parameters",
                            "binary_data_size", (json_int_t)bytes)
                : NULL;
}

/* Room for the header of these inputs (taken over), and behind it for their bytes; *at: where those go. */
static int begin(struct data *d, json_t *inputs, const json_t *more, size_t bytes, struct body *body, unsigned char **at)
{
    json_t *request = inputs ? json_pack("{s:o}", "inputs", inputs) : NULL;
    char *head = NULL;
    int rc = EXIT_OK;

    if (request && more && json_object_update(request, (json_t *)more)) {
        json_decref(request);
        request = NULL;
    }
    if (request)
        head = json_dumps(request, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(request);
    if (!head) {
        fprintf(stderr, "onelip: the request cannot be written\n");
        return EXIT_DATA;
    }
    body->json = strlen(head);
    body->bytes = body->json + bytes;
    if (d->room < body->bytes) {
        free(d->body);
        d->room = 0;
        d->body = malloc(body->bytes);
        d->room = d->body ? body->bytes : 0;
    }
    if (d->body) {
        memcpy(d->body, head, body->json);
        *at = d->body + body->json;
        body->data = d->body;
    } else {
        rc = no_memory(bytes / sizeof(float) / d->images.item);
    }
    free(head);
    return rc;
}

static unsigned char *put_pixels(const struct data *d, const struct options *o, const size_t *sample, size_t n, unsigned char *at)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < d->images.item; j++, at += sizeof(float)) {
            float x = (float)(d->images.data[sample[i] * d->images.item + j] * o->scale);
            memcpy(at, &x, sizeof x);
        }
    return at;
}

int data_body(struct data *d, const struct options *o, const size_t *sample, size_t n, const json_t *more, struct body *body)
{
    size_t pixels = n * d->images.item * sizeof(float), labels = n * sizeof(int64_t);
    unsigned char *at;
    int rc = begin(d, json_pack("[o, o]", tensor(d->input, n, d->shape, "FP32", pixels), tensor("y_true", n, "", "INT64", labels)), more,
                   pixels + labels, body, &at);

    if (rc != EXIT_OK)
        return rc;
    at = put_pixels(d, o, sample, n, at);
    for (size_t i = 0; i < n; i++, at += sizeof(int64_t)) {
        int64_t y = d->labels.data[sample[i]];
        memcpy(at, &y, sizeof y);
    }
    return EXIT_OK;
}

int data_pair(struct data *d, const struct options *o, const size_t *p, size_t n, const size_t *q, size_t m, const json_t *more,
              struct body *body)
{
    size_t each = d->images.item * sizeof(float);
    unsigned char *at;
    int rc = begin(d, json_pack("[o, o]", tensor("p", n, d->shape, "FP32", n * each), tensor("q", m, d->shape, "FP32", m * each)), more,
                   (n + m) * each, body, &at);

    if (rc == EXIT_OK)
        put_pixels(d, o, q, m, put_pixels(d, o, p, n, at));
    return rc;
}
