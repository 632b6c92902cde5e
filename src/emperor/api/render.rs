//! How the vassals are, as a table or as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use crate::emperor::core::mountpoints::Mountpoints;
use crate::emperor::core::status::Status;
use crate::emperor::core::text::readable;
use crate::json::Json;
use crate::log::push_printable;
use crate::protocol::MountReport;

const COLUMNS: [&str; 8] = ["NAME", "STATE", "PID", "UPTIME", "RESTARTS", "NEXT TRY", "MOUNTS", "LAST"];

/// A cell that is wider than this pushes the rest of its own line aside, not that of all others.
const WIDTH_MAX: usize = 40;

/// A table for people, with a line for each vassal; and one behind it if the configuration is a `stale` one,
/// for this reason.
pub fn table<'a>(vassals: impl Iterator<Item = Status<'a>>, stale: Option<&str>) -> String {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(vassals.map(|vassal| cells(&vassal)));
    let mut widths = [0; COLUMNS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count()).min(WIDTH_MAX);
        }
    }
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 2));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    if let Some(why) = stale {
        text.push_str("The configuration is that of before the upgrade: ");
        push_printable(&mut text, why);
        text.push('\n');
    }
    text
}

/// The same for programs, times in seconds. `uptime` is that of the emperor.
pub fn json<'a>(vassals: impl Iterator<Item = Status<'a>>, uptime: Duration, stale: Option<&str>) -> String {
    let mut json = Json::default();
    json.open("", '{');
    json.text("version", Some(env!("CARGO_PKG_VERSION")));
    json.number("pid", Some(std::process::id()));
    json.seconds("uptime", Some(uptime));
    json.text("configuration_refused", stale);
    json.open("vassals", '[');
    for vassal in vassals {
        push_json(&vassal, &mut json);
    }
    json.close(']');
    json.close('}');
    json.0.push('\n');
    json.0
}

/// A time as short as it gets, the two largest units: `12s`, `4m5s`, `3d4h`.
fn rounded(time: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let seconds = time.as_secs();
    let largest = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let (mut text, mut rest) = (String::new(), seconds);
    for (index, (unit, name)) in UNITS.iter().enumerate().skip(largest).take(2) {
        let count = rest / unit;
        rest %= unit;
        if count > 0 || index == UNITS.len() - 1 && text.is_empty() {
            let _ = write!(text, "{count}{name}");
        }
    }
    text
}

fn cells(vassal: &Status<'_>) -> [String; COLUMNS.len()] {
    let none = || "-".to_owned();
    let mut last = String::new();
    if let Some(said) = vassal.said {
        push_printable(&mut last, said);
        last.push_str("; before: ");
    }
    push_printable(&mut last, vassal.history.last_end.as_deref().unwrap_or("-"));
    if let Some(why) = &vassal.history.refused {
        last.push_str("; reload refused: ");
        push_printable(&mut last, why);
    }
    let losses = vassal.mountpoints.losses();
    if !losses.is_empty() {
        last.push_str("; mountpoint ");
        push_printable(&mut last, &losses);
    }
    let mut name = String::new();
    push_printable(&mut name, &vassal.name);
    [
        name,
        vassal.state.to_owned(),
        vassal.pid.map_or_else(none, |pid| pid.to_string()),
        vassal.uptime.map_or_else(none, rounded),
        vassal.history.restarts().to_string(),
        vassal.next_try.map_or_else(none, rounded),
        vassal.mountpoints.counts(),
        last,
    ]
}

fn push_json(vassal: &Status<'_>, json: &mut Json) {
    json.open("", '{');
    json.text("name", Some(&vassal.name));
    json.text("file", Some(&readable(vassal.path.as_os_str())));
    json.text("state", Some(vassal.state));
    json.number("pid", vassal.pid.map(i32::unsigned_abs));
    json.seconds("uptime", vassal.uptime);
    json.number("restarts", Some(vassal.history.restarts()));
    json.seconds("next_try", vassal.next_try);
    json.raw("ready", if vassal.ready.is_some() { "true" } else { "false" });
    json.text("on_demand", vassal.on_demand);
    json.text("status", vassal.said);
    json.text("last", vassal.history.last_end.as_deref());
    json.text("reload_refused", vassal.history.refused.as_deref());
    push_mountpoints(vassal.mountpoints, json);
    json.close('}');
}

