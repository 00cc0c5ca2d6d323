"""Rules that no bound can say: CEL for the API server, evaluated by `validation` on a machine without one.

Each stands at a path of the object and sees the value there as `self`; each message says the mend. Expressions keep to
what both engines know: no optionals, no library beyond the standard's strings, lists and maps, and of Kubernetes'
quantities what `admission.quantities` brings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from kvpool_api.spec import GPU_RESOURCES
from kvpool_api.wire import ENGINE_HTTP_PORT

FieldReason = Literal["FieldValueInvalid", "FieldValueForbidden"]

LONGEST_NAME: Final = 40
"""Pods are `<pool>-<template hash>-<slot>` and `<pool>-router-<hash>-<suffix>`; a Pod's name is a label of 63."""
QUALIFIED_NAME: Final = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?$"
"""Keys of labels, annotations and resources, as core/v1 wants them."""
CUDA_IMAGE: Final = "^(docker[.]io/)?vllm/vllm-openai([:@]|$)"
"""vLLM's own build for CUDA; those for other devices are named otherwise. What a mirror's image needs is not known."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `path` is dotted from the object's root, `[]` for each item of a list; `field` is relative to it.

    A rule that reads defaulted fields of an object with the default `{}` stands above it: the API server tries rules on
    that bare default too, when the CRD is created, and refuses the CRD if one fails.
    """

    path: str
    expression: str
    message: str
    field: str = ""
    reason: FieldReason = "FieldValueInvalid"


@dataclass(frozen=True, slots=True)
class RefusedArgument:
    """An argument of `vllm serve` that kvpool sets, or that would part the engine from its router.

    `pattern` matches what begins like it, after two dashes: argparse takes any unambiguous beginning, with `_` for `-`.
    """

    flag: str
    pattern: str
    message: str
    short: str = ""


def _owned(flag: str, pattern: str, field: str, short: str = "") -> RefusedArgument:
    return RefusedArgument(flag, pattern, f"'{flag}' is set by the operator; remove it, and set {field}", short)


def _always_on(flag: str, pattern: str) -> RefusedArgument:
    return RefusedArgument(flag, f"(no-)?{pattern}", f"'{flag}' is always set by the operator; remove it")


def _barred(flag: str, pattern: str, why: str) -> RefusedArgument:
    return RefusedArgument(flag, pattern, f"'{flag}' would part the engine from its router; remove it: {why}")


REFUSED_ARGUMENTS: Final = (
    _owned("--model", "model([=.]|$)", "spec.model.name"),
    _owned("--served-model-name", "served", "spec.model.servedNames"),
    _owned("--revision", "rev", "spec.model.source.hub.revision"),
    _owned("--chat-template", "chat[-_]template([=.]|$)", "spec.model.chatTemplate"),
    _owned("--block-size", "block", "spec.engine.blockSize"),
    _owned("--kv-events-config", "kv[-_]events", "spec.kvEvents"),
    _owned("--kv-offloading-*", "kv[-_]o", "spec.engine.cpuOffload"),
    _owned("--tensor-parallel-size", "tensor", "spec.engine.tensorParallelSize", short="tp"),
    _owned(
        "--data-parallel-*", "(no-)?data", "spec.engine.dataParallelSize (its ranks share one Pod)", short="dp[a-z]?"
    ),
    _owned("--shutdown-timeout", "shutdown", "spec.drain.shutdownTimeoutSeconds"),
    _always_on("--enable-prompt-tokens-details", "enable[-_]prompt[-_]t"),
    _always_on("--enable-scale-out", "enable[-_]scale"),
    _barred("--host", "host", "engines listen where their router looks for them"),
    _barred("--port", "port", f"engines serve on port {ENGINE_HTTP_PORT}"),
    _barred("--uds", "uds", "routers reach engines by TCP"),
    _barred("--ssl-*", "ssl", "routers speak plain HTTP to engines; end TLS in front of the router"),
    _barred("--api-key", "api[-_]key", "routers send engines no key"),
    RefusedArgument(
        "--enable-force-include-usage",
        "(no-)?enable[-_]force",
        "'--enable-force-include-usage' would put usage into every chunk of every stream; remove it: routers learn the"
        " usage without it",
    ),
    _barred("--headless", "headless", "an engine without an API serves no router"),
)


def rules() -> tuple[Rule, ...]:
    """Every rule of an InferencePool."""
    return (
        *_name_rules(),
        *_model_rules(),
        *_argument_rules(),
        *_engine_rules(),
        *_resource_rules("spec.resources"),
        *_resource_rules("spec.router.resources"),
        *_offload_rules(),
        *_gpu_rules(),
        *_port_rules(),
        *_rollout_rules(),
        *_template_rules("spec.podTemplate"),
        *_template_rules("spec.router.podTemplate"),
    )


