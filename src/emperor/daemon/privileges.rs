//! The user of the emperor: the one that started it, or another one, which it becomes once everything is open
//! that only root can open.
//!
//! The capabilities that it keeps are also ambient, so that a vassal-init gets those that it needs to make a
//! jail or to become another user. A vassal-init passes none of them to an app unless the app's file asks for
//! it.

use rustix::thread::CapabilitySet;

use crate::accounts::Accounts;
use crate::config::plan::EmperorPlan;
use crate::emperor::api::server::Server;
use crate::error::{Context, Error, Result};
use crate::identity::{Confinement, Identity, held};

/// A user to become, with all IDs known.
pub struct User {
    identity: Identity,
    confinement: Confinement,
}

impl User {
    /// The user of the plan; `None` if the emperor is that user already. After an upgrade it must be: either
    /// the emperor is not root any longer, or it would leave vassals behind that run as root.
    ///
    /// # Errors
    /// A name is unknown; the plan needs capabilities that it does not keep; or the emperor is another user
    /// and cannot change that.
    pub fn of(plan: &EmperorPlan, upgraded: bool) -> Result<Option<Self>> {
        let identity = Identity::resolve(&plan.run_as, &Accounts::read())?;
        let has = held()?.permitted;
        let (kept, dropped) = match plan.capabilities.map(CapabilitySet::from_bits_retain) {
            Some(named) => (named, named.complement()),
            // Without capabilities. Set-user-id programs, such as fusermount, work as for any user.
            None if identity.is_ordinary() => (CapabilitySet::empty(), CapabilitySet::empty()),
            None => (has, CapabilitySet::empty()),
        };
        suffice(plan, kept)?;
        if identity.is_ours() && kept == has {
            return Ok(None);
        }
        if upgraded || !has.contains(identity.needs() | kept) {
            let reason = match upgraded {
                true => "an upgrade cannot change who the emperor is: it has to be started anew",
                false => "it takes capabilities that the emperor was not started with",
            };
            return Err(Error::new("become", "what 'uid', 'gid' and 'cap' say", reason));
        }
        Ok(Some(Self {
            identity,
            confinement: Confinement {
                capabilities: kept,
                dropped_of_root: CapabilitySet::empty(),
                dropped,
                no_new_privs: false,
            },
        }))
    }

    /// Becomes the user for good. Before that the files of the emperor's sockets are given to the user.
    ///
    /// # Errors
    /// The step that failed. The caller must exit.
    pub fn assume(&self, server: &Server) -> Result<()> {
        server.give_to(self.identity.uid, self.identity.gid)?;
        self.identity.assume(Some(self.confinement))
    }
}

/// Drops the supplementary groups in tyrant mode. Otherwise a vassal's owner could have the emperor read
/// files that only those groups may read.
///
/// # Errors
/// EPERM (setgroups(2)), unless there are no groups.
pub fn drop_groups(plan: &EmperorPlan) -> Result<()> {
    let has_none = || rustix::process::getgroups().is_ok_and(|groups| groups.is_empty());
    if plan.tyrant.is_none() || has_none() {
        return Ok(());
    }
    crate::sys::creds::set_groups(&[]).context("emperor-tyrant: drop", "our groups")
}

/// Checks that the kept capabilities are enough to start vassals at all.
///
/// # Errors
/// They are not enough.
fn suffice(plan: &EmperorPlan, kept: CapabilitySet) -> Result<()> {
    let Some((key, needed)) = plan.lacks(kept.bits()) else { return Ok(()) };
    let otherwise = match plan.vassals.namespaces {
        0 => "",
        _ => ", or for an ordinary user 'user' among the namespaces",
    };
    let reason = format!("it takes root, or the capabilities {needed} (cap){otherwise}");
    Err(Error::new("use", key, reason))
}
