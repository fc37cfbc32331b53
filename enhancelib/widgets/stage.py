"""The explorer without its controls: a photo, its history, and the work done on them.

Everything slow happens here, in whatever thread calls it. `changed` is called whenever there is
something new to see.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from enhancelib import images
from enhancelib.losses import Objective
from enhancelib.runtime import Runtime
from enhancelib.widgets.anatomy import Anatomy, Samples, Weights, dissect
from enhancelib.widgets.optimise import Film, Moment, Seen, descend
from enhancelib.widgets.showing import State

Pair = tuple[Tensor, Tensor]
_STORED = 8  # anatomies kept for scrubbing; seven terms at 256x256 take 6 MB each
_FRAME_SECONDS = 0.2  # between two pictures of a run


class Stage:
    """One photo at a time, its history, and the state of what is shown.

    Args:
        objective: The terms.
        sample: Builds the objective's sample from (picture, start, target).
        runtime: Device and precision of the terms.
        changed: Called after every change of `state`.
    """

    name: str
    film: Film
    state: State

    def __init__(
        self,
        objective: Objective,
        *,
        sample: Samples,
        runtime: Runtime,
        changed: Callable[[], None],
    ) -> None:
        self.objective, self._sample, self._runtime = objective, sample, runtime
        self._changed = changed
        self._stored: OrderedDict[tuple[int, int], Anatomy] = OrderedDict()
        self.lock = threading.RLock()  # held while the state or the film changes or is drawn

    def enter(self, name: str, pair: Pair) -> None:
        """Show another photo, and compute its terms.

        Args:
            name: What it is called.
            pair: (start, target), (3, H, W) or (1, 3, H, W).

        Raises:
            ValueError: If the two do not fit together.

        Example:
            >>> import torch
            >>> from enhancelib.losses import Term, pixel
            >>> from enhancelib.runtime import setup
            >>> from enhancelib.widgets.anatomy import direct
            >>> stage = Stage(
            ...     Objective({"mse": Term(1.0, pixel.mse)}),
            ...     sample=direct, runtime=setup("cpu"), changed=lambda: None,
            ... )
            >>> stage.enter("wall", (torch.zeros(3, 4, 4), torch.ones(1, 3, 4, 4)))
            >>> stage.state.values
            {'mse': 1.0}
            >>> stage.enter("odd", (torch.zeros(3, 4, 4), torch.ones(3, 4, 5)))
            Traceback (most recent call last):
            ValueError: start is (3, 4, 4), target (3, 4, 5); expected equal shapes (3, H, W)
        """
        levels, target = _checked(*pair)
        moment = Moment(0, 0, levels, {})
        before = vars(self).copy()
        with self.lock:
            self.name, self.film, self._stored = name, Film(moment), OrderedDict()
            self.state = State(moment, moment.picture, images.from_uint8(target))
        try:
            self.compute()
        except Exception:  # the photo that was there is the one that can be shown
            with self.lock:
                vars(self).update(before)
            raise

    def compute(self) -> None:
        """Compute every term's value and gradient at the picture shown, if not stored already."""
        state, stored = self.state, self._stored
        if state.anatomy is None:
            self._changed()
            found = self._dissect(state)
            with self.lock:
                stored[_key(state.moment)] = found
                while len(stored) > _STORED:
                    stored.popitem(last=False)
                if self.state.moment is state.moment:
                    self.state = replace(self.state, anatomy=found, live=None)
        self._changed()

    def visit(self, moment: Moment) -> bool:
        """Show a moment of the history, with its gradients where they are stored.

        Args:
            moment: Of the film.

        Returns:
            Whether its gradients are there; otherwise they are to be computed.
        """
        with self.lock:
            known = self._stored.get(_key(moment))
            self.state = replace(self.state, moment=moment, anatomy=known, live=None)
        self._changed()
        return known is not None

    def rewind(self) -> bool:
        """Forget all runs and show the start.

        Returns:
            As `visit`.
        """
        with self.lock:
            start = self.film.moments[0]
            self.film = Film(start)
            self._stored = OrderedDict((k, v) for k, v in self._stored.items() if k == _key(start))
            return self.visit(start)

    def descend(
        self, weights: Callable[[], Weights], *, rate: float, most: int, halt: threading.Event
    ) -> None:
        """Move the picture shown downhill; every step is seen, few are drawn.

        Args:
            weights: Asked before every step.
            rate: Adam's learning rate.
            most: Updates at most.
            halt: Set from outside to stop, and here at the end.

        Raises:
            Diverged: If something is not finite; the last good picture is shown.

        Example:
            >>> import torch
            >>> from enhancelib.losses import Term
            >>> from enhancelib.runtime import setup
            >>> from enhancelib.widgets.anatomy import direct
            >>> stage = Stage(
            ...     Objective({"root": Term(1.0, lambda x, y: (x - y).sum().sqrt())}),
            ...     sample=direct, runtime=setup("cpu"), changed=lambda: None,
            ... )
            >>> black = torch.zeros(3, 2, 2)
            >>> stage.enter("black", (black, black))
            >>> halt = threading.Event()
            >>> stage.descend(lambda: {"root": 1.0}, rate=0.1, most=5, halt=halt)
            Traceback (most recent call last):
            enhancelib.widgets.optimise.Diverged: stopped at step 0: the gradient is not finite; ...
        """
        if halt.is_set():  # stopped before it began
            return
        state, film, drawn = self.state, self.film, 0.0
        start, target = self._batch(state.start), self._batch(state.target)
        number = film.begin()

        def look(seen: Seen) -> bool:
            nonlocal drawn
            if not self._keep(film, number, seen, halt):
                return False
            if time.monotonic() - drawn > _FRAME_SECONDS:
                self._changed()
                drawn = time.monotonic()
            return seen.step < most

        try:
            descend(
                lambda: self.objective.weighted(weights()),
                (self._batch(state.moment.picture), start, target),
                sample=self._sample, rate=rate, runtime=self._runtime, look=look,
            )  # fmt: skip
        finally:
            self._settle(film, halt)

    def _keep(self, film: Film, number: int, seen: Seen, halt: threading.Event) -> bool:
        levels = images.to_uint8(seen.picture[0]).cpu()
        with self.lock:
            if halt.is_set():
                return False
            moment = Moment(number, seen.step, levels, seen.values)
            film.add(moment)
            self.state = replace(self.state, moment=moment, anatomy=None, live=seen.gradient)
        return True

    def _settle(self, film: Film, halt: threading.Event) -> None:
        halt.set()
        with self.lock:
            film.end()
            if self.state.live is not None:  # else somebody looks at something else already
                known = self._stored.get(_key(self.state.moment))
                self.state = replace(self.state, anatomy=known, live=None)
        self._changed()

    def _dissect(self, state: State) -> Anatomy:
        pictures = (state.moment.picture, state.start, state.target)
        x, start, target = map(self._batch, pictures)
        return dissect(self.objective, x, start, target, sample=self._sample)

    def _batch(self, picture: Tensor) -> Tensor:
        return picture[None].to(self._runtime.device)


def _key(moment: Moment) -> tuple[int, int]:
    return moment.run, moment.step


def _checked(start: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Start and target as a screen shows them, (3, H, W) uint8."""
    shown = [
        images.to_uint8(picture[0] if picture.dim() == 4 and len(picture) == 1 else picture).cpu()
        for picture in (start, target)
    ]
    shapes = [tuple(levels.shape) for levels in shown]
    if shapes[0] != shapes[1] or len(shapes[0]) != 3 or shapes[0][0] != 3:
        raise ValueError(
            f"start is {shapes[0]}, target {shapes[1]}; expected equal shapes (3, H, W)"
        )
    return shown[0], shown[1]
