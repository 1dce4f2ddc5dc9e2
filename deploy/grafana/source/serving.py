"""What clients get: traffic, latency, tokens, and the queue in front of the engine."""

from panel import MODEL, PROCESS, WINDOW, Panel, Query, quantile, quantiles, rate, spread, stat

_api = 'route=~"/v1/.*"'
_refused = rate("porthole_http_requests_total", "job", f'{_api}, status=~"4.."')
_failed = rate("porthole_http_requests_total", "job", f'{_api}, status=~"5.."')
_all = rate("porthole_http_requests_total", "job", _api)

OVERVIEW = [
    stat(
        "Ready",
        "Processes that answer. Fewer than there should be: a load that failed or an engine that died; see Engine.",
        f"sum(porthole_ready{{{PROCESS}}})",
        "none",
        (1,),
        low_is_bad=True,
    ),
    stat(
        "Requests",
        "Requests to the API a second. None where there should be some: clients cannot reach it, or are refused"
        " before.",
        f"sum({_all})",
        "reqps",
    ),
    stat(
        "Errors",
        "Share of API requests answered 5xx. The objective is 0.1 %; above 1.44 % a month's budget is gone in "
        "two days.",
        f"sum({_failed} or 0 * {_all}) / sum({_all})",
        "percentunit",
        (0.001, 0.0144),
    ),
    stat(
        "First token, p99",
        "One request in a hundred waits longer for its first token. The objective is 2.5 s.",
        quantile(0.99, "porthole_time_to_first_token_seconds", MODEL),
        "s",
        (2.5, 10),
    ),
    stat(
        "Load now",
        "(running + waiting) / capacity of the fullest model. Above 1 requests wait; scale out before it stays there.",
        f"max(porthole_load_ratio{{{MODEL}}})",
        "percentunit",
        (1, 2),
    ),
    stat(
        "Tokens generated",
        "Tokens a second over all models. A fall while requests run is a slow engine.",
        f"sum(rate(porthole_generation_tokens_total{{{MODEL}}}[{WINDOW}]))",
        "none",
    ),
    stat(
        "Youngest process",
        "Time since the last start. Short without a rollout: something ends the process; look at the memory and"
        " the log.",
        f"min(time() - process_start_time_seconds{{{PROCESS}}})",
        "s",
        (600,),
        low_is_bad=True,
    ),
    stat(
        "Version",
        "What runs. Two versions outside a rollout: it is stuck.",
        f"count by (version) (porthole_build_info{{{PROCESS}}})",
        "none",
        legend="{{version}}",
        text=True,
    ),
]

_CLASSES = {"2xx": "green", "4xx": "orange", "5xx": "red"}

TRAFFIC = [
    Panel(
        "Requests by route",
        "Requests a second. `unknown` is paths that do not exist: a wrong base URL, or somebody looking for holes.",
        [Query(rate("porthole_http_requests_total", "route"), "{{route}}")],
        "reqps",
        stacked=True,
    ),
    Panel(
        "Requests by status",
        "4xx are the clients' mistakes and refusals (401, 429); 5xx are ours, and spend the error budget.",
        [
            Query(f'sum(rate(porthole_http_requests_total{{{PROCESS}, status=~"{c[0]}.."}}[{WINDOW}]))', c)
            for c in _CLASSES
        ],
        "reqps",
        stacked=True,
        colours=_CLASSES,
    ),
    Panel(
        "Error ratio",
        "Shares of API requests. 5xx above the first line spends the budget faster than a month refills it; "
        "many 4xx are a broken client or limits too low.",
        [
            Query(f"sum({_failed} or 0 * {_all}) / sum({_all})", "5xx"),
            Query(f"sum({_refused} or 0 * {_all}) / sum({_all})", "4xx"),
        ],
        "percentunit",
        limits=(0.001, 0.0144),
        colours={"5xx": "red", "4xx": "orange"},
    ),
    Panel(
        "Generations by how they ended",
        "`error` is the engine's failures, after the status 200 of a stream too. `cancelled` that grows means "
        "clients give up waiting; `length` that answers are cut.",
        [Query(rate("porthole_requests_finished_total", "reason", of=MODEL), "{{reason}}")],
        "reqps",
        stacked=True,
        colours={"error": "red"},
    ),
    Panel(
        "Time to the response head, p99 by route",
        "Until the first byte of the answer; for a plain answer that is the whole generation. A jump on every "
        "route at once is the machine, on one route its work.",
        [Query(quantile(0.99, "porthole_http_request_duration_seconds", by="le, route"), "{{route}}")],
        "s",
        width=24,
    ),
]

