//! Configurations and the plans or mistakes they come to, on a machine that is made up.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use vassal::config::plan::{
    Action, App, EnvChange, Id, MountpointLost, Phase, RunAs, Source, Tyrant, VassalPlan,
};
use vassal::config::{Host, Input, Loaded, Status, World, load_emperor, load_vassal, placed};
use vassal::error::Cause;
use vassal::protocol::Replication;

/// A machine with the files `loop.ini`, `inc.ini` and `bad.ini`.
struct Fake;

impl Host for Fake {
    fn hostname(&self) -> OsString {
        "host".into()
    }
    fn cpus(&self) -> usize {
        2
    }
    fn now(&self) -> Duration {
        Duration::from_secs(1)
    }
    fn uid(&self) -> u32 {
        // Not root: whose apps run as root is told (`cli::an_app_that_is_root_by_oversight_is_told_of`).
        1000
    }
    fn gid(&self) -> u32 {
        0
    }
}

impl World for Fake {
    fn read(&self, path: &Path) -> Result<Vec<u8>, Cause> {
        match path.to_str() {
            Some("loop.ini") => Ok(b"[uwsgi]\ninclude = loop.ini\ninclude = loop.ini\n".to_vec()),
            Some("inc.ini") => Ok(b"[uwsgi]\nif-env = HOME\n inc = %n\nendif\n".to_vec()),
            Some("bad.ini") => Ok(b"[uwsgi]\n\n umask = 9\n".to_vec()),
            // The name is the content.
            Some(path) if path.starts_with("/lines/") => {
                Ok(format!("[uwsgi]\n{}\n", path[7..].replace('|', "\n")).into_bytes())
            }
            Some(path) if path.starts_with("/raw/") => Ok(path[5..].into()),
            _ => Err(rustix::io::Errno::NOENT.into()),
        }
    }
    fn resource(&self, command: &OsStr) -> Result<Option<Vec<u8>>, Cause> {
        Ok(Some([b"ran ", command.as_encoded_bytes(), b"\n"].concat()))
    }
    fn names(&self, _: &Path) -> Vec<OsString> {
        Vec::new()
    }
    fn status(&self, _: &Path) -> Option<Status> {
        None
    }
    fn real_path(&self, _: &Path) -> Option<PathBuf> {
        None
    }
    fn cwd(&self) -> PathBuf {
        "/cwd".into()
    }
    fn env(&self, name: &OsStr) -> Option<OsString> {
        (name == "HOME").then(|| "/root".into())
    }
    fn host(&self) -> &dyn Host {
        self
    }
    fn user_name(&self) -> OsString {
        "root".into()
    }
    fn group_name(&self) -> OsString {
        "root".into()
    }
}

fn file(lines: &str) -> Input {
    let text = format!("[uwsgi]\n{lines}\n").into_bytes();
    Input::Text { path: "/v/app001.ini".into(), section: None, text }
}

fn option(key: &str, value: Option<&str>) -> Input {
    Input::Option { key: key.into(), value: value.map(Into::into) }
}

fn vassal(lines: &str) -> Loaded<VassalPlan> {
    load_vassal(&[file(lines)], false, &Fake).unwrap_or_else(|report| panic!("{report}"))
}

/// All findings for a vassal's file, each on one line, hints behind `|`.
fn findings(lines: &str) -> Vec<String> {
    findings_of(&[file(lines)])
}

fn findings_of(inputs: &[Input]) -> Vec<String> {
    let report = load_vassal(inputs, false, &Fake).map_or_else(|report| report, |loaded| loaded.warnings);
    let line = |found: &vassal::config::diagnostic::Diagnostic| {
        let hint = found.hint.as_ref().map_or(String::new(), |hint| format!(" | {hint}"));
        found.summary().replace("/v/app001.ini:", "") + &hint
    };
    report.diagnostics().iter().map(line).collect()
}

#[test]
fn a_bare_command_takes_the_defaults() {
    let plan = vassal("command = sleep 'a b'").plan;
    let argv = vec!["sleep".into(), "a b".into()];
    assert_eq!(plan.app, App::Program { argv, privileged: false });
    assert_eq!((plan.signal_to_stop(), plan.stop.timeout), (libc::SIGTERM, Duration::from_secs(10)));
    assert_eq!(plan.mountpoints.timeout, Duration::from_secs(30));
    assert_eq!(plan.mountpoints.check_interval, Duration::from_secs(2));
    assert_eq!(plan.mountpoints.check_timeout, Duration::from_secs(5));
    assert!(
        !plan.run_as.no_initgroups
            && plan.run_as.uid.is_none()
            && plan.umask.is_none()
            && plan.jail.unshare == 0
    );
}

#[test]
fn every_key_reaches_the_plan() {
    let plan = vassal(
        "uid = user001\ngid = 33\nadd-gid = 4\nadd-gid = audio\nno-initgroups\nenv = A=$(HOME)\nunenv = B\n\
         chdir = /srv\n\
         umask = 027\nprivileged-binary-patch-arg = prog -x\nmountpoint-check = /%n\n\
         mountpoint-timeout = 2m\n\
         mountpoint-check-interval = 250ms\nmountpoint-check-timeout = 1.5\nstop-timeout = 0\n\
         stop-signal = quit\nunshare = fs,pid",
    )
    .plan;
    let uid = plan.run_as.uid.unwrap();
    assert_eq!(
        (&uid.value, &*uid.key, uid.at.to_string()),
        (&Id::Name("user001".into()), "uid", "/v/app001.ini:2:7".into())
    );
    assert_eq!(plan.run_as.gid.unwrap().value, Id::Number(33));
    assert_eq!((plan.run_as.add_gids.len(), plan.run_as.no_initgroups), (2, true));
    assert_eq!(plan.environment, [EnvChange::Set("A".into(), "/root".into()), EnvChange::Unset("B".into())]);
    assert_eq!((plan.chdir.unwrap().value, plan.umask), ("/srv".into(), Some(0o027)));
    assert_eq!(plan.app, App::Program { argv: vec!["prog".into(), "-x".into()], privileged: true });
    assert_eq!(plan.mountpoints.checks[0].value, Path::new("/app001"));
    assert_eq!(plan.mountpoints.timeout, Duration::from_secs(120));
    assert_eq!(plan.mountpoints.check_interval, Duration::from_millis(250));
    assert_eq!(plan.mountpoints.check_timeout, Duration::from_millis(1500));
    assert_eq!((plan.stop.timeout, plan.stop.signal), (Duration::ZERO, Some(libc::SIGQUIT)));
    assert_eq!(plan.jail.unshare, (libc::CLONE_NEWNS | libc::CLONE_NEWPID) as u64);
}

