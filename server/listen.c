/* listen.c: every socket is bound to one address; nothing listens on all of them unless it was named. */
#include "listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "notify.h"
#include "settings.h"

#define BACKLOG 511

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
        struct sockaddr_storage room;
    } at;
    socklen_t length;
};

static bool fail(char *why, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static bool fail(char *why, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, size, format, args);
    va_end(args);
    return false;
}

/* "unix:PATH" */
static bool parse_unix(const char *path, struct address *a)
{
    size_t length = strlen(path);

    if (!length || length >= sizeof a->at.local.sun_path)
        return false;
    a->at.local.sun_family = AF_UNIX;
    memcpy(a->at.local.sun_path, path, length + 1);
    a->length = sizeof a->at.local;
    return true;
}

/* "127.0.0.1:8000", "[::1]:0", "localhost:8000"; names other than localhost are not looked up. */
static bool parse(const char *text, struct address *a)
{
    const char *colon = strrchr(text, ':');
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found;
    char host[64];
    size_t length;

    memset(a, 0, sizeof *a);
    if (!strncmp(text, "unix:", 5))
        return parse_unix(text + 5, a);
    if (!colon || !colon[1] || strlen(colon + 1) > 5 || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        atol(colon + 1) > 65535)
        return false;
    length = (size_t)(colon - text);
    if (text[0] == '[' && length > 2 && text[length - 1] == ']') {
        hints.ai_family = AF_INET6;
        text++;
        length -= 2;
    } else {
        hints.ai_family = AF_INET;
    }
    if (!length || length >= sizeof host)
        return false;
    snprintf(host, sizeof host, "%.*s", (int)length, text);
    if (hints.ai_family == AF_INET && !strcmp(host, "localhost"))
        strcpy(host, "127.0.0.1");
    if (getaddrinfo(host, colon + 1, &hints, &found))
        return false;
    memcpy(&a->at, found->ai_addr, found->ai_addrlen);
    a->length = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

static bool is_loopback(const struct address *a)
{
    if (a->at.any.sa_family == AF_INET)
        return ntohl(a->at.v4.sin_addr.s_addr) >> 24 == 127;
    if (a->at.any.sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&a->at.v6.sin6_addr);
    return a->at.any.sa_family == AF_UNIX;
}

static bool is_any(const struct address *a)
{
    return a->at.any.sa_family == AF_INET    ? a->at.v4.sin_addr.s_addr == htonl(INADDR_ANY)
           : a->at.any.sa_family == AF_INET6 ? IN6_IS_ADDR_UNSPECIFIED(&a->at.v6.sin6_addr)
                                             : false;
}

bool address_check(const char *text, bool *loopback)
{
    struct address a;
    bool good = parse(text, &a);

    *loopback = good && is_loopback(&a);
    return good;
}

/* Fill in what the listening socket l->fd says of itself. */
static bool describe(struct listener *l, bool tls, char *why, size_t size)
{
    struct address a = {.length = sizeof a.at.room};
    char host[INET6_ADDRSTRLEN];
    int port, n;

    if (getsockname(l->fd, &a.at.any, &a.length))
        return fail(why, size, "getsockname: %s", strerror(errno));
    l->is_unix = a.at.any.sa_family == AF_UNIX;
    l->loopback = is_loopback(&a);
    l->any = is_any(&a);
    l->tls = tls && !l->is_unix;
    if (l->is_unix) {
        bool abstract = a.length > offsetof(struct sockaddr_un, sun_path) && !a.at.local.sun_path[0];

        n = asprintf(&l->url, "unix:%s%s", abstract ? "@" : "", a.at.local.sun_path + abstract);
        return n >= 0 || fail(why, size, "out of memory");
    }
    if (a.at.any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a.at.v4.sin_addr, host, sizeof host);
        port = ntohs(a.at.v4.sin_port);
        n = asprintf(&l->host, "%s", host);
    } else if (a.at.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &a.at.v6.sin6_addr, host, sizeof host);
        port = ntohs(a.at.v6.sin6_port);
        n = asprintf(&l->host, "[%s]", host);
    } else {
        return fail(why, size, "an inherited socket is neither TCP nor unix");
    }
    return (n >= 0 && asprintf(&l->url, "%s://%s:%d", l->tls ? "https" : "http", l->host, port) >= 0) || fail(why, size, "out of memory");
}

/* A unix socket that a daemon left behind: the file goes away if nobody answers on it. */
static void remove_stale(const struct address *a)
{
    struct stat is;
    int fd;

    if (lstat(a->at.local.sun_path, &is) || !S_ISSOCK(is.st_mode))
        return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, &a->at.any, a->length) && errno == ECONNREFUSED)
        unlink(a->at.local.sun_path);
    if (fd >= 0)
        close(fd);
}

