//! Whether a vassal can be reloaded with a new configuration, or needs a fresh jail.

use super::keys::row::Reload;
use super::keys::vassal::VASSAL_INIT;
use super::plan::{App, Location, MountpointLost, Phase, VassalPlan};
use super::setting::Setting;

/// A number for what settings say, and where (FNV-1a); 0 for none.
pub(super) fn fingerprint(settings: &[Setting]) -> u64 {
    let mut number = 0;
    for setting in settings {
        let Location { file, line, column } = &setting.at;
        let place = [line.to_le_bytes(), column.to_le_bytes()];
        let [line, column] = &place;
        for part in [&setting.key[..], b"=", setting.text(), b"\n", file.as_bytes(), line, column] {
            for byte in part {
                number = (number ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    number
}

impl VassalPlan {
    /// The first part of the jail in which the new plan differs; `None` if a reload is enough.
    ///
    /// Compares values, not the places where they are written. Both plans must have been loaded with `reload`
    /// false, because lines inside `if-not-reload` shape the jail too, and a plan that was loaded for a
    /// reload lacks them.
    pub fn jail_change(&self, new: &Self) -> Option<&'static str> {
        VASSAL_INIT.rows().into_iter().find_map(|row| match row.reload {
            Some(Reload::FreshJail(part)) if (part.differs)(self, new) => Some(part.what),
            _ => None,
        })
    }

    /// Whether the new plan equals the one that the app runs by, and has no hook that a reload runs: then
    /// only the app itself has something to reload. `new` was loaded with `reload` true, `self` and `fresh`
    /// with false.
    pub fn is_same(&self, new: &Self, fresh: &Self) -> bool {
        let is_same = |other: &Self| self.reload.fingerprint == other.reload.fingerprint;
        is_same(fresh) && is_same(new) && !new.has_hooks(Phase::AsUser, Phase::Accepting)
    }

    /// Whether the plan has hooks in these phases, or between them.
    pub fn has_hooks(&self, first: Phase, last: Phase) -> bool {
        self.hooks.iter().any(|hook| (first..=last).contains(&hook.phase))
    }

    /// The signal that asks the app to stop, unless it is asked over uWSGI's protocol.
    pub fn signal_to_stop(&self) -> i32 {
        let usual = if matches!(self.app, App::Uwsgi { .. }) { libc::SIGINT } else { libc::SIGTERM };
        self.stop.signal.unwrap_or(usual)
    }

    /// Whether lost mounts are mounted again (`mountpoint-lost = remount`).
    pub fn remounts(&self) -> bool {
        self.mountpoints.lost == MountpointLost::Remount
    }
}

impl App {
    /// Whether the app keeps the privileges of PID 1.
    pub fn is_privileged(&self) -> bool {
        matches!(self, Self::Program { privileged: true, .. })
    }
}