LATENCY = [
    *spread(
        "Time to first token",
        "From the request to its first token: queue, images and prompt. p99 over 2.5 s spends the latency "
        "budget. High with a low queue time: prompts or images are large, or the device is slow.",
        "porthole_time_to_first_token_seconds",
        "s",
        of=MODEL,
        limits=(2.5,),
    ),
    *spread(
        "Time between tokens",
        "How fast an answer is written; 0.1 s is about reading speed. It grows with the sequences computed at "
        "once, and when the device is shared or throttled.",
        "porthole_inter_token_latency_seconds",
        "s",
        of=MODEL,
    ),
    *spread(
        "Time of a whole request",
        "From the request to its last token. Grows with the length of answers as well as with load: compare it "
        "with Tokens.",
        "porthole_request_duration_seconds",
        "s",
        of=MODEL,
    ),
    *spread(
        "Time in the queue",
        "Waiting for the engine. More than a moment is too little capacity: add replicas.",
        "porthole_request_queue_time_seconds",
        "s",
        of=MODEL,
    ),
]

TOKENS = [
    Panel(
        "Tokens a second",
        "Prompt tokens computed and tokens generated. Generated ones that fall while requests run: the engine "
        "slows down.",
        [
            Query(rate("porthole_prompt_tokens_total", "model", of=MODEL), "prompt {{model}}"),
            Query(rate("porthole_generation_tokens_total", "model", of=MODEL), "generated {{model}}"),
        ],
        "none",
    ),
    Panel(
        "Tokens a second by key",
        "The ten keys that use most; `token` is all short-lived tokens together. One that takes nearly "
        "everything: give it a limit.",
        [
            Query(
                f"topk(10, {rate('porthole_key_tokens_total', 'key, kind')})",
                "{{key}} {{kind}}",
            )
        ],
        "none",
        stacked=True,
    ),
    Panel(
        "Prompt tokens of a request",
        "Near the model's context clients are refused; growth makes the first token later and fills the memory.",
        quantiles("porthole_request_prompt_tokens", MODEL),
        "none",
    ),
    Panel(
        "Generated tokens of a request",
        "Longer answers hold their place in the engine for longer.",
        quantiles("porthole_request_generation_tokens", MODEL),
        "none",
    ),
]

QUEUE = [
    Panel(
        "Running, waiting and capacity",
        "Waiting requests while fewer run than there is room for: images of different sizes, or a narrow lane. "
        "Waiting that only grows: add replicas, or lower the limits.",
        [
            Query(f"sum(porthole_requests_running{{{MODEL}}})", "running"),
            Query(f"sum(porthole_requests_waiting{{{MODEL}}})", "waiting"),
            Query(f"sum(porthole_request_capacity{{{MODEL}}})", "capacity"),
        ],
        "none",
        colours={"waiting": "orange", "capacity": "blue"},
    ),
    Panel(
        "Load",
        "(running + waiting) / capacity; autoscaling follows it. 1 is full without a queue; at 2 as many wait as run.",
        [Query(f"max by (instance, model) (porthole_load_ratio{{{MODEL}}})", "{{instance}} {{model}}")],
        "percentunit",
        limits=(1, 2),
    ),
    Panel(
        "Engine replicas",
        "Engines that answer, and those configured. A gap is an engine that restarts or was given up.",
        [
            Query(f"sum(porthole_replicas_up{{{MODEL}}})", "up"),
            Query(f"sum(porthole_replicas{{{MODEL}}})", "configured"),
        ],
        "none",
        colours={"up": "green", "configured": "blue"},
    ),
    Panel(
        "Refused for lack of room",
        "503 by what was full: places, memory for bodies, or the queue. Any is a client that has to try again; "
        "steady ones are too little capacity.",
        [Query(rate("porthole_overload_refusals_total", "reason"), "{{reason}}")],
        "reqps",
        stacked=True,
    ),
]
