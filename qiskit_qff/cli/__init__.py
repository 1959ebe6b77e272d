"""The command line ``qff``: one small file a verb.

Conventions: results go to stdout, notes and progress to stderr. With ``--json`` the last line on stdout is
one JSON object and everything else goes to stderr. Exit codes: 0 done, 1 a run that
failed, 2 wrong input or usage (one clear line on stderr, no traceback), 130 interrupted. To keep
``qff --help`` quick a verb imports what it needs inside its function.
"""
