"""Benchmarks: each reports a ratio to a plain alternative measured in the same run."""

from mama.system.processes import let_idle_threads_sleep

let_idle_threads_sleep()
