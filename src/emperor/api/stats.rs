//! The state of all vassals in the format of uWSGI's emperor stats server, for tools that read it, with some
//! more fields.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::emperor::core::status::Status;
use crate::emperor::core::text::readable;
use crate::json::Json;

/// The state as one JSON object. `sources` are the directories of the vassals.
pub fn json(sources: &[PathBuf], tyrant: bool, vassals: &[Status<'_>], now: Instant) -> String {
    let clock = Clock {
        now,
        since_1970: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
    };
    let mut json = Json::default();
    json.open("", '{');
    json.text("version", Some(env!("CARGO_PKG_VERSION")));
    json.number("pid", Some(std::process::id()));
    json.number("uid", Some(rustix::process::geteuid().as_raw()));
    json.number("gid", Some(rustix::process::getegid().as_raw()));
    let cwd = rustix::process::getcwd(Vec::new()).unwrap_or_default();
    json.text("cwd", Some(&cwd.to_string_lossy()));
    json.open("emperor", '[');
    for source in sources {
        json.text("", Some(&source.to_string_lossy()));
    }
    json.close(']');
    json.number("emperor_tyrant", Some(u32::from(tyrant)));
    json.number("throttle_level", Some(0_u32));
    json.open("vassals", '[');
    for vassal in vassals.iter().filter(|vassal| vassal.next_try.is_none()) {
        push_vassal(&mut json, vassal, &clock);
    }
    json.close(']');
    json.open("blacklist", '[');
    for vassal in vassals.iter().filter(|vassal| vassal.next_try.is_some()) {
        push_waiting(&mut json, vassal, &clock);
    }
    json.close(']');
    json.close('}');
    json.0.push('\n');
    json.0
}

/// The same moment on the monotonic clock and on the calendar.
struct Clock {
    now: Instant,
    since_1970: Duration,
}

impl Clock {
    /// Seconds since 1970; 0 for an event that has not happened.
    fn date(&self, event: Option<Instant>) -> Option<u64> {
        let date =
            event.map(|event| self.since_1970.saturating_sub(self.now.saturating_duration_since(event)));
        Some(date.map_or(0, |date| date.as_secs()))
    }
}

fn push_vassal(json: &mut Json, vassal: &Status<'_>, clock: &Clock) {
    open(json, vassal);
    match vassal.pid {
        Some(pid) => json.number("pid", Some(pid.unsigned_abs())),
        None => json.raw("pid", "-1"),
    }
    let last_run = vassal.history.runs.map(|runs| runs.last);
    json.number("born", clock.date(vassal.born.or(last_run)));
    json.number("last_mod", Some(vassal.version.modified));
    let flag = |set: bool| Some(u32::from(set));
    json.number("last_heartbeat", clock.date(vassal.app.heartbeat));
    json.number("loyal", flag(vassal.app.loyal.is_some()));
    json.number("ready", flag(vassal.since.is_some()));
    json.number("accepting", flag(vassal.app.ready.is_some()));
    json.number("last_loyal", clock.date(vassal.app.loyal));
    json.number("last_ready", clock.date(vassal.since));
    json.number("last_accepting", clock.date(vassal.app.ready));
    json.number("first_run", clock.date(vassal.history.runs.map(|runs| runs.first)));
    json.number("last_run", clock.date(last_run));
    json.number("cursed", clock.date(vassal.stopping));
    json.number("zerg", flag(false));
    json.text("on_demand", Some(vassal.on_demand.unwrap_or_default()));
    json.number("uid", Some(vassal.owner.map_or(0, |owner| owner.uid)));
    json.number("gid", Some(vassal.owner.map_or(0, |owner| owner.gid)));
    json.text("monitor", Some(&vassal.path.parent().unwrap_or(Path::new("")).to_string_lossy()));
    // uWSGI counts restarts and reloads together.
    json.number("respawns", Some(vassal.history.restarts() + vassal.history.reloads));
    close(json, vassal);
}

fn push_waiting(json: &mut Json, vassal: &Status<'_>, clock: &Clock) {
    open(json, vassal);
    let wait = vassal.history.past.failures.map_or(Duration::ZERO, |failures| failures.wait);
    json.number("throttle_level", u64::try_from(wait.as_millis()).ok());
    json.number("attempt", Some(vassal.history.past.failures.map_or(0, |failures| failures.count)));
    json.number("first_attempt", clock.date(vassal.history.past.failures.map(|failures| failures.first)));
    json.number("last_attempt", clock.date(vassal.history.past.failures.map(|failures| failures.last)));
    close(json, vassal);
}

fn open(json: &mut Json, vassal: &Status<'_>) {
    json.open("", '{');
    json.text("id", Some(&readable(vassal.path.id())));
}

fn close(json: &mut Json, vassal: &Status<'_>) {
    json.text("name", Some(&vassal.name));
    json.text("state", Some(vassal.state));
    json.text("last", vassal.history.past.last_end.as_deref());
    json.close('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emperor::core::history::History;
    use crate::emperor::core::mountpoints::Mountpoints;
    use crate::emperor::core::vassal_file::VassalFile;

    #[test]
    fn each_key_is_in_the_reference() {
        let (file, history, none) =
            (VassalFile::new("/v/a.ini".into(), 3), History::default(), Mountpoints::none());
        let up = Status::down(&file, "running", &history, &none);
        let waits = Status { next_try: Some(Duration::ZERO), ..up.clone() };
        let text = json(&[], false, &[up, waits], Instant::now());
        let reference = include_str!("../../../docs/reference.md");
        for key in crate::json::keys(&text) {
            assert!(
                reference.contains(&format!("`{key}`")),
                "docs/reference.md lacks the key `{key}` of emperor-stats"
            );
        }
    }
}
