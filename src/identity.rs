//! The user and groups of a process, and the privilege drop of apps and of the emperor.
//!
//! Every failure here is fatal to the process in which it happens: privileges that were dropped by half are
//! worse than none dropped.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::accounts::{Accounts, User};
use crate::config::plan::{Id, RunAs, Seccomp, VassalPlan};
use crate::error::{Context, Error, Result};
use crate::protocol::FileOwner;
use crate::sys::creds;
use crate::user_namespace::explain_id;

/// User, group and supplementary groups, as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User ID; `None` for no change.
    pub uid: Option<u32>,
    /// Group ID; `None` for no change.
    pub gid: Option<u32>,
    /// Supplementary groups; `None` for no change.
    pub groups: Option<Vec<u32>>,
}

/// The limits of the app and of every program that it executes, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    /// The capabilities that stay across the change of user.
    pub capabilities: CapabilitySet,
    /// The capabilities that are removed from root.
    pub dropped_of_root: CapabilitySet,
    /// The capabilities that are removed, whoever the user is.
    pub dropped: CapabilitySet,
    /// Whether executing a file can no longer add privileges.
    pub no_new_privs: bool,
}

impl Confinement {
    /// The limits that the plan sets for the app. Hooks are confined only if the plan asks for it, because
    /// they may need fusermount, which is set-user-id.
    pub fn of(plan: &VassalPlan) -> Self {
        let capabilities = CapabilitySet::from_bits_retain(plan.privileges.kept());
        let dropped = CapabilitySet::from_bits_retain(plan.privileges.dropped());
        let mut dropped_of_root = CapabilitySet::empty();
        if !plan.privileges.capabilities.is_empty() {
            dropped_of_root = capabilities.complement();
        } else if plan.privileges.seccomp.as_ref().is_some_and(|filter| filter.value != Seccomp::None) {
            // The filter does not hold where PID 1, which has none, can be made to do what it refuses. An app
            // with fewer capabilities than PID 1 may not write to its memory.
            dropped_of_root = CapabilitySet::SYS_PTRACE;
        }
        Self { capabilities, dropped_of_root, dropped, no_new_privs: plan.privileges.no_new_privs }
    }

    /// Whether these limits remove nothing from a process that keeps its user and groups.
    pub fn is_none(&self) -> bool {
        self.dropped.is_empty() && self.dropped_of_root.is_empty() && !self.no_new_privs
    }
}

/// A part of the privilege drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The removal of capabilities from the bounding set and from all other sets, whoever the user is.
    Dropped,
    /// The supplementary groups.
    Groups,
    /// The group.
    Group,
    /// The user, and the bounding set for that user.
    User,
    /// The capabilities that stay across the change of user.
    Kept,
    /// `no_new_privs`.
    NoNewPrivs,
}

/// A privilege drop that failed.
#[derive(Debug)]
pub struct DropError {
    /// The part that failed.
    pub part: Part,
    /// The reason.
    pub error: Error,
}

impl Identity {
    /// Looks up the user and the groups.
    ///
    /// Without `gid` the user's primary group is used; uWSGI would stay in root's group. The supplementary
    /// groups are those of the user (unless `no-initgroups`), the primary group and `add-gid`.
    ///
    /// # Errors
    /// A name does not exist, or a database cannot be read.
    pub fn resolve(run_as: &RunAs, accounts: &Accounts) -> Result<Self> {
        let RunAs { uid, gid, add_gids, no_initgroups } = run_as;
        if uid.is_none() && gid.is_none() && add_gids.is_empty() {
            return Ok(Self { uid: None, gid: None, groups: None });
        }
        let user = uid.as_ref().map(|uid| accounts.user_of(uid)).transpose()?;
        let gid = match gid {
            Some(gid) => Some(accounts.group_of(gid)?),
            None => user.as_ref().and_then(|user| user.gid),
        };
        if let (Some(User { uid, .. }), None, Some(located)) = (&user, gid, uid)
            && *uid != 0
        {
            let reason = "is in no database, so it has no primary group: 'gid' is missing";
            return Err(Error::new(&format!("{}: {}", located.at, located.key), uid, reason));
        }
        let mut groups: Vec<u32> = gid.into_iter().collect();
        if !no_initgroups && let Some(name) = user.as_ref().and_then(|user| user.name.as_deref()) {
            groups.extend(accounts.memberships(name));
        }
        for add in add_gids {
            groups.push(accounts.group_of(add)?);
        }
        Ok(Self { uid: user.map(|user| user.uid), gid, groups: Some(groups) })
    }

    /// The owner of a vassal's file, in tyrant mode, with the groups of the group database if those count.
    ///
    /// # Errors
    /// The database names no such user.
    pub fn of_owner(owner: FileOwner, accounts: impl FnOnce() -> Accounts) -> Result<Self> {
        let FileOwner { uid, gid, initgroups } = owner;
        let mut groups = vec![gid];
        if initgroups {
            let accounts = accounts();
            if let Some(name) = accounts.user(&Id::Number(uid))?.name {
                groups.extend(accounts.memberships(&name));
            }
        }
        Ok(Self { uid: Some(uid), gid: Some(gid), groups: Some(groups) })
    }

