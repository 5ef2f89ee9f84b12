"""Turn the files of a finished run into one page, one Markdown and pictures."""
