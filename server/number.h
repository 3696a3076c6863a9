/* number.h: JSON numbers to and from float32, correctly rounded and shortest. */
#ifndef SERVER_NUMBER_H
#define SERVER_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest text number_write makes: "-1.17549435e-38". */
#define NUMBER_MAX 16

/* number_read: the RFC 8259 number at `at`, rounded once, to the nearest float32 (ties to even).
 *
 * at, end  the text; a byte that cannot belong to a number must stand before end (a "," or "]"), because the rare
 *          hard case is handed to strtof
 * value    out; infinite when the number is beyond float32's range
 *
 * Returns  the first byte behind the number; NULL when there is none at `at`.
 * Threads  safe. The process must keep LC_NUMERIC at "C".
 * Source   Clinger, "How to Read Floating Point Numbers Accurately", PLDI 1990; for 17 and more digits the truncated
 *          product with a 64-bit power of ten, as in Lemire, "Number Parsing at a Gigabyte per Second", 2021. */
const char *number_read(const char *at, const char *end, float *value);

/* number_read_more: what number_read would read behind the "," at *at, perhaps with a space between, and so on: at most n numbers,
 * as long as they are finite and come alike. *at: behind the last one. Returns how many. */
size_t number_read_more(const char **at, const char *end, float *x, size_t n);

/* number_write: the shortest decimal that reads back as x, the nearest to x among those of that length.
 *
 * x     finite; -0 is "-0.0", so that readers with integers keep its sign
 * text  NUMBER_MAX bytes; no NUL is written
 *
 * Returns  the number of bytes. Threads: safe.
 * Source   Giulietti, "The Schubfach way to render doubles", 2020, for 24-bit significands. */
size_t number_write(float x, char *text);

#endif
