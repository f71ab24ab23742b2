"""The commands, a file for each: `hvcemu linux-discovery` is linux_discovery.py.

A command's file has ORDER (its place in `hvcemu --help`), SUMMARY, EXAMPLES (lines, and below
them what else its help ends with), `add_arguments(parser)`, and `run(options)`, which returns the
exit status. There is no list of them: a file in this folder is a command.

Help and completion load all of them. So a file loads little, and what it takes to run is imported
by the functions that run: Unicorn and rich take longer to load than a tiny guest takes to run.
"""
