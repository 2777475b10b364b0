"""Single values and the plain containers of them: ids, times, words and numbers."""
