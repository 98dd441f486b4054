//! Whole nodes, where a test needs a hand inside one of them. What needs none is in the `tests` package.

mod slow_disk;
