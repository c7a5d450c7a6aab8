"""Refuses names of earlier versions that a plug-in asks for, and says what replaces them."""

PAGE = "docs/extending.md, 'Plug-ins of earlier versions'"
# By the name of each module that had a contract of its own.
MOVED = {
    "net.multi_task": "net.method.Method",
    "net.contrast": "net.method.Method",
    "net.utils.backbone": "net.encoder.Encoder",
    "net.utils.presence": "net.utils.clip.Clip",
}
# Of the one module that is still there.
GONE = {"net.contrast": ("Learnt", "SelfSupervised", "encoder_of")}


def refuse(module: str, name: str) -> None:
    """Raise ImportError that says what stands in the place of a name, and AttributeError for what never was one."""
    if name.startswith("_") or name not in GONE.get(module, (name,)):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    raise ImportError(f"{module}.{name} is no more: use {MOVED[module]}; {PAGE} shows the change")
