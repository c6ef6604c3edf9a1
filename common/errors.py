"""The one exception that a user's mistake raises."""


class UserError(Exception):
    """A mistake in the user's input: one line that says what, where and how to mend it.

    Command-line entries print the message alone and exit with status 2; everything else is a
    defect of this project and keeps its traceback.
    """


def first_line(error: BaseException) -> str:
    """Returns the first line of another library's message, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def mistake_behind(error: BaseException | None) -> UserError | None:
    """Returns the user's mistake behind an error: libraries wrap what is raised within."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error
