/* handlers.h: every handler of routes.c. */
#ifndef SERVER_HANDLERS_HANDLERS_H
#define SERVER_HANDLERS_HANDLERS_H

#include "http.h"

handler handle_live, handle_ready, handle_server, handle_model_ready;                          /* health.c */
handler handle_repository_index, handle_model_load, handle_model_unload;                       /* repository.c */
handler handle_stats, handle_model_stats;                                                      /* stats.c */
handler handle_metrics;                                                                        /* metrics.c */
handler handle_models_list, handle_model_create, handle_model_put, handle_model_get, handle_model_delete,
    handle_definition; /* models.c */
handler handle_config_get, handle_config_patch; /* config.c */
handler handle_settings, handle_settings_patch, handle_logging, handle_logging_post; /* server_config.c */
batch_handler handle_infer; /* infer.c */
handler handle_training_get, handle_training_put, handle_training_patch; /* training.c */
handler handle_gradients;                                                /* gradients.c */
handler handle_train_step, handle_evaluate;                              /* train.c */
handler handle_weights_get, handle_weights_put;                          /* weights.c */
handler handle_tensor_get, handle_tensor_put;                            /* tensor.c */
handler handle_layers, handle_layer;                                     /* layers.c */
handler handle_model_patch, handle_layer_patch;                          /* patch.c */
handler handle_condense, handle_refresh;                                 /* condense.c */
handler handle_lipschitz;                                                /* lipschitz.c */
handler handle_certify;                                                  /* certify.c */
handler handle_tighten;                                                  /* tighten.c */
handler handle_wasserstein;                                              /* wasserstein.c */
handler handle_singular_values;                                          /* singular_values.c */
handler handle_versions, handle_version_create, handle_version_delete, handle_labels, handle_label, handle_label_put,
    handle_label_delete; /* versions.c */
handler handle_checkpoints, handle_checkpoint, handle_checkpoint_create, handle_checkpoint_restore,
    handle_checkpoint_delete; /* checkpoints.c */
handler handle_export;                                                   /* export.c */
handler handle_openapi, handle_problem, handle_docs, handle_docs_file, handle_ui, handle_ui_file; /* web.c */
handler handle_datasets_list, handle_dataset_get, handle_dataset_put, handle_dataset_delete, handle_dataset_tensor_get,
    handle_dataset_tensor_put;                                           /* datasets.c */
handler handle_jobs_list, handle_job_create, handle_job_get, handle_job_delete, handle_job_cancel, handle_job_pause,
    handle_job_resume, handle_job_result, handle_job_events, handle_events; /* jobs.c */
handler handle_no_regions, handle_refused, handle_unregister; /* refused.c: of Triton, what is not offered */

#endif
