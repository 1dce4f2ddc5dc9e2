"""What schemathesis sends, made short: otherwise one made-up request could ask for 4,096 tokens."""

import os

import schemathesis

MODEL = os.environ["PORTHOLE_TEST_MODEL"]
MOST = 16
# The name of the limit in each body.
LIMITS = {
    "/v1/chat/completions": "max_completion_tokens",
    "/v1/completions": "max_tokens",
    "/v1/responses": "max_output_tokens",
}


def bounded(tokens):
    """A wrong number of tokens stays wrong; a large one, or none, becomes a small one."""
    large = tokens is None or (isinstance(tokens, int) and tokens > MOST)
    return MOST if large else tokens


@schemathesis.hook
def before_call(context, case, kwargs):
    path, body = case.operation.path, case.body
    if path.endswith(":predict"):
        case.path_parameters = {**(case.path_parameters or {}), "model": MODEL}
    if not isinstance(body, dict):
        return
    # Else nearly every request would be for a model that is not there.
    if isinstance(body.get("model"), str):
        body = {**body, "model": MODEL}
    if path in LIMITS:
        # The older name excludes the newer one.
        limit = "max_tokens" if "max_tokens" in body else LIMITS[path]
        body = {**body, limit: bounded(body.get(limit))}
    elif path.endswith(":predict") and isinstance(body.get("parameters", {}), dict):
        parameters = body.get("parameters", {})
        body = {**body, "parameters": {**parameters, "max_tokens": bounded(parameters.get("max_tokens"))}}
    case.body = body