#[test]
fn a_policy_for_losses_is_a_word_or_a_hook() {
    let policy =
        |value: &str| vassal(&format!("command = x\nmountpoint-lost = {value}")).plan.mountpoints.lost;
    assert_eq!((policy("destroy"), policy("remount")), (MountpointLost::Destroy, MountpointLost::Remount));
    let MountpointLost::Hook(hook) = policy("hook:exec:do it") else { panic!("no hook") };
    assert_eq!((hook.action, hook.source.value.as_str()), (Action::Exec("do it".into()), "exec:do it"));
    for (value, says) in [
        ("remout", "it is none of destroy, remount and hook:ACTION"),
        ("hook:exce:x", "unknown action 'exce'"),
        ("hook:!exce:s3cret", "a mistake in what follows the '!'"),
    ] {
        let inputs = [file(&format!("command = x\nmountpoint-lost = {value}"))];
        let report = load_vassal(&inputs, false, &Fake).map(|_| ()).unwrap_err().to_string();
        assert!(report.contains(says) && !report.contains("s3cret"), "{report}");
    }
}

#[test]
fn hooks_come_by_phase_then_family_then_line() {
    let plan = vassal(
        "command = x\nexec-as-user = b\nhook-as-user = print:a\nexec-asap = c\nhook-as-user = cd:/\n\
         exec-as-user = d",
    )
    .plan;
    let hooks: Vec<_> = plan.hooks.into_iter().map(|hook| (hook.phase, hook.action)).collect();
    let expected = [
        (Phase::Asap, Action::Exec("c".into())),
        (Phase::AsUser, Action::Print("a".into())),
        (Phase::AsUser, Action::Chdir("/".into())),
        (Phase::AsUser, Action::Exec("b".into())),
        (Phase::AsUser, Action::Exec("d".into())),
    ];
    assert_eq!(hooks, expected);
}

#[test]
fn the_later_input_has_the_last_word() {
    let inputs = [
        option("uid", Some("1")),
        file("command = x\nuid = 2"),
        option("uid", Some("3")),
        option("no-initgroups", None),
    ];
    let plan = load_vassal(&inputs, false, &Fake).unwrap().plan;
    assert_eq!((plan.run_as.uid.unwrap().value, plan.run_as.no_initgroups), (Id::Number(3), true));
    let plan = load_vassal(&inputs[..2], false, &Fake).unwrap().plan;
    assert_eq!(plan.run_as.uid.unwrap().value, Id::Number(2));
}

/// What a vassal's file can say to have a key, with `K` and `V` for key and value: each way round the lines
/// of a policy behind it.
const WAYS_ROUND: &[&str] = &[
    "K = V",
    "set = K=V",
    "K = V\nstrict = false",
    "include = /lines/K = V",
    "ini = /lines/K = V",
    "inherit = /lines/K = V",
    "inherit = /lines/inherit = /lines/K = V",
    "include = /lines/inherit = /lines/K = V",
    "inherit = /lines/include = /lines/K = V",
    "inherit = /lines/set = K=V",
    "inherit = /lines/if-env = HOME|K = V",
    "inherit = /lines/if-not-opt = nothing|K = V",
    "set = inherit=/lines/K = V",
    "where = /lines/K = V\ninherit = %(where)",
    "inherit = @(/raw//lines/K = V)",
    "inherit = /lines/K = V\ninherit = /lines/K = V",
    "if-env = HOME\ninherit = /lines/K = V",
    "if-env = HOME\nK = V",
    "if-plugin = nothing\nx = y",
    "if-not-plugin = nothing\nx = y\nelse\nx = y",
    "for = V\nK = %(_)",
    "for-readline = /raw/V\nK = %(_)\nendfor",
    "for-times = 1\nK = V",
    "x = V\nK = %(x)",
    "K = V\n[other]\nK = V",
    "x = V\\\nK = V\nK = V\ny = \\",
    "set-ph = K=V",
    "set-placeholder = K=V",
    "inherit = /lines/set-ph = K=V",
    "yaml = /lines/K = V\njson = /lines/K = V\nxml = /lines/K = V",
];

/// The effective value of a variable of the app.
fn variable(plan: &VassalPlan, name: &str) -> String {
    let mut value = "none".to_owned();
    for change in &plan.environment {
        match change {
            EnvChange::Set(one, to) if one == name => value = to.display().to_string(),
            EnvChange::Unset(one) if one == name => value = "none".to_owned(),
            _ => {}
        }
    }
    value
}

#[test]
fn the_operators_policy_has_the_last_word_whatever_a_vassals_file_says() {
    type Effect = fn(&VassalPlan) -> String;
    let umask: Effect = |plan| format!("{:o}", plan.umask.unwrap());
    // What the tenant tries to say, the policy, and what holds.
    let kinds: &[(&str, &str, &str, Effect, &str)] = &[
        ("umask", "0", "umask = 077", umask, "77"),
        ("stop-timeout", "5h", "stop-timeout = 1", |plan| format!("{:?}", plan.stop.timeout), "1s"),
        ("no-new-privs", "no", "no-new-privs", |plan| plan.privileges.no_new_privs.to_string(), "true"),
        ("no-initgroups", "no", "no-initgroups", |plan| plan.run_as.no_initgroups.to_string(), "true"),
        ("env", "P=eve", "env = P=root", |plan| variable(plan, "P"), "root"),
        ("env", "P=eve", "unenv = P", |plan| variable(plan, "P"), "none"),
        ("unenv", "P", "env = P=root", |plan| variable(plan, "P"), "root"),
        (
            "uid",
            "0",
            "uid = 77",
            |plan| format!("{:?}", plan.run_as.uid.as_ref().unwrap().value),
            "Number(77)",
        ),
        ("cap", "sys_admin", "cap = kill", |plan| plan.privileges.kept().to_string(), "32"),
        ("limit-nofile", "0", "limit-nofile = 77", limit, "77"),
        ("limit-nofile", "5", "limit-nofile = 77", limit, "77"),
        ("limit-nofile", "99", "limit-nofile = 77", limit, "77"),
        (
            "chroot",
            "/eve",
            "chroot = /jail",
            |plan| plan.jail.chroot.as_ref().unwrap().value.display().to_string(),
            "/jail",
        ),
        // A placeholder that the policy has for itself.
        ("mask", "0", "mask = 077\numask = %(mask)", umask, "77"),
        ("mask", "0", "set-ph = mask=077\numask = 0%(mask)", umask, "77"),
        ("mask", "0", "mask = 1\nif-not-opt = mask=0\numask = 077\nendif", umask, "77"),
        // An option that is left to uWSGI: its last one counts there.
        ("harakiri", "0", "harakiri = 30", |plan| left_to_uwsgi(plan, "harakiri"), "30"),
    ];
    fn limit(plan: &VassalPlan) -> String {
        let values: Vec<_> =
            plan.resources.limits.iter().map(|limit| limit.value.value.to_string()).collect();
        values.join(" ")
    }
    for (key, value, policy, effect, expected) in kinds {
        for way in WAYS_ROUND {
            let lines = way.replace('K', key).replace('V', value);
            for behind in [
                vec![option("include", Some(&format!("/lines/{}", policy.replace('\n', "|"))))],
                vec![
                    option("inherit", Some("/lines/")),
                    option("include", Some(&format!("/lines/{}", policy.replace('\n', "|")))),
                ],
            ] {
                let inputs = [vec![option("set", Some("before=1")), file(&lines)], behind].concat();
                let loaded = load_vassal(&inputs, false, &Fake)
                    .unwrap_or_else(|report| panic!("{policy:?} behind {lines:?}: {report}"));
                assert_eq!(effect(&loaded.plan), *expected, "{policy:?} behind {lines:?}");
            }
        }
    }
}