def _name_rules() -> Iterator[Rule]:
    why = "it becomes part of the names of Pods and Services"
    yield Rule(
        "",
        f"self.metadata.name.size() <= {LONGEST_NAME}",
        f"at most {LONGEST_NAME} characters: {why}; shorten it",
        ".metadata.name",
    )
    yield Rule(
        "",
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        f"lower-case letters, digits and '-', beginning with a letter and not ending with '-': {why}",
        ".metadata.name",
    )
    yield Rule(
        "",
        "!self.metadata.name.endsWith('-router')",
        "a name may not end with '-router': what the routers of another pool own is named so; take another name",
        ".metadata.name",
    )


def _model_rules() -> Iterator[Rule]:
    yield Rule(
        "spec.model.name",
        "self == oldSelf",
        "a pool serves one model for life: make a new pool for the new model, then delete this one",
    )
    yield Rule(
        "spec.model.source",
        "[has(self.hub), has(self.persistentVolumeClaim), has(self.image), has(self.path)].filter(x, x).size() == 1",
        "set exactly one of hub, persistentVolumeClaim, image and path; set the one that stood before to null, "
        "such as `hub: null` (apply --server-side needs no null)",
    )
    no_climbing = "!self.matches('(^|/)[.][.](/|$)')"
    yield Rule("spec.model.source.path", no_climbing, "give the folder itself: a path may not climb with '..'")
    for volume in ("persistentVolumeClaim", "image"):
        yield Rule(
            f"spec.model.source.{volume}.path",
            f"!self.startsWith('/') && {no_climbing}",
            "give the folder relative to the volume's root: without a leading '/' and without '..'",
        )
    yield Rule(
        "spec.model",
        "!(self.name in self.servedNames)",
        "model.name is always served: list further names only",
        ".servedNames",
    )


def _argument_rules() -> Iterator[Rule]:
    for refused in REFUSED_ARGUMENTS:
        short = f"-{refused.short}(=|$)"
        pattern = f"^(--{refused.pattern}|{short})" if refused.short else f"^--{refused.pattern}"
        yield Rule(
            "spec.engine.args",
            f"!self.exists(argument, argument.matches('{pattern}'))",
            refused.message,
            reason="FieldValueForbidden",
        )


def _engine_rules() -> Iterator[Rule]:
    yield Rule("spec.engine.blockSize", "self in [1, 2, 4, 8, 16, 32, 64, 128, 256]", "must be a power of two")
    yield Rule(
        "spec.engine.env[]",
        "has(self.value) != has(self.valueFrom)",
        'set exactly one of value and valueFrom (an empty variable is `value: ""`)',
    )
    yield Rule(
        "spec.engine.env[].name",
        "!(self in ['POD_NAME', 'POD_IP'])",
        "POD_NAME and POD_IP are set by the operator; remove it, or take another name",
        reason="FieldValueForbidden",
    )
    yield Rule(
        "spec.engine.env[].name",
        "self != 'VLLM_API_KEY'",
        "VLLM_API_KEY would part the engine from its router; remove it: routers send engines no key",
        reason="FieldValueForbidden",
    )
    yield Rule(
        "spec.engine.env[].valueFrom",
        "has(self.secretKeyRef) != has(self.configMapKeyRef)",
        "set exactly one of secretKeyRef and configMapKeyRef",
    )


def _resource_rules(path: str) -> Iterator[Rule]:
    for part in ("limits", "requests"):
        yield Rule(
            f"{path}.{part}",
            f"self.all(name, name.size() <= 253 && name.matches('{QUALIFIED_NAME}'))",
            "a resource is named like cpu, memory or vendor.example/device",
        )
    # A negative number breaks the amount's own bounds, which say so: here it counts as whole.
    yield Rule(
        f"{path}.limits",
        "self.all(name, !name.contains('/') || string(self[name]).matches('^-?[0-9]+$'))",
        "devices (names with '/', such as nvidia.com/gpu) come in whole numbers",
    )
    resources = path.replace("spec", "self", 1)
    yield Rule(
        "spec",
        f"{resources}.requests.all(name, !name.contains('/') || (name in {resources}.limits && "
        f"string({resources}.limits[name]) == string({resources}.requests[name])))",
        "devices (names with '/', such as nvidia.com/gpu) are requested as they are limited: name them in limits alone",
        f"{path.removeprefix('spec')}.requests",
    )
    request, limit = f"string({resources}.requests[name])", f"string({resources}.limits[name])"
    yield Rule(
        "spec",
        f"{resources}.requests.all(name, name.contains('/') || !(name in {resources}.limits) || "
        f"!isQuantity({request}) || !isQuantity({limit}) || !quantity({request}).isGreaterThan(quantity({limit})))",
        "nothing may be requested beyond its limit, or no Pod could be made: lower the request, or raise the limit",
        f"{path.removeprefix('spec')}.requests",
    )


