/* settings.c: settings.def makes flags, variables, file keys, --help and the JSON of what is in force. */
#include "settings.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "guard.h"
#include "listen.h"
#include "log.h"
#include "store.h"

#define DEFAULT_FILE "/etc/onelip/onelipd.json"
#define USAGE 64  /* EX_USAGE */
#define CONFIG 78 /* EX_CONFIG */

enum kind { KIND_LIST, KIND_TEXT, KIND_CHOICE, KIND_INTEGER, KIND_SECONDS, KIND_SWITCH, KIND_COMMAND };
enum change { FIXED, MUTABLE };
enum source { SOURCE_DEFAULT, SOURCE_FILE, SOURCE_ENVIRONMENT, SOURCE_FLAG, SOURCE_REQUEST };
static const char *const source_names[] = {"default", "file", "environment", "flag", "request"};

struct setting {
    enum kind kind;
    const char *name;      /* of the flag: "max-body-bytes" */
    size_t field, count;   /* offsets into struct config; count of lists only */
    const char *fallback;  /* the default as text; NULL: none */
    double least, most;
    enum change change;
    const char *argument, *help;
};

#define FIELD(field) offsetof(struct config, field)
static const struct setting settings[] = {
#define LIST(field, name, fallback, change, argument, help) \
    {KIND_LIST, name, FIELD(field), FIELD(n_##field), fallback, 0, 0, change, argument, help},
#define TEXT(field, name, fallback, change, argument, help) \
    {KIND_TEXT, name, FIELD(field), 0, fallback, 0, 0, change, argument, help},
#define CHOICE(field, name, fallback, change, argument, help) \
    {KIND_CHOICE, name, FIELD(field), 0, fallback, 0, 0, change, argument, help},
#define INTEGER(field, name, fallback, least, most, change, argument, help) \
    {KIND_INTEGER, name, FIELD(field), 0, fallback, least, most, change, argument, help},
#define SECONDS(field, name, fallback, least, most, change, argument, help) \
    {KIND_SECONDS, name, FIELD(field), 0, fallback, least, most, change, argument, help},
#define SWITCH(field, name, change, help) {KIND_SWITCH, name, FIELD(field), 0, "0", 0, 1, change, NULL, help},
#define COMMAND(field, name, help) {KIND_COMMAND, name, FIELD(field), 0, "0", 0, 1, FIXED, NULL, help},
#include "settings.def"
#undef LIST
#undef TEXT
#undef CHOICE
#undef INTEGER
#undef SECONDS
#undef SWITCH
#undef COMMAND
};
enum { SETTINGS = sizeof settings / sizeof *settings };
_Static_assert(SETTINGS <= MAX_SETTINGS, "struct config has a source for every setting");

/* What went wrong: one line, and the exit status. */
struct trouble {
    char *why;
    size_t size;
    int status;
};

static bool trouble(struct trouble *t, int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(t->why, t->size, format, args);
    va_end(args);
    t->status = status;
    return false;
}

/* ---- values -------------------------------------------------------------------------------------------- */

static void *field_of(struct config *c, const struct setting *s)
{
    return (char *)c + s->field;
}

static size_t *count_of(struct config *c, const struct setting *s)
{
    return (size_t *)(void *)((char *)c + s->count);
}

static void list_clear(struct config *c, const struct setting *s)
{
    char ***list = field_of(c, s);
    size_t *n = count_of(c, s);

    while (*n)
        free((*list)[--*n]);
    free(*list);
    *list = NULL;
}

static bool list_add(struct config *c, const struct setting *s, const char *text, size_t length)
{
    char ***list = field_of(c, s);
    size_t *n = count_of(c, s);
    char **longer = realloc(*list, (*n + 1) * sizeof **list);

    if (!longer)
        return false;
    *list = longer;
    if (!(longer[*n] = strndup(text, length)))
        return false;
    ++*n;
    return true;
}

static bool set_text(struct config *c, const struct setting *s, const char *text)
{
    char **field = field_of(c, s), *copy = strdup(text);

    if (copy) {
        free(*field);
        *field = copy;
    }
    return copy != NULL;
}

/* Whether text is one of "a|b|c". */
static bool is_choice(const char *choices, const char *text)
{
    size_t length = strlen(text);

    for (const char *c = choices; *c; c += strcspn(c, "|"), c += *c == '|')
        if (strcspn(c, "|") == length && !strncmp(c, text, length))
            return true;
    return false;
}

/* What would be accepted, for people. */
static const char *wanted(const struct setting *s, char *text, size_t size)
{
    switch (s->kind) {
    case KIND_INTEGER:
        snprintf(text, size, "an integer from %.0f to %.0f", s->least, s->most);
        break;
    case KIND_SECONDS:
        snprintf(text, size, "a number from %g to %g", s->least, s->most);
        break;
    case KIND_LIST:
        snprintf(text, size, "%s",
                 !strcmp(s->name, "listen")         ? "ADDR:PORT or unix:PATH"
                 : !strcmp(s->name, "cors-origins") ? "http://HOST[:PORT] or https://HOST[:PORT]"
                 : !strcmp(s->name, "load-model")   ? "names of models, or *"
                                                    : "a list of texts");
        break;
    case KIND_SWITCH:
        snprintf(text, size, "1 or 0");
        break;
    case KIND_CHOICE:
        snprintf(text, size, "%s", s->argument);
        break;
    default:
        snprintf(text, size, "%s",
                 !strcmp(s->name, "api-prefix")       ? "a path that begins with \"/\" and does not end with it"
                 : !strcmp(s->name, "metrics-listen") ? "ADDR:PORT or unix:PATH"
                 : !strcmp(s->name, "model-name")     ? "a name of a model"
                                                      : "a text");
    }
    return text;
}

/* "https://lab.example:8443": a scheme and a host, nothing behind. */
static bool is_origin(const char *text)
{
    size_t scheme = !strncmp(text, "http://", 7) ? 7 : !strncmp(text, "https://", 8) ? 8 : 0;

    return scheme && guard_host(text + scheme);
}

/* What a path may hold as it is (RFC 3986, 2.3), and "/". */
static const char path_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";

/* Whether text can be this setting, or stand in this list. */
static bool fits(const struct setting *s, const char *text)
{
    bool local;

    if (!strcmp(s->name, "listen") || !strcmp(s->name, "metrics-listen"))
        return address_check(text, &local);
    if (!strcmp(s->name, "model-name") || (!strcmp(s->name, "load-model") && strcmp(text, "*")))
        return store_name_ok(text);
    if (!strcmp(s->name, "api-prefix"))
        return !*text || (*text == '/' && text[strlen(text) - 1] != '/' && strspn(text, path_letters) == strlen(text));
    return strcmp(s->name, "cors-origins") || is_origin(text);
}

/* A list's texts, separated by commas. */
static bool set_list(struct config *c, const struct setting *s, const char *text)
{
    for (; *text; text += strcspn(text, ","), text += *text == ',') {
        size_t length = strcspn(text, ",");
        char *one = strndup(text, length);
        bool good = one && (!length || fits(s, one));

        if (good && length)
            good = list_add(c, s, text, length);
        free(one);
        if (!good)
            return false;
    }
    return true;
}

/* false: the text is not a value of this setting (or memory is short). */
static bool set(struct config *c, const struct setting *s, const char *text)
{
    char *end;

    switch (s->kind) {
    case KIND_LIST:
        return set_list(c, s, text);
    case KIND_TEXT:
        return fits(s, text) && set_text(c, s, text);
    case KIND_CHOICE:
        return is_choice(s->argument, text) && set_text(c, s, text);
    case KIND_INTEGER: {
        long value;

        errno = 0;
        value = strtol(text, &end, 10);
        if (errno || end == text || *end || strspn(text, "0123456789") != strlen(text) || (double)value < s->least ||
            (double)value > s->most)
            return false;
        *(_Atomic long *)field_of(c, s) = value;
        return true;
    }
    case KIND_SECONDS: {
        double value = strtod(text, &end);

        if (end == text || *end || strspn(text, "0123456789.eE+-") != strlen(text) || !(value >= s->least) ||
            !(value <= s->most))
            return false;
        *(_Atomic double *)field_of(c, s) = value;
        return true;
    }
    default:
        if ((text[0] != '0' && text[0] != '1') || text[1])
            return false;
        *(bool *)field_of(c, s) = text[0] == '1';
        return true;
    }
}

/* Set from a source: a list of a higher source replaces what a lower one said. place is where the value stands. */
static bool set_from(struct config *c, const struct setting *s, enum source source, const char *text, const char *place,
                     const char *found, struct trouble *t)
{
    char want[200];

    if (s->kind == KIND_LIST && c->source[s - settings] != source)
        list_clear(c, s);
    c->source[s - settings] = (unsigned char)source;
    if (set(c, s, text))
        return true;
    return trouble(t, source == SOURCE_FLAG ? USAGE : CONFIG, "%s: found %s, wanted %s", place, found,
                   wanted(s, want, sizeof want));
}

/* ---- flags ----------------------------------------------------------------------------------------------- */

static const struct setting *flag_named(const char *name, size_t length)
{
    for (size_t i = 0; i < SETTINGS; i++)
        if (strlen(settings[i].name) == length && !strncmp(settings[i].name, name, length))
            return &settings[i];
    return NULL;
}

/* Walk over argv and call back with each flag and its value. */
static bool each_flag(struct config *c, bool only_config, struct trouble *t)
{
    for (int i = 1; i < c->argc; i++) {
        const char *flag = c->argv[i], *value;
        size_t length = strcspn(flag, "=");
        const struct setting *s = !strncmp(flag, "--", 2) ? flag_named(flag + 2, length - 2) : NULL;
        char place[64], found[200];
        bool takes;

        if (!s)
            return trouble(t, USAGE, "onelipd: %.100s: no such flag; see onelipd --help", flag);
        takes = s->kind != KIND_SWITCH && s->kind != KIND_COMMAND;
        value = flag[length] ? flag + length + 1 : takes ? c->argv[++i] : "1";
        if (!value)
            return trouble(t, USAGE, "onelipd: --%s: a value is missing: %s", s->name, s->argument);
        if (only_config != !strcmp(s->name, "config"))
            continue;
        snprintf(place, sizeof place, "onelipd: --%s", s->name);
        snprintf(found, sizeof found, "\"%.100s\"", value);
        if (!set_from(c, s, SOURCE_FLAG, value, place, found, t))
            return false;
    }
    return true;
}

/* ---- environment ----------------------------------------------------------------------------------------- */

/* "max-body-bytes" -> "ONELIP_MAX_BODY_BYTES" or "max_body_bytes" */
static const char *spelled(const struct setting *s, bool variable, char *text, size_t size)
{
    snprintf(text, size, "%s%s", variable ? "ONELIP_" : "", s->name);
    for (char *c = text; *c; c++)
        *c = *c == '-' ? '_' : variable && *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
    return text;
}

static bool read_environment(struct config *c, struct trouble *t)
{
    for (size_t i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        char name[64], place[80], found[200];
        const char *value;

        if (s->kind == KIND_COMMAND || c->source[i] == SOURCE_FLAG)
            continue;
        value = getenv(spelled(s, true, name, sizeof name));
        if (!value)
            continue;
        snprintf(place, sizeof place, "onelipd: %s", name);
        snprintf(found, sizeof found, "\"%.100s\"", value);
        if (!set_from(c, s, SOURCE_ENVIRONMENT, value, place, found, t))
            return false;
    }
    return true;
}

/* ---- the file ---------------------------------------------------------------------------------------------- */

/* The line on which a top-level key stands in a text that is known to be one JSON object. */
static size_t line_of(const char *text, const char *key)
{
    size_t line = 1, depth = 0, length = strlen(key);

    for (const char *c = text; *c; c++) {
        if (*c == '\n') {
            line++;
        } else if (*c == '{' || *c == '[') {
            depth++;
        } else if (*c == '}' || *c == ']') {
            depth--;
        } else if (*c == '"') {
            const char *begin = ++c;

            while (*c && *c != '"')
                c += 1 + (*c == '\\' && c[1]);
            if (!*c)
                break;
            if (depth == 1 && (size_t)(c - begin) == length && !strncmp(begin, key, length) &&
                c[1 + strspn(c + 1, " \t\r\n")] == ':')
                return line;
        }
    }
    return 1;
}

/* The text that set() reads, for values of the right JSON type; NULL for others. scratch holds numbers. */
static const char *text_of(const struct setting *s, const json_t *value, char *scratch, size_t size)
{
    switch (s->kind) {
    case KIND_TEXT:
    case KIND_CHOICE:
        return json_string_value(value);
    case KIND_INTEGER:
        if (!json_is_integer(value))
            return NULL;
        snprintf(scratch, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return scratch;
    case KIND_SECONDS:
        if (!json_is_number(value))
            return NULL;
        snprintf(scratch, size, "%.17g", json_number_value(value));
        return scratch;
    case KIND_SWITCH:
        return json_is_true(value) ? "1" : json_is_false(value) ? "0" : NULL;
    default:
        return NULL;
    }
}

static bool set_json(struct config *c, const struct setting *s, const json_t *value, enum source source, const char *place,
                     struct trouble *t)
{
    char *found = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY), shown[200], scratch[40], want[200];
    const char *text;
    bool good = true;

    snprintf(shown, sizeof shown, "%.100s%s", found ? found : "?", found && strlen(found) > 100 ? "..." : "");
    free(found);
    if (s->kind == KIND_LIST && json_is_array(value)) {
        list_clear(c, s);
        c->source[s - settings] = (unsigned char)source;
        for (size_t i = 0; good && i < json_array_size(value); i++) {
            text = json_string_value(json_array_get(value, i));
            if (!text || !*text || strchr(text, ','))
                return trouble(t, CONFIG, "%s: found %s, wanted an array of texts", place, shown);
            good = set_from(c, s, source, text, place, shown, t);
        }
        return good;
    }
    text = text_of(s, value, scratch, sizeof scratch);
    if (text)
        return set_from(c, s, source, text, place, shown, t);
    return trouble(t, CONFIG, "%s: found %s, wanted %s", place, shown,
                   s->kind == KIND_LIST     ? "an array of texts"
                   : s->kind == KIND_SWITCH ? "true or false"
                                            : wanted(s, want, sizeof want));
}

static const struct setting *key_named(const char *key)
{
    char name[64];

    for (size_t i = 0; i < SETTINGS; i++)
        if (settings[i].kind != KIND_COMMAND && strcmp(settings[i].name, "config") &&
            !strcmp(spelled(&settings[i], false, name, sizeof name), key))
            return &settings[i];
    return NULL;
}

/* The whole file, with a NUL; NULL and errno. */
static char *slurp(const char *path, size_t *bytes)
{
    FILE *in = fopen(path, "r");
    char *text = NULL, *longer;
    size_t room = 0, n = 0;

    if (!in)
        return NULL;
    while (!ferror(in) && !feof(in) && n < 1 << 20) {
        if (!(longer = realloc(text, room += 4096))) {
            free(text);
            text = NULL;
            break;
        }
        text = longer;
        n += fread(text + n, 1, room - n - 1, in);
        text[n] = '\0';
    }
    if (text && ferror(in)) {
        free(text);
        text = NULL;
    }
    fclose(in);
    *bytes = n;
    return text;
}

static bool read_file(struct config *c, const char *path, bool must, struct trouble *t)
{
    size_t bytes = 0;
    char *text = slurp(path, &bytes);
    json_error_t error;
    json_t *object, *value;
    const char *key;
    bool good = true;

    if (!text)
        return errno == ENOENT && !must ? true : trouble(t, CONFIG, "onelipd: %s: %s", path, strerror(errno));
    object = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!object) {
        trouble(t, CONFIG, "%s:%d: %s", path, error.line > 0 ? error.line : 1, error.text);
        free(text);
        return false;
    }
    if (!json_is_object(object))
        good = trouble(t, CONFIG, "%s:1: found no object, wanted one object of settings", path);
    json_object_foreach(object, key, value) {
        const struct setting *s = key_named(key);
        char place[512];

        snprintf(place, sizeof place, "%s:%zu: %.64s", path, line_of(text, key), key);
        if (!s)
            good = trouble(t, CONFIG, "%s: found a key that is no setting, wanted one that onelipd --help shows", place);
        else if (c->source[s - settings] <= SOURCE_FILE)
            good = set_json(c, s, value, SOURCE_FILE, place, t);
        if (!good)
            break;
    }
    json_decref(object);
    free(text);
    return good;
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */

/* One per core that this process may use. */
static long cores(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) ? sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
}

static bool default_state_dir(struct config *c, struct trouble *t)
{
    const char *given = getenv("STATE_DIRECTORY"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char *path = NULL;
    int n;

    if (c->state_dir)
        return true;
    if (given && *given)
        n = asprintf(&path, "%.*s", (int)strcspn(given, ":"), given);
    else if (!geteuid())
        n = asprintf(&path, "/var/lib/onelip");
    else if (xdg && *xdg == '/')
        n = asprintf(&path, "%s/onelip", xdg);
    else if (home && *home == '/')
        n = asprintf(&path, "%s/.local/state/onelip", home);
    else if (c->read_only)
        return true;
    else
        return trouble(t, CONFIG, "onelipd: --state-dir: found none and no $HOME, wanted a directory");
    if (n < 0)
        return trouble(t, 1, "onelipd: out of memory");
    c->state_dir = path;
    return true;
}

/* The key file that systemd hands over, unless another one is named. */
static bool default_keys(struct config *c, struct trouble *t)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    size_t length = folder ? strlen(folder) : 0;
    char *path;

    if (!length)
        return true;
    if (!c->api_key_file) {
        if (asprintf(&path, "%s/api-keys", folder) < 0)
            return trouble(t, 1, "onelipd: out of memory");
        if (access(path, F_OK))
            free(path);
        else
            c->api_key_file = path;
    }
    c->key_credential = c->api_key_file && !strncmp(c->api_key_file, folder, length) && c->api_key_file[length] == '/';
    return true;
}

/* Flags are read before the rest, so that they name the file, and are kept by it. */
static bool read_all(struct config *c, struct trouble *t)
{
    const char *file = getenv("ONELIP_CONFIG");
    bool given;

    for (size_t i = 0; i < SETTINGS; i++)
        if (settings[i].fallback && !set(c, &settings[i], settings[i].fallback))
            return trouble(t, 1, "onelipd: out of memory");
    if (!each_flag(c, true, t) || !each_flag(c, false, t))
        return false;
    given = c->config_file != NULL || (file && *file);
    if (!read_file(c, c->config_file ? c->config_file : given ? file : DEFAULT_FILE, given, t) || !read_environment(c, t))
        return false;
    if (!c->threads)
        c->threads = cores();
    c->listen_given = c->source[flag_named("listen", 6) - settings] != SOURCE_DEFAULT;
    if (!c->tls_certificate != !c->tls_private_key)
        return trouble(t, CONFIG, "onelipd: --tls-certificate and --tls-private-key: found one, wanted both or neither");
    if (c->model_name && !c->model_dir)
        return trouble(t, CONFIG, "onelipd: --model-name: found no --model-dir, wanted the folder of that model");
    return default_keys(c, t) && default_state_dir(c, t);
}

static void config_init(struct config *c, int argc, char **argv)
{
    memset(c, 0, sizeof *c);
    pthread_rwlock_init(&c->lock, NULL);
    c->argc = argc;
    c->argv = argv;
}

void config_clear(struct config *c)
{
    for (size_t i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];

        if (s->kind == KIND_LIST)
            list_clear(c, s);
        else if (s->kind == KIND_TEXT || s->kind == KIND_CHOICE)
            free(*(char **)field_of(c, s));
    }
    pthread_rwlock_destroy(&c->lock);
    memset(c, 0, sizeof *c);
}

