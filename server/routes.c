/* routes.c: the whole API on one screen. */
#include "handlers/handlers.h"

#define M "/v2/models/{m}"
#define MV "/v2/models/{m}/versions/{v}"
#define ML "/v2/models/{m}/labels/{label}"
#define D "/v2/datasets/{d}"
#define J "/v2/jobs/{id}"

/* Below the model, below a version and below a label of it. AT_ANY: what reads acts on the version of the path. AT_HEAD: what
 * writes acts on the head, and is refused where the path names a frozen version. */
#define AT_ANY(method, rest, handle, flags, small) \
    {method, M rest, handle, flags, small}, {method, MV rest, handle, flags, small}, {method, ML rest, handle, flags, small}
#define AT_HEAD AT_ANY

/* A path that clients of Triton may ask for and that is not offered: 501, in words that they can show. */
#define REFUSED(method, path) {method, path, handle_refused, ROUTE_INLINE | ROUTE_OIP | ROUTE_READS, NULL}
#define AT_ANY_REFUSED(method, rest) REFUSED(method, M rest), REFUSED(method, MV rest), REFUSED(method, ML rest)

enum { ALWAYS = ROUTE_INLINE | ROUTE_ALWAYS | ROUTE_OIP, READ = ROUTE_INLINE | ROUTE_OIP, ASKS = ROUTE_READS };

