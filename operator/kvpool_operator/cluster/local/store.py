"""The API objects of a local cluster, in memory, with the writing rules of an API server."""

import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from kvpool_api.manifest import copied
from pydantic import JsonValue

from kvpool_operator.cluster import seam
from kvpool_operator.cluster.event_times import latest
from kvpool_operator.cluster.local import server_side_apply
from kvpool_operator.cluster.local.field_tree import Branch, fields_v1, folded, unfolded
from kvpool_operator.cluster.local.history import History, Record, Selection, seen_by
from kvpool_operator.cluster.local.manifests import has_labels, mapping, metadata, number, ref_of, sequence
from kvpool_operator.cluster.local.merge_rules import rules_for
from kvpool_operator.cluster.local.sanity import normalized, refuse_unsound
from kvpool_operator.cluster.local.server_side_apply import Owner, Owners
from kvpool_operator.cluster.seam import AlreadyExists, Change, Kind, Listing, Manifest, NotFound, Ref, Refused, Stale

Admit = Callable[[Manifest, Manifest | None], Manifest]
"""(new, old or None) -> the custom object with its defaults. Raises ValueError in the API server's words."""

SET_BY_THE_SERVER = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "name",
        "namespace",
        "resourceVersion",
        "uid",
    }
)
COUNTS_GENERATIONS = frozenset({seam.POOL, seam.POD, seam.DEPLOYMENT, seam.DISRUPTION_BUDGET, seam.NETWORK_POLICY})
DEFAULT_POD_GRACE_S = 30


@dataclass(frozen=True, slots=True)
class Stored:
    """One object, never changed in place, and who owns its fields since when."""

    manifest: Manifest
    owners: Owners = field(default_factory=dict)
    since: Mapping[Owner, str] = field(default_factory=dict)