static void print_help(void)
{
    puts("Usage: onelipd [--FLAG VALUE]...\n"
         "Serve, train, measure and export Lipschitz-constrained networks over HTTP.\n");
    for (size_t i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        char flag[100];

        snprintf(flag, sizeof flag, "--%s%s%s", s->name, s->argument ? " " : "", s->argument ? s->argument : "");
        printf("  %-38s %s%s", flag, strlen(flag) > 38 ? "\n                                         " : "", s->help);
        if (s->fallback && *s->fallback && s->argument && strcmp(s->name, "threads"))
            printf(" [%s]", s->fallback);
        putchar('\n');
    }
    puts("\nEach flag but the last four is also an environment variable (--max-body-bytes: ONELIP_MAX_BODY_BYTES) and a\n"
         "key of the configuration file (\"max_body_bytes\"). A flag wins over the environment, the environment over the\n"
         "file. Exit status: 0 after a drain, 64 wrong usage, 78 wrong configuration, 1 anything else.");
}

static bool asked_for(int argc, char **argv, const char *flag)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], flag))
            return true;
    return false;
}

bool config_read(struct config *c, int argc, char **argv, int *status)
{
    char why[1024] = "";
    struct trouble t = {why, sizeof why, 0};

    config_init(c, argc, argv);
    *status = 0;
    if (asked_for(argc, argv, "--help")) {
        print_help();
        return false;
    }
    if (asked_for(argc, argv, "--version")) {
        puts("onelipd " PACKAGE_VERSION);
        return false;
    }
    if (!read_all(c, &t)) {
        fprintf(stderr, "%s\n", why);
        *status = t.status;
        return false;
    }
    if (c->print_config) {
        json_t *json = config_json(c, true);

        json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
        putchar('\n');
        json_decref(json);
        return false;
    }
    return true;
}

