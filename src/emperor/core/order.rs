//! What somebody asks for by command.

/// What somebody asks for by command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Run it as its file says now.
    Reload,
    /// Stop it, and leave it stopped.
    Stop,
    /// Start it if it is not up.
    Start,
}

/// What has become of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It failed, or was undone by another one.
    Failed,
    /// It is not known yet.
    Pending,
}
