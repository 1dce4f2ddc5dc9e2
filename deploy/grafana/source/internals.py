"""What is inside: images, refusals, the engine, the process and the cards."""

from panel import MODEL, PROCESS, WINDOW, Panel, Query, quantiles, rate

IMAGES = [
    Panel(
        "Images by URL",
        "`network` is what was downloaded, `revalidated` and `cache` what was not. Few hits for the same "
        "pictures: images.cache_bytes is small, or their servers forbid keeping.",
        [Query(rate("porthole_image_fetches_total", "source"), "{{source}}")],
        "ops",
        stacked=True,
    ),
    Panel(
        "Images refused",
        "By reason. `fetch` and `timeout` are their servers; `url` may be somebody trying to reach an inner "
        "address; `scans`, `pixels` and `aspect_ratio` are what image bombs look like.",
        [Query(rate("porthole_image_refusals_total", "reason"), "{{reason}}")],
        "ops",
        stacked=True,
    ),
    Panel(
        "Time to fetch an image",
        "Delays the first token by as much. Slow for all: the way out (proxy, DNS); for some: their servers.",
        quantiles("porthole_image_fetch_seconds"),
        "s",
    ),
    Panel(
        "Time to decode an image",
        "Decoding and resizing on the CPU. Grows with pixels, and when too few cores are there for it.",
        quantiles("porthole_image_decode_seconds"),
        "s",
    ),
    Panel(
        "Size of an image",
        "As it arrives. Near images.max_bytes clients are refused.",
        quantiles("porthole_image_bytes"),
        "bytes",
    ),
    Panel(
        "Pixels of an image",
        "What the prompt and the memory pay for. Near images.max_input_pixels clients are refused.",
        quantiles("porthole_image_pixels"),
        "none",
    ),
    Panel(
        "Memory for images",
        "Decoded pixels in flight and fetched images that are kept. Decoded ones at images.max_decoded_bytes: "
        "further requests wait for room.",
        [
            Query(f"sum by (instance) (porthole_image_decoded_bytes{{{PROCESS}}})", "decoded {{instance}}"),
            Query(f"sum by (instance) (porthole_image_cache_bytes{{{PROCESS}}})", "kept {{instance}}"),
        ],
        "bytes",
        width=24,
    ),
]

ACCESS = [
    Panel(
        "Refused by a limit",
        '429 by which limit; `unavailable` is Redis away with limits.on_redis_error = "deny". One that many meet '
        "is too low, or a caller is abusive: see Tokens a second by key, and the audit log.",
        [Query(rate("porthole_limit_refusals_total", "what"), "{{what}}")],
        "reqps",
        stacked=True,
    ),
    Panel(
        "Refused for the credential",
        "401 and 403 by reason. A burst is somebody guessing, or a key that ended; the audit log has the addresses.",
        [Query(rate("porthole_auth_refusals_total", "reason"), "{{reason}}")],
        "reqps",
        stacked=True,
    ),
    Panel(
        "Time that Redis takes",
        "Every request with limits waits for it. Above some milliseconds: Redis is far, or busy.",
        quantiles("porthole_limits_redis_seconds"),
        "s",
    ),
    Panel(
        "Redis",
        "Whether Redis counts the limits (it stays 0 where none is configured), and failures to ask it. While "
        "it is away each replica counts for itself, or refuses.",
        [
            Query(f"min by (instance) (porthole_limits_redis_up{{{PROCESS}}})", "up {{instance}}"),
            Query(rate("porthole_limits_redis_errors_total", "instance"), "errors a second {{instance}}"),
        ],
        "none",
    ),
    Panel(
        "Keys file",
        "0: the file cannot be read, and the keys before it stay in use. `error` counts the tries.",
        [
            Query(f"min by (instance) (porthole_keys_file_valid{{{PROCESS}}})", "valid {{instance}}"),
            Query(
                f"sum by (reason) (increase(porthole_keys_reloads_total{{{PROCESS}}}[{WINDOW}]))", "reloads {{reason}}"
            ),
        ],
        "none",
    ),
    Panel(
        "Key sets of issuers",
        "Fetches of JWKS by outcome. Anything but `ok` for as long as auth.jwks_refresh: tokens signed with new"
        " keys are refused.",
        [Query(f"sum by (outcome) (increase(porthole_jwks_fetches_total{{{PROCESS}}}[{WINDOW}]))", "{{outcome}}")],
        "none",
    ),
]

