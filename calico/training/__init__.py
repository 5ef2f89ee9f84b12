"""Training: optimizer, the DeepSpeed engine, the loop, and the two stages align and finetune."""
