/* settings.h: the settings, one line each in settings.def: flag, environment variable, key in the file. */
#ifndef SERVER_SETTINGS_H
#define SERVER_SETTINGS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct config {
    char **listen;        /* n_listen addresses "127.0.0.1:8000", "[::1]:0", "unix:PATH" */
    size_t n_listen;
    bool listen_given;    /* by flag, environment or file, not the default */
    char *port_file, *state_dir, *config_file, *id, *api_prefix;
    char **allowed_hosts;
    size_t n_allowed_hosts;
    bool insecure, triton_status;
    long threads;
    long max_body_bytes, max_upload_bytes;
    double request_timeout_seconds, checkpoint_seconds, drain_delay_seconds, exit_timeout_seconds;
    char *log_format, *log_level;
    bool check_config, print_config;
};

/* config_read: flags over environment over file over defaults. On failure writes one line to stderr and sets *status
 * to the exit status (64 usage, 78 configuration); also returns false with *status 0 after --help and --version. */
bool config_read(struct config *c, int argc, char **argv, int *status);
void config_clear(struct config *c);
json_t *config_json(const struct config *c, bool sources); /* the settings, no secrets; with sources each is {"value","source"} */

#endif
