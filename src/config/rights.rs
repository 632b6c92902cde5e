//! The capabilities that PID 1 needs to start an app, in one place.
//!
//! PID 1 gives up all others before the first start, and a reload starts the next app with the rest. So a
//! plan that needs more capabilities needs a fresh jail.

use super::plan::{Action, Hook, MountpointLost, Phase, Privileges, ResourcePlan, VassalPlan};

/// Bits of capabilities(7): to become another user and group, and to remove capabilities from the bounding
/// set.
const BECOME_USER: u64 = 1 << 6 | 1 << 7 | 1 << 8;
/// To mount, and to reach a mountpoint through directories of the user.
const MOUNT: u64 = 1 << 21 | 1 << 2;
/// To set a nice value that may be below that of PID 1.
const SYS_NICE: u64 = 1 << 23;

impl VassalPlan {
    /// The capabilities that PID 1 needs to start the app as an ordinary user, as bits (capabilities(7)).
    pub fn start_rights(&self) -> u64 {
        // Each part of the plan is named, so that a new part does not compile until it is decided here
        // whether the start of the app needs a capability for it.
        let Self {
            privileges,
            resources,
            // Of the hooks only mounts need a capability: see below.
            hooks: _,
            mountpoints: _,
            // These are done before the capabilities are given up, or need none.
            hook_timeout: _,
            jail: _,
            run_as: _,
            clean_env: _,
            environment: _,
            chdir: _,
            umask: _,
            app: _,
            app_source: _,
            stop: _,
            reload: _,
            listen: _,
            keep_sockets: _,
            output: _,
            // Its check becomes the app's user.
            readiness: _,
            // This is the emperor's.
            replication: _,
        } = self;
        // Limits need no capability, as they are not above the hard limit of PID 1.
        let ResourcePlan {
            cgroups: _,
            cgroup_options: _,
            cgroup_optional: _,
            limits: _,
            nice,
            oom_score_adj: _,
        } = resources;
        let for_nice = if nice.is_some() { SYS_NICE } else { 0 };
        let for_mounts = if self.mounts_for_user() { MOUNT } else { 0 };
        BECOME_USER | privileges.kept() | for_nice | for_mounts
    }
}

impl VassalPlan {
    /// Whether PID 1 mounts something in a phase of the user. All other actions of these phases run as the
    /// user.
    pub fn mounts_for_user(&self) -> bool {
        let mounts = |hook: &Hook| hook.phase > Phase::AsRoot && hook.action.mounts_for_user();
        let lost = match &self.mountpoints.lost {
            MountpointLost::Hook(hook) => Some(&**hook),
            MountpointLost::Destroy | MountpointLost::Remount => None,
        };
        self.hooks.iter().chain(lost).any(mounts)
    }
}

impl Action {
    /// Whether PID 1 itself mounts something for it. Each action is named, so that a new one does not compile
    /// until that is decided.
    fn mounts_for_user(&self) -> bool {
        match self {
            Self::Fuse(_) => true,
            Self::Exec(_)
            | Self::Chdir(_)
            | Self::Print(_)
            | Self::Mount(_)
            | Self::Umount(_)
            | Self::Mkdir(_)
            | Self::Rmdir(_)
            | Self::Unlink(_)
            | Self::Create(_)
            | Self::Write { .. }
            | Self::WriteFifo { .. }
            | Self::Chmod { .. }
            | Self::Chown { .. }
            | Self::Sticky(_)
            | Self::Putenv(..)
            | Self::Hostname(_)
            | Self::Chroot(_)
            | Self::Umask(_)
            | Self::WaitFor { .. }
            | Self::Exit(_)
            | Self::SafeProc => false,
        }
    }
}

impl Privileges {
    /// The capabilities that the app keeps, as bits: those of `cap` without those of `cap-drop`.
    pub fn kept(&self) -> u64 {
        let named =
            self.capabilities.iter().fold(0, |bits, cap| bits | 1u64.checked_shl(cap.value).unwrap_or(0));
        named & !self.dropped()
    }

    /// The capabilities that are taken from the app, as bits.
    pub fn dropped(&self) -> u64 {
        self.cap_drop.as_ref().map_or(0, |dropped| dropped.value)
    }
}
