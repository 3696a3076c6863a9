"""The part of JSON Schema 2020-12 that server/openapi.json uses. Objects with "properties" are taken as closed, so that a member
that is not described is found, unless "additionalProperties" says otherwise."""

import re

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def is_type(value, name):
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool) or isinstance(value, float) and value.is_integer()
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


KNOWN = {"$ref", "type", "properties", "required", "additionalProperties", "maxProperties", "items", "minItems", "maxItems", "enum", "pattern",
         "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "anyOf", "allOf", "description"}


class Schemas:
    def __init__(self, document):
        self.document = document

    def resolve(self, node):
        while "$ref" in node:
            target = self.document
            for step in node["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            node = target
        return node

    def members(self, schema):
        """Every property that the schema or a part of it describes; None: any."""
        schema = self.resolve(schema)
        names = set(schema.get("properties", ()))
        parts = [self.members(part) for part in schema.get("allOf", ())]
        if "additionalProperties" in schema and schema["additionalProperties"] is not False or None in parts:
            return None
        return names.union(*parts)

    def faults(self, value, schema, where="", closed=True):
        """What does not fit, one sentence each."""
        schema = self.resolve(schema)
        assert KNOWN >= set(schema), f"schema.py does not know {set(schema) - KNOWN}"
        if "anyOf" in schema:
            branches = [self.faults(value, branch, where, closed) for branch in schema["anyOf"]]
            if all(branches):
                return [f"{where}: none of the alternatives fits; the nearest: {min(branches, key=len)[0]}"]
        found = []
        if "type" in schema:
            wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            if not any(is_type(value, name) for name in wanted):
                return [f"{where}: {value!r:.80} is no {' or '.join(wanted)}"]
        if "enum" in schema and value not in schema["enum"]:
            found.append(f"{where}: {value!r:.80} is none of {schema['enum']}")
        if isinstance(value, str):
            if "pattern" in schema and not re.search(schema["pattern"], value):
                found.append(f"{where}: {value!r:.80} does not match {schema['pattern']}")
            if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
                found.append(f"{where}: {value!r:.80} has a wrong length")
        if is_type(value, "number"):
            if not schema.get("minimum", value) <= value <= schema.get("maximum", value) or \
                    value <= schema.get("exclusiveMinimum", value - 1) or value >= schema.get("exclusiveMaximum", value + 1):
                found.append(f"{where}: {value} is out of range")
        if isinstance(value, list):
            if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
                found.append(f"{where}: {len(value)} items")
            for i, item in enumerate(value):
                found += self.faults(item, schema.get("items", {}), f"{where}/{i}", closed)
        if isinstance(value, dict):
            found += [f"{where}: no {name}" for name in schema.get("required", ()) if name not in value]
            if len(value) > schema.get("maxProperties", len(value)):
                found.append(f"{where}: too many members")
            properties, further = schema.get("properties", {}), schema.get("additionalProperties")
            for name, member in value.items():
                if name in properties:
                    found += self.faults(member, properties[name], f"{where}/{name}", closed)
                elif isinstance(further, dict):
                    found += self.faults(member, further, f"{where}/{name}", closed)
            for part in schema.get("allOf", ()):
                found += self.faults(value, part, where, False)
            allowed = self.members(schema)
            if closed and allowed and allowed is not None:
                found += [f"{where}: {name} is not described" for name in value if name not in allowed]
        elif "allOf" in schema:
            for part in schema["allOf"]:
                found += self.faults(value, part, where, closed)
        return found
