/* listen.h: addresses and listening sockets: opened here or inherited from systemd. */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

struct config;

struct listener {
    int fd;
    bool is_unix, inherited, loopback;
    bool tls;      /* https */
    bool metrics;  /* --metrics-listen: /metrics, without keys, and nothing else */
    bool any;      /* 0.0.0.0 or [::]: every address of the machine */
    char *url;     /* "http://127.0.0.1:40123", "unix:/run/onelipd.sock" */
    char *host;    /* "127.0.0.1", "[::1]"; NULL on unix sockets */
    char *path;    /* of a unix socket opened here, which goes away with it; else NULL */
};

/* address_check: whether text is ADDR:PORT or unix:PATH; *loopback: nothing but this machine reaches it. */
bool address_check(const char *text, bool *loopback);

/* listen_allowed: whether nothing but this machine reaches the named addresses, or keys or
 * --insecure were given. false: why. */
bool listen_allowed(const struct config *config, char *why, size_t size);

/* listen_open: what systemd handed over and what the settings name, listening. On failure NULL and one sentence in why;
 * *status is the exit status: 78 for an address that --insecure would be needed for, else 1. */
struct listener *listen_open(const struct config *config, size_t *n, int *status, char *why, size_t size);

/* listen_close: sockets that were opened here are closed, unix ones removed; then free(listeners) and its texts. */
void listen_close(struct listener *listeners, size_t n);

/* port_file_write: one url a line, by rename. false: why. */
bool port_file_write(const char *path, const struct listener *listeners, size_t n, char *why, size_t size);

#endif