/* ---- as JSON ------------------------------------------------------------------------------------------------ */

static json_t *value_json(struct config *c, const struct setting *s)
{
    void *field = field_of(c, s);

    switch (s->kind) {
    case KIND_LIST: {
        json_t *list = json_array();

        for (size_t i = 0; i < *count_of(c, s); i++)
            json_array_append_new(list, json_string((*(char ***)field)[i]));
        return list;
    }
    case KIND_TEXT:
    case KIND_CHOICE:
        return *(char **)field ? json_string(*(char **)field) : json_null();
    case KIND_INTEGER:
        return json_integer(*(_Atomic long *)field);
    case KIND_SECONDS:
        return json_real(*(_Atomic double *)field);
    default:
        return json_boolean(*(bool *)field);
    }
}

json_t *config_json(struct config *c, bool sources)
{
    json_t *all = json_object();

    pthread_rwlock_rdlock(&c->lock);
    for (size_t i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        char key[64];
        json_t *value;

        if (s->kind == KIND_COMMAND)
            continue;
        value = value_json(c, s);
        if (sources)
            value = json_pack("{s:o, s:s}", "value", value, "source", source_names[c->source[i]]);
        json_object_set_new(all, spelled(s, false, key, sizeof key), value);
    }
    pthread_rwlock_unlock(&c->lock);
    return all;
}

