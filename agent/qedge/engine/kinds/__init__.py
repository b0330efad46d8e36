"""Kinds of tasks, one module each: what a task will cost, and how it is done. All of it runs in circuit workers."""