def _offload_rules() -> Iterator[Rule]:
    yield Rule(
        "spec.engine.cpuOffload.size",
        "isQuantity(string(self)) && !quantity('1Mi').isGreaterThan(quantity(string(self)))",
        "give an amount of memory such as 64Gi, at least 1Mi; for no offloading, leave cpuOffload out",
    )
    size = "string(self.engine.cpuOffload.size)"
    limits, requests = ("self.resources.limits", "self.resources.requests")
    holds = [
        f"!('memory' in {part}) || !isQuantity(string({part}['memory'])) || "
        f"quantity(string({part}['memory'])).isGreaterThan(quantity({size}))"
        for part in (limits, requests)
    ]
    yield Rule(
        "spec",
        f"!has(self.engine.cpuOffload) || !isQuantity({size}) || "
        f"('memory' in {limits} || 'memory' in {requests}) && ({holds[0]}) && ({holds[1]})",
        "offloaded blocks lie in the Pod's own memory: set memory in resources.limits or requests to cpuOffload.size"
        " and what the engine needs beside it",
        ".engine.cpuOffload",
    )
    yield Rule(
        "spec",
        "!has(self.engine.cpuOffload) || !self.engine.args.exists(argument, argument.matches('^--kv[-_]t'))",
        "'--kv-transfer-config' in args and cpuOffload both name vLLM's KV connector: remove one of them",
        ".engine.args",
        reason="FieldValueForbidden",
    )


def _gpu_rules() -> Iterator[Rule]:
    more_axes = "self.engine.args.exists(argument, argument.matches('^(--pipeline|--prefill[-_]context|-pp|-pcp)'))"
    for gpu in GPU_RESOURCES:
        limit = f"string(self.resources.limits['{gpu}'])"
        has_gpus = f"'{gpu}' in self.resources.limits && {limit}.matches('^[0-9]{{1,6}}$')"
        gpus = f"int({limit})"
        yield Rule(
            "spec",
            f"has(self.engine.tensorParallelSize) || !({has_gpus}) || {gpus} % self.engine.dataParallelSize == 0",
            f"tensorParallelSize is derived as GPUs / dataParallelSize: make the limit of {gpu} a multiple of it",
            ".engine.dataParallelSize",
        )
        yield Rule(
            "spec",
            f"!({has_gpus}) || !has(self.engine.tensorParallelSize) || {more_axes} || "
            f"{gpus} == self.engine.tensorParallelSize * self.engine.dataParallelSize",
            f"tensorParallelSize * dataParallelSize must equal the limit of {gpu}; omit the first to derive it",
            ".engine.tensorParallelSize",
        )
    yield Rule(
        "spec",
        f"!self.engine.image.matches('{CUDA_IMAGE}') || !('nvidia.com/gpu' in self.resources.limits) || "
        "!string(self.resources.limits['nvidia.com/gpu']).matches('^0+$')",
        "0 GPUs leave this image of vLLM nothing to run on: limit nvidia.com/gpu to 1 or more; "
        "for a CPU, set engine.image to a CPU build and leave the limit out",
        ".resources.limits",
    )
    yield Rule(
        "spec",
        f"!{more_axes} || has(self.engine.tensorParallelSize)",
        "with pipeline or context parallelism in args, tensorParallelSize cannot be derived: set it",
        ".engine.tensorParallelSize",
    )


def _port_rules() -> Iterator[Rule]:
    ranks = "self.engine.dataParallelSize"
    events, replay = "self.kvEvents.eventsPort", "self.kvEvents.replayPort"
    yield Rule(
        "spec",
        f"{events} + {ranks} <= {replay} || {replay} + {ranks} <= {events}",
        "vLLM adds the DP rank to eventsPort and to replayPort: keep them at least dataParallelSize apart",
        ".kvEvents.replayPort",
    )
    for field, port in (("eventsPort", events), ("replayPort", replay)):
        yield Rule(
            "spec",
            f"{port} > {ENGINE_HTTP_PORT} || {port} + {ranks} <= {ENGINE_HTTP_PORT}",
            f"the engine serves HTTP on {ENGINE_HTTP_PORT}: the ports of all DP ranks must lie below or above it",
            f".kvEvents.{field}",
        )


def _rollout_rules() -> Iterator[Rule]:
    yield Rule(
        "spec",
        "self.rollout.maxSurge > 0 || self.rollout.maxUnavailable > 0",
        "maxSurge and maxUnavailable may not both be 0, or no engine could ever be replaced: raise one of them",
        ".rollout",
    )


def _template_rules(path: str) -> Iterator[Rule]:
    for part in ("labels", "annotations"):
        yield Rule(
            f"{path}.metadata.{part}",
            "self.all(key, !key.startsWith('kvpool.dev/'))",
            "keys under kvpool.dev/ belong to the operator; use a prefix of your own",
            reason="FieldValueForbidden",
        )
        yield Rule(
            f"{path}.metadata.{part}",
            f"self.all(key, key.size() <= 253 && key.matches('{QUALIFIED_NAME}'))",
            "a key is a name of letters, digits, '-', '_' and '.', with or without a DNS prefix and '/'",
        )
