//! The resource limits and the nice value of the app.

use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit};

use crate::config::plan::{Limit, Limited, ResourcePlan};
use crate::error::{Context, Result};
use crate::init::child::failure::{Failure, Step};

/// Sets the limits and the nice value of the calling process, which will become the app.
///
/// # Errors
/// EPERM for more than the present hard limit (setrlimit(2)); EACCES for a lower nice value without
/// `CAP_SYS_NICE` (setpriority(2)).
pub fn take_on(plan: &ResourcePlan) -> Result<(), Failure> {
    for limit in &plan.limits {
        let limit = limit.value;
        limit_to(limit).map_err(|error| Failure::of_setup(Step::Limit(limit.resource), error))?;
    }
    if let Some(nice) = &plan.nice {
        let set = setpriority_process(None, nice.value).context("set the nice value to", nice.value);
        set.map_err(|error| Failure::of_setup(Step::Nice, error))?;
    }
    Ok(())
}

/// Sets one resource limit. A value of 0 sets none, as in uWSGI.
fn limit_to(Limit { resource, value }: Limit) -> Result<()> {
    let (resource, what) = match resource {
        Limited::AddressSpace => (Resource::As, "address space"),
        Limited::Descriptors => (Resource::Nofile, "open files"),
        Limited::Processes => (Resource::Nproc, "processes"),
    };
    if value == 0 {
        return Ok(());
    }
    let both = Rlimit { current: Some(value), maximum: Some(value) };
    setrlimit(resource, both).context(&format!("limit {what} to"), value)
}
