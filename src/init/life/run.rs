//! A life from beginning to end.

use crate::init::life::serve::serve;
use crate::init::life::setup::set_up;
use crate::init::life::shutdown::finish;
use crate::init::vassal::{Setup, Vassal};

/// Runs a vassal to its end and returns the exit status. All signals are blocked already.
pub fn run(setup: Setup) -> i32 {
    let mut vassal = match Vassal::new(setup) {
        Ok(vassal) => vassal,
        Err(status) => return status,
    };
    // From here on nothing returns early: whatever happens becomes an End.
    let end = match set_up(&mut vassal) {
        Ok(()) => serve(&mut vassal),
        Err(end) => end,
    };
    let status = finish(&mut vassal, end);
    // The process ends now, and the kernel takes everything back at once.
    std::mem::forget(vassal);
    status
}
