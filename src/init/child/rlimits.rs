//! Resource limits of the app alone.

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::config::plan::{Limit, Limited, Located};
use crate::error::{Context, Result};

/// Limits the calling process, which is to become the app. A limit of 0 is none, as for uWSGI.
///
/// # Errors
/// EPERM for more than our own hard limit (setrlimit(2)).
pub fn limit_app(limits: &[Located<Limit>]) -> Result<()> {
    for Located { value: Limit { resource, value }, key, at } in limits {
        let resource = match resource {
            Limited::AddressSpace => Resource::As,
            Limited::Descriptors => Resource::Nofile,
            Limited::Processes => Resource::Nproc,
        };
        if *value == 0 {
            continue;
        }
        let limit = Rlimit { current: Some(*value), maximum: Some(*value) };
        setrlimit(resource, limit).context(&format!("{at}: {key}: limit to"), value)?;
    }
    Ok(())
}
