/* zip.h: the members of a zip archive in memory, stored or deflated. Nothing is extracted to a path of the archive's choice.
 * Source: PKWARE's APPNOTE 6.3, sections 4.3 and 4.4. Archives of one part, without encryption, below 4 GiB. */
#ifndef SERVER_ZIP_H
#define SERVER_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct zip_member {
    const char *name; /* name_length bytes, not ended by a NUL */
    size_t name_length;
    bool deflated;
    const unsigned char *data; /* packed bytes */
    size_t packed, size;
    uint32_t crc;
};

bool zip_is(const unsigned char *bytes, size_t size);

/* zip_open: the list of members, `most` at most; folders are left out. NULL, or one sentence on what is wrong. */
const char *zip_open(const unsigned char *bytes, size_t size, struct zip_member *members, size_t most, size_t *n);

/* zip_sound: whether these are the member's bytes, unpacked. */
bool zip_sound(const struct zip_member *member, const unsigned char *bytes, size_t size);

#endif
