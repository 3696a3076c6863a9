#include "values.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "number.h"

#define MISMATCH "Unable to parse 'data': Shape does not match true shape of 'data' field"

/* ---- bytes ------------------------------------------------------------------------------------------------ */

static float from_half(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    float x = exponent == 31 ? (fraction ? NAN : INFINITY)
              : exponent     ? ldexpf((float)(1024 + fraction), exponent - 25)
                             : ldexpf((float)fraction, -24);
    return h >> 15 ? -x : x;
}

static float single(double v, bool *fits)
{
    float x = (float)v;

    *fits &= !isinf(x) || isinf(v);
    return x;
}

#define EACH(ctype, convert)                               \
    for (size_t i = 0; i < n; i++, bytes += sizeof(ctype)) { \
        ctype v;                                           \
        memcpy(&v, bytes, sizeof v);                       \
        x[i] = convert;                                    \
    }                                                      \
    break

bool values_from_bytes(enum codec_type type, const unsigned char *bytes, size_t n, float *x)
{
    bool fits = true;

    switch (type) {
    case CODEC_FP32:
        if (n)
            memcpy(x, bytes, n * sizeof *x);
        break;
    case CODEC_BOOL: EACH(uint8_t, v != 0);
    case CODEC_UINT8: EACH(uint8_t, v);
    case CODEC_UINT16: EACH(uint16_t, v);
    case CODEC_UINT32: EACH(uint32_t, (float)v);
    case CODEC_UINT64: EACH(uint64_t, (float)v);
    case CODEC_INT8: EACH(int8_t, v);
    case CODEC_INT16: EACH(int16_t, v);
    case CODEC_INT32: EACH(int32_t, (float)v);
    case CODEC_INT64: EACH(int64_t, (float)v);
    case CODEC_FP64: EACH(double, single(v, &fits));
    case CODEC_FP16: EACH(uint16_t, from_half(v));
    case CODEC_BF16:
        for (size_t i = 0; i < n; i++, bytes += 2) {
            uint32_t bits = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 24;
            memcpy(&x[i], &bits, sizeof bits);
        }
        break;
    case CODEC_BYTES:
    case CODEC_TYPES:
        break;
    }
    return fits;
}

/* ---- JSON -------------------------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    float value;
} words[] = {{"NaN", NAN}, {"Infinity", INFINITY}, {"-Infinity", -INFINITY}};

/* NaN and the infinities, bare or as strings. */
static const char *word(const char *p, const char *end, float *x)
{
    bool quoted = p < end && *p == '"';

    p += quoted;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i].text);
        if ((size_t)(end - p) > n && !memcmp(p, words[i].text, n) && (!quoted || p[n] == '"')) {
            *x = words[i].value;
            return p + n + quoted;
        }
    }
    return NULL;
}

struct range {
    uint64_t below, above; /* the largest magnitudes of negative and of other values */
};

static const struct range ranges[CODEC_TYPES] = {
    [CODEC_UINT8] = {0, UINT8_MAX},          [CODEC_UINT16] = {0, UINT16_MAX},
    [CODEC_UINT32] = {0, UINT32_MAX},        [CODEC_UINT64] = {0, UINT64_MAX},
    [CODEC_INT8] = {1u << 7, INT8_MAX},      [CODEC_INT16] = {1u << 15, INT16_MAX},
    [CODEC_INT32] = {1u << 31, INT32_MAX},   [CODEC_INT64] = {(uint64_t)1 << 63, INT64_MAX},
};

/* An integer: not through a double, which holds 53 bits. NULL: none, or with *range it does not fit. */
static const char *integer(const char *p, const char *end, enum codec_type type, float *x, bool *range)
{
    bool negative = p < end && *p == '-';
    uint64_t v = 0;
    const char *first;

    p += negative;
    first = p;
    for (; p < end && *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v)) {
            *range = true;
            return NULL;
        }
    if (p == first || (*first == '0' && p - first > 1) || (p < end && (*p == '.' || *p == 'e' || *p == 'E')))
        return NULL;
    if (v > (negative ? ranges[type].below : ranges[type].above)) {
        *range = true;
        return NULL;
    }
    *x = negative ? -(float)v : (float)v;
    return p;
}

static const char *boolean(const char *p, const char *end, float *x)
{
    if (end - p > 4 && !memcmp(p, "true", 4)) {
        *x = 1;
        return p + 4;
    }
    if (end - p > 5 && !memcmp(p, "false", 5)) {
        *x = 0;
        return p + 5;
    }
    return NULL;
}

/* One value. NULL: *code says what is wrong. */
static const char *value(enum codec_type type, const char *p, const char *end, float *x, const char **code, char *why,
                         size_t size)
{
    const char *next = NULL;
    bool range = false;

    if (type == CODEC_FP32 || type == CODEC_FP64) {
        next = number_read(p, end, x);
        if (next && isinf(*x))
            range = true;
        if (!next)
            next = word(p, end, x);
    } else if (type == CODEC_BOOL) {
        next = boolean(p, end, x);
    } else {
        next = integer(p, end, type, x, &range);
    }
    if (next && !range)
        return next;
    int shown = (int)strcspn(p, ",] \t\r\n");
    *code = range ? "datatype_mismatch" : "bad_json";
    if (!range && shown && strchr("-0123456789tf\"n", *p))
        *code = "datatype_mismatch";
    snprintf(why, size, range ? "'%.*s' is beyond %s" : "'%.*s' is not a %s", shown < 40 ? shown : 40, p,
             codec_type_name(range && type == CODEC_FP64 ? CODEC_FP32 : type));
    return NULL;
}

static bool space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

const char *values_from_json(enum codec_type type, const lip_shape *shape, size_t count, const char *at, const char *end,
                             float *x, char *why, size_t size)
{
    size_t have = 0, depth = 0, deepest = 0, items[LIP_MAX_RANK + 1];
    bool item = true; /* whether a value or an array may begin here */
    bool floats = type == CODEC_FP32 || type == CODEC_FP64;
    const char *code = NULL;

    while (at < end) {
        if (space(*at)) {
            at++;
        } else if (*at == '[' && item) {
            if (depth)
                items[depth]++;
            if (++depth > LIP_MAX_RANK) {
                snprintf(why, size, "nested deeper than %d", LIP_MAX_RANK);
                return "size_mismatch";
            }
            items[depth] = 0;
            deepest = depth > deepest ? depth : deepest;
            at++;
        } else if (*at == ']' && depth && (!item || items[depth] == 0)) {
            if (deepest > 1 && (depth > shape->rank || items[depth] != shape->dim[depth - 1]))
                goto mismatch;
            at++;
            item = false;
            if (--depth == 0)
                break;
        } else if (*at == ',' && !item) {
            at++;
            item = true;
            /* A "]" may not follow: items[depth] is not 0 here. */
        } else if (item && depth) {
            const char *next;
            if (have == count || (depth != 1 && depth != shape->rank) || depth != deepest)
                goto mismatch;
            if (!(next = value(type, at, end, &x[have], &code, why, size)))
                return code;
            have++;
            items[depth]++;
            at = next;
            item = false;
            /* The numbers behind it, as long as nothing else comes: nearly all of them. */
            if (floats) {
                size_t more = number_read_more(&at, end, x + have, count - have);
                have += more;
                items[depth] += more;
            }
        } else {
            snprintf(why, size, "'%c' is out of place", *at);
            return "bad_json";
        }
    }
    if (have == count && !(deepest > 1 && deepest != shape->rank && count))
        return NULL;
mismatch:
    snprintf(why, size, MISMATCH);
    return "size_mismatch";
}
