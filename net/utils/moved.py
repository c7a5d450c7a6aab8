"""Errors for plug-ins that import names of earlier versions: they say what replaces each name."""

PAGE = "docs/extending.md, 'Plug-ins of earlier versions'"
# Module with names of earlier versions -> what replaces these names.
MOVED = {
    "net.multi_task": "net.method.Method",
    "net.contrast": "net.method.Method",
    "net.utils.backbone": "net.encoder.Encoder",
    "net.utils.presence": "net.utils.clip.Clip",
}
# A module that still exists -> the names that it had. The other modules had nothing else.
GONE = {"net.contrast": ("Learnt", "SelfSupervised", "encoder_of")}


def refuse(module: str, name: str) -> None:
    """Raise ImportError for a name of an earlier version, with its replacement; AttributeError for any other name."""
    if name.startswith("_") or name not in GONE.get(module, (name,)):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    raise ImportError(f"{module}.{name} was removed: use {MOVED[module]}; {PAGE} shows the change")