class Store:
    """Objects by reference. Every answer is a copy; every write that changes something moves the resource version."""

    def __init__(self, *, admit: Admit, clock: Callable[[], datetime], history: int = 4096) -> None:
        self._admit = admit
        self._clock = clock
        self._objects: dict[Ref, Stored] = {}
        self._history = History(history)

    @property
    def resource_version(self) -> str:
        return str(self._history.latest)

    def objects(self) -> tuple[Manifest, ...]:
        """All objects, not copied: to read only."""
        return tuple(stored.manifest for stored in self._objects.values())

    def get(self, ref: Ref) -> Manifest:
        return copied(self._stored(ref).manifest)

    def list(self, selection: Selection) -> Listing:
        found = (
            stored.manifest
            for ref, stored in sorted(self._objects.items(), key=lambda item: (item[0].namespace, item[0].name))
            if ref.kind == selection.kind and selection.namespace in (None, ref.namespace)
        )
        chosen = tuple(copied(manifest) for manifest in found if has_labels(manifest, selection.labels))
        return Listing(chosen, self.resource_version)

    def latest_event(self, about: Ref, *, uid: str) -> Manifest | None:
        """See `Cluster.latest_event`."""
        told = self.list(Selection(seam.EVENT, about.namespace, {})).items
        return latest(event for event in told if mapping(event, "involvedObject").get("uid") == uid)

    async def watch(self, selection: Selection, resource_version: str) -> AsyncGenerator[Change, None]:
        """Changes after `resource_version`, for ever. Raises Expired where they are forgotten."""
        version = int(resource_version)
        while True:
            for record in self._history.since(version):
                version = record.version
                for change in seen_by(selection, record):
                    yield replace(change, object=copied(change.object))
            await self._history.moved(version)

    async def moved(self, resource_version: str) -> None:
        """Return once something was written after `resource_version`."""
        await self._history.moved(int(resource_version))

    def create(self, manifest: Manifest, *, manager: str) -> Manifest:
        """See `Cluster.create`."""
        ref = ref_of(manifest)
        if ref in self._objects:
            raise AlreadyExists(f'{ref.kind.plural} "{ref.name}" already exists')
        return self._applied(ref, manifest, None, Owner(manager), force=False)

    def apply(
        self, manifest: Manifest, *, manager: str, force: bool, subresource: Literal["status"] | None = None
    ) -> Manifest:
        """See `Cluster.apply`."""
        ref = ref_of(manifest)
        live = self._stored(ref) if subresource else self._objects.get(ref)
        _check_preconditions(manifest, live)
        return self._applied(ref, manifest, live, Owner(manager, subresource or ""), force=force)

    def _applied(self, ref: Ref, manifest: Manifest, live: Stored | None, owner: Owner, *, force: bool) -> Manifest:
        if live is None and "deletionTimestamp" in metadata(manifest):
            raise Refused("metadata.deletionTimestamp: Forbidden: it is set by a delete")
        written = self._merged(ref, manifest, live, owner, force)
        if live is not None and (written.manifest, written.owners) == (_bare(live.manifest), live.owners):
            return copied(live.manifest)
        return copied(self._write(ref, live, written, owner))

    def delete(self, ref: Ref, *, uid: str, grace_s: int | None = None) -> None:
        """See `Cluster.delete`: a Pod is marked and stays until its processes have ended, unless `grace_s` is 0."""
        stored = self._stored(ref)
        if metadata(stored.manifest).get("uid") != uid:
            raise NotFound(f'{ref.kind.plural} "{ref.name}" with uid {uid} not found: it was replaced')
        grace = _grace_s(ref.kind, stored.manifest, grace_s)
        if grace or sequence(stored.manifest.get("metadata"), "finalizers"):
            self._mark_deleted(ref, stored, grace)
        else:
            self._remove(ref, stored)

    def remove(self, ref: Ref, *, uid: str) -> None:
        """End of a graceful deletion. An object that is gone, or was made anew, is left alone."""
        stored = self._objects.get(ref)
        if stored is not None and metadata(stored.manifest).get("uid") == uid:
            self._remove(ref, stored)

    def _stored(self, ref: Ref) -> Stored:
        try:
            return self._objects[ref]
        except KeyError:
            raise NotFound(f'{ref.kind.plural} "{ref.name}" not found in namespace "{ref.namespace}"') from None

    def _merged(self, ref: Ref, manifest: Manifest, live: Stored | None, owner: Owner, force: bool) -> Stored:
        rules = rules_for(ref.kind)
        is_custom = ref.kind == seam.POOL
        wanted = folded(_configuration(manifest if is_custom else normalized(manifest), owner.subresource), rules)
        held = folded(_configuration(live.manifest) if live else {}, rules)
        assert isinstance(wanted, Branch)  # noqa: S101 - a manifest is a map
        result = server_side_apply.apply(held, live.owners if live else {}, wanted, owner=owner, force=force)
        merged = _assembled(ref, unfolded(result.tree), live)
        before = live.manifest if live else None
        if is_custom:
            merged = _bare(self._admitted(merged, before))
        else:
            refuse_unsound(ref.kind, merged, before)
        return Stored(merged, result.owners, live.since if live else {})

    def _admitted(self, new: Manifest, old: Manifest | None) -> Manifest:
        try:
            return self._admit(copied(new), old)
        except ValueError as error:
            raise Refused(str(error)) from error

    def _write(self, ref: Ref, live: Stored | None, written: Stored, owner: Owner) -> Manifest:
        now = rfc3339(self._clock())
        changed = {who for who in written.owners if live is None or live.owners.get(who) != written.owners[who]}
        since = {who: now if who in changed or who == owner else written.since[who] for who in written.owners}
        meta = dict(metadata(written.manifest))
        if live is None:
            meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now}
        meta |= _generation(ref.kind, live.manifest if live else None, written.manifest)
        meta["managedFields"] = list(_managed_fields(ref.kind, written.owners, since))
        stored = Stored({**written.manifest, "metadata": meta}, written.owners, since)
        if "deletionTimestamp" in meta and not meta.get("finalizers") and ref.kind != seam.POD:
            return self._remove(ref, stored)
        return self._record(ref, live, stored)

    def _mark_deleted(self, ref: Ref, stored: Stored, grace_s: int) -> None:
        meta = metadata(stored.manifest)
        if grace_s >= number(stored.manifest["metadata"], "deletionGracePeriodSeconds", grace_s + 1):
            return
        marks: Manifest = {
            "deletionTimestamp": rfc3339(self._clock() + timedelta(seconds=grace_s)),
            "deletionGracePeriodSeconds": grace_s,
        }
        if "generation" in meta and "deletionTimestamp" not in meta:
            marks["generation"] = number(stored.manifest["metadata"], "generation", 0) + 1
        marked: Manifest = {**stored.manifest, "metadata": {**meta, **marks}}
        self._record(ref, stored, replace(stored, manifest=marked))

    def _remove(self, ref: Ref, stored: Stored) -> Manifest:
        before = self._objects.pop(ref)
        return self._add(ref, before.manifest, stored.manifest, gone=True)

    def _record(self, ref: Ref, before: Stored | None, after: Stored) -> Manifest:
        manifest = self._add(ref, before.manifest if before else None, after.manifest, gone=False)
        self._objects[ref] = replace(after, manifest=manifest)
        return manifest

    def _add(self, ref: Ref, before: Manifest | None, after: Manifest, *, gone: bool) -> Manifest:
        version = self._history.latest + 1
        manifest: Manifest = {**after, "metadata": {**metadata(after), "resourceVersion": str(version)}}
        self._history.add(Record(version, ref.kind, ref.namespace, before, manifest, gone))
        return manifest


