/* bounds.c: reports, spectra, certificates, distances. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define EPSILONS "36/255,72/255,108/255,1"

/* One more query parameter behind a path, if it was given. */
static void add_query(char *path, size_t size, const char *name, const char *value)
{
    size_t n = strlen(path);

    if (!value)
        return;
    n += (size_t)snprintf(path + n, size - n, "%c%s=", strchr(path, '?') ? '&' : '?', name);
    if (n < size)
        add_name(path, size, value);
}

int lipschitz(const struct options *o, struct server *s)
{
    char path[1024];

    model_path(path, sizeof path, o->word[1], "/lipschitz");
    add_query(path, sizeof path, "method", o->method);
    add_query(path, sizeof path, "max_seconds", o->max_seconds);
    add_query(path, sizeof path, "input_norm", o->input_norm);
    add_query(path, sizeof path, "pairs", o->pairs ? "true" : NULL);
    return get_and_print(s, path);
}

int singular_values(const struct options *o, struct server *s)
{
    char path[1024];

    model_path(path, sizeof path - 64, o->word[1], "/layers/");
    add_name(path, sizeof path - 64, o->word[2]);
    snprintf(path + strlen(path), sizeof path - strlen(path), "/singular_values");
    add_query(path, sizeof path, "k", o->k);
    add_query(path, sizeof path, "of", o->of);
    return get_and_print(s, path);
}

int tighten(const struct options *o, struct server *s)
{
    char path[512];
    json_t *answer = NULL;
    int rc = server_call(s, "POST", model_path(path, sizeof path, o->word[1], "/tighten"), &(struct body){"{}", 2, 0}, &answer);

    return rc == EXIT_OK ? print_json(answer) : rc;
}

/* ---- certificates ----------------------------------------------------------------------------------------- */

/* "36/255,0.5" as numbers. NULL, after a line on stderr: something else. */
static json_t *read_epsilons(const char *text)
{
    json_t *list = json_array();
    const char *at = text;
    char *end;

    for (;;) {
        double x = strtod(at, &end);

        if (end != at && *end == '/')
            x /= strtod(at = end + 1, &end);
        if (end == at || (*end && *end != ',') || !(x >= 0) || !isfinite(x)) {
            fprintf(stderr, "onelip: --epsilons is \"%s\", needs numbers that are not negative, like 36/255,0.5\n", text);
            json_decref(list);
            return NULL;
        }
        json_array_append_new(list, json_real(x));
        if (!*end)
            return list;
        at = end + 1;
    }
}

/* What a request says beside its samples. NULL: said on stderr. */
static json_t *wishes(const struct options *o)
{
    json_t *epsilons = read_epsilons(o->epsilons ? o->epsilons : EPSILONS), *more = NULL;

    if (epsilons)
        more = json_pack("{s:o, s:{s:b, s:b, s:s*, s:s*}, s:[{s:s}]}", "epsilons", epsilons, "parameters", "attack", o->attack, "local",
                         !o->no_local, "norm", o->norm, "arithmetic", o->arithmetic, "outputs", "name", "label");
    if (more && o->attack)
        json_array_append_new(json_object_get(more, "outputs"), json_pack("{s:s}", "name", "attack_radius"));
    return more;
}

/* A certificate of all samples so far: means of those of its parts. */
struct tally {
    json_t *certificate, *alive; /* alive: the share that no attack within each epsilon has moved */
    size_t done, right;
};

/* Numbers and lists of them: the mean, into which x comes with this share; other members stay the first one's. */
static void mix(json_t *mean, const json_t *x, double share)
{
    static const char *const means[] = {"mean_radius", "provable_accuracy", "reference"};

    if (json_is_real(mean))
        json_real_set(mean, json_real_value(mean) + (json_number_value(x) - json_real_value(mean)) * share);
    for (size_t i = 0; json_is_array(mean) && i < json_array_size(mean); i++) {
        json_t *part = json_real(json_number_value(json_array_get(mean, i))); /* a whole number may stand there */
        mix(part, json_array_get(x, i), share);
        json_array_set_new(mean, i, part);
    }
    for (size_t i = 0; json_is_object(mean) && i < sizeof means / sizeof *means; i++)
        mix(json_object_get(mean, means[i]), json_object_get(x, means[i]), share);
}

static const json_t *output(const json_t *answer, const char *name)
{
    const json_t *one;
    size_t i;

    json_array_foreach(json_object_get(answer, "outputs"), i, one)
        if (json_string_value(json_object_get(one, "name")) && !strcmp(json_string_value(json_object_get(one, "name")), name))
            return json_object_get(one, "data");
    return NULL;
}

/* Of n samples whose attacks ended at these distances ("Infinity": nowhere). NULL: there was no attack. */
static json_t *alive(const json_t *radii, const json_t *epsilons, size_t n)
{
    json_t *list = radii ? json_array() : NULL, *epsilon, *radius;
    size_t i, j;

    json_array_foreach(list ? epsilons : NULL, i, epsilon) {
        size_t left = 0;
        json_array_foreach((json_t *)radii, j, radius)
            left += json_is_string(radius) || json_number_value(radius) > json_number_value(epsilon);
        json_array_append_new(list, json_real(n ? (double)left / (double)n : 0));
    }
    return list;
}

