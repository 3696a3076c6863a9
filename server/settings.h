/* settings.h: the settings, one line each in settings.def: flag, environment variable, key in the file. */
#ifndef SERVER_SETTINGS_H
#define SERVER_SETTINGS_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#define MAX_SETTINGS 64

/* Fields marked mutable may change while the daemon runs: numbers are atomic, lists and texts are under `lock`. */
struct config {
    char **listen;        /* n_listen addresses "127.0.0.1:8000", "[::1]:0", "unix:PATH" */
    size_t n_listen;
    bool listen_given;    /* by flag, environment or file, not the default */
    char *port_file, *state_dir, *config_file, *id, *api_prefix;
    char *api_key_file;   /* NULL: no keys */
    char *web_root;
    char *tls_certificate, *tls_private_key; /* both or neither */
    bool key_credential;  /* it is one of systemd's */
    char *model_dir, *model_name; /* NULL: none */
    char *model_control_mode;     /* "explicit", "none", "poll" */
    char **load_model;            /* names, or "*" */
    size_t n_load_model;
    _Atomic double poll_seconds;
    char *metrics_listen; /* NULL: none */
    char **allowed_hosts; /* mutable */
    size_t n_allowed_hosts;
    char **cors_origins;  /* mutable */
    size_t n_cors_origins;
    bool insecure, triton_status, read_only;
    _Atomic long threads;
    _Atomic long max_body_bytes;             /* mutable */
    _Atomic long max_upload_bytes;           /* mutable */
    _Atomic double request_timeout_seconds;  /* mutable */
    _Atomic double checkpoint_seconds;       /* mutable */
    _Atomic double drain_delay_seconds, exit_timeout_seconds;
    char *log_format, *log_level;            /* mutable */
    bool check_config, print_config, version, help;

    pthread_rwlock_t lock;
    unsigned char source[MAX_SETTINGS]; /* of each line of settings.def */
    int argc;
    char **argv; /* borrowed: read again on SIGHUP */
};

/* config_read: flags over environment over file over defaults. On failure writes one line to stderr and sets *status
 * to the exit status (64 usage, 78 configuration); also returns false with *status 0 after --help, --version and
 * --print-config. Initialises c; clear it in every case. argv must outlive it. */
bool config_read(struct config *c, int argc, char **argv, int *status);
void config_clear(struct config *c);

/* config_reload: read everything again and take over what is mutable; false, with one line in why, keeps the old. */
bool config_reload(struct config *c, char *why, size_t size);

/* config_patch: the settings of an object, all or none of them, until a restart or config_reload; dry: only look at them. On
 * failure false and fault. */
struct settings_fault {
    int status;
    const char *code; /* unknown_member, requires_restart, bad_parameter */
    char pointer[80], text[500];
};
bool config_patch(struct config *c, const json_t *changes, bool dry, struct settings_fault *fault);

/* config_loads: whether --load-model names it. */
bool config_loads(const struct config *c, const char *model);

/* config_allows_host: whether a Host without its port is in allowed_hosts ("*" there means every one). */
bool config_allows_host(struct config *c, const char *host, size_t length);

/* config_allows_origin: whether a page of this origin may read and change things; NULL origin: whether any may. */
bool config_allows_origin(struct config *c, const char *origin);

/* config_json: the settings, no secrets; with sources each is {"value","source"}. NULL: out of memory. */
json_t *config_json(struct config *c, bool sources);
json_t *config_mutable(void); /* the names of the mutable ones */

#endif
