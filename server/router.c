/* router.c: the path is split before it is decoded, so that an encoded "/" can never make another segment. */
#include "router.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SEGMENTS 16

struct segments {
    size_t n;
    char *at[MAX_SEGMENTS];
};

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

long percent_decode(char *text)
{
    char *to = text;

    for (const char *from = text; *from; to++) {
        if (*from != '%') {
            *to = *from++;
        } else {
            int high = hex(from[1]), low = high < 0 ? -1 : hex(from[2]);

            if (low < 0)
                return -1;
            *to = (char)(high << 4 | low);
            from += 3;
        }
    }
    *to = '\0';
    return to - text;
}

/* Whether text is UTF-8: no stray or missing continuation, no long form, no surrogate, nothing beyond U+10FFFF. */
static bool is_utf8(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c;) {
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        int more = *c < 0x80 ? 0 : (*c & 0xe0) == 0xc0 ? 1 : (*c & 0xf0) == 0xe0 ? 2 : (*c & 0xf8) == 0xf0 ? 3 : -1;
        uint32_t code = more <= 0 ? *c : *c & (0x3fu >> more);

        if (more < 0)
            return false;
        c++;
        for (int i = 0; i < more; i++, c++) {
            if ((*c & 0xc0) != 0x80)
                return false;
            code = code << 6 | (*c & 0x3fu);
        }
        if (code < least[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
            return false;
    }
    return true;
}

/* Decode one segment in place; NULL, or what is wrong with it. */
static const char *decode_segment(char *segment)
{
    long length;

    if (strstr(segment, "%2F") || strstr(segment, "%2f"))
        return "holds an encoded \"/\"";
    if (strstr(segment, "%00"))
        return "holds a NUL";
    length = percent_decode(segment);
    if (length < 0)
        return "has a \"%\" without two hexadecimal digits";
    if (!strcmp(segment, ".") || !strcmp(segment, ".."))
        return "is \".\" or \"..\"";
    for (const char *c = segment; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return "holds a control character";
    return is_utf8(segment) ? NULL : "is not UTF-8";
}

/* [A-Za-z0-9_][A-Za-z0-9._-]{0,127} */
static bool is_name(const char *text)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t length = strlen(text);

    return length && length <= 128 && strspn(text, letters) == length && *text != '.' && *text != '-';
}

/* [0-9]+, positive */
static bool is_version(const char *text)
{
    size_t length = strlen(text);

    return length && length < 19 && strspn(text, "0123456789") == length && strspn(text, "0") < length;
}

/* Cut text at its slashes. One slash at the end makes no segment. false: more segments than any route has. */
static bool split(char *text, struct segments *s)
{
    s->n = 0;
    while (*text == '/') {
        *text++ = '\0';
        if (!*text && s->n)
            return true;
        if (s->n == MAX_SEGMENTS)
            return false;
        s->at[s->n++] = text;
        text += strcspn(text, "/");
    }
    return !*text;
}

/* How many segments a template has from here on. */
static size_t segments_in(const char *template)
{
    size_t n = 0;

    for (; *template; template++)
        n += *template == '/';
    return n;
}

/* Which segments of the path a parameter stands for: first, and how many. */
struct span {
    size_t first, n;
};

/* Whether the path fits the template; then *score orders literals before parameters, the first segment counting most.
 * "{inner}" stands for as many segments as the others leave, which is one at least.
 * Every line of the table is asked for every request, so this goes by characters and calls nobody. */
static bool fits(const char *template, const struct segments *s, unsigned *score, struct span *param)
{
    size_t params = 0;

    *score = 0;
    for (size_t i = 0; i < s->n; i++) {
        const char *segment = s->at[i];

        if (*template++ != '/')
            return false;
        if (*template == '{') {
            bool many = !strncmp(template, "{inner}", 7);

            if (!*segment || params == MAX_PARAMS)
                return false;
            param[params] = (struct span){i, 1};
            while (*template && *template != '/')
                template++;
            for (size_t behind = many ? segments_in(template) : 0; many && s->n - i - 1 > behind && *s->at[i + 1]; i++)
                param[params].n++;
            params++;
        } else {
            for (; *segment && *segment == *template; segment++)
                template++;
            if (*segment || (*template && *template != '/'))
                return false;
            *score |= 1u << (MAX_SEGMENTS - 1 - i);
        }
    }
    return !*template;
}

/* The segments of a span as one text, slashes between them, in the place of the first. */
static const char *join(const struct segments *s, struct span span)
{
    char *end = s->at[span.first] + strlen(s->at[span.first]);

    for (size_t i = 1; i < span.n; i++) {
        const char *next = s->at[span.first + i];
        size_t length = strlen(next);

        *end++ = '/';
        memmove(end, next, length + 1);
        end += length;
    }
    return s->at[span.first];
}

/* Add one method, and HEAD with GET, to "A, B". */
static void allow(char *list, size_t size, const char *method)
{
    size_t n = strlen(list);

    if (!strstr(list, method)) /* no method's name is inside another's, but for HEAD, which follows GET */
        snprintf(list + n, size - n, "%s%s%s", n ? ", " : "", method, strcmp(method, "GET") ? "" : ", HEAD");
}

/* Names that a template asks for: {m}, {v} and the other single letters that stand for stored things. */
static enum route_found check_names(struct match *match)
{
    const char *at = match->route->template;

    for (size_t i = 0; (at = strchr(at, '{')); at++, i++) {
        const char *value = match->param[i];

        if (!strncmp(at, "{v}", 3) && !is_version(value))
            snprintf(match->why, sizeof match->why,
                     "failed to get model version from specified version string '%.60s' (wanted a positive integer)", value);
        else if ((!strncmp(at, "{m}", 3) || !strncmp(at, "{d}", 3) || !strncmp(at, "{c}", 3) || !strncmp(at, "{label}", 7)) &&
                 !is_name(value))
            snprintf(match->why, sizeof match->why,
                     "\"%.60s\" is not a name: 1 to 128 of A-Z a-z 0-9 . _ -, the first a letter, digit or _", value);
        else
            continue;
        return ROUTE_BAD_NAME;
    }
    return ROUTE_FOUND;
}

/* The target without the prefix; NULL when it does not begin with it. */
static const char *without_prefix(const char *target, const char *prefix)
{
    size_t length = strlen(prefix);

    if (strncmp(target, prefix, length) || (target[length] && target[length] != '/'))
        return NULL;
    return length && !target[length] ? "/" : target + length;
}

enum route_found router_find(const struct route *table, const char *method, const char *target, const char *prefix,
                             struct match *match)
{
    struct segments s;
    struct span best_param[MAX_PARAMS] = {{0}};
    unsigned best = 0, score;
    const char *below = without_prefix(target, prefix);
    size_t size;
    char *cut;

    *match = (struct match){0};
    if (!below || *below != '/')
        return ROUTE_NONE;
    size = strlen(target) + 1;
    if (!(match->memory = malloc(2 * size + 1))) /* the path whole, and cut into segments; below the prefix is at least "/" */
        return ROUTE_NONE;
    match->path = match->memory;
    memcpy(match->path, target, size);
    cut = match->memory + size;
    strcpy(cut, below);
    percent_decode(match->path);
    if (!split(cut, &s))
        return ROUTE_NONE;
    for (size_t i = 0; i < s.n; i++) {
        const char *wrong = decode_segment(s.at[i]);

        if (wrong) {
            snprintf(match->why, sizeof match->why, "segment %zu of the path %s", i + 1, wrong);
            return ROUTE_BAD_NAME;
        }
    }
    for (const struct route *r = table; r->method; r++) {
        struct span param[MAX_PARAMS] = {{0}};

        if (!fits(r->template, &s, &score, param) || score < best)
            continue;
        if (score > best) { /* what was found so far is another resource */
            best = score;
            match->route = NULL;
            match->allow[0] = '\0';
        }
        if (strcmp(r->method, method)) {
            allow(match->allow, sizeof match->allow, r->method);
        } else {
            match->route = r;
            memcpy(best_param, param, sizeof param);
        }
    }
    for (size_t i = 0; match->route && i < MAX_PARAMS && best_param[i].n; i++)
        match->param[i] = join(&s, best_param[i]);
    return match->route ? check_names(match) : match->allow[0] ? ROUTE_OTHER_METHOD : ROUTE_NONE;
}
