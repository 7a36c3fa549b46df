"""What a picture is made of, placed: pixels from its upper left corner, texts already fitted."""

from __future__ import annotations

from dataclasses import dataclass, field

from clew.model.flow import Activation, Hop


@dataclass(frozen=True, slots=True)
class Frame:
    """A process: its frame, the programs it ran as its title, its number beside that or below."""

    x: float
    y: float
    width: float
    height: float
    title: str
    number: str
    beside: bool
    lanes: tuple[LaneLine, ...]


@dataclass(frozen=True, slots=True)
class LaneLine:
    """A task's lifeline and its name."""

    x: float
    top: float
    bottom: float
    title: str
    title_y: float


@dataclass(frozen=True, slots=True)
class Bar:
    """An activation's extent on its lane, or the part of it after an exec."""

    x: float
    top: float
    bottom: float
    activation: Activation
    on_path: bool
    after_exec: bool


@dataclass(frozen=True, slots=True)
class Box:
    """A label on a lane: what an activation ran (``activation``), or an exec (``hop``)."""

    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]
    on_path: bool
    activation: Activation | None = None
    hop: Hop | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """A hop between two lanes.  ``label`` is above it, ``frames`` below its beginning."""

    hop: Hop
    x1: float
    y1: float
    x2: float
    y2: float
    label: tuple[str, ...] = ()
    label_css: str = ""
    label_x: float = 0.0
    frames: tuple[str, ...] = ()
    on_path: bool = False

    @property
    def rightwards(self) -> bool:
        """Which way it points."""
        return self.x2 > self.x1


@dataclass(frozen=True, slots=True)
class Said:
    """A line of text on its own: a time, a wait, what was folded."""

    x: float
    y: float
    text: str


@dataclass(slots=True)
class Picture:
    """All shapes, in pixels from the upper left corner."""

    width: float = 0.0
    bottom: float = 0.0
    frames: list[Frame] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    times: list[Said] = field(default_factory=list)
    waits: list[Said] = field(default_factory=list)
    folds: list[Said] = field(default_factory=list)
