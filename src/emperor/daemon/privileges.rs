//! The user of the emperor: the one that it was started as, or one that it becomes once everything is open
//! that only root can open.
//!
//! The capabilities that it keeps are also ambient: from here a vassal-init has those that it needs for a
//! jail, or to become another user. It hands none of them on to an app that does not ask for it.

use rustix::thread::CapabilitySet;

use crate::accounts::Accounts;
use crate::config::plan::EmperorPlan;
use crate::emperor::api::server::Server;
use crate::error::{Context, Error, Result};
use crate::identity::{Confinement, Identity, held};

/// A user to become: everything about it is known.
pub struct User {
    identity: Identity,
    confinement: Confinement,
}

impl User {
    /// The user of the plan; `None` if the emperor is that user already. A program that was started by an
    /// upgrade has to be: either it is not root any more, or it would leave vassals behind that are.
    ///
    /// # Errors
    /// An unknown name; the plan cannot do without capabilities that it does not keep; the emperor is another
    /// user, and cannot change that.
    pub fn of(plan: &EmperorPlan, upgraded: bool) -> Result<Option<Self>> {
        let identity = Identity::resolve(&plan.run_as, &Accounts::read())?;
        let has = held()?.permitted;
        let (kept, dropped) = match plan.capabilities.map(CapabilitySet::from_bits_retain) {
            Some(named) => (named, named.complement()),
            // Set-user-id programs, such as fusermount, work as they do for any user.
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
            confinement: Confinement { capabilities: kept, bind_root: false, dropped, no_new_privs: false },
        }))
    }

    /// Becomes the user for good. The files of the emperor's sockets are given to that user first.
    ///
    /// # Errors
    /// The step that failed. The caller must exit.
    pub fn assume(&self, server: &Server) -> Result<()> {
        server.give_to(self.identity.uid, self.identity.gid)?;
        self.identity.assume(Some(self.confinement))
    }
}

/// Drops the supplementary groups in tyrant mode: what they may read, a vassal's owner may not have the
/// emperor read.
///
/// # Errors
/// EPERM (setgroups(2)); not if there are none.
pub fn drop_groups(plan: &EmperorPlan) -> Result<()> {
    let has_none = || rustix::process::getgroups().is_ok_and(|groups| groups.is_empty());
    if plan.tyrant.is_none() || has_none() {
        return Ok(());
    }
    crate::sys::creds::set_groups(&[]).context("emperor-tyrant: drop", "our groups")
}

/// Whether the capabilities that are kept suffice to start vassals at all.
///
/// # Errors
/// They do not.
fn suffice(plan: &EmperorPlan, kept: CapabilitySet) -> Result<()> {
    let Some((key, needed)) = plan.lacks(kept.bits()) else { return Ok(()) };
    let reason = format!("it takes the capabilities {needed}; 'cap' is for an emperor that is not root");
    Err(Error::new("use", key, reason))
}