/* Bind and listen. A unix socket is for its user and group: whoever reaches it may do everything. */
static bool bind_to(int fd, const struct address *a)
{
    static const int yes = 1;
    mode_t mask;
    bool good;

    if (a->at.any.sa_family == AF_UNIX) {
        remove_stale(a);
        mask = umask(0117);
        good = !bind(fd, &a->at.any, a->length);
        umask(mask);
    } else {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        if (a->at.any.sa_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
        good = !bind(fd, &a->at.any, a->length);
    }
    return good && !listen(fd, BACKLOG);
}

static bool open_one(struct listener *l, const char *text, bool tls, char *why, size_t size)
{
    struct address a;

    l->fd = -1;
    if (!parse(text, &a))
        return fail(why, size, "cannot listen on %s: no address", text);
    l->fd = socket(a.at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0 || !bind_to(l->fd, &a))
        return fail(why, size, "cannot listen on %s: %s", text, strerror(errno));
    if (a.at.any.sa_family == AF_UNIX && !(l->path = strdup(text + 5)))
        return fail(why, size, "out of memory");
    return describe(l, tls, why, size);
}

static bool inherit_one(struct listener *l, int fd, bool tls, char *why, size_t size)
{
    int listening = 0;
    socklen_t length = sizeof listening;

    l->fd = fd;
    l->inherited = true;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) || !listening)
        return fail(why, size, "inherited file descriptor %d is no listening socket", fd);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return describe(l, tls, why, size);
}

static bool reachable(const struct listener *l, const struct config *config, char *why, size_t size)
{
    if (l->loopback || config->insecure || config->api_key_file)
        return true;
    return fail(why, size, "%s: found %s, which other machines reach, and no keys, wanted a loopback address, a unix "
                           "socket or --insecure", l->metrics ? "metrics_listen" : "listen", l->url);
}

/* The addresses are looked at before any socket is opened, so that a refused one is never open for a moment. */
bool listen_allowed(const struct config *config, char *why, size_t size)
{
    for (size_t i = 0; i < config->n_listen; i++) {
        struct listener l = {.url = config->listen[i]};

        address_check(config->listen[i], &l.loopback);
        if (!reachable(&l, config, why, size))
            return false;
    }
    if (config->metrics_listen) {
        struct listener l = {.url = config->metrics_listen, .metrics = true};

        address_check(config->metrics_listen, &l.loopback);
        return reachable(&l, config, why, size);
    }
    return true;
}

struct listener *listen_open(const struct config *config, size_t *n, int *status, char *why, size_t size)
{
    int first;
    size_t inherited = notify_sockets(&first), named = inherited && !config->listen_given ? 0 : config->n_listen;
    struct listener *all = calloc(inherited + named + 2, sizeof *all);
    bool good = all || fail(why, size, "out of memory");

    *n = 0;
    *status = 1;
    if (good && (named || config->metrics_listen) && !listen_allowed(config, why, size)) {
        *status = 78;
        good = false;
    }
    for (size_t i = 0; good && i < inherited; i++) {
        good = inherit_one(&all[(*n)++], first + (int)i, config->tls_certificate, why, size);
        if (good && !reachable(&all[i], config, why, size)) {
            *status = 78;
            good = false;
        }
    }
    for (size_t i = 0; good && i < named; i++)
        good = open_one(&all[(*n)++], config->listen[i], config->tls_certificate, why, size);
    if (good && !*n)
        good = fail(why, size, "there is no address to listen on");
    if (good && config->metrics_listen) {
        good = open_one(&all[*n], config->metrics_listen, config->tls_certificate, why, size);
        all[(*n)++].metrics = true;
    }
    if (good)
        return all;
    listen_close(all, *n);
    *n = 0;
    return NULL;
}

void listen_close(struct listener *listeners, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct listener *l = &listeners[i];

        if (l->fd >= 0)
            close(l->fd);
        if (l->path)
            unlink(l->path);
        free(l->url);
        free(l->host);
        free(l->path);
    }
    free(listeners);
}

bool port_file_write(const char *path, const struct listener *listeners, size_t n, char *why, size_t size)
{
    char *next = NULL;
    FILE *out;
    bool good;

    if (asprintf(&next, "%s.new", path) < 0)
        return fail(why, size, "out of memory");
    out = fopen(next, "w");
    good = out != NULL;
    for (size_t i = 0; good && i < n; i++)
        good = fprintf(out, "%s\n", listeners[i].url) > 0;
    if (out && fclose(out))
        good = false;
    if (!good || rename(next, path)) {
        fail(why, size, "--port-file %s: %s", path, strerror(errno));
        unlink(next);
        good = false;
    }
    free(next);
    return good;
}
