/* csv.c: a header line of column names, then numbers: all columns but the label's become x, row by row. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "number.h"

enum { COLUMNS_MAX = 65536, FIELD_MAX = 200, BUFFER = 8192 };

struct csv {
    const char *at, *end;
    size_t line;
    struct failure *f;
};

/* A field without its quotes, cut to FIELD_MAX. false: the line has ended before it; *last: it is the line's last. */
static bool field(struct csv *c, char text[FIELD_MAX + 1], bool *last)
{
    size_t n = 0;
    bool quoted = c->at < c->end && *c->at == '"';

    for (c->at += quoted; c->at < c->end; c->at++) {
        if (quoted && *c->at == '"') {
            if (c->at + 1 < c->end && c->at[1] == '"') {
                c->at++;
            } else {
                quoted = false;
                continue;
            }
        } else if (!quoted && (*c->at == ',' || *c->at == '\n' || *c->at == '\r')) {
            break;
        }
        if (n < FIELD_MAX)
            text[n++] = *c->at;
    }
    text[n] = 0;
    if (quoted)
        return failure_set(c->f, 422, "bad_file", "line %zu: a quoted field does not end", c->line);
    *last = c->at == c->end || *c->at != ',';
    if (!*last) {
        c->at++;
    } else {
        if (c->at < c->end && *c->at == '\r')
            c->at++;
        if (c->at < c->end && *c->at == '\n')
            c->at++;
    }
    return true;
}

static bool number(struct csv *c, size_t column, const char *text, double *value)
{
    char *end;

    text += strspn(text, " \t");
    *value = strtod(text, &end);
    end += strspn(end, " \t");
    if (!*text || *end || strpbrk(text, "xXnN"))
        return failure_set(c->f, 422, "bad_file", "line %zu, column %zu: \"%.60s\" is no number", c->line, column + 1, text);
    if (!isfinite(*value))
        return failure_set(c->f, 422, "nonfinite", "line %zu, column %zu: %.60s is beyond all numbers", c->line, column + 1, text);
    return true;
}

/* float32 straight from the text, rounded once. */
static float single(const char *text, double value)
{
    char copy[FIELD_MAX + 2];
    size_t n = strlen(text);
    float x;

    memcpy(copy, text, n);
    copy[n] = ',';
    return number_read(copy, copy + n, &x) == copy + n ? x : (float)value;
}

static bool flush(struct spool *spool, const void *values, size_t *n, size_t size, const struct array_room *room, struct failure *f)
{
    int error;

    if (spool->size + *n * size > room->left)
        return failure_set(f, 413, "too_large", "the table is larger than the largest upload");
    if ((error = spool_write(spool, values, *n * size)))
        return failure_errno(f, error, "the table");
    *n = 0;
    return true;
}

/* A name without the spaces around it: "a, b" has a column b. */
static char *trimmed(char *text)
{
    size_t n;

    text += strspn(text, " \t");
    for (n = strlen(text); n && (text[n - 1] == ' ' || text[n - 1] == '\t'); n--)
        text[n - 1] = 0;
    return text;
}

/* The header line: how many columns, and which is the label's (-1: none). */
static bool header(struct csv *c, const char *label, size_t *columns, long *of_label)
{
    char text[FIELD_MAX + 1], seen[200] = ""; /* the first columns' names */
    bool last = false;

    *columns = 0;
    *of_label = -1;
    if (c->end - c->at >= 3 && !memcmp(c->at, "\xef\xbb\xbf", 3))
        c->at += 3;
    while (!last) {
        if (!field(c, text, &last))
            return false;
        if (*columns == COLUMNS_MAX)
            return failure_set(c->f, 422, "bad_file", "the table has more than %d columns", COLUMNS_MAX);
        const char *name = trimmed(text);
        size_t used = strlen(seen);
        if (label && !strcmp(name, label))
            *of_label = (long)*columns;
        if (used + 1 < sizeof seen)
            snprintf(seen + used, sizeof seen - used, "%s%.40s", *columns ? ", " : "", name);
        ++*columns;
    }
    if (label && *of_label < 0)
        return failure_set(c->f, 422, "bad_file", "the table has no column \"%.100s\"; it has %s", label, seen);
    if (*columns < (label ? 2 : 1))
        return failure_set(c->f, 422, "bad_file", "the table has no column besides the label");
    return true;
}