/// The value that uWSGI gets for one of its options: the last one outside of blocks that only it can decide.
fn left_to_uwsgi(plan: &VassalPlan, key: &str) -> String {
    let App::Uwsgi { ini, .. } = &plan.app else { panic!("not uwsgi") };
    let (mut value, mut block) = ("none", false);
    for (name, text) in std::str::from_utf8(ini).unwrap().lines().filter_map(|line| line.split_once(" = ")) {
        match name {
            "if-plugin" | "if-not-plugin" => block = true,
            "endif" => block = false,
            name if name == key && !block => value = text,
            _ => {}
        }
    }
    value.to_owned()
}

#[test]
fn what_an_operator_has_all_vassals_inherit_comes_behind_what_they_inherit() {
    for key in ["before", "behind"] {
        let inherit = [option("inherit", Some("/lines/umask = 077|inherit = /lines/stop-timeout = 1"))];
        let own =
            [file("command = x\ninherit = /lines/umask = 0|stop-timeout = 9|inherit = /lines/umask = 0")];
        let inputs = if key == "before" { [inherit, own].concat() } else { [own, inherit].concat() };
        let plan = load_vassal(&inputs, false, &Fake).unwrap().plan;
        assert_eq!((plan.umask, plan.stop.timeout), (Some(0o77), Duration::from_secs(1)), "{key}");
    }
}

#[test]
fn blocks_follow_the_reload_flag_and_else() {
    let lines = "if-reload\n command = again\nelse\n command = first\nendif\ninclude = inc.ini";
    for (reload, program) in [(false, "first"), (true, "again")] {
        let plan = load_vassal(&[file(lines)], reload, &Fake).unwrap().plan;
        assert_eq!(plan.app, App::Program { argv: vec![program.into()], privileged: false });
    }
}

#[test]
fn a_file_with_blocks_can_be_included_in_a_block() {
    let App::Uwsgi { ini, .. } = vassal("for = a b\n include = inc.ini\nendfor").plan.app else {
        panic!("not uwsgi")
    };
    assert_eq!(ini, b"[uwsgi]\ninc = inc\ninc = inc\n");
}

#[test]
fn every_mistake_is_found_in_one_pass() {
    let cases: &[(&str, &[&str])] = &[
        ("umaks = 022\ncommand = x", &["2:1: warning: unknown option 'umaks' | did you mean 'umask'?"]),
        ("umaks = 022\ncommand = echo %(umaks)", &[]),
        (
            "umaks = 022\ncommand = echo %(umaks)\nstrict",
            &["2:1: unknown option 'umaks' | did you mean 'umask'?"],
        ),
        (
            "exec-as-usr = x\nuid =\nhook-asap = exce\nstop-signal = TREM\ncommand = x",
            &[
                "2:1: unknown phase 'as-usr' in 'exec-as-usr' | did you mean 'exec-as-user'?",
                "3:1: 'uid': the value is missing",
                "4:13: 'hook-asap': 'exce' is not action:argument",
                "5:15: 'stop-signal': 'TREM' is not a signal",
            ],
        ),
        (
            "mountpoint-chek = /app\nhttp-socket = :1",
            &["2:1: warning: unknown option 'mountpoint-chek' | did you mean 'mountpoint-check'?"],
        ),
        (
            "strict\nmountpoint-chek = /app\nhttp-socket = :1",
            &["3:1: unknown option 'mountpoint-chek' | did you mean 'mountpoint-check'?"],
        ),
        ("strict\ncommand = x\nfoo = 1", &["4:1: unknown option 'foo'"]),
        ("foo = 1\nhttp-socket = /x", &[]),
        ("command = x\nuid =\nemperor = /x", &["4:1: this is an emperor's file: run 'emperor FILE'"]),
        (
            "command = x\nmountpoint-check = /a/../b\nmount-check = /a..b",
            &["3:20: warning: 'mountpoint-check': no mount is at a path with '..' in it | write where the \
                 mount is from the root down"],
        ),
        (
            "command = x\nhook-post-fork = print:x",
            &["3:1: warning: 'hook-post-fork' only runs inside uWSGI | the app is another program here"],
        ),
        (
            "command = x\nhttp-socket = :80",
            &["3:1: warning: 'http-socket' is for uWSGI, and the app is another program | 'listen = \
                 ADDRESS' binds a socket for any app"],
        ),
        ("socket = :80\ncommand = x %(socket)", &[]),
        (
            "uid = 1",
            &["1:1: there is no app: neither 'command' nor an option for uWSGI | add 'command = PROGRAM \
                 ARGS', or uWSGI's own options"],
        ),
        ("command = x\nendif", &["3:1: warning: 'endif' without a block that it could end"]),
        (
            "command = x\nfor = a",
            &["3:1: warning: 'for' is never closed: it ends with its file | add 'endfor =' behind its last \
                 line"],
        ),
        (
            "command = x\nif-env = A\n if-env = B\nendif",
            &["4:2: 'if-env' inside the block that was opened at 3:1 | blocks cannot be nested in uWSGI's \
                 dialect"],
        ),
        ("command = x\ninclude = nope", &["3:11: cannot read 'nope': No such file or directory (ENOENT)"]),
        ("command = x\nchdir = %(b / 0)\nb = 1", &["3:9: 'chdir': '%(b / 0)': division by zero"]),
        (
            "command = x\nchdir = x%(chdir)",
            &["3:9: 'chdir': the value expands without end: it refers to itself"],
        ),
        (
            "command = x\nfor-times = 1000000000\n a = 1\nendfor",
            &["3:13: 'for-times': more repetitions than a configuration may have options"],
        ),
        (
            "command = x\nreplicas = 0\nreload-strategy = rollin\nready-timeout = 0\nreplicas = 10000\n\
             reload-on = contents",
            &[
                "3:12: 'replicas': '0' is not a number from 1 to 100",
                "4:19: 'reload-strategy': 'rollin' is neither recreate nor rolling",
                "5:17: 'ready-timeout': it must be longer than 0",
                "6:12: 'replicas': '10000' is not a number from 1 to 100",
                "7:13: 'reload-on': 'contents' is neither touch nor content",
            ],
        ),
        (
            "command = x\nready-check = tcp:/x\nready-check = tcp://x.sock\nready-check = exec:\n\
             ready-check-interval = 0\nready-check-timeout = 0\nready-check-failures = -1",
            &[
                "3:15: 'ready-check': 'tcp:/x' is none of notify, exec:COMMAND and tcp://ADDRESS",
                "4:15: 'ready-check': 'x.sock' is not an absolute path",
                "5:15: 'ready-check': the value is missing",
                "6:24: 'ready-check-interval': it must be longer than 0",
                "7:23: 'ready-check-timeout': it must be longer than 0",
                "8:24: 'ready-check-failures': '-1' is not a whole number",
            ],
        ),
        ("command = x\nreplicas = 10000", &["3:12: 'replicas': '10000' is not a number from 1 to 100"]),
        (
            "command = x\nreplicas = 2",
            &["3:12: warning: only an emperor runs several instances: this is the only one"],
        ),
        ("command = x\na = \0b", &["3:1: the line holds a NUL byte | save the file as UTF-8"]),
        (
            "command = x\nchdir = 5 %",
            &["3:11: warning: a percent sign and the character behind it are dropped here | write '%%' for \
                 a percent sign"],
        ),
        (
            "http-socket = :1\nset = [x=1",
            &["3:7: '[x' cannot be the name of an option", "3:7: warning: unknown option '[x'"],
        ),
    ];
    for (lines, expected) in cases {
        let mut expected: Vec<_> = expected.iter().map(|line| (*line).to_owned()).collect();
        let mut found =
            findings(lines).iter().map(|line| line.replace("/v/app001.ini:", "")).collect::<Vec<_>>();
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{lines}");
    }
}

