//! Whether a vassal can take on a new configuration where it is, or needs a fresh jail.

use super::keys::options::Reload;
use super::keys::vassal::VASSAL_INIT;
use super::plan::{App, MountpointLost, Phase, VassalPlan};

impl VassalPlan {
    /// The first thing that shapes the jail and that the new plan has otherwise; `None` if a reload will do.
    ///
    /// Values count, not where they are written. Both plans must have been loaded with `reload` false: what `if-not-reload`
    /// guards shapes the jail too, and is not in a plan that was loaded for a reload.
    pub fn jail_change(&self, new: &Self) -> Option<&'static str> {
        VASSAL_INIT.rows().find_map(|row| match row.reload {
            Some(Reload::FreshJail(part)) if (part.differs)(self, new) => Some(part.what),
            _ => None,
        })
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
}

impl App {
    /// Whether it keeps our privileges.
    pub fn is_privileged(&self) -> bool {
        matches!(self, Self::Program { privileged: true, .. })
    }
}
