"""`edgekd search`: from the arguments to trials, whole builds, and the account of them."""

from __future__ import annotations

import time

from edgekd.app import search_start, search_words, search_workers
from edgekd.app.progress import Progress, silent
from edgekd.app.results import SearchResult
from edgekd.app.search_arguments import Search
from edgekd.app.search_party import Party
from edgekd.app.search_start import Prepared
from edgekd.app.tracking import kept as tracking_kept
from edgekd.app.tracking import of_search
from edgekd.app.tracking.tracked import TrackedRun
from edgekd.search import account, published, record
from edgekd.search.record import SearchState

# Seconds that the end of a search waits for its tracker, which then begins a run for each of the
# candidates.
WAIT_FOR_TRACKER = 120.0


def run(asked: Search) -> SearchResult:
    """Search as the arguments say.

    That nothing fits, or that no network keeps the limits, is part of the result. Raises
    EdgeKDError for bad input, and KeyboardInterrupt after the account was written.
    """
    progress = asked.progress or silent
    with tracking_kept.kept(asked.track, progress, WAIT_FOR_TRACKER) as tracking:
        prepared = search_start.prepare(asked, progress)
        run_ = None
        if tracking is not None:
            name = prepared.out.absolute().name
            run_ = tracking.start(name, of_search.settings(prepared.request))
        return _searched(prepared, progress, run_)


def _searched(prepared: Prepared, progress: Progress, run_: TrackedRun | None) -> SearchResult:
    """The result of a search that is prepared, which the tracker's run gets too."""

    def track(made: record.Search) -> None:
        if run_:
            of_search.give(run_, prepared.out, made)

    if not prepared.found.reach.within:
        made = account.before_training(
            prepared.found, prepared.request, time.time() - prepared.started
        )
        published.write(prepared.out, made)
        track(made)
        return SearchResult(
            prepared.out,
            made,
            failed=tuple(made.failed),
            next_step=search_words.what_would_fit(made),
        )
    party = Party(prepared, progress)
    asked = prepared.asked
    try:
        if asked.workers == 1:
            party.work_on()
        else:
            search_workers.run(asked, asked.workers, progress)
    except BaseException:
        party.work.stop()
        track(party.write(SearchState.INTERRUPTED))
        raise
    result = party.result()
    track(result.search)
    return result