#[test]
fn a_socket_that_uwsgi_binds_itself_is_told_of_where_that_can_be_mended() {
    for (lines, told) in [
        ("http-socket = localhost:7000", Some(("2:15", "http-socket", "the number of the host"))),
        ("http-socket = :0", None),
        ("socket = here.sock", Some(("2:10", "socket", "an absolute path"))),
        ("http = :7000", Some(("2:8", "http", "'http-socket = ADDRESS'"))),
        ("http = :7000\nsocket = :7001", None),
        ("http-socket = :7000\nraw-socket = :7001", None),
        ("shared-socket = :7000\nhttp-socket = =0", None),
        ("http-socket = :7000\nsocket-timeout = 3", None),
    ] {
        let expected = told.map(|(at, key, instead)| bound(at, key, instead));
        assert_eq!(findings(lines), Vec::from_iter(expected), "{lines}");
    }
}

/// The warning about a socket that uWSGI binds itself.
fn bound(at: &str, key: &str, instead: &str) -> String {
    let message = "uWSGI binds it itself: connections are refused while an instance is replaced";
    format!("{at}: warning: '{key}': {message} | write {instead}, where they wait")
}

#[test]
fn mistakes_in_included_files_show_the_way_there() {
    let report = load_vassal(&[file("command = x\ninclude = bad.ini")], false, &Fake).unwrap_err();
    assert_eq!(
        report.to_string(),
        "bad.ini:3:10: 'umask': '9' is not an octal mode: write 022\n     umask = 9\n             ^\n  \
         included from /v/app001.ini:3:11\n"
    );
    assert_eq!(report.first(), "bad.ini:3:10: 'umask': '9' is not an octal mode: write 022");
}

#[test]
fn a_byte_order_mark_in_front_of_the_section_is_named() {
    let text = b"\xef\xbb\xbf[uwsgi]\ncommand = x\n".to_vec();
    let input = Input::Text { path: "/v/app001.ini".into(), section: None, text };
    let report = load_vassal(&[input], false, &Fake).unwrap_err().to_string();
    assert!(report.contains("hint: the file begins with a byte order mark"), "{report}");
}

#[test]
fn a_key_that_nobody_knows_is_told_whatever_its_length_or_case() {
    let hint = |key: &str| Some(format!("did you mean '{key}'?"));
    for (line, key, hint) in [
        ("UID = nobody", "UID", hint("uid")),
        ("Uid=nobody", "Uid", hint("uid")),
        ("user = nobody", "user", hint("uid")),
        ("group = nobody", "group", hint("gid")),
        ("udi = nobody", "udi", hint("uid")),
        ("gidd = nobody", "gidd", hint("gid")),
        ("uid\u{a0}= nobody", "uid\\xc2\\xa0", hint("uid")),
        ("\u{feff}uid = nobody", "\\xef\\xbb\\xbfuid", hint("uid")),
        ("uid nobody", "uid nobody", Some("write 'uid = ...'".into())),
        ("uid: nobody", "uid: nobody", Some("write 'uid = ...'".into())),
        ("uid:nobody", "uid:nobody", Some("write 'uid = ...'".into())),
        ("STOP-TIMEOUT = 3s", "STOP-TIMEOUT", hint("stop-timeout")),
        ("Exec-as-user = x", "Exec-as-user", hint("exec-as-user")),
        ("some words", "some words", None),
    ] {
        // Whatever the app is.
        for app in ["command = x", "http-socket = /x"] {
            let hint = hint.as_ref().map_or(String::new(), |hint| format!(" | {hint}"));
            let expected = format!("3:1: warning: unknown option '{key}'{hint}");
            assert_eq!(findings(&format!("{app}\n{line}")), [expected], "{line:?} with {app}");
        }
    }
    // Another program reads no key of uWSGI's.
    for (key, is_uwsgis) in [("processes", true), ("logto", true), ("x", false), ("autorestart", false)] {
        let told = match is_uwsgis {
            true => format!("3:1: warning: '{key}' has no effect: the app is another program than uWSGI"),
            false => format!("3:1: warning: unknown option '{key}'"),
        };
        assert_eq!(findings(&format!("command = x\n{key} = 4")), [told]);
        assert_eq!(findings(&format!("http-socket = /x\n{key} = 4")), [""; 0]);
    }
    // A placeholder that is used is none of these.
    for key in ["user", "UID", "base", "x"] {
        assert_eq!(findings(&format!("command = x %({key})\n{key} = 4")), [""; 0]);
        assert_eq!(findings(&format!("http-socket = /%({key})\n{key} = 4")), [""; 0]);
    }
    let inputs = [option("version", Some("1")), file("command = x")];
    assert_eq!(load_vassal(&inputs, false, &Fake).unwrap().warnings.diagnostics(), []);
}

#[test]
fn a_comment_that_takes_in_the_next_line_is_told() {
    let escape = "write '%%' for a percent sign";
    let joins = "warning: a percent sign at the end of a line joins the next line to this one";
    let joins = format!("{joins} | {escape}");
    let dropped = "warning: a percent sign and the character behind it are dropped here";
    let dropped = format!("{dropped} | {escape}");
    for (lines, expected) in [
        ("; share is 50%\nuid = nobody", vec![format!("2:14: {joins}")]),
        ("  # 50%\nuid = nobody", vec![format!("2:7: {joins}")]),
        ("x = 50%\nuid = nobody\ny = %(x)", vec![format!("2:7: {joins}")]),
        // Nothing is lost here.
        ("# 100% sure\nuid = nobody", vec![]),
        ("x = 100% sure\ny = %(x)\nz = %(y)", vec![format!("2:8: {dropped}")]),
    ] {
        let lines = format!("{lines}\nhttp-socket = /x");
        assert_eq!(findings(&lines), expected, "{lines}");
    }
}

