"""How the synthetic ADE20K-Part-234 categories look: furniture, a lamp and two vehicles."""

from calico.data.synthetic.sketch import Sketch


def draw_bus(sketch: Sketch) -> None:
    """Draw a city bus in side view, front to the right: a tall box with a row of windows."""
    top = sketch.near(-0.62, 0.05)
    sketch.polygon(None, (-0.98, top), (0.9, top), (0.98, -0.1), (0.98, 0.42), (-0.98, 0.42))
    for x in (-0.84, -0.42, 0.0):
        sketch.box("window", x, top + 0.12, x + 0.34, top + 0.48)
    if sketch.shows("door"):
        sketch.box("door", 0.4, top + 0.1, 0.72, 0.4)
        sketch.line((0.56, top + 0.14), (0.56, 0.38), width=0.03)
    else:
        sketch.box("window", 0.42, top + 0.12, 0.82, top + 0.48)
    sketch.box("headlight", 0.66, 0.0, 1.0, 0.38)
    for x in (-0.54, 0.22):
        sketch.ellipse("wheel", (sketch.near(x, 0.04), 0.44), (0.2, 0.2))
        sketch.dot((x, 0.44), 0.07)


def draw_car(sketch: Sketch) -> None:
    """Draw a saloon car in side view, front to the right: a low body with a cabin."""
    roof = sketch.near(-0.58, 0.04)
    sketch.polygon(None, (-0.65, 0.02), (-0.42, roof), (0.22, roof), (0.52, 0.02))
    sketch.polygon(None, (-0.96, -0.05), (0.6, -0.05), (0.95, 0.06), (0.98, 0.42), (-0.98, 0.42))
    for left, right in ((-0.54, -0.12), (-0.04, 0.4)):
        slope_left, slope_right = (0.14, 0.0) if left < -0.3 else (0.0, 0.2)
        sketch.polygon(
            "window",
            (left + slope_left, roof + 0.09),
            (right - slope_right, roof + 0.09),
            (right, 0.02),
            (left, 0.02),
        )
    sketch.box("door", -0.25, -0.02, 0.24, 0.42)
    sketch.line((-0.14, 0.12), (0.0, 0.12), width=0.05)
    sketch.polygon("headlight", (0.58, -0.04), (0.95, 0.04), (1.0, 0.3), (0.62, 0.26))
    sketch.box("bumper", 0.74, 0.26, 1.04, 0.56)
    sketch.box("bumper", -1.04, 0.26, -0.76, 0.56)
    for x in (-0.52, 0.5):
        sketch.ellipse("wheel", (sketch.near(x, 0.03), 0.42), (0.25, 0.25))
        sketch.dot((x, 0.42), 0.09)


def draw_chair(sketch: Sketch) -> None:
    """Draw a chair in three-quarter view: a tall back, a seat, four legs, perhaps arms."""
    half = sketch.near(0.5, 0.04)
    seat = sketch.near(0.12, 0.05)
    for x in (-half + 0.16, half - 0.16):
        sketch.box("leg", x - 0.08, seat, x + 0.08, 0.72)
    sketch.box("back", -half + 0.04, -0.98, half - 0.04, seat - 0.04)
    if sketch.chance():
        for x in (-0.2, 0.0, 0.2):
            sketch.line((x, -0.84), (x, seat - 0.2), width=0.06)
    else:
        sketch.line((-half + 0.18, -0.7), (half - 0.18, -0.7), width=0.07)
        sketch.line((-half + 0.18, -0.4), (half - 0.18, -0.4), width=0.07)
    for x in (-half - 0.02, half + 0.02):
        sketch.box("leg", x - 0.1, seat + 0.2, x + 0.1, 0.98)
    sketch.polygon(
        "seat",
        (-half + 0.02, seat - 0.1),
        (half - 0.02, seat - 0.1),
        (half + 0.16, seat + 0.26),
        (-half - 0.16, seat + 0.26),
    )
    for side in (-1, 1):
        x = side * (half + 0.16)
        sketch.band("arm", (side * (half - 0.02), -0.36), (x, -0.26), (x, seat + 0.12), width=0.17)


def draw_lamp(sketch: Sketch) -> None:
    """Draw a table lamp: a wide shade on a tube, a flat base, perhaps a cord."""
    x = sketch.near(0.0, 0.04)
    sketch.band("cord", (x + 0.3, 0.86), (0.66, 0.8), (0.8, 0.45), (0.98, 0.3), width=0.19)
    sketch.box("tube", x - 0.11, -0.3, x + 0.11, 0.84)
    sketch.polygon("base", (x - 0.3, 0.64), (x + 0.3, 0.64), (x + 0.54, 0.98), (x - 0.54, 0.98))
    wide, narrow = sketch.near(0.74, 0.08), sketch.near(0.36, 0.06)
    sketch.polygon("shade", (x - narrow, -0.98), (x + narrow, -0.98), (x + wide, -0.12), (x - wide, -0.12))


def draw_sofa(sketch: Sketch) -> None:
    """Draw a sofa from the front: a wide low back, a seat base, thick arms."""
    top = sketch.near(-0.55, 0.05)
    for x in (-0.78, 0.78):
        sketch.box("leg", x - 0.2, 0.5, x + 0.18, 0.92)
    sketch.box("back", -0.82, top, 0.82, 0.15)
    sketch.line((0.0, top + 0.06), (0.0, 0.05), width=0.04)
    for x in (-0.38, 0.38):
        sketch.polygon("back pillow", (x - 0.27, -0.28), (x + 0.27, -0.28), (x + 0.3, 0.16), (x - 0.3, 0.16))
    sketch.box("seat base", -0.8, 0.1, 0.8, 0.6)
    sketch.line((-0.7, 0.32), (0.7, 0.32), width=0.04)
    for side in (-1, 1):
        x = side * 0.84
        sketch.box("arm", x - 0.16, -0.18, x + 0.16, 0.62)


def draw_stool(sketch: Sketch) -> None:
    """Draw a tall bar stool: a round seat on splayed legs."""
    top = sketch.near(-0.72, 0.05)
    foot = sketch.near(0.58, 0.05)
    sketch.band("leg", (0.0, top), (0.0, 0.7), width=0.17)
    for side in (-1, 1):
        sketch.band("leg", (side * 0.26, top), (side * foot, 0.98), width=0.2)
    sketch.ellipse("seat", (0.0, top), (sketch.near(0.52, 0.04), 0.24))


def draw_table(sketch: Sketch) -> None:
    """Draw a table in perspective: a wide top, thick legs, perhaps a drawer and a shelf."""
    top = sketch.near(-0.42, 0.06)
    for x in (-0.5, 0.5):
        sketch.box("leg", x - 0.08, top + 0.1, x + 0.08, 0.62)
    sketch.polygon("shelf", (-0.62, 0.36), (0.62, 0.36), (0.86, 0.6), (-0.86, 0.6))
    for x in (-0.84, 0.84):
        sketch.box("leg", x - 0.11, top + 0.2, x + 0.11, 0.86)
    sketch.polygon("top", (-0.68, top - 0.08), (0.68, top - 0.08), (1.0, top + 0.36), (-1.0, top + 0.36))
    sketch.box("drawer", -0.42, top + 0.36, 0.42, top + 0.68)
    if sketch.shows("drawer"):
        sketch.dot((0.0, top + 0.52), 0.05)


ADE_SHAPES = {
    "bus": draw_bus,
    "car": draw_car,
    "chair": draw_chair,
    "lamp": draw_lamp,
    "sofa": draw_sofa,
    "stool": draw_stool,
    "table": draw_table,
}
