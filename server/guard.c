/* guard.c: requests that two readers could cut differently are refused; so are those without a readable Host. */
#include "guard.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_token(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)text[i]) && (!text[i] || !strchr("!#$%&'*+-.^_`|~", text[i])))
            return false;
    return length > 0;
}

static bool has_control(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (((unsigned char)text[i] < 0x20 && text[i] != '\t') || text[i] == 0x7f)
            return true;
    return false;
}

static bool is(const char *name, size_t length, const char *other)
{
    return length == strlen(other) && !strncasecmp(name, other, length);
}

static void wrong(struct guard *g, const char *why)
{
    if (!g->wrong)
        g->wrong = why;
}

static void content_length(struct guard *g, const char *value, size_t length)
{
    if (g->has_length)
        wrong(g, "two Content-Length headers");
    else if (!length || length > 18 || strspn(value, "0123456789") != length)
        wrong(g, "a Content-Length that is no number");
    else
        g->length = strtoull(value, NULL, 10);
    g->has_length = true;
}

static void transfer_encoding(struct guard *g, const char *value, size_t length)
{
    if (g->chunked)
        wrong(g, "two Transfer-Encoding headers");
    else if (!is(value, length, "chunked"))
        wrong(g, "a Transfer-Encoding other than chunked");
    g->chunked = true;
}

size_t guard_host(const char *value)
{
    size_t length;

    if (*value == '[') {
        length = strspn(value + 1, "0123456789abcdefABCDEF:.") + 1;
        if (length < 3 || value[length++] != ']')
            return 0;
    } else {
        length = strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_");
    }
    if (value[length] == ':' ? value[length + 1 + strspn(value + length + 1, "0123456789")] : value[length])
        return 0;
    return length;
}

void guard_header(struct guard *g, const char *name, size_t n, const char *value, size_t length)
{
    if (!is_token(name, n)) {
        wrong(g, "a header whose name is no token, or a space before its colon");
        return;
    }
    if (!value)
        value = "", length = 0;
    while (length && (value[length - 1] == ' ' || value[length - 1] == '\t'))
        length--;
    if (has_control(value, length))
        wrong(g, "a control character in a header");
    if (is(name, n, "Content-Length")) {
        content_length(g, value, length);
    } else if (is(name, n, "Transfer-Encoding")) {
        transfer_encoding(g, value, length);
    } else if (is(name, n, "Host")) {
        if (g->hosts++)
            wrong(g, "two Host headers");
        g->host = value;
        g->host_length = guard_host(value);
    } else if (is(name, n, "Expect")) {
        g->expect = is(value, length, "100-continue");
    } else if (is(name, n, "Origin")) {
        if (g->origin)
            wrong(g, "two Origin headers");
        g->origin = value;
    } else if (is(name, n, "Accept")) {
        g->accept = value;
    } else if (is(name, n, "X-Request-Id")) {
        g->id = value;
    } else if (is(name, n, "Content-Encoding")) {
        if (g->encoding)
            wrong(g, "two Content-Encoding headers");
        g->encoding = value;
    }
}

const char *guard_end(struct guard *g, bool http_1_0)
{
    if (g->has_length && g->chunked)
        wrong(g, "both Content-Length and Transfer-Encoding");
    if (g->chunked && http_1_0)
        wrong(g, "Transfer-Encoding in HTTP/1.0");
    if (!g->hosts && !http_1_0)
        wrong(g, "no Host header");
    if (g->hosts && !g->host_length && *g->host)
        wrong(g, "a Host header that names no host");
    return g->wrong;
}

/* The q among the parameters behind a media range. */
static double quality(const char *parameters, size_t length)
{
    for (size_t i = 0; i + 2 < length; i++)
        if ((parameters[i] == ';' || isspace((unsigned char)parameters[i])) &&
            (parameters[i + 1] == 'q' || parameters[i + 1] == 'Q') && parameters[i + 2] == '=')
            return strtod(parameters + i + 3, NULL);
    return 1;
}

bool guard_accepts(const char *accept, const char *type)
{
    while (accept && *accept) {
        size_t length = strcspn(accept, ","), space = strspn(accept, " \t"), name = strcspn(accept + space, " \t;,");

        if (is(accept + space, name, type) && quality(accept + space + name, length - space - name) > 0)
            return true;
        accept += length;
        accept += *accept == ',';
    }
    return false;
}

/* How exactly a media range means the type: 3 that one, 2 all of its kind, 1 all, 0 not. */
static int meant(const char *range, size_t length, const char *type)
{
    size_t kind = strcspn(type, "/") + 1; /* "application/" */

    if (is(range, length, type))
        return 3;
    if (length == kind + 1 && range[kind] == '*' && !strncasecmp(range, type, kind))
        return 2;
    return is(range, length, "*/*");
}

double guard_quality(const char *accept, const char *type)
{
    int best = 0;
    double q = 0;

    while (*accept) {
        size_t length = strcspn(accept, ","), space = strspn(accept, " \t"), name = strcspn(accept + space, " \t;,");
        int rank = meant(accept + space, name, type);

        if (rank > best) {
            best = rank;
            q = quality(accept + space + name, length - space - name);
        }
        accept += length;
        accept += *accept == ',';
    }
    return q;
}
