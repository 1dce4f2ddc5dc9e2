"""Sets of values that an operator may give, and ones that must be refused."""

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/porthole"
EXAMPLES = ROOT / "deploy/helm/examples"

REDIS = {"to": [{"podSelector": {"matchLabels": {"app": "redis"}}}]}
ISSUER = {"issuer": "https://id.example.com", "audiences": ["porthole"], "discovery": True}
KEYS_FILE = "# made by `porthole key`\n"
DOWNLOAD = {"source": "download", "download": {"repository": "Qwen/Qwen3-VL-2B-Instruct"}}
MONITORING = {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboard")}


def example(name):
    return yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())


GOOD = {
    "default": {},
    "gpu": example("gpu"),
    "production": example("production"),
    "hpa": {"autoscaling": {"hpa": {"enabled": True}}},
    "keda": {"autoscaling": {"keda": {"enabled": True}, "maxReplicas": 9}},
    "ingress": {
        "ingress": {"enabled": True, "host": "porthole.example.com", "annotations": {"a.example.com/b": "c"}},
        "config": {"server": {"trusted_proxies": ["10.0.0.0/8"]}},
    },
    "tls": {"tls": {"existingSecret": "porthole-tls"}, "ingress": {"enabled": True, "host": "a.example.com"}},
    "claim": {"weights": {"source": "claim", "folder": "demo", "claim": {"size": "10Gi", "storageClass": "fast"}}},
    "existing-claim": {
        "weights": {"source": "claim", "claim": {"existing": "models"}},
        "config": {"model": {"id": "/models/a"}},
    },
    "download": {
        "weights": DOWNLOAD | {"download": DOWNLOAD["download"] | {"tokenSecret": {"name": "hub", "key": "token"}}},
    },
    "digest": {"image": {"repository": "registry.example.com/porthole", "digest": "sha256:" + "0" * 64}},
    "inline-keys": {"keys": {"file": KEYS_FILE}},
    "issuers": {"keys": {"existingSecret": ""}, "config": {"auth": {"issuers": [ISSUER]}}},
    "open": {"keys": {"existingSecret": ""}, "config": {"auth": {"enabled": False}}},
    "redis": {
        "replicas": 3,
        "secrets": {"redisUrl": {"name": "s", "key": "redis-url"}, "tokenSecret": {"name": "s", "key": "t"}},
        "networkPolicy": {"redis": REDIS},
    },
    "redis-without-password": {
        "config": {"limits": {"redis_url": "redis://redis:6379", "models": [{"model": "demo", "limits": {"requests_per_minute": 3}}]}},
        "networkPolicy": {"redis": REDIS},
    },
    "several-gpus": {
        "gpu": {"enabled": True, "count": 4, "runtimeClassName": "nvidia"},
        "shm": {"enabled": True, "size": "8Gi"},
        "config": {"models": [{"id": "a/b", "name": "second", "quantization": "q4k"}]},
    },
    "persistence": {"usageStore": {"persistence": {"enabled": True}}},
    "long-drain": {"config": {"server": {"drain_delay": 30, "drain_timeout": 600}}, "preStopSleepSeconds": 0},
    "no-urls": {"config": {"images": {"allow_urls": False, "max_aspect_ratio": 100.5, "cache_bytes": 268435456}}},
    "monitoring": {"monitoring": MONITORING},
    "bare": {
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "topologySpread": {"enabled": False},
        "serviceAccount": {"create": False},
    },
    "everything": {
        "replicas": 2,
        "nameOverride": "vision",
        "imagePullSecrets": [{"name": "registry"}],
        "gpu": {"enabled": True, "count": 2, "runtimeClassName": "nvidia"},
        "shm": {"enabled": True},
        "weights": DOWNLOAD | {"claim": {"size": "80Gi", "accessModes": ["ReadWriteMany"]}},
        "tls": {"existingSecret": "porthole-tls"},
        "secrets": {name: {"name": "s", "key": name.lower()} for name in ("keyPepper", "tokenSecret", "redisUrl")},
        "service": {"type": "LoadBalancer", "port": 443, "annotations": {"a.example.com/b": "c"}},
        "ingress": {"enabled": True, "host": "porthole.example.com", "tlsSecret": "tls"},
        "autoscaling": {"keda": {"enabled": True}, "minReplicas": 2},
        "monitoring": MONITORING,
        "networkPolicy": {
            "redis": REDIS,
            "otlp": {"to": [{"namespaceSelector": {}}]},
            "clients": [{"podSelector": {"matchLabels": {"app": "web"}}}],
            "extraEgress": [{"to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}], "ports": [{"port": 3128, "protocol": "TCP"}]}],
        },
        "config": {
            "server": {"trusted_proxies": ["10.0.0.0/8"], "cors_origins": ["https://app.example.com"]},
            "auth": {"issuers": [ISSUER]},
            "telemetry": {"otlp_endpoint": "http://collector.monitoring:4317", "sample_ratio": 0.25},
            "limits": {"default": {"requests_per_minute": 60}},
            "log": {"filter": "porthole=debug,warn"},
        },
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "serving",
        "podAnnotations": {"a.example.com/b": "c"},
        "podLabels": {"team": "vision"},
        "extraEnv": [{"name": "MALLOC_ARENA_MAX", "value": "2"}],
    },
}

# What is wrong, and words that must be in the message.
BAD = {
    "grace-too-short": ({"terminationGracePeriodSeconds": 60}, ["terminationGracePeriodSeconds: 60 is under the 135"]),
    "grace-one-short": ({"terminationGracePeriodSeconds": 134}, ["terminationGracePeriodSeconds: 134"]),
    "drain-longer-than-grace": (
        {"terminationGracePeriodSeconds": 200, "config": {"server": {"drain_timeout": 300}}},
        ["terminationGracePeriodSeconds: 200", "config.server.drain_timeout"],
    ),
    "two-autoscalers": ({"autoscaling": {"hpa": {"enabled": True}, "keda": {"enabled": True}}}, ["hpa and keda"]),
    "min-over-max": ({"autoscaling": {"minReplicas": 5}}, ["autoscaling.minReplicas"]),
    "unknown-value": ({"replicaCount": 3}, ["replicaCount"]),
    "unknown-section": ({"config": {"sever": {}}}, ["sever"]),
    "wrong-type": ({"replicas": "three"}, ["replicas"]),
    "wrong-source": ({"weights": {"source": "s3"}}, ["source"]),
    "unknown-quantity": ({"shm": {"size": "big"}}, ["size"]),
    "no-keys": ({"keys": {"existingSecret": ""}}, ["keys: nobody could come in"]),
    "two-keys": ({"keys": {"existingSecret": "mine", "file": KEYS_FILE}}, ["keys.file, keys.existingSecret"]),
    "own-bind": ({"config": {"server": {"bind": "0.0.0.0:1"}}}, ["config.server.bind"]),
    "own-store": ({"config": {"limits": {"store": "a"}}}, ["config.limits.store"]),
    "secret-in-config": ({"config": {"auth": {"key_pepper": "x" * 32}}}, ["config.auth.key_pepper", "secrets.keyPepper"]),
    "password-in-config": ({"config": {"limits": {"redis_url": "redis://:p@h"}}}, ["config.limits.redis_url"]),
    "redis-shut-out": ({"secrets": {"redisUrl": {"name": "s", "key": "u"}}}, ["networkPolicy.redis.to"]),
    "otlp-shut-out": ({"config": {"telemetry": {"otlp_endpoint": "http://c:4317"}}}, ["networkPolicy.otlp.to"]),
    "nothing-to-download": ({"weights": {"source": "download"}}, ["weights.download.repository"]),
    "no-claim": ({"weights": {"source": "claim", "folder": "a"}}, ["weights.claim"]),
    "no-folder": ({"weights": {"source": "claim", "claim": {"existing": "a"}}}, ["weights.folder"]),
    "unused-claim": ({"weights": {"claim": {"existing": "a"}}}, ["weights.source"]),
    "store-of-many": ({"replicas": 2, "usageStore": {"persistence": {"enabled": True}}}, ["usageStore.persistence"]),
    "no-host": ({"ingress": {"enabled": True}}, ["ingress.host"]),
    "never-replaced": ({"strategy": {"maxSurge": 0, "maxUnavailable": 0}}, ["strategy"]),
    "all-at-once": (
        {"ingress": {"enabled": True}, "terminationGracePeriodSeconds": 1, "weights": {"source": "download"}},
        ["3 problem(s)", "ingress.host", "terminationGracePeriodSeconds", "weights.download.repository"],
    ),
}
