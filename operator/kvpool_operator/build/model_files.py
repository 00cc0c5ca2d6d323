"""Where an engine or router finds the model's files: what to mount, what to ask for, and with which token."""

from dataclasses import dataclass, field

from kvpool_api.spec import ModelSpec

from kvpool_operator.build.parts import Json

MODEL_MOUNT = "/models"
CHAT_TEMPLATE_MOUNT = "/etc/kvpool/chat-template"
CACHE_MOUNT = "/cache"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """One model's files inside a Pod."""

    location: str
    """What `vllm serve` is given: a folder, or the model's name on the hub."""
    folder: str | None
    """The folder, where there is one."""
    revision: str | None = None
    chat_template: str | None = None
    """A file."""
    volumes: list[Json] = field(default_factory=list)
    mounts: list[Json] = field(default_factory=list)
    env: list[Json] = field(default_factory=list)


def model_files(model: ModelSpec) -> ModelFiles:
    """Weights, chat template and cache of a model."""
    location, folder, volume, mount = _weights(model)
    hub = model.source.hub
    files = ModelFiles(
        location,
        folder,
        hub.revision if hub else None,
        f"{CHAT_TEMPLATE_MOUNT}/{model.chat_template.key}" if model.chat_template else None,
    )
    if volume is not None:
        files.volumes.append({"name": "model", **volume})
        files.mounts.append({"name": "model", "mountPath": mount, "readOnly": True})
    if model.chat_template is not None:
        files.volumes.append({"name": "chat-template", "configMap": {"name": model.chat_template.name}})
        files.mounts.append({"name": "chat-template", "mountPath": CHAT_TEMPLATE_MOUNT, "readOnly": True})
    if hub is not None and hub.secret_ref is not None:
        reference: Json = {"name": hub.secret_ref.name, "key": hub.secret_ref.key}
        files.env.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}})
    return files


def _weights(model: ModelSpec) -> tuple[str, str | None, Json | None, str]:
    """(location, folder, volume, where to mount it)."""
    source = model.source
    if source.path is not None:
        return source.path, source.path, {"hostPath": {"path": source.path, "type": "Directory"}}, source.path
    if source.persistent_volume_claim is not None:
        claim = source.persistent_volume_claim
        folder = _inside(claim.path)
        volume: Json = {"persistentVolumeClaim": {"claimName": claim.claim_name, "readOnly": True}}
        return folder, folder, volume, MODEL_MOUNT
    if source.image is not None:
        folder = _inside(source.image.path)
        image: Json = {"reference": source.image.reference, "pullPolicy": "IfNotPresent"}
        return folder, folder, {"image": image}, MODEL_MOUNT
    return model.name, None, None, MODEL_MOUNT


def _inside(path: str) -> str:
    return f"{MODEL_MOUNT}/{path.strip('/')}".rstrip("/")
