//! The life of a vassal from beginning to end.

use crate::init::life::serve::serve;
use crate::init::life::setup::{run_app, set_up};
use crate::init::life::shutdown::finish;
use crate::init::vassal::{Setup, Vassal, adopt_orphans, start_failed};

/// Runs a vassal to its end and returns the exit status. All signals are blocked already.
pub fn run(setup: Setup) -> i32 {
    if let Err(error) = adopt_orphans(setup.entry.as_deref()) {
        return start_failed(setup.link.as_ref(), "subreaper", &error);
    }
    let mut vassal = Vassal::new(setup);
    // From here on no error returns early: each becomes an End.
    let end = match set_up(&mut vassal).and_then(|()| run_app(&mut vassal)) {
        Ok(()) => serve(&mut vassal),
        Err(end) => *end,
    };
    let status = finish(&mut vassal, end);
    // The process ends now, and the kernel frees everything at once.
    std::mem::forget(vassal);
    status
}
