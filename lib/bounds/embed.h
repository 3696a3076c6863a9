/* embed.h: a convolution with zeros around the image as a part of a periodic one, frequency by frequency (embed.c). */
#ifndef LIP_EMBED_H
#define LIP_EMBED_H

#include "bounds/conv.h"

struct lip__axis {
    size_t stride, period;
    long before;
    double *cosine, *sine; /* of 2 pi j / period */
};

struct lip__frequencies {
    const struct lip__convolution *k;
    struct lip__axis rows, columns;
    size_t phases, m, n; /* P is (m, n) = (phases * channels, filters) */
    double *p;           /* real part over imaginary part: (2 m, n), or transposed (2 n, m) where m < n */
    double error;        /* Frobenius norm of what the entries of P are off by */
    double repeats;      /* how often an output stands there */
};

/* lip__frequencies_period: the least periods that contain the convolution. */
void lip__frequencies_period(const struct lip__convolution *k, size_t *rows, size_t *columns);

/* lip__frequencies_open: those of the periods, each at least the least; 0: the least. Returns LIP_OK, LIP_ENOMEM. Memory:
 * lip__frequencies_close, on failure too. */
lip_err lip__frequencies_open(const struct lip__convolution *k, size_t rows, size_t columns, struct lip__frequencies *f,
                              lip_error *err);
void lip__frequencies_close(struct lip__frequencies *f);

/* lip__frequencies_at: p of frequency (a, b). */
void lip__frequencies_at(struct lip__frequencies *f, size_t a, size_t b);

/* lip__frequencies_real: the real form (2 m, 2 n) = ((R, I), (-I, R)) of p, for rows (real part, imaginary part). */
void lip__frequencies_real(const struct lip__frequencies *f, double *to);

#endif
