"""Which worker made a stored response: no other can read, cancel or continue it."""

import re
from collections import OrderedDict

from kvpool_router.requests.refusal import Refusal, shortened
from kvpool_router.workers import WorkerId

KEPT_RESPONSES = 10_000
_RESPONSE_ID = re.compile(rb'"id":\s*"(resp_[^"]{1,128})"')


class ResponseOwners:
    """The newest responses of `/v1/responses`; older ones are forgotten: an engine's own store is no archive either."""

    def __init__(self, kept: int = KEPT_RESPONSES) -> None:
        self._kept = kept
        self._owners: OrderedDict[str, WorkerId] = OrderedDict()

    def learn(self, beginning: bytes, worker: WorkerId) -> None:
        """Takes the id from the first bytes of an answer."""
        found = _RESPONSE_ID.search(beginning)
        if found is None:
            return
        self._owners[found[1].decode("latin-1")] = worker
        if len(self._owners) > self._kept:
            self._owners.popitem(last=False)

    def owner(self, response_id: str) -> WorkerId:
        """The worker that has it.

        Raises Refusal: 404, as an engine answers for an id that it does not know.
        """
        worker = self._owners.get(response_id)
        if worker is None:
            raise Refusal(404, f"Response with id '{shortened(response_id)}' not found.", param="response_id")
        return worker
