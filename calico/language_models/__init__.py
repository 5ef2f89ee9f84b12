"""Language model backbones behind one protocol, and the tokenizer."""
