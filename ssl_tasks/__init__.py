"""The science: plain PyTorch, usable with no orchestrator, tracker or data-version tool installed."""