const struct route routes[] = {
    {"GET", "/health", handle_live, ALWAYS, NULL},
    {"GET", "/healthz", handle_live, ALWAYS, NULL},
    {"GET", "/livez", handle_live, ALWAYS, NULL},
    {"GET", "/readyz", handle_ready, ALWAYS, NULL},
    {"GET", "/metrics", handle_metrics, ROUTE_ALWAYS | ROUTE_OIP, NULL},

    /* the dashboard */
    {"GET", "/", handle_ui, ROUTE_OIP, NULL},
    {"GET", "/ui", handle_ui, ROUTE_OIP, NULL},
    {"GET", "/ui/{file}", handle_ui_file, ROUTE_OIP, NULL},

    /* the API's description */
    {"GET", "/openapi.json", handle_openapi, ALWAYS, NULL},
    {"GET", "/docs", handle_docs, ALWAYS, NULL},
    {"GET", "/docs/{file}", handle_docs_file, ROUTE_OIP, NULL},
    {"GET", "/v2/problems/{code}", handle_problem, ALWAYS, NULL},

    /* Open Inference Protocol and Triton's extensions */
    {"GET", "/v2", handle_server, READ, NULL},
    {"GET", "/v2/health/live", handle_live, ALWAYS, NULL},
    {"GET", "/v2/health/ready", handle_ready, ALWAYS, NULL},
    {"GET", "/v2/models", handle_models_list, ROUTE_OIP, NULL},
    {"GET", M, handle_model_get, READ, NULL},
    {"GET", MV, handle_model_get, READ, NULL},
    AT_ANY("GET", "/ready", handle_model_ready, ALWAYS, NULL),
    AT_ANY("GET", "/config", handle_config_get, READ, NULL),
    AT_HEAD("PATCH", "/config", handle_config_patch, ROUTE_WRITE, NULL),
    AT_ANY("POST", "/infer", NULL, ROUTE_OIP | ASKS, handle_infer),
    {"GET", "/v2/models/stats", handle_stats, ROUTE_OIP, NULL},
    AT_ANY("GET", "/stats", handle_model_stats, READ, NULL),
    {"GET", "/v2/repository/index", handle_repository_index, ROUTE_OIP, NULL},
    {"POST", "/v2/repository/index", handle_repository_index, ROUTE_OIP | ASKS, NULL},
    {"POST", "/v2/repository/models/{m}/load", handle_model_load, ROUTE_OIP | ROUTE_WRITE, NULL},
    {"POST", "/v2/repository/models/{m}/unload", handle_model_unload, ROUTE_OIP | ROUTE_WRITE, NULL},
    {"GET", "/v2/logging", handle_logging, READ, NULL},
    {"POST", "/v2/logging", handle_logging_post, READ, NULL},
    {"GET", "/v2/systemsharedmemory/status", handle_no_regions, READ, NULL},
    {"GET", "/v2/systemsharedmemory/region/{r}/status", handle_no_regions, READ, NULL},
    {"GET", "/v2/cudasharedmemory/status", handle_no_regions, READ, NULL},
    {"GET", "/v2/cudasharedmemory/region/{r}/status", handle_no_regions, READ, NULL},
    {"POST", "/v2/systemsharedmemory/unregister", handle_unregister, READ | ASKS, NULL},
    {"POST", "/v2/systemsharedmemory/region/{r}/unregister", handle_unregister, READ | ASKS, NULL},
    {"POST", "/v2/cudasharedmemory/unregister", handle_unregister, READ | ASKS, NULL},
    {"POST", "/v2/cudasharedmemory/region/{r}/unregister", handle_unregister, READ | ASKS, NULL},

    /* the server's settings */
    {"GET", "/v2/config", handle_settings, 0, NULL},
    {"PATCH", "/v2/config", handle_settings_patch, ROUTE_WRITE, NULL},

    /* models */
    {"POST", "/v2/models", handle_model_create, 0, NULL},
    {"PUT", M, handle_model_put, ROUTE_WRITE | ROUTE_UPLOAD, NULL},
    {"PATCH", M, handle_model_patch, ROUTE_WRITE, NULL},
    {"DELETE", M, handle_model_delete, ROUTE_WRITE, NULL},
    AT_ANY("GET", "/definition", handle_definition, ROUTE_INLINE, NULL),

    /* versions and labels */
    {"GET", M "/versions", handle_versions, 0, NULL},
    {"POST", M "/versions", handle_version_create, ROUTE_WRITE, NULL},
    {"DELETE", MV, handle_version_delete, ROUTE_WRITE, NULL},
    {"GET", M "/labels", handle_labels, 0, NULL},
    {"GET", ML, handle_label, 0, NULL},
    {"PUT", ML, handle_label_put, ROUTE_WRITE, NULL},
    {"DELETE", ML, handle_label_delete, ROUTE_WRITE, NULL},

    /* training */
    {"GET", M "/training", handle_training_get, 0, NULL},
    AT_HEAD("PUT", "/training", handle_training_put, ROUTE_WRITE, NULL),
    AT_HEAD("PATCH", "/training", handle_training_patch, ROUTE_WRITE, NULL),
    AT_HEAD("POST", "/train_step", handle_train_step, ROUTE_WRITE, NULL),
    AT_ANY("POST", "/evaluate", handle_evaluate, ROUTE_ASYNC | ASKS, NULL),
    AT_ANY("POST", "/gradients", handle_gradients, ASKS, NULL),

    /* weights and layers */
    AT_ANY("GET", "/weights", handle_weights_get, 0, NULL),
    AT_HEAD("PUT", "/weights", handle_weights_put, ROUTE_WRITE | ROUTE_UPLOAD, NULL),
    AT_ANY("GET", "/weights/{l}/{variable}", handle_tensor_get, 0, NULL),
    AT_ANY("GET", "/weights/{l}/{inner}/{variable}", handle_tensor_get, 0, NULL),
    AT_HEAD("PUT", "/weights/{l}/{variable}", handle_tensor_put, ROUTE_WRITE, NULL),
    AT_HEAD("PUT", "/weights/{l}/{inner}/{variable}", handle_tensor_put, ROUTE_WRITE, NULL),
    AT_ANY("GET", "/layers", handle_layers, 0, NULL),
    AT_ANY("GET", "/layers/{l}", handle_layer, 0, NULL),
    AT_ANY("GET", "/layers/{l}/{inner}", handle_layer, 0, NULL),
    AT_HEAD("PATCH", "/layers/{l}", handle_layer_patch, ROUTE_WRITE, NULL),
    AT_HEAD("PATCH", "/layers/{l}/{inner}", handle_layer_patch, ROUTE_WRITE, NULL),
    AT_HEAD("POST", "/refresh", handle_refresh, ROUTE_WRITE, NULL),
    AT_HEAD("POST", "/condense", handle_condense, ROUTE_WRITE, NULL),
    {"GET", M "/checkpoints", handle_checkpoints, 0, NULL},
    {"POST", M "/checkpoints", handle_checkpoint_create, ROUTE_WRITE, NULL},
    {"GET", M "/checkpoints/{c}", handle_checkpoint, 0, NULL},
    {"DELETE", M "/checkpoints/{c}", handle_checkpoint_delete, ROUTE_WRITE, NULL},
    {"POST", M "/checkpoints/{c}/restore", handle_checkpoint_restore, ROUTE_WRITE, NULL},
    AT_ANY("GET", "/export", handle_export, ROUTE_ASYNC, NULL),

    /* bounds */
    AT_HEAD("POST", "/tighten", handle_tighten, ROUTE_WRITE | ROUTE_ASYNC, NULL),
    AT_ANY("POST", "/certify", handle_certify, ROUTE_ASYNC | ASKS, NULL),
    AT_ANY("POST", "/wasserstein", handle_wasserstein, ROUTE_ASYNC | ASKS, NULL),
    AT_ANY("GET", "/layers/{l}/singular_values", handle_singular_values, 0, NULL),
    AT_ANY("GET", "/layers/{l}/{inner}/singular_values", handle_singular_values, 0, NULL),
    AT_ANY("GET", "/lipschitz", handle_lipschitz, ROUTE_ASYNC, NULL),

    /* datasets */
    {"GET", "/v2/datasets", handle_datasets_list, 0, NULL},
    {"GET", D, handle_dataset_get, ROUTE_INLINE, NULL},
    {"PUT", D, handle_dataset_put, ROUTE_WRITE | ROUTE_UPLOAD, NULL},
    {"DELETE", D, handle_dataset_delete, ROUTE_WRITE, NULL},
    {"GET", D "/{tensor}", handle_dataset_tensor_get, 0, NULL},
    {"PUT", D "/{tensor}", handle_dataset_tensor_put, ROUTE_WRITE | ROUTE_UPLOAD, NULL},

    /* jobs and events */
    {"GET", "/v2/jobs", handle_jobs_list, 0, NULL},
    {"POST", "/v2/jobs", handle_job_create, 0, NULL},
    {"GET", J, handle_job_get, ROUTE_INLINE, NULL},
    {"DELETE", J, handle_job_delete, 0, NULL},
    {"POST", J "/cancel", handle_job_cancel, 0, NULL},
    {"POST", J "/pause", handle_job_pause, 0, NULL},
    {"POST", J "/resume", handle_job_resume, 0, NULL},
    {"GET", J "/result", handle_job_result, 0, NULL},
    {"GET", J "/events", handle_job_events, ROUTE_INLINE, NULL},
    {"GET", "/v2/events", handle_events, ROUTE_INLINE, NULL},

    /* Triton's extensions that are not offered */
    REFUSED("GET", "/v2/repository/{repo}/index"),
    REFUSED("POST", "/v2/repository/{repo}/index"),
    REFUSED("POST", "/v2/repository/{repo}/models/{m}/load"),
    REFUSED("POST", "/v2/repository/{repo}/models/{m}/unload"),
    REFUSED("GET", "/v2/trace/setting"),
    REFUSED("POST", "/v2/trace/setting"),
    REFUSED("GET", M "/trace/setting"),
    REFUSED("POST", M "/trace/setting"),
    REFUSED("POST", "/v2/systemsharedmemory/region/{r}/register"),
    REFUSED("POST", "/v2/cudasharedmemory/region/{r}/register"),
    AT_ANY_REFUSED("POST", "/generate"),
    AT_ANY_REFUSED("POST", "/generate_stream"),
    {0},
};
