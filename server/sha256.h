/* sha256.h: SHA-256, for the checksums of stored files, Repr-Digest and ETags. Source: FIPS 180-4. */
#ifndef SERVER_SHA256_H
#define SERVER_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
    uint32_t h[8];
    uint64_t bytes;
    unsigned char block[64];
};

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t bytes);
void sha256_end(struct sha256 *s, unsigned char digest[32]);
void sha256_hex(const unsigned char digest[32], char text[65]);
void sha256_text(const void *data, size_t bytes, char text[65]); /* of one array, as hex */

#endif