#[test]
fn files_that_include_themselves_end_soon() {
    let report = load_vassal(&[file("command = x\ninclude = loop.ini")], false, &Fake).unwrap_err();
    assert_eq!(report.errors(), 1);
    assert!(
        report.first().starts_with("loop.ini:2:11: 'loop.ini': files include each other more than 16 deep")
    );
}

#[test]
fn emperor_options_reach_the_plan() {
    let lines = "emperor = /etc/vassals\nemperor = dir:///more\nemperor-use-clone = fs,pid\n\
                 emperor-freq = 5\nemperor-throttle = 10\nvassal-init = /x";
    let plan = load_emperor(&[file(lines)], &Fake).unwrap().plan;
    let sources: Vec<_> = plan.discovery.sources.iter().map(|source| source.value.clone()).collect();
    assert_eq!(sources, [Source::Directory("/etc/vassals".into()), Source::Directory("/more".into())]);
    assert_eq!(plan.vassals.namespaces, (libc::CLONE_NEWNS | libc::CLONE_NEWPID) as u64);
    assert_eq!(
        (plan.discovery.scan_interval, plan.throttle),
        (Duration::from_secs(5), Duration::from_millis(10))
    );
    assert_eq!(
        (plan.max_throttle, plan.vassals.program.unwrap().value),
        (Duration::from_secs(180), "/x".into())
    );
    let first = |lines: &str| load_emperor(&[file(lines)], &Fake).unwrap_err().first();
    assert!(first("emperor-freq = 1").ends_with(":1:1: there is no 'emperor'"));
    assert!(first("emperor = amqp://x").contains("'amqp://x': the monitors are dir:// and glob://"));
    assert!(first("emperor = glob:///").contains("'glob:///' names no files"));
    assert!(first("emperor = /x\nstrict\nfoo = 1").ends_with(":4:1: unknown option 'foo'"));
}

#[test]
fn where_vassals_are_is_guessed_as_uwsgi_does() {
    let source = |value: &str| {
        load_emperor(&[file(&format!("emperor = {value}"))], &Fake).unwrap().plan.discovery.sources[0]
            .value
            .clone()
    };
    for pattern in ["/v/*.ini", "/v/a?.ini", "/v/[ab].ini", "/v/a.ini", "v/*/x.conf"] {
        assert_eq!(source(pattern), Source::Pattern(pattern.into()));
        assert_eq!(source(&format!("glob://{pattern}")), Source::Pattern(pattern.into()));
        assert_eq!(source(&format!("dir://{pattern}")), Source::Directory(pattern.into()));
    }
    assert_eq!(source("v"), Source::Directory("v".into()));
    assert_eq!(source("/v.ini/"), Source::Directory("/v.ini".into()));
}

#[test]
fn a_name_in_an_option_stays_as_it_is_and_is_told_of() {
    for (socket, told) in [("/run/%n.sock", 1), ("/run/%N/x.sock", 1), ("/run/x%n", 0), ("/run/app.sock", 0)]
    {
        let option = Input::Option { key: "listen".into(), value: Some(socket.into()) };
        let loaded = load_vassal(&[option, file("command = x")], false, &Fake).unwrap();
        assert_eq!(loaded.plan.listen[0].value.address.name, socket);
        let said = loaded.warnings.to_string();
        assert_eq!(
            said.matches("command line: warning: %n is a name in files only\n").count(),
            told,
            "{said}"
        );
        assert_eq!(said.matches("%N is the vassal's name\n").count(), told, "{said}");
    }
}

#[test]
fn modes_of_sockets_are_read_as_uwsgi_reads_them() {
    for (line, mode) in [
        ("", None),
        ("chmod-socket", Some(0o666)),
        ("chmod-socket = 1", Some(0o666)),
        ("chmod-socket = 640", Some(0o640)),
    ] {
        let loaded =
            load_vassal(&[file(&format!("command = x\nlisten = /x\n{line}"))], false, &Fake).unwrap();
        assert_eq!(loaded.plan.listen[0].value.mode, mode, "{line}");
    }
}

#[test]
fn templates_come_in_the_order_of_uwsgi() {
    let lines = "emperor = /x\nvassals-include = i\nvassals-inherit = h\nvassal-set = a=%%n\n\
                 vassals-set = b=%(c)\n\
                 vassals-include-before = ib\nvassals-inherit-before = hb\nc = 3\nemperor-extra-ext = .conf\n\
                 emperor-nofollow";
    let plan = load_emperor(&[file(lines)], &Fake).unwrap().plan;
    // Each with its place.
    let pairs = |pairs: &[(String, OsString)]| -> Vec<String> {
        let shown = |(key, value): &(String, OsString)| {
            let (key, place) = placed(key);
            let place: Vec<_> = place.rsplitn(3, ':').collect();
            format!("{key} {} at {}:{}", value.display(), place[1], place[0])
        };
        pairs.iter().map(shown).collect()
    };
    assert_eq!(
        pairs(&plan.vassals.before),
        ["inherit hb at 8:26", "include ib at 7:26", "set a=%n at 5:14", "set b=3 at 6:15"]
    );
    assert_eq!(pairs(&plan.vassals.behind), ["inherit h at 4:19", "include i at 3:19"]);
    assert_eq!(
        (plan.discovery.extra_suffixes, plan.discovery.nofollow),
        (vec![OsString::from(".conf")], true)
    );
}

