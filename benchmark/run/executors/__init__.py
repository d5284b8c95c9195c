"""Where the jobs of a run are done: in this process, in several of this machine, or on a Ray cluster.

All of them do the same work on the same plan and leave the same files, so that a run that was begun by one goes on by
another. A job is a defense on a task with all its cells: a defense is fitted once, where it is attacked.
"""
