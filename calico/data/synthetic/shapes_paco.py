"""How the synthetic PACO-LVIS categories look: kitchen things, tools and a handbag."""

from calico.data.synthetic.sketch import Sketch


def draw_bottle(sketch: Sketch) -> None:
    """Draw an upright bottle: shoulders, a neck, perhaps a cap and a label."""
    half = sketch.near(0.44, 0.05)
    neck = sketch.near(0.21, 0.02)
    sketch.polygon("neck", (-neck, -0.8), (neck, -0.8), (neck * 1.1, -0.25), (-neck * 1.1, -0.25))
    sketch.polygon(
        "body",
        (-neck * 1.1, -0.34),
        (neck * 1.1, -0.34),
        (half, -0.02),
        (half, 0.95),
        (-half, 0.95),
        (-half, -0.02),
    )
    sketch.box("cap", -neck - 0.08, -1.0, neck + 0.08, -0.68)
    sketch.box("label", -half, 0.18, half, sketch.near(0.65, 0.06))


def draw_hammer(sketch: Sketch) -> None:
    """Draw a claw hammer, head up."""
    half = sketch.near(0.17, 0.02)
    sketch.box("handle", -half, -0.5, half, 0.98)
    sketch.box("grip", -half - 0.06, 0.35, half + 0.06, 1.0)
    sketch.polygon("head", (-0.26, -0.9), (0.3, -0.9), (0.3, -0.48), (-0.26, -0.48))
    sketch.box("head", 0.26, -0.96, 0.62, -0.4)
    sketch.polygon("head", (-0.22, -0.9), (-0.22, -0.6), (-0.55, -0.42), (-0.85, -0.2), (-0.72, -0.62))


def draw_handbag(sketch: Sketch) -> None:
    """Draw a handbag with an arched handle."""
    top = sketch.near(-0.15, 0.06)
    sketch.band(
        "handle",
        (-0.5, top + 0.1),
        (-0.42, top - 0.5),
        (-0.15, top - 0.74),
        (0.15, top - 0.74),
        (0.42, top - 0.5),
        (0.5, top + 0.1),
        width=0.18,
    )
    wide = sketch.near(0.9, 0.05)
    sketch.polygon("body", (-0.66, top), (0.66, top), (wide, 0.9), (-wide, 0.9))
    sketch.polygon("base", (-wide + 0.06, 0.62), (wide - 0.06, 0.62), (wide, 0.92), (-wide, 0.92))
    sketch.box("zip", -0.62, top + 0.12, 0.62, top + 0.32)


def draw_kettle(sketch: Sketch) -> None:
    """Draw a stove kettle: a round body, a spout to the right, an arched handle."""
    sketch.band(
        "handle",
        (-0.5, -0.1),
        (-0.48, -0.66),
        (-0.2, -0.9),
        (0.2, -0.9),
        (0.48, -0.66),
        (0.46, -0.1),
        width=0.17,
    )
    tip = sketch.near(-0.3)
    sketch.polygon("spout", (0.3, 0.0), (0.3, 0.6), (1.0, tip + 0.16), (0.7, tip - 0.18))
    sketch.polygon(
        "body", (-0.36, -0.26), (0.36, -0.26), (0.62, 0.2), (0.6, 0.85), (-0.6, 0.85), (-0.62, 0.2)
    )
    sketch.polygon("lid", (-0.42, -0.2), (-0.26, -0.4), (0.26, -0.4), (0.42, -0.2))
    sketch.ellipse("lid", (0.0, -0.46), (0.13, 0.13))
    sketch.box("base", -0.66, 0.7, 0.66, 0.94)


def draw_knife(sketch: Sketch) -> None:
    """Draw a kitchen knife, point to the right."""
    join = sketch.near(-0.22)
    half = sketch.near(0.29, 0.03)
    sketch.polygon(
        "blade", (join, -half), (0.65, -half), (0.86, -half * 0.6), (0.98, half), (join, half * 1.3)
    )
    sketch.polygon(
        "handle",
        (-0.98, -0.18),
        (join + 0.03, -half),
        (join + 0.03, 0.14),
        (-0.6, 0.18),
        (-0.96, 0.34),
    )
    for x in (-0.75, -0.5):
        sketch.dot((x, 0.0), 0.05)


def draw_mug(sketch: Sketch) -> None:
    """Draw a mug seen slightly from above, handle to the right."""
    left, right = -0.72, sketch.near(0.42, 0.05)
    top, bottom = sketch.near(-0.6, 0.05), 0.85
    sketch.band(
        "handle",
        (right - 0.05, -0.25),
        (right + 0.36, -0.22),
        (right + 0.46, 0.1),
        (right + 0.34, 0.42),
        (right - 0.08, 0.48),
        width=0.19,
    )
    middle = (left + right) / 2
    sketch.polygon("body", (left, top), (right, top), (right - 0.06, bottom), (left + 0.06, bottom))
    sketch.ellipse("body", (middle, bottom - 0.02), (right - middle - 0.06, 0.12))
    sketch.ellipse("rim", (middle, top), (right - middle + 0.03, 0.22))
    sketch.ellipse("body", (middle, top), (right - middle - 0.13, 0.11))
    if sketch.chance():
        sketch.ellipse("drawing", (middle, 0.3), (0.28, 0.27))
    else:
        sketch.polygon("drawing", (middle, -0.02), (middle + 0.34, 0.6), (middle - 0.34, 0.6))


def draw_scissors(sketch: Sketch) -> None:
    """Draw open scissors, blades up."""
    spread = sketch.near(0.36, 0.08)
    for side in (-1, 1):
        sketch.polygon(
            "blade",
            (-side * 0.13, 0.2),
            (side * 0.02, -0.05),
            (side * spread, -0.98),
            (side * (spread + 0.2), -0.6),
            (side * 0.16, 0.12),
        )
    for side in (-1, 1):
        x = side * sketch.near(0.42, 0.03)
        sketch.band("handle", (0.0, 0.05), (x * 0.75, 0.5), width=0.2)
        _draw_ring(sketch, (x, 0.64))
    sketch.dot((0.0, 0.06), 0.06)


def _draw_ring(sketch: Sketch, center: tuple[float, float]) -> None:
    """Draw a thick finger ring as a closed band, so that the hole shows what lies behind."""
    x, y = center
    corners = [
        (0.0, -0.27),
        (0.2, -0.18),
        (0.26, 0.04),
        (0.17, 0.24),
        (-0.02, 0.29),
        (-0.2, 0.2),
        (-0.26, -0.02),
        (-0.18, -0.2),
        (0.0, -0.27),
    ]
    sketch.band("handle", *[(x + dx, y + dy) for dx, dy in corners], width=0.17)


PACO_SHAPES = {
    "bottle": draw_bottle,
    "hammer": draw_hammer,
    "handbag": draw_handbag,
    "kettle": draw_kettle,
    "knife": draw_knife,
    "mug": draw_mug,
    "scissors": draw_scissors,
}
