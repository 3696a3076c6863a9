#include "json_scan.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

/* The byte behind a string that begins at p; end when it does not end. */
static const char *string_end(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++)
        if (*p == '\\' && p + 1 < end)
            p++;
    return p < end ? p + 1 : end;
}

/* The next quote or square bracket from p on, or end. Blocks without any are passed over by vector instructions. */
static const char *next_mark(const char *p, const char *end)
{
    while (end - p >= 64) {
        unsigned char any = 0;

        for (int i = 0; i < 64; i++)
            any |= (p[i] == '"') | (p[i] == '[') | (p[i] == ']');
        if (any)
            break;
        p += 64;
    }
    while (p < end && *p != '"' && *p != '[' && *p != ']')
        p++;
    return p;
}

/* The byte behind an array that begins at p; NULL when it does not end. */
static const char *array_end(const char *p, const char *end)
{
    size_t depth = 0;

    while ((p = next_mark(p, end)) < end) {
        char c = *p;
        if (c == '"') {
            p = string_end(p, end);
            continue;
        }
        p++;
        if (c == '[')
            depth++;
        else if (c == ']' && --depth == 0)
            return p;
    }
    return NULL;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* Whether the string p..end, quotes included, spells `word`, with or without \u escapes. */
static bool spells(const char *p, const char *end, const char *word)
{
    p++;
    end--;
    for (; *word; word++) {
        if (p >= end)
            return false;
        if (*p == '\\') {
            int c = 0;
            if (end - p < 6 || p[1] != 'u')
                return false;
            for (int i = 2; i < 6; i++) {
                if (hex(p[i]) < 0)
                    return false;
                c = 16 * c + hex(p[i]);
            }
            if (c != *word)
                return false;
            p += 6;
        } else if (*p++ != *word) {
            return false;
        }
    }
    return p == end;
}

static bool space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Copies text to `cut` less the spans. false: too deep or too many. */
static bool cut_spans(const char *text, const char *end, struct json_spans *spans, struct text *cut, char *why, size_t size)
{
    enum { OTHER, INPUTS, DATA } key = OTHER; /* the key whose value comes next */
    size_t depth = 0;
    bool inside = false; /* within the array of the top-level "inputs" */
    char last = 0;
    const char *from = text, *p = text;

    while (p < end) {
        char c = *p;
        if (space(c)) {
            p++;
            continue;
        }
        if (c == '"') {
            const char *q = string_end(p, end);
            if (depth == 1)
                key = spells(p, q, "inputs") ? INPUTS : spans && spans->top && spells(p, q, "data") ? DATA : OTHER;
            else if (depth == 3 && inside && !(spans && spans->top))
                key = spells(p, q, "data") ? DATA : OTHER;
            p = q;
            last = c;
            continue;
        }
        if (c == '[' && last == ':' && key == DATA && spans && (spans->top ? depth == 1 : depth == 3 && inside)) {
            const char *q = array_end(p, end);
            if (q) {
                text_add(cut, from, (size_t)(p - from));
                if (spans->n == JSON_SPANS) { /* of more inputs than anybody takes */
                    text_puts(cut, "[]");
                } else {
                    text_printf(cut, "[%zu]", spans->n);
                    spans->span[spans->n].at = p;
                    spans->span[spans->n++].bytes = (size_t)(q - p);
                }
                from = p = q;
                last = ']';
                continue;
            }
        }
        if (c == '[' || c == '{') {
            if (c == '[' && depth == 1 && last == ':' && key == INPUTS)
                inside = true;
            if (++depth > JSON_DEPTH) {
                snprintf(why, size, "nested deeper than %d at byte %zu", JSON_DEPTH, (size_t)(p - text));
                return false;
            }
        } else if ((c == ']' || c == '}') && depth) {
            if (--depth == 1)
                inside = false;
        }
        last = c;
        p++;
    }
    if (spans)
        text_add(cut, from, (size_t)(end - from));
    return true;
}

/* A place in the cut text, as one in the text that came. */
static size_t original(const struct json_spans *spans, const char *text, size_t at)
{
    for (size_t i = 0; spans && i < spans->n; i++) {
        char mark[24];
        size_t start = (size_t)(spans->span[i].at - text), shorter = (size_t)snprintf(mark, sizeof mark, "[%zu]", i);
        if (at <= start)
            break;
        at = at + spans->span[i].bytes - shorter;
    }
    return at;
}

/* Clients send the same document again and again, but for the numbers: each thread keeps the last one. */
#define KEPT 1024
static _Thread_local struct {
    size_t n;
    json_t *json; /* NULL: none */
    char text[KEPT];
} kept;
static pthread_key_t kept_key;
static pthread_once_t kept_once = PTHREAD_ONCE_INIT;

static void kept_end(void *json)
{
    json_decref(json);
}

static void kept_begin(void)
{
    pthread_key_create(&kept_key, kept_end);
}

static void keep(const char *text, size_t n, json_t *json)
{
    if (n > KEPT)
        return;
    pthread_once(&kept_once, kept_begin);
    json_decref(kept.json);
    kept.json = NULL;
    if (pthread_setspecific(kept_key, json)) /* it is given back when the thread ends */
        return;
    memcpy(kept.text, text, n);
    kept.n = n;
    kept.json = json_incref(json);
}

json_t *json_scan(const char *text, size_t bytes, struct json_spans *spans, char *why, size_t size)
{
    struct text cut = {0};
    json_error_t error;
    json_t *json = NULL;
    const char *used = text;
    size_t used_bytes = bytes;

    if (spans)
        spans->n = 0;
    if (!cut_spans(text, text + bytes, spans, &cut, why, size)) {
        free(cut.bytes);
        return NULL;
    }
    if (cut.failed) {
        snprintf(why, size, "out of memory");
        free(cut.bytes);
        return NULL;
    }
    if (spans && spans->n) {
        used = cut.bytes;
        used_bytes = cut.n;
    }
    if (spans && spans->shared && kept.json && kept.n == used_bytes && !memcmp(kept.text, used, used_bytes))
        json = json_incref(kept.json);
    else if ((json = json_loadb(used, used_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error)) && spans && spans->shared)
        keep(used, used_bytes, json);
    if (!json) {
        size_t at = original(spans, text, error.position > 0 ? (size_t)error.position : 0), line = 1, column = 1;
        for (size_t i = 0; i < at && i < bytes; i++) {
            column++;
            if (text[i] == '\n') {
                line++;
                column = 1;
            }
        }
        snprintf(why, size, "%s (line %zu, column %zu)", error.text, line, column);
    }
    free(cut.bytes);
    return json;
}
