#include "zip.h"

#include <string.h>
#include <zlib.h>

enum { END = 22, ENTRY = 46, LOCAL = 30, COMMENT_MAX = 65535, STORED = 0, DEFLATED = 8, ENCRYPTED = 1 };

static uint32_t u16(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

static uint32_t u32(const unsigned char *p)
{
    return u16(p) | u16(p + 2) << 16;
}

static bool is(const unsigned char *p, char third, char fourth)
{
    return p[0] == 'P' && p[1] == 'K' && p[2] == (unsigned char)third && p[3] == (unsigned char)fourth;
}

bool zip_is(const unsigned char *bytes, size_t size)
{
    return size >= END && (is(bytes, 3, 4) || is(bytes, 5, 6));
}

/* The record that ends an archive stands in the last 64 KiB; its comment reaches the end of the file. */
static const unsigned char *find_end(const unsigned char *bytes, size_t size)
{
    size_t lowest = size > END + COMMENT_MAX ? size - END - COMMENT_MAX : 0;

    for (size_t at = size - END + 1; at-- > lowest;)
        if (is(bytes + at, 5, 6) && at + END + u16(bytes + at + 20) == size)
            return bytes + at;
    return NULL;
}

static const char *read_entry(const unsigned char *bytes, size_t size, const unsigned char *entry, struct zip_member *m)
{
    uint32_t method = u16(entry + 10);
    size_t local = u32(entry + 42);

    *m = (struct zip_member){.name = (const char *)entry + ENTRY, .name_length = u16(entry + 28), .deflated = method == DEFLATED,
                             .crc = u32(entry + 16), .packed = u32(entry + 20), .size = u32(entry + 24)};
    if (u16(entry + 8) & ENCRYPTED)
        return "a member of the zip archive is encrypted";
    if (method != STORED && method != DEFLATED)
        return "a member of the zip archive is compressed by another method than deflate";
    if (m->packed == 0xffffffff || m->size == 0xffffffff || local == 0xffffffff)
        return "zip archives of 4 GiB and more are not read";
    if (local > size || size - local < LOCAL || !is(bytes + local, 3, 4))
        return "the zip archive is damaged: a member is not where the list says";
    local += LOCAL + u16(bytes + local + 26) + u16(bytes + local + 28);
    if (local > size || m->packed > size - local || (!m->deflated && m->packed != m->size))
        return "the zip archive is damaged: a member is longer than the file";
    m->data = bytes + local;
    return NULL;
}

const char *zip_open(const unsigned char *bytes, size_t size, struct zip_member *members, size_t most, size_t *n)
{
    static const char cut[] = "the zip archive is damaged or cut off: its list of members is not there";
    const unsigned char *end = size >= END ? find_end(bytes, size) : NULL;
    size_t count, at, length;

    *n = 0;
    if (!end)
        return cut;
    count = u16(end + 10);
    length = u32(end + 12);
    at = u32(end + 16);
    if (u16(end + 4) || u16(end + 6) || u16(end + 8) != count)
        return "zip archives of several parts are not read";
    if (at > (size_t)(end - bytes) || length > (size_t)(end - bytes) - at)
        return cut;
    for (size_t left = length; count; count--) {
        const unsigned char *entry = bytes + at;
        const char *wrong;
        size_t whole;

        if (left < ENTRY || !is(entry, 1, 2))
            return cut;
        whole = (size_t)ENTRY + u16(entry + 28) + u16(entry + 30) + u16(entry + 32);
        if (whole > left)
            return cut;
        if (*n == most)
            return "the zip archive has too many members";
        if ((wrong = read_entry(bytes, size, entry, &members[*n])))
            return wrong;
        *n += !(members[*n].name_length && members[*n].name[members[*n].name_length - 1] == '/');
        at += whole;
        left -= whole;
    }
    return NULL;
}

bool zip_sound(const struct zip_member *member, const unsigned char *bytes, size_t size)
{
    uLong crc = crc32(0, NULL, 0);

    for (size_t at = 0; at < size;) {
        uInt piece = size - at < 1u << 30 ? (uInt)(size - at) : 1u << 30;
        crc = crc32(crc, bytes + at, piece);
        at += piece;
    }
    return size == member->size && crc == member->crc;
}
