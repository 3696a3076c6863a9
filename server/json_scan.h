/* json_scan.h: a JSON document, read without its tensors' numbers. */
#ifndef SERVER_JSON_SCAN_H
#define SERVER_JSON_SCAN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define JSON_DEPTH 32
#define JSON_SPANS 64

/* The arrays that stood at /inputs/N/data, or with `top` at /data, "[" to "]", in the text that was read. */
struct json_spans {
    bool top;    /* set by the caller */
    bool shared; /* likewise: the caller changes nothing in the document and is done with it on this thread, so it may be one
                    that was read before */
    size_t n;
    struct {
        const char *at;
        size_t bytes;
    } span[JSON_SPANS];
};

/* json_scan: the document. With spans, each such array is cut out before jansson sees it (a tree of numbers
 * costs it 0.5 us and 40 bytes each) and the array [i] with its index among the spans stands in its place; no other array
 * can stand there. Duplicate keys, NUL in strings, invalid UTF-8 and nesting beyond JSON_DEPTH are refused.
 *
 * Returns  NULL with a sentence in why.
 * Memory   json_decref; spans point into text. */
json_t *json_scan(const char *text, size_t bytes, struct json_spans *spans, char *why, size_t size);

#endif