json_t *config_mutable(void)
{
    json_t *names = json_array();
    char key[64];

    for (size_t i = 0; i < SETTINGS; i++)
        if (settings[i].change == MUTABLE)
            json_array_append_new(names, json_string(spelled(&settings[i], false, key, sizeof key)));
    return names;
}

/* ---- changes while running ------------------------------------------------------------------------------------ */

/* Give c the value of fresh, and fresh the old one. c's lock is held. */
static void swap(struct config *c, struct config *fresh, const struct setting *s)
{
    void *to = field_of(c, s), *from = field_of(fresh, s);

    c->source[s - settings] = fresh->source[s - settings];
    switch (s->kind) {
    case KIND_LIST: {
        size_t n = *count_of(c, s);

        *count_of(c, s) = *count_of(fresh, s);
        *count_of(fresh, s) = n;
    } /* and the pointer, as of texts */
    /* fall through */
    case KIND_TEXT:
    case KIND_CHOICE: {
        void *old = *(void **)to;

        *(void **)to = *(void **)from;
        *(void **)from = old;
        break;
    }
    case KIND_INTEGER:
        *(_Atomic long *)to = *(_Atomic long *)from;
        break;
    case KIND_SECONDS:
        *(_Atomic double *)to = *(_Atomic double *)from;
        break;
    default:
        *(bool *)to = *(bool *)from;
    }
}

