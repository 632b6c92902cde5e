//! How the life of a vassal ends, and how an error of a step becomes its end.

use crate::config::plan::Located;
use crate::error::Result;
use crate::init::event_loop::wakeup::{Interrupted, Interruption, StopRequest};
use crate::protocol::{EXIT_SETUP, SetupFailure, WaitStatus};

/// How the life of a vassal ends. As an error an end is boxed ([`Ended`]), so that the results of the steps
/// stay small.
pub enum End {
    /// The app ended by itself.
    App(WaitStatus),
    /// The vassal was told to stop, or the app could not be started anew.
    Stopped(Option<StopRequest>),
    /// A hook ended the vassal with this exit status.
    Hook(i32),
    /// A step failed. The number is the exit status.
    Setup(Box<SetupFailure>, i32),
    /// A checked mountpoint was lost. The text says which and why.
    Lost(String),
    /// The app was ready and no longer passes its check. The text says why.
    NotReady(String),
    /// The configuration is invalid. The text is the first mistake.
    Invalid(String),
}

/// An end on its way from the step that could not go on to the shutdown.
pub type Ended = Box<End>;

impl From<Interrupted> for Ended {
    fn from(interruption: Interrupted) -> Self {
        Self::new(match *interruption {
            Interruption::Stop(request) => End::Stopped(Some(request)),
            Interruption::Lost(lost) => End::Lost(lost.what),
            Interruption::AppEnded(status) => End::App(status),
        })
    }
}

/// Turns the error of a step into an end of the vassal. (For hooks see [`hooks`](crate::init::steps::hooks).)
///
/// # Errors
/// The end, if `result` is an error.
pub fn step<T>(phase: &str, result: Result<T>) -> Result<T, Ended> {
    result.map_err(|error| setup_failure(phase, 0, error.to_string(), error.errno()))
}

/// Turns the error of a step that a line of the file asks for into an end of the vassal, which names the
/// line.
///
/// # Errors
/// The end, if `result` is an error.
pub fn step_of<T, S>(phase: &str, source: &Located<S>, result: Result<T>) -> Result<T, Ended> {
    result.map_err(|error| {
        let what = format!("{error} ({}: {})", source.at, source.key);
        setup_failure(phase, 0, what, error.errno())
    })
}

/// The end of a vassal in whose setup a step has failed.
pub fn setup_failure(phase: &str, index: u32, what: String, errno: i32) -> Ended {
    let failure = SetupFailure { phase: phase.to_owned(), index, what, errno };
    End::Setup(Box::new(failure), EXIT_SETUP).into()
}
