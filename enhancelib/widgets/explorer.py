"""The loss explorer: what every term of an objective says of a picture, and where it pulls.

The gradients of all terms at the shown picture are computed once, in the background. A weight that
moves then changes a weighted sum of stored pictures, which takes milliseconds (anatomy.py). Run
moves the picture's own pixels downhill, live (optimise.py).

Every picture has 8 bits per channel from the moment it is shown: start, target, and what a run
leaves are rounded, and it is the rounded picture that is differentiated. Whoever reads the pixels
of the page can compute the same gradients.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import IPython.display
import torch
from torch import Tensor

from enhancelib.images import from_uint8, to_uint8
from enhancelib.losses import Objective
from enhancelib.runtime import Runtime
from enhancelib.widgets import layout
from enhancelib.widgets import pictures as _pictures
from enhancelib.widgets.anatomy import Samples, direct
from enhancelib.widgets.chooser import PhotoChooser
from enhancelib.widgets.controls import View
from enhancelib.widgets.curve import Curve
from enhancelib.widgets.desk import GIVEN, Desk
from enhancelib.widgets.memory import Kept, Memory
from enhancelib.widgets.optimise import Diverged, Moment
from enhancelib.widgets.screen import Screen
from enhancelib.widgets.showing import fitted
from enhancelib.widgets.stage import Pair, Stage
from enhancelib.widgets.terms import insist_weights
from enhancelib.widgets.worker import Newest, sentence

_SECONDS = 600.0  # a cell waits so long for the first gradients on a slow machine


class LossExplorer:
    """Weights of an objective under sliders, and at once what they do to a picture.

    Shown are the picture, the gradient of the weighted total (or of one term, or the picture after
    one step x - eta g), each term's value and its shares, and where the picture lies between two
    terms. Run optimises the shown picture's pixels with Adam; the history can be scrubbed.

    The first picture is computed where the explorer is made, so that what cannot be shown raises
    there. Later errors are a sentence in the panel, and the exception is kept in `failure`.

    Attributes for tests and notebooks: `weights` (settable), `picture` (what is shown and
    differentiated), `gradient` (of the total), `moments` (history), `desk` (all other controls by
    name), `photo`, `upload`, `view`, `widget`.

    Args:
        objective: Its terms, and the weights to begin with.
        pairs: Name -> loader of (start, target), (3, H, W) or (1, 3, H, W), in [0, 1]; the first is
            shown at first. Values outside the range are cut off, as on a screen.
        degrade: Makes the start out of the reader's own photo, (1, 3, H, W), which becomes the
            target.
        sample: Builds the objective's sample from (picture, start, target), (1, 3, H, W) each.
        presets: Name -> weights, such as a paper's; terms that one does not name get 0.
        command: Turns weights into the command line that reruns the notebook with them.
        curve: A trade-off curve that was computed before.
        units: Name of a term -> unit of its value, for the axes.
        folder: Run folder; weights and photo are kept in `explorer/` in it. None keeps nothing.
        title: Heading.
        note: A sentence under the heading.
        limit: Longest side of the reader's own photo in pixels; a larger one is reduced to it.
        runtime: Device and precision of the terms; the CPU in float32 where None.

    Raises:
        ValueError: If there is no pair, a preset or the curve names an unknown term, a weight is
            not finite, or a pair does not fit together.

    Example:
        >>> from enhancelib.losses import Term, pixel
        >>> objective = Objective({"mse": Term(1.0, pixel.mse), "l1": Term(0.0, pixel.l1)})
        >>> wall = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
        >>> explorer = LossExplorer(objective, pairs={"wall": lambda: wall}, degrade=torch.sqrt)
        >>> explorer.weights = {"mse": 6.0, "l1": 0.0}
        >>> explorer.gradient[0, 0].tolist()  # 6 times 2 (x - y) / 12
        [-1.0, -1.0]
        >>> explorer.close()
        >>> LossExplorer(objective, pairs={}, degrade=torch.sqrt)
        Traceback (most recent call last):
        ValueError: pictures is empty; expected at least one name with a loader
    """

    def __init__(
        self,
        objective: Objective,
        *,
        pairs: Mapping[str, Callable[[], Pair]],
        degrade: Callable[[Tensor], Tensor],
        sample: Samples = direct,
        presets: Mapping[str, Mapping[str, float]] | None = None,
        command: Callable[[Mapping[str, float]], str] | None = None,
        curve: Curve | None = None,
        units: Mapping[str, str] | None = None,
        folder: Path | None = None,
        title: str = "",
        note: str = "",
        limit: int = 256,
        runtime: Runtime | None = None,
    ) -> None:
        given = {name: term.weight for name, term in objective.terms.items()}
        self.desk = Desk(given, presets or {})
        self.view = self.desk.view
        self.failure: Exception | None = None
        self._worker, self._memory = Newest(), Memory(folder, self._complain)
        self._halt = threading.Event()
        self._halt.set()  # unset means that a run goes on
        machine = runtime or Runtime(torch.device("cpu"), torch.get_num_threads())
        self._stage = Stage(objective, sample=sample, runtime=machine, changed=self._draw)
        self._screen = Screen(self.desk, command=command, curve=curve, units=units or {})
        own = _pairing(degrade)
        self._chooser = PhotoChooser(
            pairs, own=own, limit=limit, chosen=self._chosen, refused=self._complain
        )
        self.photo, self.upload = self._chooser.dropdown, self._chooser.upload
        photo = (self.photo, self.upload, self._chooser.hint)
        self.widget = self.desk.arrange(photo, title=title, note=note, command=bool(command))
        self._begin()
        self._observe()

    @property
    def weights(self) -> dict[str, float]:
        """Name -> weight; assign a full set to change them.

        Returns:
            A copy.
        """
        return self.desk.weights

    @weights.setter
    def weights(self, weights: Mapping[str, float]) -> None:
        self.desk.table.weights = insist_weights(weights, self.desk.names)

    @property
    def picture(self) -> Tensor:
        """The picture that is shown and differentiated, (3, H, W) in [0, 1], 8 bits per channel.

        Returns:
            A new tensor on the CPU.
        """
        return self._stage.state.moment.picture

    @property
    def gradient(self) -> Tensor | None:
        """The gradient of the weighted total at `picture`, (3, H, W); None while it is computed.

        Returns:
            A new tensor on the CPU.
        """
        return self._stage.state.gradient(self.weights)

    @property
    def moments(self) -> list[Moment]:
        """The history of the photo, in the order of time; the slider counts through it.

        Returns:
            The start, then what is kept of every run.
        """
        return self._stage.film.moments

    @property
    def status(self) -> str:
        """The line under the pictures.

        Returns:
            The problem's sentence where there is one, else the caption.
        """
        return str(self.view.problem or self.view.caption)

    def wait(self, seconds: float = 60.0) -> str:
        """Wait until everything shown belongs to the picture shown, and the state is kept.

        Args:
            seconds: How long at most. A run ends by itself only after the steps asked for.

        Returns:
            The status line.

        Raises:
            TimeoutError: If work goes on after that.

        Example:
            >>> import time
            >>> from enhancelib.losses import Term, pixel
            >>> black = torch.zeros(3, 2, 2)
            >>> explorer = LossExplorer(
            ...     Objective({"mse": Term(1.0, pixel.mse)}),
            ...     pairs={"a": lambda: (black, black), "b": lambda: time.sleep(0.5)},
            ...     degrade=lambda photo: photo,
            ... )
            >>> explorer.photo.value = "b"
            >>> explorer.wait(0.1)
            Traceback (most recent call last):
            TimeoutError: the explorer is still at work after 0.1 s
            >>> explorer.close()
        """
        if not (self._worker.wait(seconds) and self._memory.wait(seconds)):
            raise TimeoutError(f"the explorer is still at work after {seconds:g} s")
        return self.status

    def close(self) -> None:
        """End a run, and take the explorer and all its parts out of kernel and page."""
        self._halt.set()
        self._worker.close()
        self._memory.close()
        self._chooser.close()
        self.desk.close()
        layout.close(self.widget)

    def _ipython_display_(self) -> None:
        self.wait(_SECONDS)
        show: Callable[..., None] = IPython.display.display
        show(self.widget)
        show({"text/html": self._still(), "text/plain": self.status}, raw=True)

    def _still(self) -> str:
        beside = self._screen.beside(self._stage.state)
        more = self.desk.table.still() + self.desk.chart.still()
        view = View(self.picture, beside.picture, beside.caption)
        name = self.view.still
        return _pictures.still_html(view, labels=self.view.labels, name=name, more=more)

    def _begin(self) -> None:
        """Show the first picture: the one that is kept, or else the first given."""
        kept, problem = None, ""
        try:
            kept = self._memory.recall(self.desk.names)
        except ValueError as error:
            problem = f"Not restored: {error}"
        first = self.photo.value
        if kept is not None:
            problem = self._restore(kept)
        try:
            self._enter(self.photo.value)
        except Exception as error:
            if self.photo.value == first:
                raise
            problem = f"Not restored: {sentence(error)}"  # a kept photo must not cost the explorer
            self._chooser.choose(first)
            self._enter(first)
        self._fit()
        self._draw()
        self._screen.name()
        self.view.problem = problem

    def _restore(self, kept: Kept) -> str:
        self.desk.table.weights = kept.weights
        if kept.own is not None:
            self._chooser.offer(*kept.own)
        if kept.photo in self._chooser.loaders:
            self._chooser.choose(kept.photo)
            return ""
        self._chooser.choose(next(iter(self._chooser.loaders)))
        return f"Not restored: photo {kept.photo!r} is not among those given"

    def _observe(self) -> None:
        desk = self.desk
        desk.table.observe(self._weighed, "weights")
        for control in (desk.show, desk.eta):
            control.observe(self._redraw, "value")
        desk.history.observe(self._scrubbed, "value")
        desk.chart.observe(self._taken, "taken")
        for axis in (desk.across, desk.up):
            axis.observe(self._axes, "value")
        for button, action in (
            (desk.run, self._run),
            (desk.stop, self._stop),
            (desk.fit, self._fit),
            (desk.reset, self._reset),
        ):
            button.on_click(action)

    def _draw(self) -> None:
        with (stage := self._stage).lock:
            self._screen.draw(stage.state, stage.film, stage.name, running=self._running)

    @property
    def _running(self) -> bool:
        return not self._halt.is_set()

    def _weighed(self, _change: object = None) -> None:
        self.view.problem = ""
        self._screen.name()
        self._redraw()
        self._save()

    def _redraw(self, _change: object = None) -> None:
        with self._stage.lock:
            self._screen.weigh(self._stage.state)

    def _axes(self, _change: object) -> None:
        with (stage := self._stage).lock:
            self._screen.chart(stage.state, stage.film, stage.name)

    def _fit(self, _button: object = None) -> None:
        gradient = self.gradient
        if gradient is not None and (eta := fitted(gradient)) is not None:
            self.desk.set_eta(eta)

    def _scrubbed(self, change: Mapping[str, Any]) -> None:
        moments = self.moments
        if not self._running and change["new"] < len(moments):
            self._visit(moments[change["new"]])

    def _taken(self, change: Mapping[str, Any]) -> None:
        line, point = change["new"][:2]
        lines = self._screen.lines(self._stage.film, self._stage.name)
        if not self._running and line < len(lines) and point < len(lines[line]):
            self._visit(lines[line][point])

    def _visit(self, moment: Moment) -> None:
        if moment is not self._stage.state.moment and not self._stage.visit(moment):
            self._submit(self._compute)

    def _chosen(self, _anew: bool) -> None:
        self._halt.set()
        name = self.photo.value
        self._submit(lambda: self._change(name))

    def _reset(self, _button: object = None) -> None:
        with self._stage.lock:  # a step that is under way must not come after the start
            self._halt.set()
            known = self._stage.rewind()
        self.weights = self.desk.sets[GIVEN]
        if not known:
            self._submit(self._compute)

    def _run(self, _button: object = None) -> None:
        if not self._running:
            self._halt = halt = threading.Event()
            self._submit(lambda: self._descend(halt))
            self._draw()

    def _stop(self, _button: object = None) -> None:
        self._halt.set()
        self._draw()

    def _submit(self, job: Callable[[], None]) -> None:
        self.view.problem, self.view.busy = "", True
        self._worker.submit(lambda: self._attempt(job))

    def _attempt(self, job: Callable[[], None]) -> None:
        self.view.busy = True
        try:
            self.failure = None
            job()
        except Exception as error:  # whatever a term raises must reach the reader
            self.failure = error
            self._complain(f"Not computed: {sentence(error)}")
        finally:
            self.view.busy = False

    def _complain(self, words: str) -> None:
        self.view.problem = words

    def _change(self, name: str) -> None:
        try:
            self._enter(name)
        except Exception:
            self._chooser.choose(self._stage.name)
            self._draw()
            raise

    def _enter(self, name: str) -> None:
        self._stage.enter(name, self._chooser.loaders[name]())
        self._save()

    def _compute(self) -> None:
        if not self._worker.superseded:
            self._stage.compute()

    def _descend(self, halt: threading.Event) -> None:
        rate, most = self.desk.rate.value / 255, self.desk.most.value
        try:
            self._stage.descend(lambda: self.weights, rate=rate, most=most, halt=halt)
        except Diverged as error:
            self.failure = error
            self._complain(f"Not finished: {error}")
        self._compute()

    def _save(self) -> None:
        self._memory.keep(Kept(self.weights, self.photo.value, self._chooser.own))


def _pairing(degrade: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Pair]:
    def pair(photo: Tensor) -> Pair:
        target = from_uint8(to_uint8(photo))[None]  # as a screen shows it
        return degrade(target), target

    return pair