bool config_reload(struct config *c, char *why, size_t size)
{
    struct config fresh;
    struct trouble t = {why, size, 0};
    bool good;

    config_init(&fresh, c->argc, c->argv);
    good = read_all(&fresh, &t);
    if (good) {
        pthread_rwlock_wrlock(&c->lock);
        for (size_t i = 0; i < SETTINGS; i++) {
            const struct setting *s = &settings[i];
            json_t *old = value_json(c, s), *new = value_json(&fresh, s);

            if (s->change == MUTABLE)
                swap(c, &fresh, s);
            else if (!json_equal(old, new))
                log_warning("%s has changed: that takes a restart", s->name);
            json_decref(old);
            json_decref(new);
        }
        pthread_rwlock_unlock(&c->lock);
    }
    config_clear(&fresh);
    return good;
}

/* One setting of the object into fresh, which is only a place for it. */
static bool patch_one(struct config *fresh, const char *key, const json_t *value, struct settings_fault *fault)
{
    const struct setting *s = key_named(key);
    struct trouble t = {fault->text, sizeof fault->text, 0};

    snprintf(fault->pointer, sizeof fault->pointer, "/%.60s", key);
    fault->status = s && s->change == FIXED ? 409 : 400;
    fault->code = !s ? "unknown_member" : s->change == FIXED ? "requires_restart" : "bad_parameter";
    if (s && s->change == MUTABLE)
        return set_json(fresh, s, value, SOURCE_REQUEST, key, &t);
    snprintf(fault->text, sizeof fault->text, s ? "%.60s changes with a restart only" : "there is no setting \"%.60s\"", key);
    return false;
}

