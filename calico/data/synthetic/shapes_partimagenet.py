"""How the synthetic PartImageNet categories look: animals, an airplane and a boat."""

from calico.data.synthetic.sketch import Sketch


def draw_airplane(sketch: Sketch) -> None:
    """Draw an airliner in side view, nose to the right."""
    half = sketch.near(0.2, 0.03)
    sketch.polygon("tail", (-0.98, -0.72), (-0.66, -0.72), (-0.34, -0.1), (-0.9, -0.1))
    sketch.polygon("wing", (-0.1, -0.1), (0.25, -0.1), (-0.05, -0.68), (-0.32, -0.68))
    sketch.polygon("body", (-0.95, -half), (0.5, -half), (0.5, half), (-0.6, half))
    sketch.polygon(
        "head", (0.48, -half), (0.75, -half * 0.8), (0.98, half * 0.35), (0.75, half), (0.48, half)
    )
    for x in (-0.5, -0.25, 0.0, 0.25):
        sketch.dot((x, -0.06), 0.05)
    tip = sketch.near(-0.45)
    sketch.polygon("wing", (-0.1, 0.05), (0.35, 0.05), (tip + 0.28, 0.78), (tip, 0.78))
    x = sketch.near(0.3, 0.04)
    sketch.ellipse("engine", (x, 0.42), (0.27, 0.15))


def draw_bird(sketch: Sketch) -> None:
    """Draw a perching songbird, facing right."""
    for x in (-0.15, 0.22):
        sketch.band("foot", (x, 0.4), (x + 0.02, 0.88), (x + 0.25, 0.92), width=0.16)
    sketch.polygon("tail", (-0.4, 0.0), (-0.3, 0.35), (-1.0, 0.72), (-1.0, 0.34))
    sketch.ellipse("body", (-0.02, 0.12), (sketch.near(0.56), sketch.near(0.42, 0.04)), tilt=-0.35)
    x, y = sketch.near(0.5, 0.04), sketch.near(-0.45, 0.04)
    sketch.polygon("head", (x + 0.15, y - 0.15), (x + 0.5, y + 0.06), (x + 0.15, y + 0.2))
    sketch.ellipse("head", (x, y), (0.3, 0.28))
    sketch.dot((x + 0.1, y - 0.06), 0.06)
    sketch.polygon("wing", (0.2, -0.12), (0.1, 0.28), (-0.62, 0.3), (-0.35, -0.12))


def draw_boat(sketch: Sketch) -> None:
    """Draw a sailing boat; without its sails a hull with a cabin."""
    mast = sketch.near(0.0)
    if not sketch.shows("sail"):
        sketch.polygon("body", (-0.4, -0.1), (0.3, -0.1), (0.4, 0.4), (-0.4, 0.4))
        sketch.dot((-0.18, 0.12), 0.09)
        sketch.dot((0.14, 0.12), 0.09)
    sketch.box("body", mast - 0.05, -0.95, mast + 0.05, 0.4)
    sketch.polygon("sail", (mast + 0.07, -0.92), (mast + 0.78, 0.2), (mast + 0.07, 0.2))
    sketch.polygon("sail", (mast - 0.07, -0.75), (mast - 0.07, 0.2), (mast - 0.62, 0.2))
    bottom = sketch.near(0.85, 0.05)
    sketch.polygon("body", (-0.98, 0.34), (0.98, 0.34), (0.62, bottom), (-0.66, bottom))


def draw_cat(sketch: Sketch) -> None:
    """Draw a sitting cat seen from the front: pointed ears, round face, curled tail."""
    sketch.band("tail", (0.3, 0.78), (0.75, 0.7), (0.85, 0.3), (0.7, 0.0), width=0.2)
    width = sketch.near(0.5)
    sketch.polygon(
        "body",
        (-0.2, -0.15),
        (0.2, -0.15),
        (width, 0.55),
        (width * 0.9, 0.9),
        (-width * 0.9, 0.9),
        (-width, 0.55),
    )
    for x in (-0.24, 0.24):
        sketch.ellipse("foot", (x, 0.84), (0.22, 0.15))
    y = sketch.near(-0.42, 0.04)
    for side in (-1, 1):
        sketch.polygon("head", (side * 0.44, y - 0.55), (side * 0.42, y + 0.02), (side * 0.04, y - 0.25))
    sketch.ellipse("head", (0.0, y), (0.46, 0.37))
    for side in (-1, 1):
        sketch.dot((side * 0.18, y - 0.08), 0.07)
        sketch.line((side * 0.12, y + 0.14), (side * 0.42, y + 0.1), width=0.03)
    sketch.dot((0.0, y + 0.1), 0.05)


