"""The special tokens and ids that data, models and predictors share.

Source: [GLaMM] tools/utils.py and the paper, section 3.2. `<image>` is never a vocabulary item: an image's
place holds `IMAGE_TOKEN_ID` once per visual token, so ids and embeddings have one length and no offsets.
"""

IMAGE_TOKEN_ID = -200
IGNORE_LABEL_ID = -100

IMAGE_START = "<im_start>"
IMAGE_END = "<im_end>"
SEG = "[SEG]"
PHRASE_START = "<p>"
PHRASE_END = "</p>"
SPECIAL_TOKENS = (IMAGE_START, IMAGE_END, SEG, PHRASE_START, PHRASE_END)

TASKS = ("common_objects", "common_parts", "unique_parts")


def image_identifier(image_index: int) -> str:
    """Return the text that names an image, e.g. "(IMAGE1)" for index 0 (paper, section 3.2)."""
    return f"(IMAGE{image_index + 1})"