/// Everything about them.
fn push_mountpoints(mountpoints: &Mountpoints, json: &mut Json) {
    json.open("mountpoints", '[');
    for (report, lost) in mountpoints.all() {
        let MountReport { path, fs_type, daemon, state, round_trip, last, .. } = report;
        json.open("", '{');
        json.text("path", Some(&path.to_string_lossy()));
        json.text("type", Some(fs_type.as_str()).filter(|text| !text.is_empty()));
        json.number("daemon", Some(daemon.unsigned_abs()).filter(|&pid| pid > 0));
        json.text("state", Some(state.name()));
        // In microseconds: in milliseconds there is often nothing to see.
        let micros = round_trip.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        json.number("round_trip_us", micros);
        json.number("lost", Some(lost));
        json.text("last", Some(last.as_str()).filter(|text| !text.is_empty()));
        json.close('}');
    }
    json.close(']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emperor::core::history::History;
    use crate::emperor::core::vassal_file::VassalFile;
    use crate::protocol::MountState;

    static NONE: Mountpoints = Mountpoints::none();

    fn files() -> [(VassalFile, History); 2] {
        let up = History {
            instances: 2,
            last_end: Some("stopped".to_owned()),
            refused: Some("app.ini:1: no".to_owned()),
            ..History::default()
        };
        let file = |path: &str| VassalFile::new(path.into(), 3);
        [(file("/v/app.ini"), up), (file("/v/long\nname.ini"), History::default())]
    }

    fn vassals([first, second]: &[(VassalFile, History); 2]) -> [Status<'_>; 2] {
        let down = Status {
            name: "long\nname".into(),
            path: &second.0,
            state: "backoff",
            stopping: None,
            pid: None,
            uptime: None,
            next_try: Some(Duration::from_secs(59)),
            history: &second.1,
            modified: 0,
            mountpoints: &NONE,
            since: None,
            ready: None,
            loyal: None,
            heartbeat: None,
            said: None,
            born: None,
            owner: None,
            on_demand: None,
        };
        let up = Status {
            name: "app".into(),
            path: &first.0,
            state: "running",
            pid: Some(42),
            uptime: Some(Duration::from_millis(3_725_500)),
            next_try: None,
            history: &first.1,
            on_demand: Some("127.0.0.1:80"),
            ..down.clone()
        };
        [up, down]
    }

    #[test]
    fn a_table_is_aligned_and_nothing_forges_a_line_of_it() {
        let (files, long) = (files(), "x".repeat(100));
        let other = Status { name: long.as_str().into(), ..vassals(&files)[1] };
        let rows = table(vassals(&files).into_iter().chain([other]), None);
        assert!(rows.lines().next().unwrap().starts_with(&format!("NAME{:38}STATE", "")), "{rows}");
        assert!(rows.contains(&format!("\n{long}  backoff  ")), "{rows}");
        assert_eq!(
            table(vassals(&files).into_iter(), None),
            "NAME        STATE    PID  UPTIME  RESTARTS  NEXT TRY  MOUNTS  LAST\n\
             app         running  42   1h2m    1         -         -       stopped; reload refused: app.ini:1: no\n\
             long\\nname  backoff  -    -       0         59s       -       -\n"
        );
    }

    #[test]
    fn a_line_and_an_object_have_all_of_it() {
        let files = files();
        let [up, down] = vassals(&files);
        assert_eq!(
            up.line(),
            "running, up 3725.5 s, pid 42, 1 restart, last: stopped, reload refused: app.ini:1: no"
        );
        assert_eq!(down.line(), "backoff, next try in 59.0 s, 0 restarts");
        let text = json([up, down].into_iter(), Duration::from_millis(1), Some("a.ini:1: no"));
        let head = format!(
            "{{\"version\":\"{}\",\"pid\":{},\"uptime\":0.001,\"configuration_refused\":\"a.ini:1: no\",",
            env!("CARGO_PKG_VERSION"),
            std::process::id()
        );
        let vassals = r#""vassals":[{"name":"app","file":"/v/app.ini","state":"running","pid":42,"uptime":3725.500,"restarts":1,"next_try":null,"ready":false,"on_demand":"127.0.0.1:80","status":null,"last":"stopped","reload_refused":"app.ini:1: no","mountpoints":[]},{"name":"long\nname","file":"/v/long\nname.ini","state":"backoff","pid":null,"uptime":null,"restarts":0,"next_try":59.000,"ready":false,"on_demand":null,"status":null,"last":null,"reload_refused":null,"mountpoints":[]}]}"#;
        assert_eq!(text, format!("{head}{vassals}\n"));
    }

    #[test]
    fn times_have_two_units_at_most() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (61, "1m1s"), (3600, "1h"), (90_061, "1d1h")]
        {
            assert_eq!(rounded(Duration::from_secs(seconds)), text);
        }
    }

    fn report(path: &str, lost: u32, last: &str) -> MountReport {
        MountReport {
            path: path.into(),
            fs_type: "fuse.x".into(),
            daemon: 6,
            state: MountState::Up,
            round_trip: Some(Duration::from_nanos(31_415)),
            lost,
            last: last.into(),
        }
    }

    #[test]
    fn json_shows_each_and_nothing_that_is_not_known() {
        let mut all = Mountpoints::none();
        all.report(vec![report("/a", 1, "hung")]);
        let mut json = Json::default();
        json.open("", '{');
        push_mountpoints(&all, &mut json);
        all.instance_ended();
        push_mountpoints(&all, &mut json);
        json.close('}');
        assert_eq!(
            json.0,
            r#"{"mountpoints":[{"path":"/a","type":"fuse.x","daemon":6,"state":"up","round_trip_us":31,"lost":1,"last":"hung"}],"mountpoints":[{"path":"/a","type":"fuse.x","daemon":null,"state":"awaited","round_trip_us":null,"lost":1,"last":"hung"}]}"#
        );
    }
}
