"""What schemathesis sends, made short: otherwise one made-up request could ask for 4,096 tokens."""

import os

import schemathesis

MODEL = os.environ["PORTHOLE_TEST_MODEL"]
# The name of the limit in each body, and where it is.
LIMITS = {
    "/v1/chat/completions": "max_completion_tokens",
    "/v1/completions": "max_tokens",
    "/v1/responses": "max_output_tokens",
}


def bounded(value, most):
    """A wrong value stays wrong; a right one, or none, becomes a small one."""
    right = value is None or (isinstance(value, int) and not isinstance(value, bool) and value > most)
    return most if right else value


@schemathesis.hook
def map_body(context, body):
    if not isinstance(body, dict):
        return body
    path = context.operation.path
    if path in LIMITS:
        body = {**body, LIMITS[path]: bounded(body.get(LIMITS[path]), 16)}
    elif path.endswith(":predict") and isinstance(body.get("parameters", {}), dict):
        parameters = body.get("parameters", {})
        body = {**body, "parameters": {**parameters, "max_tokens": bounded(parameters.get("max_tokens"), 16)}}
    # Else every made-up request would be for a model that is not there.
    if isinstance(body.get("model"), str):
        body = {**body, "model": MODEL}
    return body


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if path_parameters and context.operation.path.endswith(":predict"):
        return {**path_parameters, "model": MODEL}
    return path_parameters
