"""Draw categories in proportion to their images, and images of a category from a shuffled deck.

So the pairs keep the distribution of the source over categories (appendix A.1), and every image of a category
is used before one is used again.
"""

import numpy as np

# The paper does not say how many pairs are of one category; a quarter leaves most to different ones.
_SAME_CATEGORY_SHARE = 0.25


class PairSampler:
    """Draws pairs of categories, then pairs of images, of one source, split and task."""

    def __init__(
        self, images_of: list[np.ndarray], may_compare: np.ndarray | None, rng: np.random.Generator
    ) -> None:
        """Prepare the decks.

        Args:
            images_of: rows of the images of each category; not empty.
            may_compare: whether images of two categories may form a pair, bool, shape (categories,
                categories); None pairs each category with itself only.
        """
        self._rng = rng
        self._decks = [_Deck(images, rng) for images in images_of]
        self._weights = np.array([len(images) for images in images_of], dtype=np.int64)
        self._partners = [
            np.empty(0, dtype=np.int64)
            if may_compare is None
            else np.flatnonzero(may_compare[category] & (np.arange(len(images_of)) != category))
            for category in range(len(images_of))
        ]
        self._is_alone = np.array([len(partners) == 0 for partners in self._partners])
        alone, total = self._weights[self._is_alone].sum(), self._weights.sum()
        # Categories without a partner are always paired with themselves; the others make up the rest.
        rest = max(0.0, _SAME_CATEGORY_SHARE * total - alone)
        self._same_share = rest / (total - alone) if total > alone else 1.0

    def draw_categories(self, count: int) -> np.ndarray:
        """Return categories of `count` pairs, shape (count, 2); equal in about `_SAME_CATEGORY_SHARE`."""
        first = self._weighted(np.arange(len(self._decks)), count)
        second = first.copy()
        is_mixed = ~self._is_alone[first] & (self._rng.random(count) >= self._same_share)
        for category in np.unique(first[is_mixed]):
            rows = np.flatnonzero(is_mixed & (first == category))
            second[rows] = self._weighted(self._partners[category], len(rows))
        return np.stack([first, second], axis=1)

    def draw_images(self, categories: np.ndarray) -> np.ndarray:
        """Return one image row for each category drawn, in the shape of `categories`."""
        flat = categories.ravel()
        images = np.empty(len(flat), dtype=np.int32)
        # 16 bits are sorted by radix, in a tenth of the time.
        is_small = len(self._decks) < 1 << 15
        order = np.argsort(flat.astype(np.int16) if is_small else flat, kind="stable")
        for category, places in zip(*_runs(flat[order], order), strict=True):
            images[places] = self._decks[category].draw(len(places))
        return images.reshape(categories.shape)

    def _weighted(self, categories: np.ndarray, count: int) -> np.ndarray:
        ends = np.cumsum(self._weights[categories])
        return categories[np.searchsorted(ends, self._rng.integers(ends[-1], size=count), side="right")]


class _Deck:
    """Image rows in random order; shuffled again when all were drawn."""

    def __init__(self, images: np.ndarray, rng: np.random.Generator) -> None:
        self._images = images
        self._rng = rng
        self._left = images[:0]

    def draw(self, count: int) -> np.ndarray:
        num_decks = -(-max(0, count - len(self._left)) // len(self._images))
        cards = np.concatenate([self._left, *(self._rng.permutation(self._images) for _ in range(num_decks))])
        self._left = cards[count:]
        return cards[:count]


def _runs(values: np.ndarray, attached: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the distinct values of a sorted array, and what is attached to each."""
    distinct, starts = np.unique(values, return_index=True)
    return distinct, np.split(attached, starts[1:])