    /// Refuses any other user and group.
    ///
    /// # Errors
    /// It is another one.
    pub fn must_be(&self, uid: u32, gid: u32) -> Result<()> {
        if self.uid.is_none_or(|own| own == uid) && self.gid.is_none_or(|own| own == gid) {
            return Ok(());
        }
        let reason = format!("emperor-tyrant runs this vassal as its file's owner: user {uid}, group {gid}");
        Err(Error::new("become", "another user or group", reason))
    }

    /// Whether this identity leaves the user and groups of a process as they are.
    pub fn is_unchanged(&self) -> bool {
        self.uid.is_none() && self.gid.is_none() && self.groups.is_none()
    }

    /// Whether the user is not root, and so has only capabilities that it is given.
    pub fn is_ordinary(&self) -> bool {
        self.uid.is_some_and(|uid| uid != 0)
    }

    /// Whether the user is root, or this process is root and stays so.
    fn is_root(&self) -> bool {
        self.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw()) == 0
    }

    /// Becomes this identity for good.
    ///
    /// The order is forced. The bounding set and the groups need capabilities that the change of user
    /// removes; kept capabilities can be raised only after it; and no_new_privs is last because nothing may
    /// follow it. The result is verified, including that the process cannot become root again.
    ///
    /// # Errors
    /// The step that failed. The caller must exit.
    pub fn assume(&self, confinement: Option<Confinement>) -> Result<()> {
        self.assume_by_parts(confinement).map_err(|failed| failed.error)
    }

    /// As [`Identity::assume`], for a caller that must know which part has failed.
    ///
    /// # Errors
    /// As [`Identity::assume`], with the part.
    pub fn assume_by_parts(&self, confinement: Option<Confinement>) -> Result<(), DropError> {
        let failed = |part| move |error| DropError { part, error };
        let mut kept = confinement.map_or(CapabilitySet::empty(), |limits| limits.capabilities);
        let no_new_privs = confinement.is_some_and(|limits| limits.no_new_privs);
        let mut dropped = confinement.map_or(CapabilitySet::empty(), |limits| limits.dropped);
        if let Some(limits) = confinement.filter(|_| self.is_root()) {
            dropped |= limits.dropped_of_root;
        }
        if !dropped.is_empty() {
            // An owner in tyrant mode may not do this, and need not with no_new_privs: no program that is
            // executed then gets a capability that this process lacks.
            let stays = self.is_ordinary() && self.is_ours();
            let is_moot = |errno| errno == Errno::PERM && stays && no_new_privs;
            match drop_bounding_set(dropped.complement()) {
                Err(errno) if is_moot(errno) => {}
                set => set.context("privilege drop:", "bounding set").map_err(failed(Part::Dropped))?,
            }
        }
        let (stays, has) = (self.is_ours(), held().map_err(failed(Part::User))?);
        if stays {
            kept &= has.permitted;
        } else if self.is_ordinary() && no_new_privs {
            // Without no_new_privs, set-user-id programs must work, and they need the bounding set.
            let set = drop_bounding_set(kept).context("privilege drop:", "bounding set");
            set.map_err(failed(Part::User))?;
        }
        // A process that keeps its user and may not change its groups keeps the groups as well.
        let may_change_groups = !stays || has.effective.contains(CapabilitySet::SETGID);
        if let Some(groups) = self.groups.as_ref().filter(|_| may_change_groups) {
            let own = rustix::process::getegid().as_raw();
            let asks_for_none = groups.iter().all(|group| *group == own);
            match creds::set_groups(groups) {
                Err(Errno::PERM) if self.has_groups(groups) => {}
                // A user namespace that keeps the groups of its starter. They are those of the very user, as
                // long as it stays that user, and nobody asks for others.
                Err(Errno::PERM)
                    if stays && has.effective.contains(CapabilitySet::SETGID) && asks_for_none => {}
                result => {
                    let set = result.map_err(|errno| explain_id(errno, groups, "gid_map"));
                    set.context("privilege drop:", "setgroups").map_err(failed(Part::Groups))?;
                }
            }
        }
        if let (false, Some(gid)) = (stays, self.gid) {
            let set = creds::set_gid(gid).map_err(|errno| explain_id(errno, &[gid], "gid_map"));
            let set = set.context("privilege drop: setresgid", gid);
            set.map_err(failed(Part::Group))?;
        }
        if let (false, Some(uid)) = (stays, self.uid) {
            if !kept.is_empty() {
                let set = rustix::thread::set_keep_capabilities(true);
                set.context("privilege drop: keep", "capabilities").map_err(failed(Part::Kept))?;
            }
            let set = creds::set_uid(uid).map_err(|errno| explain_id(errno, &[uid], "uid_map"));
            let set = set.context("privilege drop: setresuid", uid);
            set.map_err(failed(Part::User))?;
        }
        if self.is_ordinary() {
            let set = set_capabilities(kept).context("privilege drop: set", "capabilities");
            set.map_err(failed(Part::Kept))?;
        }
        self.verify(kept).map_err(failed(Part::User))?;
        if !dropped.is_empty() {
            drop_from_all_sets(dropped).map_err(failed(Part::Dropped))?;
        }
        if no_new_privs {
            let set = rustix::thread::set_no_new_privs(true).context("privilege drop: set", "no_new_privs");
            set.map_err(failed(Part::NoNewPrivs))?;
        }
        Ok(())
    }

    /// Whether this process has this user and group already.
    pub fn is_ours(&self) -> bool {
        let (uids, gids) = creds::ids();
        let is = |ids: [u32; 3], wanted: Option<u32>| wanted.is_none_or(|id| ids == [id; 3]);
        is(uids, self.uid) && is(gids, self.gid)
    }

    /// The capabilities that this process needs to become this identity. A part that is right already needs
    /// none.
    pub fn needs(&self) -> CapabilitySet {
        let (uids, gids) = creds::ids();
        let has_groups = self.groups.as_ref().is_none_or(|groups| self.has_groups(groups));
        let mut needed = CapabilitySet::empty();
        if self.uid.is_some_and(|uid| uids != [uid; 3]) {
            needed |= CapabilitySet::SETUID;
        }
        if !has_groups || self.gid.is_some_and(|gid| gids != [gid; 3]) {
            needed |= CapabilitySet::SETGID;
        }
        needed
    }

    /// Whether these are the supplementary groups of this process. The primary group does not count, since it
    /// is a member of either list in any case.
    fn has_groups(&self, groups: &[u32]) -> bool {
        let Ok(own) = rustix::process::getgroups() else { return false };
        let own: Vec<_> = own.into_iter().map(rustix::process::Gid::as_raw).collect();
        let gid = self.gid.unwrap_or_else(|| rustix::process::getegid().as_raw());
        let is_covered = |some: &[u32], by: &[u32]| some.iter().all(|id| *id == gid || by.contains(id));
        is_covered(groups, &own) && is_covered(&own, groups)
    }

    fn verify(&self, kept: CapabilitySet) -> Result<()> {
        let failed = |what: &str| Err(Error::new("privilege drop:", what, "not as asked for"));
        if !self.is_ours() {
            return failed("ids");
        }
        if self.is_ordinary() {
            let has = held()?;
            if has.permitted != kept || has.effective != kept {
                return failed("capabilities");
            }
            if !kept.contains(CapabilitySet::SETUID) && creds::set_uid(0).is_ok() {
                return failed("giving up root");
            }
        }
        Ok(())
    }
}

