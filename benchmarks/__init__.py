"""Benchmarks: each reports a ratio to a plain alternative measured in the same run."""

from mama.system.environment import let_idle_threads_sleep

let_idle_threads_sleep()
