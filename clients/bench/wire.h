/* wire.h: one keep-alive connection to a server that speaks HTTP/1.1, not blocking, and what comes back over it. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the server is: "127.0.0.1:8000", "http://[::1]:8000", "unix:/run/onelipd.sock". */
struct address;
struct address *address_read(const char *url, char *why, size_t size); /* NULL: why */
void address_free(struct address *a);
const char *address_host(const struct address *a); /* for the Host header */

struct wire {
    int fd;              /* -1: not connected */
    const char *request; /* what is being sent; the caller's */
    size_t request_bytes, sent;
    char *in; /* what has come */
    size_t n, room;
    /* of the answer, once its headers are complete */
    bool headers;
    int status;
    size_t header_bytes, body_bytes, json_bytes; /* json_bytes: of the Inference-Header, else all of the body */
    bool close;
};

bool wire_open(struct wire *w, const struct address *a); /* false: errno. It may still be connecting */
void wire_close(struct wire *w);
void wire_free(struct wire *w);

enum wire_state { WIRE_WAITS, WIRE_DONE, WIRE_BROKEN };

/* wire_send: begin with a request. wire_step: go on with what the socket allows. WIRE_DONE: the answer is whole, at
 * wire_body; the next wire_send forgets it. */
void wire_send(struct wire *w, const char *request, size_t bytes);
enum wire_state wire_step(struct wire *w);
const char *wire_body(const struct wire *w);

/* wire_call: one request and its answer, waiting at most `seconds`. false: why. */
bool wire_call(struct wire *w, const struct address *a, const char *request, size_t bytes, double seconds, char *why,
               size_t size);

#endif
