/* keys.h: API keys, their scopes, and what each route asks for. Threads: safe. */
#ifndef SERVER_KEYS_H
#define SERVER_KEYS_H

#include <stdbool.h>
#include <stddef.h>

struct keys;

enum scope { SCOPE_NONE = 0, SCOPE_INFER = 1, SCOPE_TRAIN = 2, SCOPE_ADMIN = 4, SCOPE_METRICS = 8 };

/* scope_of: the scope that a route asks for; SCOPE_NONE: it answers everybody. template as in the table of routes. */
enum scope scope_of(const char *method, const char *template);

/* keys_open: {"keys":[{"name":"ci","sha256":"<hex>","scopes":["infer","train"]}]}. A file that others may read is refused,
 * unless it is a credential of systemd, whose folder guards it. On failure NULL and one line in why. */
struct keys *keys_open(const char *path, bool credential, char *why, size_t size);

/* keys_reload: the same file again; false, with why, keeps what was. */
bool keys_reload(struct keys *keys, char *why, size_t size);

void keys_close(struct keys *keys);

enum key_verdict { KEY_FINE, KEY_UNKNOWN, KEY_FORBIDDEN };

/* keys_check: whether the key that a request brought allows the scope. authorization, api_key: the values of its headers, NULL
 * without. The time that it takes depends on the number of keys and on the length of this one only. */
enum key_verdict keys_check(struct keys *keys, const char *authorization, const char *api_key, enum scope scope);

#endif
