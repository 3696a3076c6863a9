/* text.h: a growing piece of text. A failed allocation is remembered, so callers check once at the end. */
#ifndef SERVER_TEXT_H
#define SERVER_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* text_forever: the same text, once, for as long as the process lives. NULL: out of memory. Threads: safe. */
const char *text_forever(const char *text);

/* text_digits: n in decimal and a NUL; its end. at: 21 bytes. Printing costs ten times as much, where a library has added to printf. */
char *text_digits(char *at, uint64_t n);

struct text {
    char *bytes; /* malloc'd */
    size_t n, capacity;
    bool failed;
};

bool text_room(struct text *t, size_t more);
void text_add(struct text *t, const char *bytes, size_t n);
void text_puts(struct text *t, const char *string);
void text_printf(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_number(struct text *t, uint64_t n);
void text_quote(struct text *t, const char *string);  /* as a JSON string, quoted */
void text_floats(struct text *t, const float *x, size_t n); /* "0,1.5,\"NaN\"" */
void text_doubles(struct text *t, const double *x, size_t n); /* likewise, up to 17 digits */
void text_document(struct text *t, const json_t *json);

/* document_text: JSON as it is sent, kept and hashed: nothing between the members, real numbers with the fewest digits that read
 * back. malloc'd; NULL: out of memory, or json is NULL. */
char *document_text(const json_t *json);

#endif