def draw_dog(sketch: Sketch) -> None:
    """Draw a standing dog in side view, facing right: long muzzle, hanging ear."""
    top, hip = sketch.near(-0.15), sketch.near(0.35, 0.04)
    sketch.band("tail", (-0.62, top + 0.12), (-0.88, top - 0.2), (-0.84, top - 0.5), width=0.2)
    for x in (-0.62, -0.3, 0.16, 0.46):
        sketch.polygon(
            "foot", (x - 0.11, hip - 0.1), (x + 0.11, hip - 0.1), (x + 0.13, 0.92), (x - 0.1, 0.92)
        )
    sketch.polygon(
        "body",
        (-0.76, top + 0.05),
        (0.5, top - 0.12),
        (0.62, hip - 0.1),
        (0.4, hip + 0.1),
        (-0.6, hip + 0.06),
        (-0.76, hip - 0.1),
    )
    y = sketch.near(-0.5, 0.05)
    sketch.polygon(
        "head",
        (0.3, y - 0.25),
        (0.62, y - 0.27),
        (0.7, y - 0.1),
        (1.0, y - 0.04),
        (1.0, y + 0.2),
        (0.62, y + 0.3),
        (0.32, y + 0.42),
    )
    sketch.polygon("head", (0.3, y - 0.26), (0.48, y - 0.2), (0.36, y + 0.38), (0.1, y + 0.28))
    sketch.line((0.47, y - 0.2), (0.36, y + 0.36), width=0.04)
    sketch.dot((0.62, y - 0.06), 0.06)
    sketch.dot((0.96, y + 0.02), 0.07)


def draw_fish(sketch: Sketch) -> None:
    """Draw a fish in side view, facing right."""
    half = sketch.near(0.42, 0.05)
    notch = sketch.near(-0.75, 0.04)
    sketch.polygon("fin", (-0.4, -half * 0.5), (-0.35, -half - 0.4), (0.2, -half - 0.3), (0.25, -half * 0.6))
    sketch.polygon("fin", (-0.25, half * 0.5), (-0.35, half + 0.34), (0.1, half * 0.7))
    sketch.polygon("tail", (-0.5, -0.1), (-1.0, -0.5), (notch, 0.0), (-1.0, 0.5), (-0.5, 0.1))
    sketch.ellipse("body", (0.05, 0.0), (0.68, half))
    sketch.polygon(
        "head",
        (0.36, -half * 0.9),
        (0.75, -half * 0.5),
        (0.95, 0.0),
        (0.75, half * 0.5),
        (0.36, half * 0.9),
        (0.48, 0.0),
    )
    sketch.dot((0.66, -0.1), 0.07)


def draw_turtle(sketch: Sketch) -> None:
    """Draw a turtle in side view, facing right: a domed shell with plates."""
    for x in (-0.45, 0.38):
        sketch.polygon("foot", (x - 0.2, 0.25), (x + 0.2, 0.25), (x + 0.24, 0.7), (x - 0.16, 0.7))
    y = sketch.near(-0.02, 0.05)
    sketch.polygon("head", (0.5, 0.1), (0.62, y - 0.14), (0.8, y - 0.1), (0.7, 0.34), (0.5, 0.34))
    sketch.ellipse("head", (0.8, y), (0.2, 0.18))
    sketch.dot((0.86, y - 0.05), 0.05)
    top = sketch.near(-0.52, 0.06)
    sketch.polygon(
        "body",
        (-0.85, 0.34),
        (-0.74, -0.05),
        (-0.48, top + 0.13),
        (-0.1, top),
        (0.28, top + 0.13),
        (0.56, -0.05),
        (0.66, 0.34),
    )
    sketch.line((-0.85, 0.2), (0.64, 0.2))
    for x in (-0.42, -0.08, 0.26):
        sketch.line((x * 0.6 - 0.06, top + 0.1), (x, 0.2))


PARTIMAGENET_SHAPES = {
    "airplane": draw_airplane,
    "bird": draw_bird,
    "boat": draw_boat,
    "cat": draw_cat,
    "dog": draw_dog,
    "fish": draw_fish,
    "turtle": draw_turtle,
}
