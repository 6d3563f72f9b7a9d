"""The terminal: progress bars on stderr while a person watches, and results on stdout."""

from __future__ import annotations

import sys
from types import TracebackType

import rich.box
import rich.console
import rich.markup
import rich.progress
import rich.table

from edgekd.app import streams
from edgekd.app.progress import Advanced, Note, StageFinished, StageStarted, Update
from edgekd.app.progress_pace import Pace, line

DIGEST_LETTERS = 12  # of a digest shown to a person: enough to tell two apart


class _Results(rich.console.Console):
    """Prints on stdout, until the reader closes the pipe. What follows is then not printed."""

    def on_broken_pipe(self) -> None:
        """Print nothing more. Rich itself ends the program here, with exit code 1."""
        self.quiet = True
        streams.discard()


class Console:
    """Shows progress on stderr, and prints results on stdout.

    Where stderr is no terminal, no bar is drawn. Each stage prints a line when it starts and when
    it ends, and a long stage one at least every `progress_pace.LINE_EVERY` seconds.
    """

    def __init__(self) -> None:
        self._err = rich.console.Console(stderr=True, highlight=False)
        self._out = _Results(highlight=False, width=None if sys.stdout.isatty() else 100)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("  {task.description:<18}"),
            rich.progress.BarColumn(bar_width=30),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[figures]}"),
            console=self._err,
            transient=True,
            disable=not self._err.is_terminal,
        )
        self._row: rich.progress.TaskID | None = None
        self._task = ""  # of the row
        self._pace = Pace()

    def say(self, what: rich.console.RenderableType) -> None:
        """Print a text or a table on stdout."""
        self._out.print(what)

    def __enter__(self) -> Console:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, update: Update, /) -> None:
        """Show an update (the Console is itself a Progress)."""
        match update:
            case Advanced():
                self._advance(update)
            case StageStarted():
                if self._bar.disable:
                    self._err.print(f"  {update}")
            case StageFinished():
                self._drop_bar()
                how = "cached" if update.cached else f"{update.seconds:.1f} s"
                self._err.print(
                    f"[green]✓[/] {update.stage:<10} {how:>9}  "
                    f"[dim]{update.digest[:DIGEST_LETTERS]}[/]"
                )
            case Note():
                text = "".join(c if c.isprintable() or c == "\n" else "?" for c in update.text)
                self._err.print(text, markup=False, soft_wrap=True)

    def _advance(self, update: Advanced) -> None:
        """Move the bar; a new task starts a new one. Without a bar, print a line when it is due."""
        if self._bar.disable:
            if self._pace.due(update):
                self._err.print(f"  {line(update, self._pace)}", markup=False, soft_wrap=True)
            return
        figures = " ".join(f"{name} {value:.4g}" for name, value in update.figures.items())
        if update.task != self._task:
            self._drop_bar()
            self._row = self._bar.add_task(update.task, total=update.total, figures=figures)
            self._task = update.task
        if self._row is not None:
            self._bar.update(self._row, completed=update.done, total=update.total, figures=figures)

    def _drop_bar(self) -> None:
        if self._row is not None:
            self._bar.remove_task(self._row)
        self._row, self._task = None, ""