def _check_preconditions(manifest: Manifest, live: Stored | None) -> None:
    for name in ("uid", "resourceVersion"):
        wanted = metadata(manifest).get(name)
        held = metadata(live.manifest).get(name) if live else None
        if wanted and wanted != held:
            raise Stale(f"Precondition failed: applied {name} is {wanted}, the stored object has {held}; read it again")


def _configuration(manifest: Manifest, subresource: str | None = None) -> Manifest:
    """What appliers may own: all but identity and what the server sets; through status only status, else all but it.

    With `subresource=None` (a stored object) both.
    """
    if subresource == "status":
        return {"status": manifest.get("status") or {}}
    meta = {name: value for name, value in metadata(manifest).items() if name not in SET_BY_THE_SERVER}
    hidden = {"apiVersion", "kind", "metadata"} | ({"status"} if subresource is not None else set())
    rest = {name: value for name, value in manifest.items() if name not in hidden}
    return {"metadata": meta, **rest} if meta else rest


def _assembled(ref: Ref, configuration: JsonValue, live: Stored | None) -> Manifest:
    assert isinstance(configuration, dict)  # noqa: S101 - it was folded from a map
    kept = {name: value for name, value in metadata(live.manifest).items() if name in SET_BY_THE_SERVER} if live else {}
    meta: Manifest = {"name": ref.name, "namespace": ref.namespace, **kept, **metadata(configuration)}
    rest: Manifest = {name: value for name, value in configuration.items() if name != "metadata"}
    return _bare({"apiVersion": ref.kind.api_version, "kind": ref.kind.kind, "metadata": meta, **rest})


def _bare(manifest: Manifest) -> Manifest:
    """Without `managedFields`, which is rendered from the owners at each write."""
    return {**manifest, "metadata": {k: v for k, v in metadata(manifest).items() if k != "managedFields"}}


def _generation(kind: Kind, before: Manifest | None, after: Manifest) -> Manifest:
    if kind not in COUNTS_GENERATIONS:
        return {}
    if before is None:
        return {"generation": 1}
    count = number(before["metadata"], "generation", 1)
    return {"generation": count + (before.get("spec") != after.get("spec"))}


def _managed_fields(kind: Kind, owners: Owners, since: Mapping[Owner, str]) -> Iterator[JsonValue]:
    for owner in sorted(owners):
        entry: Manifest = {
            "manager": owner.manager,
            "operation": "Apply",
            "apiVersion": kind.api_version,
            "time": since[owner],
            "fieldsType": "FieldsV1",
            "fieldsV1": fields_v1(owners[owner]),
        }
        yield entry | ({"subresource": owner.subresource} if owner.subresource else {})


def _grace_s(kind: Kind, manifest: Manifest, asked: int | None) -> int:
    if kind != seam.POD:
        return 0
    return (
        asked
        if asked is not None
        else number(manifest.get("spec"), "terminationGracePeriodSeconds", DEFAULT_POD_GRACE_S)
    )


def rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
