//! Every row of the tables of keys does what its columns say. A new key is asked for here.

use vassal::config::keys::emperor::EMPEROR;
use vassal::config::keys::row::Reload;
use vassal::config::keys::vassal::VASSAL_INIT;
use vassal::config::plan::{EmperorPlan, VassalPlan};
use vassal::config::{Input, load_emperor, load_vassal};
use vassal::world::Machine;

/// What each key is tried with. A value has to differ from the default, and, for a key that shapes the jail,
/// to shape it.
const OF_VASSALS: &[(&str, &str)] = &[
    ("add-gid", "7"),
    ("binary-path", "/u"),
    ("call-PHASE", "chdir /a"),
    ("cap", "kill"),
    ("cap-drop", "chown"),
    ("cgroup", "/c"),
    ("cgroup-opt", "a=b"),
    ("cgroup-optional", "true"),
    ("chdir", "/d"),
    ("chmod-socket", "600"),
    ("chown-socket", "a"),
    ("chroot", "/r"),
    ("clean-env", "true"),
    ("command", "y"),
    ("confine-hooks", "true"),
    ("cpu-max", "50%"),
    ("env", "A=b"),
    ("exec-PHASE", "true"),
    ("gid", "7"),
    ("hook-PHASE", "print:a"),
    ("hook-timeout", "1s"),
    ("hostname", "h"),
    ("keep-sockets", "false"),
    ("limit-as", "7"),
    ("limit-nofile", "7"),
    ("limit-nproc", "7"),
    ("listen", "/s"),
    ("map-groups", "0:7:1"),
    ("map-users", "0:7:1"),
    ("memory-max", "1M"),
    ("mount-PHASE", "tmpfs none /t"),
    ("mount-check", "/m"),
    ("mount-proc", "false"),
    ("mountpoint-check", "/m"),
    ("mountpoint-check-interval", "1s"),
    ("mountpoint-check-timeout", "1s"),
    ("mountpoint-lost", "remount"),
    ("mountpoint-timeout", "1s"),
    ("nice", "7"),
    ("no-initgroups", "true"),
    ("no-new-privs", "false"),
    ("oom-score-adj", "7"),
    ("pids-max", "7"),
    ("pivot-root", "/n /n/o"),
    ("pivot_root", "/n /n/o"),
    ("privileged-binary-patch", "y"),
    ("privileged-binary-patch-arg", "y z"),
    ("proc", "safe"),
    ("ready-after", "7s"),
    ("ready-check", "exec:true"),
    ("ready-check-failures", "7"),
    ("ready-check-interval", "7s"),
    ("ready-check-timeout", "7s"),
    ("ready-timeout", "7s"),
    ("reload-on", "content"),
    ("reload-signal", "HUP"),
    ("reload-strategy", "rolling"),
    ("replicas", "7"),
    ("reuse-port", "true"),
    ("seccomp", "default"),
    ("standard-error", "null"),
    ("standard-output", "file:/l"),
    ("stop-signal", "INT"),
    ("stop-timeout", "1s"),
    ("uid", "7"),
    ("umask", "077"),
    ("umount-PHASE", "/t"),
    ("unenv", "A"),
    ("unmount-timeout", "1s"),
    ("unprivileged-binary-patch", "y"),
    ("unprivileged-binary-patch-arg", "y z"),
    ("unshare", "uts"),
];

/// Keys that shape the jail with some values or in some phases only: what leaves it as it is.
const HARMLESS: &[(&str, &str)] = &[
    ("call-as-user", "chdir /a"),
    ("cap-drop", "chown"),
    ("exec-as-user", "true"),
    ("hook-as-user", "print:a"),
    ("mount-as-user", "tmpfs none /t"),
    ("mountpoint-lost", "hook:print:a"),
    ("umount-as-user", "/t"),
];

