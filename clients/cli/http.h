/* http.h: requests to onelipd, over TCP or a unix socket. */
#ifndef CLI_HTTP_H
#define CLI_HTTP_H

#include <jansson.h>
#include <stddef.h>

/* What a command ends with. */
enum { EXIT_OK = 0, EXIT_USAGE = 2, EXIT_NOT_FOUND = 3, EXIT_REFUSED = 4, EXIT_SERVER = 5, EXIT_UNREACHABLE = 6, EXIT_DATA = 7 };

struct server;

/* server_open: url like "http://127.0.0.1:8000" or "unix:/run/onelipd.sock". NULL: out of memory. */
struct server *server_open(const char *url);
void server_close(struct server *s);

/* A body in pieces: `head` bytes of JSON, then the rest; json is its length where tensors follow, 0 for JSON alone. */
struct body {
    const void *data;
    size_t bytes, json;
};

/* server_call: one request; the answer's JSON in *answer (json_decref), NULL for an empty one. Returns EXIT_OK, or after a
 * line on stderr the exit status that the failure means. */
int server_call(struct server *s, const char *method, const char *path, const struct body *body, json_t **answer);

#endif