bool config_patch(struct config *c, const json_t *changes, bool dry, struct settings_fault *fault)
{
    struct config fresh;
    const json_t *value;
    const char *key;
    bool good = true;

    config_init(&fresh, 0, NULL);
    json_object_foreach((json_t *)changes, key, value)
        if (!(good = patch_one(&fresh, key, value, fault)))
            break;
    if (good && !dry) {
        pthread_rwlock_wrlock(&c->lock);
        json_object_foreach((json_t *)changes, key, value)
            swap(c, &fresh, key_named(key));
        pthread_rwlock_unlock(&c->lock);
    }
    config_clear(&fresh);
    return good;
}

bool config_loads(const struct config *c, const char *model)
{
    for (size_t i = 0; i < c->n_load_model; i++)
        if (!strcmp(c->load_model[i], "*") || !strcmp(c->load_model[i], model))
            return true;
    return false;
}

bool config_allows_host(struct config *c, const char *host, size_t length)
{
    bool allowed = false;

    pthread_rwlock_rdlock(&c->lock);
    for (size_t i = 0; i < c->n_allowed_hosts && !allowed; i++)
        allowed = !strcmp(c->allowed_hosts[i], "*") ||
                  (strlen(c->allowed_hosts[i]) == length && !strncasecmp(c->allowed_hosts[i], host, length));
    pthread_rwlock_unlock(&c->lock);
    return allowed;
}

bool config_allows_origin(struct config *c, const char *origin)
{
    bool allowed = false;

    pthread_rwlock_rdlock(&c->lock);
    for (size_t i = 0; i < c->n_cors_origins && !allowed; i++)
        allowed = !origin || !strcmp(c->cors_origins[i], origin);
    pthread_rwlock_unlock(&c->lock);
    return allowed;
}
