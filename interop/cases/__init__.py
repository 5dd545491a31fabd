"""What has to hold, by topic: each function with `@case` is a case, its docstring the promise."""
