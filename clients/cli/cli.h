/* cli.h: what the subcommands share: options, paths, printing, data files. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http.h"
#include "idx.h"

struct options {
    const char *url, *images, *labels, *dataset;
    const char *epsilons, *classes;                     /* lists with commas */
    const char *norm, *arithmetic, *method, *of;        /* NULL: the server's default */
    const char *max_seconds, *input_norm, *k, *index;   /* numbers as they were typed, checked */
    long steps, batch, samples;                         /* samples 0: all */
    unsigned long long seed;
    double scale;
    bool quiet, attack, no_local, pairs;
    char **word; /* the subcommand and what it takes */
    int words;
};

/* Subcommands about bounds, in bounds.c. */
int lipschitz(const struct options *o, struct server *s);
int singular_values(const struct options *o, struct server *s);
int certify(const struct options *o, struct server *s);
int wasserstein(const struct options *o, struct server *s);
int tighten(const struct options *o, struct server *s);

/* ---- printing and paths ---------------------------------------------------------------------------------- */

int print_json(json_t *json); /* taken over */
int get_and_print(struct server *s, const char *path);

/* model_path: "/v2/models/NAME" + rest, what a name may not hold percent-encoded: refusing it is the server's business.
 * add_name: such a name behind what is there. */
const char *model_path(char *path, size_t size, const char *name, const char *rest);
void add_name(char *path, size_t size, const char *name);

/* progress_line: "step 3 of 8" and what else there is to say, behind a bar on a terminal; elsewhere a line of its own, if
 * `line`. */
void progress_line(const struct options *o, long step, long steps, bool line, const char *rest);

/* run_job: makes the job (request is taken over), shows its progress until it ends. Returns an exit status; json_decref both. */
int run_job(const struct options *o, struct server *s, json_t *request, json_t **job, json_t **result);

/* ---- data --------------------------------------------------------------------------------------------- */

/* Images, labels and what the model calls its input. */
struct data {
    struct idx images, labels;
    char input[300], shape[128]; /* "28,28,1" */
    unsigned char *body;
    size_t room;
};

/* data_open: both files, checked against each other and the model. Returns an exit status. Memory: data_clear, in any case. */
int data_open(struct data *d, const struct options *o, struct server *s);
void data_clear(struct data *d);
size_t data_samples(const struct data *d, const struct options *o); /* all, or as many as --samples says */

/* data_body: a request of n samples in the binary extension: a JSON header, float32 pixels, INT64 labels, little-endian.
 * more: further members of the request, or NULL. data_pair: two samples of images, as inputs p and q, without labels. */
int data_body(struct data *d, const struct options *o, const size_t *sample, size_t n, const json_t *more, struct body *body);
int data_pair(struct data *d, const struct options *o, const size_t *p, size_t n, const size_t *q, size_t m, const json_t *more,
              struct body *body);

int no_memory(size_t samples); /* says so; the exit status */

#endif
