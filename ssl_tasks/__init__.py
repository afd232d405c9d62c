"""The science: plain PyTorch, usable with no orchestrator, tracker or data-version tool installed."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_tasks.checkpoints import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`ssl_tasks.load`, imported when it is first asked for, so that the package itself imports without torch."""
    if name == "load":
        from ssl_tasks.checkpoints import load

        return load
    raise AttributeError(f"module 'ssl_tasks' has no attribute '{name}'")