/* n more samples; labels (of the images, in sample's places) NULL: the answer has no more to tell about them. */
static void count(struct tally *t, const json_t *answer, size_t n, const unsigned char *labels)
{
    const json_t *certificate = json_object_get(answer, "certificate"), *label = output(answer, "label");
    json_t *survivors = alive(output(answer, "attack_radius"), json_object_get(certificate, "epsilons"), n);
    double share = (double)n / (double)(t->done + n);

    if (!t->certificate) {
        t->certificate = json_deep_copy(certificate);
        t->alive = json_incref(survivors);
    } else {
        mix(t->certificate, certificate, share);
        mix(t->alive, survivors, share);
    }
    for (size_t i = 0; labels && i < n; i++)
        t->right += json_integer_value(json_array_get(label, i)) == labels[i];
    t->done += n;
    json_decref(survivors);
}

/* accuracy is taken over. */
static int print_tally(const struct options *o, struct tally *t, json_t *accuracy)
{
    json_t *all = json_pack("{s:s, s:I, s:o, s:O*, s:O}", "model_name", o->word[1], "samples", (json_int_t)t->done, "accuracy", accuracy,
                            "attacked_accuracy", t->alive, "certificate", t->certificate);

    return all ? print_json(all) : no_memory(t->done);
}

static int certify_images(const struct options *o, struct server *s, const json_t *more, struct tally *t)
{
    struct data d;
    size_t *sample = calloc((size_t)o->batch, sizeof *sample), all = 0;
    long steps = 0;
    char path[512];
    int rc = data_open(&d, o, s);

    model_path(path, sizeof path, o->word[1], "/certify");
    if (rc == EXIT_OK) {
        all = data_samples(&d, o);
        steps = (long)((all + (size_t)o->batch - 1) / (size_t)o->batch);
        rc = sample ? EXIT_OK : no_memory((size_t)o->batch);
    }
    for (long step = 1; rc == EXIT_OK && step <= steps; step++) {
        size_t n = all - t->done < (size_t)o->batch ? all - t->done : (size_t)o->batch;
        struct body body;
        json_t *answer = NULL;
        for (size_t i = 0; i < n; i++)
            sample[i] = t->done + i;
        rc = data_body(&d, o, sample, n, more, &body);
        if (rc == EXIT_OK)
            rc = server_call(s, "POST", path, &body, &answer);
        if (rc == EXIT_OK) {
            count(t, answer, n, d.labels.data + t->done);
            progress_line(o, step, steps, step % 10 == 0 || step == steps, "");
        }
        json_decref(answer);
    }
    if (rc == EXIT_OK)
        rc = print_tally(o, t, json_real((double)t->right / (double)t->done));
    free(sample);
    data_clear(&d);
    return rc;
}

static int certify_dataset(const struct options *o, struct server *s, const json_t *more, struct tally *t)
{
    json_t *request = json_pack("{s:s, s:s, s:s}", "type", "certify", "model", o->word[1], "dataset", o->dataset), *job = NULL, *result = NULL;
    int rc;

    if (request)
        json_object_update(request, (json_t *)more);
    if ((rc = run_job(o, s, request, &job, &result)) == EXIT_OK) {
        const json_t *accuracy = json_object_get(json_object_get(job, "metrics"), "accuracy");
        count(t, result, (size_t)json_integer_value(json_object_get(json_object_get(result, "parameters"), "samples")), NULL);
        rc = print_tally(o, t, accuracy ? json_deep_copy(accuracy) : json_null());
    }
    json_decref(result);
    json_decref(job);
    return rc;
}

int certify(const struct options *o, struct server *s)
{
    struct tally t = {0};
    json_t *more = wishes(o);
    int rc = !more ? EXIT_USAGE : o->dataset ? certify_dataset(o, s, more, &t) : certify_images(o, s, more, &t);

    json_decref(t.certificate);
    json_decref(t.alive);
    json_decref(more);
    return rc;
}

/* ---- distances --------------------------------------------------------------------------------------------------- */

/* The first images of one class, at most --samples of them. */
static size_t of_class(const struct data *d, const struct options *o, long label, size_t *sample)
{
    size_t n = 0;

    for (size_t i = 0; i < d->images.dim[0] && (!o->samples || n < (size_t)o->samples); i++)
        if (d->labels.data[i] == label)
            sample[n++] = i;
    return n;
}

int wasserstein(const struct options *o, struct server *s)
{
    struct data d;
    size_t *p = NULL, *q, n, m;
    long a, b;
    char path[512], rest;
    json_t *more = json_pack("{s:{}}", "parameters"), *parameters = json_object_get(more, "parameters"), *answer = NULL;
    struct body body;
    int rc = data_open(&d, o, s);

    if (rc == EXIT_OK && (!o->classes || sscanf(o->classes, "%ld,%ld%c", &a, &b, &rest) != 2)) {
        fprintf(stderr, "onelip: wasserstein needs --classes like 0,8: whose images are compared\n");
        rc = EXIT_USAGE;
    }
    if (rc == EXIT_OK && !(p = calloc(2 * d.images.dim[0], sizeof *p)))
        rc = no_memory(d.images.dim[0]);
    if (rc == EXIT_OK) {
        q = p + d.images.dim[0];
        n = of_class(&d, o, a, p);
        m = of_class(&d, o, b, q);
        if (o->index)
            json_object_set_new(parameters, "index", json_integer(strtol(o->index, NULL, 10)));
        if (o->max_seconds)
            json_object_set_new(parameters, "max_seconds", json_real(strtod(o->max_seconds, NULL)));
        rc = data_pair(&d, o, p, n, q, m, more, &body);
    }
    if (rc == EXIT_OK)
        rc = server_call(s, "POST", model_path(path, sizeof path, o->word[1], "/wasserstein"), &body, &answer);
    if (rc == EXIT_OK) {
        json_object_del(answer, "outputs");
        rc = print_json(json_incref(answer));
    }
    json_decref(answer);
    json_decref(more);
    free(p);
    data_clear(&d);
    return rc;
}
