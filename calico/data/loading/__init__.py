"""From pair samples to batches: image views, token ids, target masks."""