#[test]
fn an_emperor_refuses_what_would_leave_it_rights_that_it_should_not_have() {
    let load = |lines: &str| load_emperor(&[file(&format!("emperor = /x\n{lines}"))], &Fake);
    for key in ["chroot", "pivot_root", "immediate-uid", "emperor-tyrant-mode", "emperor-cap", "vassals-cap"]
    {
        let expected =
            format!(":3:1: '{key}' is not supported by this emperor: what it takes away would be left");
        assert!(load(&format!("{key} = 1")).unwrap_err().first().ends_with(&expected), "{key}");
    }
    let first = |lines: &str| load(lines).unwrap_err().first();
    assert!(
        first("emperor-tyrant-nofollow")
            .ends_with(":3:1: 'emperor-tyrant-nofollow' without 'emperor-tyrant'")
    );
    let first = first("emperor-tyrant-initgroups\nemperor-tyrant = false");
    assert!(first.ends_with(":3:1: 'emperor-tyrant-initgroups' without 'emperor-tyrant'"), "{first}");
    assert_eq!(load("emperor-tyrant-nofollow = false").unwrap().plan.tyrant, None);
    let tyrant = load("emperor-tyrant-nofollow\nemperor-tyrant").unwrap().plan.tyrant;
    assert_eq!(tyrant, Some(Tyrant { nofollow: true, initgroups: false, max: None }));
    for (trees, is_one_in_another) in
        [("/a/b /a", true), ("/a /a/b", true), ("/a/./c/../b/ /a//b", true), ("/a/b /c /a/c /a/bc", false)]
    {
        let lines: String = trees.split(' ').map(|tree| format!("map-tree = {tree}\n")).collect();
        let loaded = load(&format!("{lines}emperor-use-clone = fs,user"));
        let is_refused = loaded.is_err_and(|report| report.first().contains("'map-tree' in another one: "));
        assert_eq!(is_refused, is_one_in_another, "{trees}");
    }
    let user = load("emperor-tyrant\nemperor-use-clone = fs,user").unwrap_err().first();
    assert!(user.contains("'emperor-tyrant' with 'user' in 'emperor-use-clone'"), "{user}");
    let slip = load("emperor-use-clon = fs").unwrap_err().first();
    assert!(slip.ends_with(":3:1: unknown option 'emperor-use-clon'"), "{slip}");
    // A placeholder that somebody uses, and what reading has already used up, is nothing to warn of.
    let lines = "base = /v\nvassal-init = %(base)/init\nset-ph = x=1\nif-env = HOME\n endless = 1\nendif\n\
                 master = true";
    let loaded = load(lines).unwrap();
    assert_eq!(loaded.plan.vassals.program.unwrap().value, Path::new("/v/init"));
    let warnings: Vec<_> = loaded.warnings.diagnostics().iter().map(|found| found.message.as_str()).collect();
    let unread = |key: &str| format!("'{key}' has no effect: the emperor does not read it");
    assert_eq!(warnings, [unread("endless"), unread("master")]);
}

#[test]
fn the_maps_of_a_user_namespace_are_ones_that_the_kernel_takes() {
    let vassal = |lines: &str| format!("command = x\n{lines}");
    let of_vassal = |lines: &str| load_vassal(&[file(&vassal(lines))], false, &Fake).map(drop);
    let of_emperor = |lines: &str| {
        let lines = lines.replace("unshare", "emperor-use-clone");
        load_emperor(&[file(&format!("emperor = /x\n{lines}"))], &Fake).map(drop)
    };
    let many: String = (0..341).map(|n| format!("map-users = {n}:{n}:1\n")).collect();
    let good = [
        "unshare = user",
        "unshare = user\nmap-users = auto",
        "unshare = user\nmap-users = 0:100000:65536\nmap-users = 65536:7:1\nmap-groups = auto",
        many.strip_suffix("map-users = 340:340:1\n").unwrap(),
    ];
    for lines in good {
        let lines = if lines.starts_with("map") { &format!("unshare = user\n{lines}") } else { lines };
        of_vassal(lines).unwrap_or_else(|report| panic!("{report}"));
        of_emperor(lines).unwrap_or_else(|report| panic!("{report}"));
    }
    let bad = [
        ("map-users = auto", "'map-users' without 'user' in "),
        ("unshare = fs,pid\nmap-groups = 0:1:1", "'map-groups' without 'user' in "),
        (
            "unshare = user\nmap-users = 0:1:2\nmap-users = 1:7:1",
            "'map-users': 1 inside is mapped by 0:1:2 already",
        ),
        (
            "unshare = user\nmap-users = 0:1:2\nmap-users = 7:2:1",
            "'map-users': 2 outside is mapped by 0:1:2 already",
        ),
        (
            "unshare = user\nmap-groups = auto\nmap-groups = 7:2:1",
            "'map-groups': 'auto' goes with no other map",
        ),
        ("unshare = user\nmap-users = 1:1:2", "'map-users' without 0: process 1 would not be root inside"),
        (
            "unshare = user\nmap-users = some",
            "'map-users': 'some' is neither 'auto' nor INSIDE:OUTSIDE:COUNT",
        ),
        (&format!("unshare = user\n{many}"), "'map-users': the kernel takes 340 ranges and no more"),
    ];
    for (lines, expected) in bad {
        for report in [of_vassal(lines), of_emperor(lines)] {
            let first = report.unwrap_err().first();
            assert!(first.contains(expected), "{lines}: {first}");
        }
    }
}

#[test]
fn an_emperor_has_a_user_and_capabilities() {
    let load = |lines: &str| load_emperor(&[file(&format!("emperor = /x\n{lines}"))], &Fake);
    let plan = load("uid = web\ngid = 7\nadd-gid = log\nadd-gid = 8\nno-initgroups\ncap = kill,CAP_SETUID")
        .unwrap()
        .plan;
    assert_eq!(plan.capabilities, Some(1 << 5 | 1 << 7));
    let RunAs { uid, gid, add_gids, no_initgroups } = plan.run_as;
    assert_eq!((uid.unwrap().value, gid.unwrap().value), (Id::Name("web".into()), Id::Number(7)));
    assert_eq!((add_gids.len(), no_initgroups), (2, true));
    let plan = load("cap =").unwrap().plan;
    assert_eq!((plan.capabilities, plan.run_as), (Some(0), RunAs::default()));
    assert_eq!(load("").unwrap().plan.capabilities, None);
    let wrong = load("cap = kil").unwrap_err().first();
    assert!(wrong.contains(":3:7: 'cap': unknown capability 'kil'"), "{wrong}");
}

#[test]
fn the_first_mistake_is_the_real_one() {
    let missing = Input::File("nope".into());
    for first in [
        load_emperor(std::slice::from_ref(&missing), &Fake).unwrap_err(),
        load_vassal(std::slice::from_ref(&missing), false, &Fake).unwrap_err(),
    ] {
        assert_eq!(first.to_string(), "nope: cannot read 'nope': No such file or directory (ENOENT)\n");
    }
    let report = load_vassal(&[file("uid = 99999999999999")], false, &Fake).unwrap_err();
    assert_eq!(report.diagnostics().len(), 1, "{report}");
}

#[test]
fn the_app_knows_where_it_was_written() {
    let source = |lines: &str| {
        let source = vassal(lines).plan.app_source;
        (source.key.to_string(), source.at.line)
    };
    assert_eq!(source("uid = 1\ncommand = x"), ("command".to_owned(), 3));
    assert_eq!(source("binary-path = /x\nhttp-socket = :1"), ("binary-path".to_owned(), 2));
    assert_eq!(source("http-socket = :1"), ("binary-path".to_owned(), 0));
}

