//! Orders to vassals and their outcomes. The commands `emperor reload`, `stop` and `start` give them.

/// An order to one vassal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Run as the file says now.
    Reload,
    /// Stop, and stay stopped.
    Stop,
    /// Start, unless it is up.
    Start,
}

/// The outcome of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The order is done.
    Done,
    /// The order has failed, or was undone by another one.
    Failed,
    /// The outcome is not known yet.
    Pending,
}
