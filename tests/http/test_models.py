"""Models: create, replace, list, describe, delete; preconditions; metadata that OIP clients read."""

import json

from daemon import MLP, TRAINING, Daemon, batch, run, tensor

PROBE = {"inputs": [tensor("x", [1, 4], [1, -2, 3, 0.5])]}


def plan(check):
    with Daemon() as d:
        # creating
        whole = {"name": "m", "definition": MLP, "seed": 7, "strict": False, "coefficient": "deel_lip", "description": "a \"first\" one",
                 "tags": {"owner": "ci", "n": 3}, "training": TRAINING, "config": {"max_batch_size": 5}}
        made = d.post("/v2/models", whole)
        check("POST is 201 with Location and tag", made.status == 201 and made.headers["Location"] == "/v2/models/m"
              and made.headers["ETag"].endswith('-1-1"') and made.headers["Onelip-Weights-Revision"] == "1", made)
        document = made.json
        check("the model document", document == d.get("/v2/models/m").json and document["state"] == "READY"
              and document["state_revision"] == document["weights_revision"] == document["checkpointed_revision"] == 1
              and document["k_coef_lip"] == 1.0 and document["coefficient"] == "deel_lip" and document["head"] == "1"
              and document["description"] == whole["description"] and document["tags"] == whole["tags"]
              and document["trainable_parameters"] == 4 * 16 + 16 + 16 * 3 + 3 and document["warnings"] == []
              and document["created_at"].endswith("Z") and made.headers["ETag"] == f'"{document["epoch"]}-1-1"', document)
        check("version 1 is the same document", d.get("/v2/models/m/versions/1").json == document)
        check("training came with it", d.get("/v2/models/m/training").json["state"]["step"] == 0)
        config = d.get("/v2/models/m/config").json
        check("the model configuration", config["max_batch_size"] == 5 and config["input"] == [
            {"name": "x", "data_type": "TYPE_FP32", "dims": [4]}] and config["output"][0]["dims"] == [3], config)
        five = d.post("/v2/models/m/infer", {"inputs": [tensor("x", [5, 4], [1] * 20)]})
        six = d.post("/v2/models/m/infer", {"inputs": [tensor("x", [6, 4], [1] * 24)]})
        check("max_batch_size limits infer", five.status == 200 and six.code == "batch_too_large", six)
        check("but not training", d.post("/v2/models/m/train_step", batch(12)).status == 200)

        # seeds
        def weights(name, seed, **more):
            answer = d.put(f"/v2/models/{name}", {"definition": MLP, "seed": seed, **more})
            return answer.status in (200, 201) and d.get(f"/v2/models/{name}/weights").body

        check("one seed, one model", weights("a", 11) == weights("b", 11) != weights("c", 12))
        check("the query has the options of a plain definition",
              d.put("/v2/models/q?seed=11&strict=true", MLP).status == 201 and d.get("/v2/models/q/weights").body == weights("a", 11))

        # preconditions
        tag = d.call("HEAD", "/v2/models/a").headers["ETag"]
        exists = d.put("/v2/models/a", MLP, If_None_Match="*")
        check("If-None-Match: * does not replace", exists.status == 412 and exists.json["current_revision"] > 0, exists)
        stale = d.put("/v2/models/a", MLP, If_Match='"00000000-1-1"')
        check("If-Match of another state does not replace", stale.code == "precondition_failed"
              and stale.headers["ETag"] == tag == d.call("HEAD", "/v2/models/a").headers["ETag"], stale)
        nothing = d.put("/v2/models/fresh", MLP, If_Match=tag)
        check("If-Match where there is none", nothing.status == 412 and d.get("/v2/models/fresh").status == 404, nothing)
        gone = d.call("DELETE", "/v2/models/a", headers={"If-Match": '"x"'})
        check("nor is anything deleted", gone.status == 412 and d.get("/v2/models/a").status == 200, gone)
        listed = d.put("/v2/models/a", MLP, If_Match=f'"other", {tag}')
        check("one of several tags is enough", listed.status == 200 and listed.json["state_revision"] > 1, listed)
        check("the number goes on under another epoch", listed.headers["ETag"][1:9] != tag[1:9]
              and listed.json["state_revision"] == int(tag.strip('"').split("-")[2]) + 1, (tag, listed))
        check("If-Match deletes what it names", d.call("DELETE", "/v2/models/a", headers={"If-Match": listed.headers["ETag"]}).status == 204)

        # definitions
        canonical = d.get("/v2/models/m/definition")
        check("the definition is Keras's, every key written out", canonical.json["class_name"] == "Sequential"
              and canonical.json["config"]["layers"][1]["config"]["maxiter_bjorck"] == 15
              and canonical.headers["Content-Type"] == "application/json", canonical)
        check("its tag is a hash of it", d.get("/v2/models/m/definition", If_None_Match=canonical.headers["ETag"]).status == 304)
        d.put("/v2/models/bn", {"class_name": "Sequential", "config": {"k_coef_lip": 0.3, "layers": [
            {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "name": "x"}},
            {"class_name": "BatchNormalization", "config": {"momentum": 0.99, "epsilon": 1e-7}}]}})
        text = d.get("/v2/models/bn/definition").body
        check("numbers in it are as short as they were", b'"momentum":0.99,' in text and b'"k_coef_lip":0.3' in text
              and json.loads(text)["config"]["layers"][1]["config"]["epsilon"] == 1e-7, text)
        old = d.get("/v2/models/m/definition?dialect=legacy")
        check("the older dialect loads too", old.status == 200 and old.body != canonical.body
              and d.put("/v2/models/old", old.body).status == 201
              and d.get("/v2/models/old/definition").body == canonical.body, old)
        check("an unknown dialect", d.get("/v2/models/m/definition?dialect=v9").code == "bad_parameter")
        bare = d.post("/v2/models", json.dumps({"name": "t", "definition": MLP}), Content_Type="text/plain")
        check("another media type", bare.status == 415 and bare.code == "unsupported_media_type" and bare.headers["Accept"], bare)
        check("curl's form type is JSON", d.post("/v2/models", json.dumps({"name": "t", "definition": MLP}),
                                                Content_Type="application/x-www-form-urlencoded").status == 201)

        # strict
        wide = json.loads(json.dumps(MLP))
        wide["config"]["layers"].insert(3, {"class_name": "Dense", "config": {"units": 8, "name": "plain"}})
        loose = d.put("/v2/models/loose", wide)
        check("a layer that claims nothing is a warning", loose.status == 201 and "plain" in str(loose.json["warnings"]), loose)
        strict = d.put("/v2/models/strict?strict=true", wide)
        check("or refused", strict.status == 422 and strict.code == "bad_definition" and d.get("/v2/models/strict").status == 404, strict)

        # what is wrong with the other members
        for name, change, status, code, pointer in [
            ("a seed that is none", {"seed": -1}, 400, "bad_parameter", "/seed"),
            ("a description that is none", {"description": 3}, 400, "bad_parameter", "/description"),
            ("tags that are none", {"tags": []}, 400, "bad_parameter", "/tags"),
            ("a batch size that is none", {"config": {"max_batch_size": 0}}, 400, "bad_parameter", "/config/max_batch_size"),
            ("an unknown configuration", {"config": {"maxbatch": 1}}, 400, "unknown_member", "/config/maxbatch"),
            ("a configuration that is not built in", {"config": {"response_cache": {"enable": True}}}, 501, "unsupported", "/config/response_cache/enable"),
            ("an unknown loss", {"training": {**TRAINING, "loss": "l9"}}, 422, "unknown_option", "/training/loss"),
            ("an unknown option of a loss", {"training": {**TRAINING, "loss": {"class_name": "MulticlassHKR", "config": {"a": 1}}}}, 422,
             "unknown_option", "/training/loss/config/a"),
            ("no definition", {"definition": None}, 422, "bad_definition", "/definition"),
            ("a name that is none", {"name": "../x"}, 400, "bad_name", "/name"),
            ("a word of the paths", {"name": "stats"}, 400, "bad_name", "/name"),
        ]:
            answer = d.post("/v2/models", {**whole, "name": "new", **change})
            check(f"{name} is {status} {code}", answer.status == status and answer.code == code
                  and answer.json["errors"][0]["pointer"] == pointer and d.get("/v2/models/new").status == 404, answer)
        check("PUT of that word", d.put("/v2/models/stats", MLP).status == 405)

        # lists
        names = d.get("/v2/models").json["models"]
        check("names are listed in order", names == sorted(names) and "m" in names, names)
        seen, path = [], "/v2/models?detail=true&limit=2"
        while path:
            page = d.get(path).json
            seen += [model["name"] for model in page["data"]]
            check(f"a page of at most two after {len(seen)}", len(page["data"]) <= 2 and page["has_more"] == bool(page["next"]), page)
            path = page["next"]
        check("pages list all", seen == names, seen)

        # repository, as tritonclient asks for it: no body, no length (G1)
        reply = d.raw(b"POST /v2/repository/index HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        index = json.loads(reply.split(b"\r\n\r\n", 1)[1])
        check("G1: the repository index", reply.startswith(b"HTTP/1.1 200") and {"name": "m", "version": "1", "state": "READY",
                                                                               "reason": ""} in index, reply)
        # names that need decoding
        check("a quoted name", d.get("/v2/models/%6D").json["name"] == "m")
        check("a slash at the end", d.get("/v2/models/m/").json["name"] == "m")
        check("unknown parameters are ignored on OIP paths", d.get("/v2/models/m?x=1").status == 200)
        check("delete", d.delete("/v2/models/m").status == 204 and d.post("/v2/models/m/infer", PROBE).code == "unknown_model"
              and d.delete("/v2/models/m").code == "unknown_model")
        again = d.put("/v2/models/m", MLP)
        check("a name can be used again", again.status == 201 and again.json["state_revision"] == 1
              and again.json["epoch"] != document["epoch"], again)
        metrics = d.get("/metrics").body.decode()
        check("metrics of the deleted one are gone", 'onelip_train_steps_total{model="m"' not in metrics, metrics)


run(plan)
