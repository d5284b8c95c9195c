"""The contracts between the engine and what is registered with it: tasks, defenses, attacks, threat models, readouts.

A task never sees a model, a defense or an attack; a defense never sees an attack; an attack never sees a model, a hook
or a tokenizer. Abstract classes and plain data, which import nothing of the engine but ``sites`` and ``errors``: what
an engine object is handed to stands as ``Any`` here and with its type where it is implemented.
"""
