"""From instances to pair samples: comparable categories, image pairs, and the words of a conversation."""
