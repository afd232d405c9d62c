"""Objectives as pure functions of tensors: no state, no communication between ranks, float32 or better inside."""
