"""The one exception that a user's mistake raises."""


class UserError(Exception):
    """A mistake in the user's input: one line that says what, where and how to mend it.

    Command-line entries print the message alone and exit with status 2; everything else is a
    defect of this project and keeps its traceback.
    """
