"""`edgekd search`: from the arguments to trials, whole builds, and the account of them."""

from __future__ import annotations

import time

from edgekd.app import search_start, search_workers
from edgekd.app.progress import silent
from edgekd.app.results import SearchResult
from edgekd.app.search_arguments import Search
from edgekd.app.search_party import Party
from edgekd.search import account, published
from edgekd.search.record import SearchState


def run(asked: Search) -> SearchResult:
    """Search as the arguments say.

    That nothing fits, or that no network keeps the limits, is part of the result. Raises
    EdgeKDError for bad input, and KeyboardInterrupt after the account was written.
    """
    progress = asked.progress or silent
    prepared = search_start.prepare(asked, progress)
    if not prepared.found.reach.within:
        made = account.before_training(
            prepared.found, prepared.request, time.time() - prepared.started
        )
        published.write(prepared.out, made)
        return SearchResult(
            prepared.out, made, failed=tuple(made.failed), next_step="allow more, or try --space"
        )
    party = Party(prepared, progress)
    try:
        if asked.workers == 1:
            party.work_on()
        else:
            search_workers.run(asked, asked.workers, progress)
    except BaseException:
        party.work.stop()
        party.write(SearchState.INTERRUPTED)
        raise
    return party.result()