#[test]
fn a_reload_is_rolling_where_there_are_replicas_unless_the_file_says_how() {
    let replication = |lines: &str| vassal(lines).plan.replication;
    let usual = Replication::default();
    assert_eq!((replication("command = x"), replication("http-socket = :1")), (usual, usual));
    let three = Replication { replicas: 3, is_rolling: true, ..usual };
    assert_eq!(replication("replicas = 3\ncommand = x"), three);
    // uWSGI says that it is ready.
    let uwsgis = replication("replicas = 3\nhttp-socket = :1");
    assert_eq!(uwsgis, Replication { says_ready: true, ..three });
    for check in ["notify", "exec:true", "tcp://:1"] {
        let told = replication(&format!("command = x\nready-check = {check}"));
        assert_eq!(told, Replication { says_ready: true, ..usual }, "{check}");
    }
    let recreated = replication("replicas = 3\nreload-strategy = recreate\ncommand = x");
    assert_eq!(recreated, Replication { is_rolling: false, ..three });
    let rolling = replication("reload-strategy = rolling\nready-after = 0\nready-timeout = 2m\ncommand = x");
    let (ready_after, ready_timeout) = (Duration::ZERO, Duration::from_secs(120));
    assert_eq!(rolling, Replication { is_rolling: true, ready_after, ready_timeout, ..usual });
}

#[test]
fn the_number_of_an_instance_stands_for_a_placeholder_that_its_file_does_not_define() {
    // The number that the emperor gives, the lines, and the value of `A` in them.
    for (number, lines, expected) in [
        (Some(3), "env = A=%(replica)", "3"),
        (Some(3), "env = A=%(replica + 8000)", "8003"),
        (Some(3), "env = A=%(dir)\nset-ph = dir=/x/%(replica)", "/x/3"),
        (Some(3), "set-ph = replica=mine\nenv = A=%(replica)", "mine"),
        (Some(3), "env = A=%(replica)\nreplica = own", "own"),
        (None, "env = A=%(replica)", "1"),
    ] {
        let mut inputs = vec![file(&format!("command = x\n{lines}"))];
        inputs.extend(number.map(Input::Replica));
        let loaded = load_vassal(&inputs, false, &Fake).unwrap_or_else(|report| panic!("{lines}: {report}"));
        assert_eq!(variable(&loaded.plan, "A"), expected, "{lines}");
    }
    // An option of the operator's, for all vassals.
    let inputs = [Input::Replica(3), option("env", Some("A=%(replica)")), file("command = x")];
    assert_eq!(variable(&load_vassal(&inputs, false, &Fake).unwrap().plan, "A"), "3");
}

#[test]
fn uwsgi_gets_the_number_of_its_instance_also_where_it_decides_whether_a_line_counts() {
    let lines = "pidfile = /log/%(replica)\nif-plugin = python\nlogto2 = /log/%(replica)";
    for (more, own, left) in
        [("", "/log/3", "/log/3"), ("set-ph = replica=mine\n", "/log/mine", "/log/%%(replica)")]
    {
        let inputs = [Input::Replica(3), file(&format!("{more}{lines}\nendif"))];
        let plan = load_vassal(&inputs, false, &Fake).unwrap().plan;
        let App::Uwsgi { ini, .. } = &plan.app else { panic!("not uwsgi") };
        let ini = String::from_utf8_lossy(ini);
        for line in [format!("\npidfile = {own}\n"), format!("\nlogto2 = {left}\n")] {
            assert!(ini.contains(&line), "{ini}");
        }
    }
}

#[test]
fn the_log_of_uwsgi_is_written_by_pid_1_unless_uwsgi_does_more_with_it() {
    use vassal::config::plan::Output;
    for (lines, is_ours) in [
        ("logto = /l\nmaster = true", true),
        ("logto = /other\nlogto = /l\nmaster = true", true),
        ("logto = /l\nmaster = true\nlog-maxsize = 7", false),
        ("logto = /l\nmaster = true\ntouch-logreopen = /t", false),
        ("logto = /l\nmaster = true\nstandard-output = null", false),
        ("logto = 127.0.0.1:7\nmaster = true", false),
        ("logto = /l", false),
        ("logto = /l\ncommand = x", false),
    ] {
        let plan = load_vassal(&[file(lines)], false, &Fake).unwrap().plan;
        let out = plan.output.out.as_ref().map(|out| &out.value);
        assert_eq!(out == Some(&Output::File("/l".into())), is_ours, "{lines}");
        if let App::Uwsgi { ini, .. } = &plan.app {
            assert_eq!(String::from_utf8_lossy(ini).contains("logto"), !is_ours, "{lines}");
        }
    }
}

#[test]
fn the_number_of_an_instance_is_not_the_emperors_to_fill_in() {
    let lines = "emperor = /v\nexec-as-emperor = a %(replica)";
    let plan = load_emperor(&[file(lines)], &Fake).unwrap().plan;
    assert!(format!("{plan:?}").contains("a %(replica)"), "{plan:?}");
}

/// What the first of several instances is warned of, after a line that says that there are several.
fn shared(lines: &str) -> Vec<String> {
    let found = |replica: u16, first: &str| {
        findings_of(&[Input::Replica(replica), file(&format!("{first}\n{lines}"))])
    };
    let told = found(1, "replicas = 2");
    assert_eq!(found(1, "reload-strategy = rolling"), told, "{lines}");
    assert_eq!(found(2, "replicas = 2"), [""; 0], "{lines}: told once more");
    assert_eq!(found(1, "replicas = 1"), [""; 0], "{lines}: there is one");
    told
}

#[test]
fn what_several_instances_would_write_to_is_told_of() {
    let warning = |at: &str, path: &str| {
        format!("{at}: warning: two instances would write to '{path}' | write '{path}-%(replica)'")
    };
    let union = "unionfs-fuse -o cow";
    for (line, expected) in [
        (format!("exec-as-user = {union} /up=RW:/low=RO /app"), vec![warning("3:16", "/up")]),
        (format!("hook-as-user = exec:{union} /low=RO:/up=rw /app"), vec![warning("3:16", "/up")]),
        (format!("exec-as-user = {union} /up/%(replica)=RW:/low=RO /app"), vec![]),
        (format!("set-ph = up=/up-%(replica)\nexec-as-user = {union} %(up)=RW:/low=RO /app"), vec![]),
        (format!("up = /up-%(replica)\nexec-as-user = {union} %(up)=RW:/low=RO /app\nenv = U=%(up)"), vec![]),
        (
            format!("set-ph = replica=own\nexec-as-user = {union} /up-%(replica)=RW:/low=RO /app"),
            vec![warning("4:16", "/up-own")],
        ),
        (
            "mount-as-root = overlay overlay /r rw lowerdir=/l,upperdir=/u/%(replica),workdir=/w".to_owned(),
            vec![warning("3:17", "/w")],
        ),
        (
            "mount-pre-jail = tmpfs none /run/own\n\
             mount-as-root = overlay overlay /r rw lowerdir=/l,upperdir=/run/own/u,workdir=/run/own/w"
                .to_owned(),
            vec![],
        ),
        (
            format!("exec-as-user = mount -t tmpfs none /up\nexec-as-user = {union} /up=RW:/low=RO /app"),
            vec![],
        ),
        (
            format!("chroot = /new\nmount-as-root = tmpfs none /up\nexec-pre-jail = {union} /new/up=RW /app"),
            vec![warning("5:17", "/new/up")],
        ),
        (
            format!("chroot = /new\nmount-pre-jail = tmpfs none /new/up\nexec-as-user = {union} /up=RW /app"),
            vec![],
        ),
    ] {
        assert_eq!(shared(&format!("{line}\ncommand = x")), expected, "{line}");
    }
}

