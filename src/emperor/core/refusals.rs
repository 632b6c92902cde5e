//! Starts that are refused because the machine, or the emperor, has no more of something for anybody. Only
//! the first one is told of: with thousands of vassals, the log would be full of the others, each again and
//! again.

use crate::error::Error;

/// The instances that cannot start for want of what all of them need.
#[derive(Debug, Default)]
pub struct Refusals {
    /// The errors that were told of, as from [`Error::shortage`].
    told: u64,
    /// How many instances have not started since.
    pub(super) count: u64,
    /// How many these were at most.
    most: u64,
}

impl Refusals {
    /// An instance could not start. Returns whether that is to be told: no other one has had the same error.
    /// `is_refused` is the instance's own.
    pub fn add(&mut self, is_refused: &mut bool, error: &Error) -> bool {
        let kind = error.shortage();
        if kind == 0 {
            self.end(is_refused);
            return true;
        }
        self.count += u64::from(!*is_refused);
        *is_refused = true;
        self.most = self.most.max(self.count);
        let told = self.told;
        self.told |= kind;
        told != self.told
    }

    /// An instance has started, has another trouble, or is not to start any more. Returns how many there were
    /// at most, if it was the last one.
    pub fn end(&mut self, is_refused: &mut bool) -> u64 {
        self.count -= u64::from(*is_refused);
        if !std::mem::take(is_refused) || self.count > 0 {
            return 0;
        }
        std::mem::take(self).most
    }
}
