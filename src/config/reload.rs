//! Whether a vassal can take on a new configuration where it is, or needs a fresh jail.

use super::plan::{App, Hook, Located, MountpointLost, Phase, VassalPlan};

impl VassalPlan {
    /// The first thing that shapes the jail and that the new plan has otherwise; `None` if a reload will do.
    ///
    /// Values count, not where they are written. Both plans must have been loaded with `reload` false: what `if-not-reload`
    /// guards shapes the jail too, and is not in a plan that was loaded for a reload.
    pub fn jail_change(&self, new: &Self) -> Option<&'static str> {
        let changes = [
            ("a hook up to as-root", !self.jail_hooks().eq(new.jail_hooks())),
            ("unshare", self.jail.unshare != new.jail.unshare),
            ("hostname", !same(&self.jail.hostname, &new.jail.hostname)),
            ("chroot", !same(&self.jail.chroot, &new.jail.chroot)),
            ("pivot_root", !same(&self.jail.pivot_root, &new.jail.pivot_root)),
            ("uid", !same(&self.run_as.uid, &new.run_as.uid)),
            ("gid", !same(&self.run_as.gid, &new.run_as.gid)),
            ("add-gid", !same(&self.run_as.add_gids, &new.run_as.add_gids)),
            ("no-initgroups", self.run_as.no_initgroups != new.run_as.no_initgroups),
            // What PID 1 gave up of these it cannot hand to an app any more.
            ("cap", !same(&self.privileges.capabilities, &new.privileges.capabilities)),
            ("privileged-binary-patch", self.app.is_privileged() != new.app.is_privileged()),
            // They were bound with rights that PID 1 has given up.
            ("a socket", !same(&self.listen, &new.listen)),
            // Which ones the emperor has is said when they are bound.
            ("keep-sockets", self.keep_sockets != new.keep_sockets),
            ("cgroup", !same(&self.resources.cgroups, &new.resources.cgroups)),
            ("a limit of a cgroup", !same(&self.resources.cgroup_options, &new.resources.cgroup_options)),
            ("oom-score-adj", !same(&self.resources.oom_score_adj, &new.resources.oom_score_adj)),
            ("mountpoint-check", !same(&self.mountpoints.checks, &new.mountpoints.checks)),
            // The same.
            ("mountpoint-lost", self.remounts() != new.remounts()),
        ];
        changes.iter().find(|(_, changed)| *changed).map(|(what, _)| *what)
    }

    /// Whether it says what this one, which the app runs by, says, and leaves nothing to be done to it but by the app itself. `new`
    /// was loaded with `reload` true, both of the others with false.
    pub fn is_same(&self, new: &Self, fresh: &Self) -> bool {
        self == fresh && fresh == new && !new.has_hooks(Phase::AsUser, Phase::Accepting)
    }

    /// Whether it has hooks in these phases, or between them.
    pub fn has_hooks(&self, first: Phase, last: Phase) -> bool {
        self.hooks.iter().any(|hook| (first..=last).contains(&hook.phase))
    }

    /// What asks the app to stop, where it is a signal that does.
    pub fn signal_to_stop(&self) -> i32 {
        let usual = if matches!(self.app, App::Uwsgi { .. }) { libc::SIGINT } else { libc::SIGTERM };
        self.stop.signal.unwrap_or(usual)
    }

    /// Whether lost mounts are made anew.
    pub fn remounts(&self) -> bool {
        self.mountpoints.lost == MountpointLost::Remount
    }

    /// What of the hooks counts, for those that a reload skips.
    fn jail_hooks(&self) -> impl Iterator<Item = (Phase, &super::plan::Action, bool)> {
        let of_jail = |hook: &&Hook| hook.phase <= Phase::AsRoot;
        self.hooks.iter().filter(of_jail).map(|hook| (hook.phase, &hook.action, hook.tolerant))
    }
}

impl App {
    /// Whether it keeps our privileges.
    pub fn is_privileged(&self) -> bool {
        matches!(self, Self::Program { privileged: true, .. })
    }
}

/// Whether two options, or two lists of values, hold the same values.
fn same<'a, T: PartialEq + 'a>(
    a: impl IntoIterator<Item = &'a Located<T>>,
    b: impl IntoIterator<Item = &'a Located<T>>,
) -> bool {
    a.into_iter().map(|one| &one.value).eq(b.into_iter().map(|one| &one.value))
}
