#include "text.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "number.h"

bool text_room(struct text *t, size_t more)
{
    if (t->failed)
        return false;
    if (t->capacity - t->n < more) {
        size_t capacity = t->capacity + t->capacity / 2 + more;
        char *bytes = realloc(t->bytes, capacity);
        if (!bytes) {
            t->failed = true;
            return false;
        }
        t->bytes = bytes;
        t->capacity = capacity;
    }
    return true;
}

void text_add(struct text *t, const char *bytes, size_t n)
{
    if (!n || !text_room(t, n))
        return;
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
}

void text_puts(struct text *t, const char *string)
{
    text_add(t, string, strlen(string));
}

void text_printf(struct text *t, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0 || !text_room(t, (size_t)n + 1)) {
        t->failed = true;
        return;
    }
    va_start(args, format);
    vsnprintf(t->bytes + t->n, (size_t)n + 1, format, args);
    va_end(args);
    t->n += (size_t)n;
}

char *text_digits(char *at, uint64_t n)
{
    char digits[20];
    size_t first = sizeof digits;

    do {
        digits[--first] = (char)('0' + n % 10);
    } while (n /= 10);
    memcpy(at, digits + first, sizeof digits - first);
    at += sizeof digits - first;
    *at = '\0';
    return at;
}

void text_number(struct text *t, uint64_t n)
{
    char digits[21];

    text_add(t, digits, (size_t)(text_digits(digits, n) - digits));
}

void text_quote(struct text *t, const char *string)
{
    text_add(t, "\"", 1);
    for (const char *p = string; *p;) {
        const char *from = p;
        while ((unsigned char)*p >= 0x20 && *p != '"' && *p != '\\')
            p++;
        text_add(t, from, (size_t)(p - from));
        if (*p == '"' || *p == '\\')
            text_printf(t, "\\%c", *p++);
        else if (*p)
            text_printf(t, "\\u%04x", (unsigned char)*p++);
    }
    text_add(t, "\"", 1);
}

static const char *not_finite(double x)
{
    return isnan(x) ? "\"NaN\"" : x < 0 ? "\"-Infinity\"" : "\"Infinity\"";
}

void text_floats(struct text *t, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!text_room(t, NUMBER_MAX + 2))
            return;
        if (i)
            t->bytes[t->n++] = ',';
        if (isfinite(x[i]))
            t->n += number_write(x[i], t->bytes + t->n);
        else
            text_puts(t, not_finite((double)x[i]));
    }
}

/* The fewest digits that read back as x: 15 to 17, and of subnormal numbers, which have fewer bits, from 1 on. */
static void put_double(struct text *t, double x)
{
    char number[32], *exponent;
    int digits = fabs(x) < DBL_MIN ? 1 : 15;

    while (snprintf(number, sizeof number, "%.*g", digits, x), digits < 17 && strtod(number, NULL) != x)
        digits++;
    if (!(exponent = strchr(number, 'e'))) {
        text_puts(t, number);
        return;
    }
    text_add(t, number, (size_t)(exponent + 1 - number));
    text_puts(t, exponent[1] == '-' ? "-" : ""); /* "1e-07" and "1e+30" are 1e-7 and 1e30 */
    text_puts(t, exponent + 2 + strspn(exponent + 2, "0"));
}

void text_doubles(struct text *t, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        text_puts(t, i ? "," : "");
        if (!isfinite(x[i]))
            text_puts(t, not_finite(x[i]));
        else if (x[i] == 0)
            text_puts(t, signbit(x[i]) ? "-0.0" : "0");
        else
            put_double(t, x[i]);
    }
}

/* A real number of a document stays one where it has no fraction: 1.0. */
static void put_real(struct text *t, double x)
{
    size_t from = t->n;

    text_doubles(t, &x, 1);
    if (!t->failed && x == floor(x) && !memchr(t->bytes + from, 'e', t->n - from) && !memchr(t->bytes + from, '.', t->n - from))
        text_puts(t, ".0");
}

void text_document(struct text *t, const json_t *json)
{
    const char *key, *comma = "";
    json_t *value;
    size_t i;

    switch (json_typeof(json)) {
    case JSON_OBJECT:
        text_puts(t, "{");
        json_object_foreach((json_t *)json, key, value) {
            text_puts(t, comma);
            text_quote(t, key);
            text_puts(t, ":");
            text_document(t, value);
            comma = ",";
        }
        text_puts(t, "}");
        break;
    case JSON_ARRAY:
        text_puts(t, "[");
        json_array_foreach((json_t *)json, i, value) {
            text_puts(t, i ? "," : "");
            text_document(t, value);
        }
        text_puts(t, "]");
        break;
    case JSON_STRING:
        text_quote(t, json_string_value(json));
        break;
    case JSON_INTEGER:
        text_puts(t, json_integer_value(json) < 0 ? "-" : "");
        text_number(t, json_integer_value(json) < 0 ? -(uint64_t)json_integer_value(json) : (uint64_t)json_integer_value(json));
        break;
    case JSON_REAL:
        put_real(t, json_real_value(json));
        break;
    default:
        text_puts(t, json_is_true(json) ? "true" : json_is_false(json) ? "false" : "null");
        break;
    }
}

char *document_text(const json_t *json)
{
    struct text t = {0};

    if (!json)
        return NULL;
    text_document(&t, json);
    text_add(&t, "", 1);
    if (!t.failed)
        return t.bytes;
    free(t.bytes);
    return NULL;
}

const char *text_forever(const char *text)
{
    static struct known {
        struct known *next;
        char text[];
    } *all;
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct known *k;
    size_t n = strlen(text) + 1;

    pthread_mutex_lock(&lock);
    for (k = all; k && strcmp(k->text, text) != 0; k = k->next)
        continue;
    if (!k && (k = malloc(sizeof *k + n))) {
        memcpy(k->text, text, n);
        k->next = all;
        all = k;
    }
    pthread_mutex_unlock(&lock);
    return k ? k->text : NULL;
}
