//! Resource limits of the app alone.

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::config::plan::{Limit, Limited};
use crate::error::{Context, Result};

/// Limits the calling process, which is to become the app. A value of 0 sets no limit, as in uWSGI.
///
/// # Errors
/// EPERM for more than the hard limit that the process has.
pub fn set(limit: &Limit) -> Result<()> {
    let (resource, what) = match limit.resource {
        Limited::AddressSpace => (Resource::As, "address space"),
        Limited::Descriptors => (Resource::Nofile, "open files"),
        Limited::Processes => (Resource::Nproc, "processes"),
    };
    if limit.value == 0 {
        return Ok(());
    }
    let both = Rlimit { current: Some(limit.value), maximum: Some(limit.value) };
    setrlimit(resource, both).context(&format!("limit {what} to"), limit.value)
}
