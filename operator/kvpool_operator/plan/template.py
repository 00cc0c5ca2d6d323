"""Whether an engine is made as the pool now asks, and what is different if not."""

from kvpool_api.conditions import Reason
from kvpool_api.pool import InferencePool
from kvpool_api.spec import OperatorUpgradePolicy

from kvpool_operator.build.applied_template import AppliedTemplate
from kvpool_operator.build.names import canonical
from kvpool_operator.observed import Engine
from kvpool_operator.plan.actions import because
from kvpool_operator.plan.differences import differences

_NAMED = 4


class CurrentTemplate:
    """What the pool's engines are made from now, by this release."""

    def __init__(self, pool: InferencePool, builder_revision: str) -> None:
        self._template = AppliedTemplate.of(pool)
        self._annotation = canonical(self._template.as_json())
        self._revision = builder_revision
        self._rolls = pool.spec.rollout.on_operator_upgrade is OperatorUpgradePolicy.ROLL

    def why_outdated(self, engine: Engine) -> Reason | None:
        """Why the engine has to be replaced, or None."""
        if engine.applied_template != self._annotation and (changed := self._changed(engine)):
            return because("TemplateChanged", changed)
        if self._rolls and not self.is_of_this_release(engine):
            return because("OperatorUpgraded", f"built by revision {engine.builder_revision}, now {self._revision}")
        return None

    def is_of_this_release(self, engine: Engine) -> bool:
        return engine.builder_revision == self._revision

    def _changed(self, engine: Engine) -> str:
        made_from = AppliedTemplate.read(engine.applied_template)
        if made_from is None:
            return "the engine does not say from which spec it was made"
        return "; ".join([*differences(made_from.as_json(), self._template.as_json())][:_NAMED])
