#include "wire.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct address {
    struct sockaddr_storage at;
    socklen_t length;
    char host[128];
};

struct address *address_read(const char *url, char *why, size_t size)
{
    struct address *a = calloc(1, sizeof *a);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    const char *from = !strncmp(url, "http://", 7) ? url + 7 : url, *colon = strrchr(from, ':');
    char name[128];
    int rc;

    if (!a) {
        snprintf(why, size, "out of memory");
        return NULL;
    }
    if (!strncmp(url, "unix:", 5)) {
        struct sockaddr_un *local = (struct sockaddr_un *)&a->at;
        if (strlen(url + 5) >= sizeof local->sun_path) {
            snprintf(why, size, "%s: the path is too long", url);
            free(a);
            return NULL;
        }
        local->sun_family = AF_UNIX;
        strcpy(local->sun_path, url + 5);
        a->length = sizeof *local;
        strcpy(a->host, "localhost");
        return a;
    }
    if (!colon || strcspn(from, "/") < strlen(from) || strlen(from) >= sizeof a->host) {
        snprintf(why, size, "%s: wanted HOST:PORT, http://HOST:PORT or unix:PATH", url);
        free(a);
        return NULL;
    }
    strcpy(a->host, from);
    snprintf(name, sizeof name, "%.*s", (int)(colon - from), from);
    if (name[0] == '[') {
        memmove(name, name + 1, strlen(name));
        name[strcspn(name, "]")] = '\0';
    }
    if ((rc = getaddrinfo(name, colon + 1, &hints, &found))) {
        snprintf(why, size, "%s: %s", url, gai_strerror(rc));
        free(a);
        return NULL;
    }
    memcpy(&a->at, found->ai_addr, found->ai_addrlen);
    a->length = found->ai_addrlen;
    freeaddrinfo(found);
    return a;
}

void address_free(struct address *a)
{
    free(a);
}

const char *address_host(const struct address *a)
{
    return a->host;
}

bool wire_open(struct wire *w, const struct address *a)
{
    static const int yes = 1;

    w->n = 0;
    w->headers = false;
    w->request = NULL;
    w->fd = socket(a->at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (w->fd < 0)
        return false;
    setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes); /* fails on unix sockets, which need none */
    if (!connect(w->fd, (const struct sockaddr *)&a->at, a->length) || errno == EINPROGRESS)
        return true;
    close(w->fd);
    w->fd = -1;
    return false;
}

void wire_close(struct wire *w)
{
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
}

void wire_free(struct wire *w)
{
    wire_close(w);
    free(w->in);
    w->in = NULL;
    w->n = w->room = 0;
}

void wire_send(struct wire *w, const char *request, size_t bytes)
{
    w->request = request;
    w->request_bytes = bytes;
    w->sent = w->n = 0;
    w->headers = false;
}

const char *wire_body(const struct wire *w)
{
    return w->in + w->header_bytes;
}

/* The value of a header line "Name: value", as a number; -1: it is another one. */
static long number_of(const char *line, const char *name)
{
    size_t n = strlen(name);

    return strncasecmp(line, name, n) || line[n] != ':' ? -1 : atol(line + n + 1);
}

/* false: the headers are not whole. */
static bool read_headers(struct wire *w)
{
    char *end = w->n >= 4 ? memmem(w->in, w->n, "\r\n\r\n", 4) : NULL;
    long framed = -1, n;

    if (!end)
        return false;
    *end = '\0';
    w->header_bytes = (size_t)(end - w->in) + 4;
    w->body_bytes = 0;
    w->close = false;
    w->status = w->n > 12 && !strncmp(w->in, "HTTP/1.", 7) ? atoi(w->in + 9) : 0;
    for (char *line = strchr(w->in, '\n'); line; line = strchr(line, '\n')) {
        line++;
        if ((n = number_of(line, "Content-Length")) >= 0)
            w->body_bytes = (size_t)n;
        else if ((n = number_of(line, "Inference-Header-Content-Length")) >= 0)
            framed = n;
        else if (!strncasecmp(line, "Connection: close", 17))
            w->close = true;
    }
    w->json_bytes = framed >= 0 && (size_t)framed <= w->body_bytes ? (size_t)framed : w->body_bytes;
    w->headers = true;
    return true;
}

static bool make_room(struct wire *w)
{
    size_t room = w->room ? 2 * w->room : 16384;
    char *in;

    if (w->n < w->room)
        return true;
    if (!(in = realloc(w->in, room)))
        return false;
    w->in = in;
    w->room = room;
    return true;
}

enum wire_state wire_step(struct wire *w)
{
    ssize_t n;

    while (w->sent < w->request_bytes) {
        n = send(w->fd, w->request + w->sent, w->request_bytes - w->sent, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINPROGRESS || errno == ENOTCONN))
            break;
        if (n < 0)
            return WIRE_BROKEN;
        w->sent += (size_t)n;
    }
    for (;;) {
        if (!make_room(w))
            return WIRE_BROKEN;
        n = recv(w->fd, w->in + w->n, w->room - w->n, 0);
        if (n < 0)
            return errno == EAGAIN || errno == ENOTCONN ? WIRE_WAITS : WIRE_BROKEN;
        if (n == 0)
            return WIRE_BROKEN;
        w->n += (size_t)n;
        if ((w->headers || read_headers(w)) && w->n >= w->header_bytes + w->body_bytes)
            return w->status ? WIRE_DONE : WIRE_BROKEN;
    }
}

bool wire_call(struct wire *w, const struct address *a, const char *request, size_t bytes, double seconds, char *why,
               size_t size)
{
    struct timespec now;
    enum wire_state state = WIRE_BROKEN;
    double end;

    clock_gettime(CLOCK_MONOTONIC, &now);
    end = (double)now.tv_sec + (double)now.tv_nsec * 1e-9 + seconds;
    if (w->fd < 0 && !wire_open(w, a)) {
        snprintf(why, size, "cannot connect: %s", strerror(errno));
        return false;
    }
    wire_send(w, request, bytes);
    for (;;) {
        struct pollfd p = {.fd = w->fd, .events = (short)(POLLIN | (w->sent < w->request_bytes ? POLLOUT : 0))};
        double left;

        clock_gettime(CLOCK_MONOTONIC, &now);
        left = end - ((double)now.tv_sec + (double)now.tv_nsec * 1e-9);
        if (left <= 0 || poll(&p, 1, (int)(left * 1e3) + 1) < 0)
            break;
        if ((state = wire_step(w)) != WIRE_WAITS)
            break;
    }
    if (state == WIRE_DONE)
        return true;
    snprintf(why, size, state == WIRE_BROKEN ? "the connection broke: %s" : "no answer in time%s",
             state == WIRE_BROKEN ? strerror(errno) : "");
    wire_close(w);
    return false;
}