/// The capabilities that this process has.
///
/// # Errors
/// As capget(2).
pub fn held() -> Result<CapabilitySets> {
    rustix::thread::capabilities(None).context("read", "our capabilities")
}

/// Removes capabilities from the permitted, effective and inheritable sets. The kernel removes them from the
/// ambient set.
fn drop_from_all_sets(dropped: CapabilitySet) -> Result<()> {
    let has = held()?;
    let left = |set: CapabilitySet| set.difference(dropped);
    let sets = CapabilitySets {
        effective: left(has.effective),
        permitted: left(has.permitted),
        inheritable: left(has.inheritable),
    };
    rustix::thread::set_capabilities(None, sets).context("privilege drop: drop", "capabilities")
}

/// Removes all capabilities but `kept` from the bounding set, so that no executed program can have them.
fn drop_bounding_set(kept: CapabilitySet) -> rustix::io::Result<()> {
    for capability in (0..64).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
        if kept.contains(capability) {
            continue;
        }
        let mut result = rustix::thread::remove_capability_from_bounding_set(capability);
        if result == Err(Errno::PERM) {
            // CAP_SETPCAP is missing. That is no failure if the capability is not in the set.
            result = match rustix::thread::capability_is_in_bounding_set(capability) {
                Ok(false) => Ok(()),
                Ok(true) => Err(Errno::PERM),
                Err(errno) => Err(errno),
            };
        }
        match result {
            // The kernel does not know this number, so there are no higher ones.
            Err(Errno::INVAL) => break,
            result => result?,
        }
    }
    Ok(())
}

/// Sets the permitted, effective, inheritable and ambient capabilities to `kept`, which then survive an exec.
fn set_capabilities(kept: CapabilitySet) -> rustix::io::Result<()> {
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
    rustix::thread::set_capabilities(None, sets)?;
    match rustix::thread::clear_ambient_capability_set() {
        // Before Linux 4.3, and in gVisor, there is no ambient set.
        Err(Errno::INVAL) => {}
        result => result?,
    }
    for capability in (0..64).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
        if kept.contains(capability) {
            rustix::thread::configure_capability_in_ambient_set(capability, true)?;
        }
    }
    Ok(())
}
