"""The rules of [J], which know lengths or reserve memory for what they do not know: a file for each."""
