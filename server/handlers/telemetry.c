/* telemetry.c: what train_step's answers and jobs' events say of the constraint. */
#include "common.h"

json_t *telemetry_json(const lip_snapshot *snapshot, const lip_batch *batch, lip_error *err)
{
    lip_workspace *ws = thread_workspace();
    lip_telemetry t = {0};
    json_t *json = NULL, *layers = json_array();

    if (!ws || !layers) {
        err->code = LIP_ENOMEM;
    } else if (!lip_telemetry_take(snapshot, ws, batch, &t, err)) {
        for (size_t i = 0; i < t.n_layers; i++)
            json_array_append_new(layers, json_pack("{s:s, s:o, s:o}", "name", lip_layer_name(t.layer[i].layer), "upper",
                                                    codec_real_or_null(t.layer[i].upper), "defect",
                                                    codec_real_or_null(t.layer[i].defect)));
        json = json_pack("{s:o, s:o, s:o, s:o, s:O, s:{s:o, s:o, s:o}}", "upper", codec_real_or_null(t.upper), "claimed",
                         codec_real_or_null(t.claimed), "provable_accuracy", codec_real_or_null(t.provable_accuracy),
                         "mean_radius", codec_real_or_null(t.mean_radius), "layers", layers, "jacobian", "min",
                         codec_real_or_null(t.jacobian_min), "median", codec_real_or_null(t.jacobian_median), "max",
                         codec_real_or_null(t.jacobian_max));
        if (!json)
            err->code = LIP_ENOMEM;
    }
    lip_telemetry_clear(&t);
    json_decref(layers);
    return json;
}
