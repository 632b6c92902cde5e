//! Orders that commands give, and their outcomes.

/// An order to one vassal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// To run as its file says now.
    Reload,
    /// To stop, and to stay stopped.
    Stop,
    /// To start if it is not up.
    Start,
}

/// The outcome of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The order is done.
    Done,
    /// The order has failed, or was undone by another one.
    Failed,
    /// It is not known yet.
    Pending,
}
