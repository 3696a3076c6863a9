/* inflate.c: gzip (of several members, too) and deflate, by zlib. */
#include "inflate.h"

#include <stdlib.h>
#include <strings.h>
#include <zlib.h>

#define FIRST_ROOM 65536
#define AT_ONCE (1u << 30) /* of what zlib counts in unsigned int */

enum coding coding_named(const char *value)
{
    if (!value || !strcasecmp(value, "identity"))
        return CODING_NONE;
    if (!strcasecmp(value, "gzip") || !strcasecmp(value, "x-gzip"))
        return CODING_GZIP;
    return strcasecmp(value, "deflate") ? CODING_UNKNOWN : CODING_DEFLATE;
}

/* zlib's window bits, which also choose the format. */
static int window_of(enum coding coding, const unsigned char *in, size_t n)
{
    bool zlib_header = n >= 2 && (in[0] & 0x0f) == 8 && (in[0] << 8 | in[1]) % 31 == 0;

    return coding == CODING_GZIP ? 15 + 16 : coding == CODING_DEFLATE && zlib_header ? 15 : -15;
}

struct sink {
    unsigned char *out;
    size_t bytes, room, limit;
    enum inflated (*more)(struct sink *s); /* room behind `bytes` */
    bool (*grow)(void *ctx, size_t from, size_t to);
    void *ctx;
    struct spool *spool;
    int error;
};

/* More room, up to one byte beyond the limit: that byte tells too large from just right. */
static enum inflated longer(struct sink *s)
{
    size_t room = s->room ? 2 * s->room : FIRST_ROOM;
    unsigned char *out;

    if (s->room > s->limit)
        return INFLATE_TOO_LARGE;
    if (room > s->limit)
        room = s->limit + 1;
    if (!s->grow(s->ctx, s->room, room))
        return INFLATE_NO_MEMORY;
    if (!(out = realloc(s->out, room + 1))) {
        s->grow(s->ctx, room, s->room);
        return INFLATE_NO_MEMORY;
    }
    s->out = out;
    s->room = room;
    return INFLATED;
}

/* All of in into the sink. */
static enum inflated pump(z_stream *z, bool members, const unsigned char *in, size_t n, struct sink *s)
{
    int said = Z_OK;

    for (size_t used = 0; used < n || said != Z_STREAM_END;) {
        size_t piece = n - used < AT_ONCE ? n - used : AT_ONCE, free_room;

        if (said == Z_STREAM_END && (!members || inflateReset(z) != Z_OK))
            return INFLATE_DAMAGED; /* something stands behind the end */
        if (s->bytes == s->room) {
            enum inflated got = s->more(s);

            if (got != INFLATED)
                return got;
        }
        free_room = s->room - s->bytes < AT_ONCE ? s->room - s->bytes : AT_ONCE;
        z->next_in = (unsigned char *)(size_t)(in + used); /* zlib does not write there */
        z->avail_in = (unsigned)piece;
        z->next_out = s->out + s->bytes;
        z->avail_out = (unsigned)free_room;
        said = inflate(z, Z_NO_FLUSH);
        used += piece - z->avail_in;
        s->bytes += free_room - z->avail_out;
        if (said == Z_MEM_ERROR)
            return INFLATE_NO_MEMORY;
        if (said != Z_OK && said != Z_STREAM_END && !(said == Z_BUF_ERROR && !z->avail_out))
            return INFLATE_DAMAGED; /* also when the input ends too early */
    }
    return s->bytes > s->limit ? INFLATE_TOO_LARGE : INFLATED;
}

enum inflated inflate_body(enum coding coding, const unsigned char *in, size_t n, size_t limit,
                           bool (*grow)(void *ctx, size_t from, size_t to), void *ctx, unsigned char **out, size_t *bytes,
                           size_t *room)
{
    struct sink s = {.limit = limit, .more = longer, .grow = grow, .ctx = ctx};
    z_stream z = {0};
    enum inflated got = INFLATE_NO_MEMORY;

    *out = NULL;
    *bytes = *room = 0;
    if (inflateInit2(&z, window_of(coding, in, n)) == Z_OK) {
        got = pump(&z, coding == CODING_GZIP, in, n, &s);
        inflateEnd(&z);
    }
    if (got != INFLATED) {
        if (s.room)
            grow(ctx, s.room, 0);
        free(s.out);
        return got;
    }
    s.out[s.bytes] = '\0';
    *out = s.out;
    *bytes = s.bytes;
    *room = s.room;
    return INFLATED;
}

/* What is in `out` goes to the spool; `limit` is what may still come. */
static enum inflated flush(struct sink *s)
{
    if (s->bytes > s->limit)
        return INFLATE_TOO_LARGE;
    if ((s->error = spool_write(s->spool, s->out, s->bytes)))
        return INFLATE_NO_ROOM;
    s->limit -= s->bytes;
    s->bytes = 0;
    return INFLATED;
}

enum inflated inflate_spool(enum coding coding, const unsigned char *in, size_t n, size_t limit, struct spool *out, int *error)
{
    struct sink s = {.limit = limit, .more = flush, .room = FIRST_ROOM, .out = malloc(FIRST_ROOM), .spool = out};
    z_stream z = {0};
    enum inflated got = INFLATE_NO_MEMORY;

    if (s.out && inflateInit2(&z, window_of(coding, in, n)) == Z_OK) {
        if ((got = pump(&z, coding == CODING_GZIP, in, n, &s)) == INFLATED)
            got = flush(&s);
        inflateEnd(&z);
    }
    free(s.out);
    *error = s.error;
    return got;
}
