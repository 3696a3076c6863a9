#include "text.h"

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

void text_number(struct text *t, uint64_t n)
{
    char digits[20];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + n % 10);
    } while (n /= 10);
    text_add(t, digits + at, sizeof digits - at);
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

void text_doubles(struct text *t, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char number[32];
        int digits = 15;

        while (isfinite(x[i]) && digits <= 17 &&
               (snprintf(number, sizeof number, "%.*g", digits, x[i]), strtod(number, NULL) != x[i]))
            digits++;
        text_puts(t, i ? "," : "");
        text_puts(t, !isfinite(x[i]) ? not_finite(x[i]) : x[i] == 0 && signbit(x[i]) ? "-0.0" : number);
    }
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