/// The same for an emperor.
const OF_EMPERORS: &[(&str, &str)] = &[
    ("add-gid", "7"),
    ("cap", "kill"),
    ("cgroup-opt", "a=b"),
    ("cgroup-optional", "true"),
    ("control", "/c"),
    ("cpu-max", "50%"),
    ("emperor", "/f"),
    ("emperor-cgroup", "/c"),
    ("emperor-extra-ext", ".x"),
    ("emperor-extra-extension", ".x"),
    ("emperor-freq", "7"),
    ("emperor-magic-exec", "true"),
    ("emperor-max-reloads", "7"),
    ("emperor-max-starts", "7"),
    ("emperor-max-throttle", "7"),
    ("emperor-nofollow", "true"),
    ("emperor-on-demand-dir", "/d"),
    ("emperor-on-demand-directory", "/d"),
    ("emperor-on-demand-exec", "x"),
    ("emperor-on-demand-ext", ".x"),
    ("emperor-on-demand-extension", ".x"),
    ("emperor-pidfile", "/p"),
    ("emperor-required-heartbeat", "7"),
    ("emperor-stats", "/s"),
    ("emperor-stats-server", "/s"),
    ("emperor-stop-timeout", "7"),
    ("emperor-throttle", "7"),
    ("emperor-tyrant", "true"),
    ("emperor-tyrant-initgroups", "true"),
    ("emperor-tyrant-max", "7"),
    ("emperor-tyrant-nofollow", "true"),
    ("emperor-use-clone", "fs"),
    ("exec-as-emperor", "x"),
    ("gid", "7"),
    ("hook-as-emperor", "exec:x"),
    ("hook-as-vassal", "print:a"),
    ("log-dir", "/l"),
    ("log-format", "json"),
    ("logto", "/l"),
    ("map-groups", "0:7:1"),
    ("map-tree", "/t"),
    ("map-users", "0:7:1"),
    ("memory-max", "1M"),
    ("metrics", "/m"),
    ("no-initgroups", "true"),
    ("pids-max", "7"),
    ("uid", "7"),
    ("vassal-init", "/v"),
    ("vassal-set", "a=b"),
    ("vassals-include", "/i"),
    ("vassals-include-before", "/i"),
    ("vassals-inherit", "/i"),
    ("vassals-inherit-before", "/i"),
    ("vassals-set", "a=b"),
];

fn vassal(line: &str) -> VassalPlan {
    // Uwsgi's own program, mode and owner of a socket count where there is uWSGI, and a socket.
    let app = if line.starts_with("binary-path") { "processes = 1" } else { "command = x" };
    // As do IDs where there is a user namespace.
    let more = if line.starts_with("unshare") { "" } else { "unshare = user" };
    let lines = format!("[uwsgi]\nlisten = /base\n{app}\n{more}\n{line}\n");
    let input = Input::Text { path: "/v/a.ini".into(), section: None, text: lines.into_bytes() };
    load_vassal(&[input], false, &Machine).unwrap_or_else(|report| panic!("{line}: {report}")).plan
}

fn emperor(line: &str) -> EmperorPlan {
    let more = match line.split(' ').next().unwrap() {
        "emperor-tyrant-initgroups" | "emperor-tyrant-max" | "emperor-tyrant-nofollow" => {
            "emperor-tyrant = true"
        }
        "map-groups" | "map-tree" | "map-users" => "emperor-use-clone = user,fs",
        "cgroup-opt" | "cpu-max" | "memory-max" | "pids-max" => "emperor-cgroup = /base",
        _ => "",
    };
    let lines = format!("[uwsgi]\nemperor = /base\n{more}\n{line}\n");
    let input = Input::Text { path: "/v/e.ini".into(), section: None, text: lines.into_bytes() };
    load_emperor(&[input], &Machine).unwrap_or_else(|report| panic!("{line}: {report}")).plan
}

/// What a key is tried with.
fn sample(samples: &[(&str, &str)], name: &str) -> String {
    let value = samples.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    value
        .unwrap_or_else(|| panic!("'{name}' is a new key: say in tests/config/keys.rs what to try it with"))
        .to_owned()
}

#[test]
fn every_key_of_a_vassal_is_read_and_a_reload_does_with_it_what_its_row_says() {
    for row in VASSAL_INIT.own_rows() {
        let reload = row.reload.expect(row.name);
        let key = row.name.replace("PHASE", "as-root");
        let line = format!("{key} = {}", sample(OF_VASSALS, row.name));
        let empty = if key == "binary-path" { "binary-path = uwsgi" } else { "" };
        let (old, new) = (vassal(empty), vassal(&line));
        assert_ne!(old, new, "{line}: the plan does not have it");
        // What cap-drop takes shapes the jail where the app has it.
        let (old, new) = match row.name {
            "cap-drop" => (vassal("cap = chown"), vassal("cap = chown\ncap-drop = chown")),
            _ => (old, new),
        };
        let is_fresh = matches!(reload, Reload::FreshJail(_));
        assert_eq!(old.jail_change(&new).is_some(), is_fresh, "{line}: {reload:?}");
        let is_startable = old.start_rights() == new.start_rights();
        assert!(is_startable || is_fresh, "{line}: a reload has no right to start the app");
    }
    for (key, value) in HARMLESS {
        assert_eq!(vassal("").jail_change(&vassal(&format!("{key} = {value}"))), None, "{key} = {value}");
    }
}

#[test]
fn every_key_of_an_emperor_is_read() {
    for row in EMPEROR.own_rows() {
        let line = format!("{} = {}", row.name, sample(OF_EMPERORS, row.name));
        assert_ne!(emperor(""), emperor(&line), "{line}: the plan does not have it");
    }
}