#[test]
fn an_address_that_several_instances_would_bind_is_told_of() {
    let found = |lines: &str| {
        let inputs = [Input::Replica(1), file(&format!("reload-strategy = rolling\n{lines}"))];
        findings_of(&inputs)
    };
    let warning = |at: &str, address: &str| {
        let hint = if address.contains(':') { ", as in ':%(replica + 8000)'" } else { " by '%(replica)'" };
        format!("{at}: warning: two instances would bind '{address}' | tell them apart{hint}")
    };
    let http = |at: &str| bound(at, "http", "'http-socket = ADDRESS'");
    for (lines, expected) in [
        // PID 1 binds it, or another program does what it likes.
        ("http-socket = :7000", vec![]),
        ("command = x\nlisten = :7000", vec![]),
        ("http = :7000", vec![warning("3:8", ":7000")]),
        ("https = :7000,/c.pem,/k.pem", vec![warning("3:9", ":7000")]),
        ("socket = here.sock", vec![warning("3:10", "here.sock")]),
        ("http-socket = :7000\nstats = /s.sock", vec![warning("4:9", "/s.sock")]),
        ("http = :%(replica + 7000)", vec![http("3:8")]),
        ("http-socket = :7000\nstats = :%(replica + 7000)", vec![]),
        ("http = :7000\nreuse-port = true", vec![http("3:8")]),
        ("http-socket = :0", vec![]),
    ] {
        assert_eq!(found(lines), expected, "{lines}");
    }
    let unkept = |lines: &str| found(&format!("command = x\nkeep-sockets = false\n{lines}"));
    let shares = "they share the sockets that the emperor keeps";
    let of = |address: &str| vec![format!("4:16: warning: two instances would bind '{address}' | {shares}")];
    for (lines, expected) in [
        ("listen = :7000", of(":7000")),
        ("listen = /run/app.sock", of("/run/app.sock")),
        ("listen = /run/app.sock\nunshare = net", of("/run/app.sock")),
        ("listen = :7000\nreuse-port = true", vec![]),
        ("listen = :7000\nunshare = net", vec![]),
        ("listen = :%(replica + 7000)", vec![]),
        ("nice = 1", vec![]),
    ] {
        assert_eq!(unkept(lines), expected, "{lines}");
    }
    let both = found("http-socket = :7000\nsocket = :7001");
    assert_eq!(both.len(), 3, "{both:?}");
    for expected in [warning("3:15", ":7000"), warning("4:10", ":7001")] {
        assert!(both.contains(&expected), "{both:?}");
    }
    assert_eq!(findings("http = :7000"), [http("2:8")]);
}

#[test]
fn a_number_that_another_instance_could_not_calculate_with_is_not_this_ones_mistake() {
    let lines = "replicas = 2\ntwo = %(replica - 2)\nenv = A=%(8 / two)\ncommand = x";
    assert_eq!(findings_of(&[Input::Replica(1), file(lines)]), [""; 0]);
}

#[test]
fn a_connection_that_tells_nothing_of_the_app_is_told_of() {
    let hint = "its socket is bound ahead of the app: ask the app itself, by 'exec:COMMAND'";
    let message = "connections to this address are accepted before there is an app";
    for (listen, asked, is_told) in [
        ("command = x\nlisten = :7000", "127.0.0.1:7000", true),
        ("command = x\nlisten = 127.0.0.1:7000", ":7000", true),
        ("command = x\nlisten = 127.0.0.1:7000", "127.0.0.1:7001", false),
        ("command = x\nlisten = 127.0.0.1:7000", "127.0.0.2:7000", false),
        ("command = x\nlisten = /run/s", "/run/s", true),
        ("uid = 1\nhttp-socket = :7000", "[::1]:7000", true),
        ("command = x\nlisten = @s", "/run/s", false),
    ] {
        let expected = is_told.then(|| format!("4:15: warning: {message} | {hint}"));
        let found = findings(&format!("{listen}\nready-check = tcp://{asked}"));
        assert_eq!(found, Vec::from_iter(expected), "{listen} {asked}");
    }
}

#[test]
fn a_check_that_another_instance_may_answer_is_told_of() {
    let hint = "ask at an address of the instance's own, as 'listen = /run/app/check-%(replica).sock'";
    let [port, path, uwsgi] = ["listen = 127.0.0.1:80", "listen = /run/s", "http-socket = :80"];
    let own = "listen = /run/check-%(replica).sock";
    for (lines, command, shared) in [
        (port, "curl http://127.0.0.1:80/", Some("127.0.0.1:80")),
        (port, "curl localhost:80", Some("127.0.0.1:80")),
        (uwsgi, "curl http://[::1]:80/health", Some(":80")),
        (path, "curl --unix-socket /run/s http://x/", Some("/run/s")),
        (path, "nc -zU /run/s", Some("/run/s")),
        // Another address, its own, also with the shared one, or none that can be seen.
        (port, "curl http://127.0.0.1:8080/", None),
        (path, "test -e /run/s.good -a -e /run/s1", None),
        ("listen = :80\nlisten = :%(replica + 8000)", "curl http://127.0.0.1:%(replica + 8000)/", None),
        (own, "curl --unix-socket /run/check-%(replica).sock http://x:80/", None),
        (own, "curl --unix-socket /run/check-1.sock http://x:80/", None),
        (
            "listen = :80\nlisten = /run/check-%(replica).sock",
            "curl --unix-socket /run/check-1.sock x:80",
            None,
        ),
        (port, "/usr/bin/is-well", None),
        ("listen = 127.0.0.1:80\nunshare = net", "curl http://127.0.0.1:80/", None),
    ] {
        let app = if lines == uwsgi { "uid = 1" } else { "command = x" };
        let found = |several: &str| {
            let lines = format!("ready-check = exec:{command}\n{several}\n{app}\n{lines}");
            findings_of(&[Input::Replica(1), file(&lines)])
        };
        let message = "2:15: warning: another instance may answer this check: all accept from";
        let told = |name: &str| format!("{message} '{name}' | {hint}");
        let expected = Vec::from_iter(shared.map(told));
        assert_eq!(found("replicas = 2"), expected, "{lines} {command}");
        assert_eq!(found("reload-strategy = rolling"), expected, "{lines} {command}");
        // Only one of them runs at a time.
        assert_eq!(found("nice = 1"), [""; 0], "{lines} {command}");
    }
}
