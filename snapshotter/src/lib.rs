//! Policy: the containerd snapshotter, its store, and the `slipwayd` command.