/* The same labels as INT64; NULL with f. */
static struct spool *whole_numbers(struct arrays *out, struct array_room *room, const struct spool *labels, size_t rows,
                                   struct failure *f)
{
    struct spool *integers = array_spool(out, room, 0, f);
    int64_t piece[1024];
    size_t n = 0;

    for (size_t i = 0; integers && i < rows; i++) {
        double value;

        memcpy(&value, labels->map + sizeof value * i, sizeof value);
        piece[n++] = (int64_t)value;
        if ((n == sizeof piece / sizeof *piece || i + 1 == rows) && !flush(integers, piece, &n, sizeof *piece, room, f))
            return NULL;
    }
    return integers && array_map(integers, f) ? integers : NULL;
}

bool csv_read(const unsigned char *bytes, size_t size, const char *label, struct array_room *room, struct arrays *out,
              struct failure *f)
{
    struct csv c = {(const char *)bytes, (const char *)bytes + size, 1, f};
    struct spool *xs, *ys;
    size_t columns, rows = 0, nx = 0, ny = 0;
    bool whole = true;
    float *x = NULL;
    double *y = NULL;
    long of_label;

    if (memchr(bytes, 0, size < 4096 ? size : 4096))
        return failure_set(f, 422, "bad_file", "the file is none of npz, safetensors and CSV");
    if (!header(&c, label, &columns, &of_label) || !(xs = array_spool(out, room, 0, f)) || !(ys = array_spool(out, room, 0, f)))
        return false;
    x = malloc(BUFFER * sizeof *x);
    y = malloc(BUFFER * sizeof *y);
    if (!x || !y) {
        failure_set(f, 503, "out_of_memory", "out of memory for a table");
        goto done;
    }
    for (c.line = 2; c.at < c.end; c.line++) {
        char text[FIELD_MAX + 1];
        bool last = false;
        double value;

        if (*c.at == '\n' || *c.at == '\r') { /* an empty line */
            c.at += *c.at == '\r' && c.at + 1 < c.end && c.at[1] == '\n' ? 2 : 1;
            continue;
        }
        for (size_t i = 0; i < columns; i++) {
            if (last) {
                failure_set(f, 422, "bad_file", "line %zu has %zu fields, the header has %zu", c.line, i, columns);
                goto done;
            }
            if (!field(&c, text, &last) || !number(&c, i, text, &value))
                goto done;
            if ((long)i == of_label) {
                whole = whole && value == nearbyint(value) && fabs(value) < 0x1p53;
                y[ny++] = value;
                if (ny == BUFFER && !flush(ys, y, &ny, sizeof *y, room, f))
                    goto done;
            } else {
                x[nx++] = single(text + strspn(text, " \t"), value);
                if (nx == BUFFER && !flush(xs, x, &nx, sizeof *x, room, f))
                    goto done;
            }
        }
        if (!last) {
            failure_set(f, 422, "bad_file", "line %zu has more than the header's %zu fields", c.line, columns);
            goto done;
        }
        rows++;
    }
    if (!flush(xs, x, &nx, sizeof *x, room, f) || !flush(ys, y, &ny, sizeof *y, room, f))
        goto done;
    if (!array_map(xs, f) || !array_map(ys, f))
        goto done;
    out->array[out->n++] = (struct array){.name = "x", .type = CODEC_FP32, .shape = {2, {rows, columns - (label != NULL)}},
                                          .data = xs->map};
    if (label && whole)
        ys = whole_numbers(out, room, ys, rows, f);
    if (label && ys)
        out->array[out->n++] = (struct array){
            .name = "y_true", .type = whole ? CODEC_INT64 : CODEC_FP64, .shape = {1, {rows}}, .data = ys->map};
done:
    free(x);
    free(y);
    return !f->status;
}