ENGINE = [
    Panel(
        "Ready and draining",
        "Ready 0 and draining 0: the model loads, or the engine is down. Draining 1: the process was told to "
        "end and finishes what runs.",
        [
            Query(f"min by (instance) (porthole_ready{{{PROCESS}}})", "ready {{instance}}"),
            Query(f"max by (instance) (porthole_draining{{{PROCESS}}})", "draining {{instance}}"),
        ],
        "none",
        maximum=1,
    ),
    Panel(
        "Engine restarts",
        "Each is an engine that died with the requests inside. Any is worth a look at the log; several in a "
        "row: model.max_restarts ends the process.",
        [
            Query(
                f"sum by (instance, model) (increase(porthole_engine_restarts_total{{{MODEL}}}[{WINDOW}]))",
                "{{instance}} {{model}}",
            )
        ],
        "none",
    ),
    Panel(
        "Sequences at once",
        "What the check at load proved safe, per model. 1 on a GPU: answers came out different together, and "
        "throughput is a fraction; update the driver or report it.",
        [Query(f"min by (instance, model) (porthole_engine_lane_width{{{MODEL}}})", "{{instance}} {{model}}")],
        "none",
    ),
    Panel(
        "Reloads",
        "Configuration (SIGHUP) and certificates read anew, by outcome. `error`: what was before stays in use, "
        "until it ends: a certificate expires.",
        [
            Query(
                f"sum by (outcome) (increase(porthole_config_reloads_total{{{PROCESS}}}[{WINDOW}]))",
                "configuration {{outcome}}",
            ),
            Query(
                f"sum by (outcome) (increase(porthole_tls_reloads_total{{{PROCESS}}}[{WINDOW}]))",
                "certificate {{outcome}}",
            ),
        ],
        "none",
    ),
]

PROCESS_ROW = [
    Panel(
        "Memory",
        "Resident. Steady growth under steady load is a leak; near the container's limit the kernel ends the process.",
        [Query(f"sum by (instance) (process_resident_memory_bytes{{{PROCESS}}})", "{{instance}}")],
        "bytes",
    ),
    Panel(
        "CPU",
        "Cores used. At the container's limit decoding and, without a GPU, everything slows down.",
        [Query(rate("process_cpu_seconds_total", "instance"), "{{instance}}")],
        "none",
    ),
    Panel(
        "Open files",
        "Sockets included. Near the limit (ulimit -n) connections fail; growth without connections is a leak.",
        [Query(f"sum by (instance) (process_open_fds{{{PROCESS}}})", "{{instance}}")],
        "none",
    ),
    Panel(
        "Connections",
        "Open to the API, and those closed at once because server.max_connections or the share of one address "
        "was reached.",
        [
            Query(f"sum by (instance) (porthole_connections{{{PROCESS}}})", "open {{instance}}"),
            Query(rate("porthole_connections_refused_total", "reason"), "refused a second: {{reason}}"),
        ],
        "none",
    ),
    Panel(
        "Audit lines lost",
        "Must be 0: nobody reads stdout fast enough, and the record has holes.",
        [
            Query(
                f"sum by (instance) (increase(porthole_audit_lines_lost_total{{{PROCESS}}}[{WINDOW}]))", "{{instance}}"
            )
        ],
        "none",
        width=24,
        limits=(1,),
    ),
]

GPU = [
    Panel(
        "GPU utilization",
        "Share of time in which something ran on the card. Low while requests wait: the engine is held up by "
        "the CPU, or the lane is narrow. High says little: scale by Load.",
        [Query(f"max by (instance, gpu) (porthole_gpu_utilization_ratio{{{PROCESS}}})", "{{instance}} GPU {{gpu}}")],
        "percentunit",
        maximum=1,
    ),
    Panel(
        "GPU memory",
        "Used, and what the card has. Full: the next long prompt ends the engine; lower model.max_batch_size or"
        " context_length, or quantize.",
        [
            Query(
                f"max by (instance, gpu) (porthole_gpu_memory_used_bytes{{{PROCESS}}})", "used {{instance}} GPU {{gpu}}"
            ),
            Query(
                f"max by (instance, gpu) (porthole_gpu_memory_total_bytes{{{PROCESS}}})",
                "total {{instance}} GPU {{gpu}}",
            ),
        ],
        "bytes",
    ),
]
