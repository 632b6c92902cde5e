//! How the life of a vassal ends, and how an error of a step becomes its end.

use crate::config::plan::Located;
use crate::error::Result;
use crate::init::event_loop::wakeup::{Interrupted, Interruption, StopRequest};
use crate::protocol::{EXIT_SETUP, SetupFailure, WaitStatus};

/// How the life of a vassal ends. As an error it is one pointer ([`Ended`]), as it is passed on at each step.
pub enum End {
    /// The app ended by itself.
    App(WaitStatus),
    /// It was told to stop, or could not be started anew.
    Stopped(Option<StopRequest>),
    /// A hook ended it with this exit status.
    Hook(i32),
    /// A step failed; with the exit status for that.
    Setup(Box<SetupFailure>, i32),
    /// A checked mountpoint was lost.
    Lost(String),
    /// The configuration is invalid; the first mistake.
    Invalid(String),
}

/// An end, from the step where life cannot go on to who ends it.
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

/// Makes the error of a step the end of the vassal. Hooks have an end of their own.
pub fn step<T>(phase: &str, result: Result<T>) -> Result<T, Ended> {
    result.map_err(|error| setup_failure(phase, 0, error.to_string(), error.errno()))
}

/// The same for a step that a line of the file asks for: tells which line.
pub fn step_of<T, S>(phase: &str, source: &Located<S>, result: Result<T>) -> Result<T, Ended> {
    result.map_err(|error| {
        let what = format!("{error} ({}: {})", source.at, source.key);
        setup_failure(phase, 0, what, error.errno())
    })
}

/// The end because a step of the setup has failed.
pub fn setup_failure(phase: &str, index: u32, what: String, errno: i32) -> Ended {
    let failure = SetupFailure { phase: phase.to_owned(), index, what, errno };
    End::Setup(Box::new(failure), EXIT_SETUP).into()
}
