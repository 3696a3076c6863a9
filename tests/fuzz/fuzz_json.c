/* fuzz_json.c: what the scanner takes is what jansson takes, and numbers of tensors are those that jansson reads. */
#include <math.h>
#include <string.h>

#include "fuzz.h"
#include "json_scan.h"
#include "values.h"

/* The numbers of a JSON array in their order; -1: something else is in it, or too much. */
static long flatten(const json_t *list, float *x, long n, long room)
{
    const json_t *one;
    size_t i;

    json_array_foreach((json_t *)list, i, one) {
        if (json_is_array(one)) {
            if ((n = flatten(one, x, n, room)) < 0)
                return -1;
        } else if (json_is_number(one) && n < room) {
            x[n++] = (float)json_number_value(one);
        } else {
            return -1;
        }
    }
    return n;
}

/* A span that is read as floats: jansson reads the same list, to a rounding in double. */
static void check_span(const char *at, size_t bytes)
{
    enum { ROOM = 512 };
    static float x[ROOM], y[ROOM];
    json_t *list = json_loadb(at, bytes, 0, NULL);
    long n = list ? flatten(list, y, 0, ROOM) : -1;
    lip_shape shape = {.rank = 1, .dim = {n > 0 ? (size_t)n : 0}};
    char why[200];

    if (n >= 0 && !values_from_json(CODEC_FP32, &shape, (size_t)n, at, at + bytes, x, why, sizeof why))
        for (long i = 0; i < n; i++)
            MUST(x[i] == y[i] || fabsf(x[i] - y[i]) <= 1.2e-7f * fabsf(y[i]) + 1e-44f);
    json_decref(list);
    for (int type = CODEC_BOOL; type <= CODEC_FP64; type++) {
        lip_shape matrix = {.rank = 2, .dim = {2, 2}};
        values_from_json(type, &matrix, 4, at, at + bytes, x, why, sizeof why);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_spans spans = {.top = size && data[0] & 1, .shared = size && data[0] & 2};
    const char *text = (const char *)data + (size > 0);
    size_t bytes = size - (size > 0);
    char why[200] = "";
    json_t *json = json_scan(text, bytes, &spans, why, sizeof why), *again, *whole;

    if (json) {
        for (size_t i = 0; i < spans.n; i++) {
            MUST(spans.span[i].at >= text && spans.span[i].at + spans.span[i].bytes <= text + bytes);
            MUST(spans.span[i].at[0] == '[' && spans.span[i].at[spans.span[i].bytes - 1] == ']');
            check_span(spans.span[i].at, spans.span[i].bytes);
        }
        again = json_scan(text, bytes, &spans, why, sizeof why); /* perhaps the one that was kept */
        MUST(again && json_equal(json, again));
        json_decref(again);
    } else {
        MUST(*why);
    }
    /* Without spans it is jansson's judgement, but for the depth. */
    whole = json_scan(text, bytes, NULL, why, sizeof why);
    again = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    MUST(!whole || (again && json_equal(whole, again)));
    MUST(!again || whole || strstr(why, "deeper"));
    MUST(!whole || json); /* what is valid as it is is valid without its numbers */
    json_decref(whole);
    json_decref(again);
    json_decref(json);
    return 0;
}
